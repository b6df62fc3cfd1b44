"""The claims about toy models. What decides each is named in the catalogue and imported only when it runs."""

from sensverify.claims import Suite
from toy_models.catalogue import boundary, laws, removal, scores, sparse, transformer

claims = Suite(
    claims=(
        *sparse.claims,
        *scores.claims,
        *boundary.claims,
        *removal.claims,
        *laws.claims,
        *transformer.claims,
    ),
    conclude="toy_models.predictions:derive",
)
