"""The claims of the toy suite by topic, as plain data; :mod:`toy_models.claims` puts them in order."""
