"""Removal: how many found directions take away rather than add, and what of it is the mean: PY-8."""

from sensverify.claims import Claim, FalseTwin
from sensverify.verdicts import Status

_SEARCHED = "the directions of PY-4, found with the clean reference; held-out contexts, never BOS"

CLAIMS = (
    Claim(
        id="PY-8",
        statement=(
            "Where the mean of unit activations is short enough for the toy models to predict anything, removal "
            "directions, which owe more than half of their effect to taking presence away, are as few among the found "
            "as predicted."
        ),
        formula=(
            r"\frac{1}{K} \sum_i \left[ \mathrm{removal}(s_i) > \tfrac{1}{2} \right] \leq \text{predicted}, "
            r"\qquad \| \mathbb{E} \hat x \| \leq 0.53"
        ),
        hypotheses=(
            _SEARCHED,
            "the classifier of TM-4.classifier",
            "contexts are resampled; the claim is about these directions",
        ),
        source="THEORY PY-8, TM-4 and RN-3",
        expected=Status.SUPPORTED,
        check="pythia.removal:check_share",
        false_twins=(
            FalseTwin(
                statement="As few of them act mostly by anything but removal.",
                check="pythia.removal:check_share_of_adding",
            ),
        ),
        preflight="pythia.removal:preflight",
    ),
    Claim(
        id="PY-8.lean",
        statement=(
            "Where unit activations have a mean, directions found with the clean reference lean against it, by at "
            "least half of what the toy models show."
        ),
        formula=(
            r"\frac{1}{K} \sum_i \cos(s_i, \mathbb{E} \hat x) \leq \text{predicted} < 0, "
            r"\qquad \| \mathbb{E} \hat x \| \geq 0.25"
        ),
        hypotheses=(_SEARCHED, "windows are resampled; the claim is about these directions"),
        source="THEORY PY-8, SE-3 and TM-4.lean",
        # 64 directions that repel each other cannot all lean far: it is a little less in the full profile.
        expected=Status.SUPPORTED,
        expected_full=Status.REFUTED,
        check="pythia.removal:check_lean",
        false_twins=(
            FalseTwin(
                statement="Random directions lean against it by as much.",
                check="pythia.removal:check_lean_of_random",
            ),
        ),
        preflight="pythia.removal:preflight",
    ),
    Claim(
        id="PY-8.mean",
        statement=(
            "What found directions remove beyond what random ones do is largely the mean direction: more than half of "
            "it is gone when the mean of unit activations is taken out of them."
        ),
        hypotheses=(_SEARCHED, "all groups on the same contexts and presences; contexts resampled jointly"),
        source="THEORY PY-8 (a lead from a small character model)",
        expected=Status.SUPPORTED,
        check="pythia.removal:check_mean_direction",
        false_twins=(
            FalseTwin(
                statement="More than half of it is gone when a random direction is taken out instead.",
                check="pythia.removal:check_random_direction",
            ),
        ),
        preflight="pythia.removal:preflight",
    ),
)
