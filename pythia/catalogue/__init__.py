"""The claims about language models, a module for each subject. What decides them is imported only when it runs."""
