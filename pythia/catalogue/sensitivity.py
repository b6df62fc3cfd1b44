"""How sensitive directions are, found, of autoencoders and random ones: PY-4."""

from sensverify.claims import Claim, FalseTwin
from sensverify.verdicts import Status

CLAIMS = (
    Claim(
        id="PY-4",
        statement=(
            "Directions found in parallel by maximising sensitivity are, on held-out contexts, more sensitive "
            "than random directions, by at least the factor that the toy models predict."
        ),
        formula=(
            r"\frac{\overline{\mathrm{SeS}}(\text{found})}{\overline{\mathrm{SeS}}(\text{random})} "
            r"\geq \text{predicted}"
        ),
        hypotheses=(
            "one third of the way into the model, read one block and one token later",
            "search and evaluation share no page; all groups share contexts and presences",
        ),
        source="THEORY PY-4; Stambler 2025 (sensitivity hypothesis)",
        expected=Status.SUPPORTED,
        check="pythia.discovered:check_found_against_random",
        false_twins=(
            FalseTwin(
                statement="Other random directions are more sensitive than random ones by that factor.",
                check="pythia.discovered:check_random_against_random",
            ),
        ),
        preflight="pythia.discovered:preflight",
    ),
)
