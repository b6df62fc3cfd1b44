"""The claims about language models, in the order in which they are decided and reported."""

from pythia.catalogue import author, causal, explanations, norms, presence, removal, selective, sensitivity
from sensverify.claims import Suite

claims = Suite(
    claims=(
        *norms.CLAIMS,
        *sensitivity.CLAIMS,
        *explanations.CLAIMS,
        *presence.CLAIMS,
        *removal.CLAIMS,
        *causal.CLAIMS,
        *author.CLAIMS,
        *selective.CLAIMS,
    )
)
