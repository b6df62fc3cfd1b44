"""How sensitive directions are, found, of autoencoders and random ones: PY-3 and PY-4."""

from sensverify.claims import Claim, FalseTwin
from sensverify.verdicts import Status

PLACES = "one third of the way into the model (full profile: at every layer), read one block and one token later"
LAYERS = "judged at every layer by one-sided tests, with Holm's correction over layers"

CLAIMS = (
    Claim(
        id="PY-3",
        statement=(
            "Decoder directions of a sparse autoencoder are, on held-out contexts, more sensitive than random ones."
        ),
        formula=r"\frac{\overline{\mathrm{SeS}}(\text{SAE})}{\overline{\mathrm{SeS}}(\text{random})} \geq 1",
        hypotheses=(
            PLACES,
            "the autoencoder given by --sae or, where none is given, a TopK autoencoder trained on the search windows; "
            "a sample of those latents that fire, fixed by the seed; nothing is concluded where it explains none of "
            "the held-out variance",
            "all groups share contexts and presences; " + LAYERS,
        ),
        source="THEORY PY-3; Stambler 2025 (sensitivity hypothesis)",
        expected=Status.SUPPORTED,
        check="pythia.autoencoded:check_sae_against_random",
        false_twins=(
            FalseTwin(
                statement="With presence left as it is, directions of an autoencoder are as sensitive as random ones.",
                check="pythia.autoencoded:check_untouched_against_random",
            ),
        ),
        preflight="pythia.autoencoded:preflight",
    ),
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
            PLACES,
            "search and evaluation share no page; all groups share contexts and presences; " + LAYERS,
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
    Claim(
        id="PY-4.sae",
        statement=(
            "Directions found by maximising sensitivity are, on held-out contexts, more sensitive than the decoder "
            "directions of a sparse autoencoder."
        ),
        formula=r"\frac{\overline{\mathrm{SeS}}(\text{found})}{\overline{\mathrm{SeS}}(\text{SAE})} \geq 1",
        hypotheses=(
            PLACES,
            "the autoencoder of PY-3; all groups share contexts and presences; " + LAYERS,
        ),
        source="THEORY PY-4",
        expected=Status.SUPPORTED,
        check="pythia.discovered:check_found_against_sae",
        false_twins=(
            FalseTwin(
                statement="With presence left as it is, found directions are as sensitive as an autoencoder's.",
                check="pythia.discovered:check_untouched_against_sae",
            ),
        ),
        preflight="pythia.discovered:preflight",
    ),
    Claim(
        id="PY-4.stable",
        statement=(
            "Searches from different seeds find the same directions more than random sets with their second moment are "
            "the same: matched one to one, their absolute cosines have come at least as much of the way from those of "
            "such sets to 1 as the toy models predict."
        ),
        formula=r"\frac{\bar c - \bar c_0}{1 - \bar c_0} \geq \text{predicted}",
        hypotheses=(
            "three searches with the options of PY-4, one third of the way into the model",
            "matched by Hungarian assignment on absolute cosines; c₀: random sets of as many directions, with the "
            "second moment of what the three searches found, matched alike",
        ),
        source="THEORY PY-4",
        expected=Status.SUPPORTED,
        check="pythia.stability:check_stability",
        false_twins=(
            FalseTwin(
                statement="Random sets of directions are the same by as much.",
                check="pythia.stability:check_random_sets",
            ),
            FalseTwin(
                statement="So are random sets with the second moment of the found directions.",
                check="pythia.stability:check_sets_of_the_same_moment",
            ),
        ),
        preflight="pythia.stability:preflight",
    ),
)
