"""The claims about toy models. What decides each is named in the catalogue and imported only when it runs."""

from sensverify.claims import Suite
from toy_models.catalogue import (
    boundary,
    dense,
    laws,
    own_features,
    phase,
    removal,
    scores,
    selective_limits,
    sparse,
    transformer,
)

claims = Suite(
    claims=(
        *sparse.claims,
        *dense.claims,
        *phase.claims,
        *scores.claims,
        *boundary.claims,
        *removal.claims,
        *laws.claims,
        *transformer.claims,
        *selective_limits.claims,
        *own_features.claims,
    ),
    conclude="toy_models.predictions:derive",
    side_by_side=True,
)
