"""On how few units directions act, and whether those that act on few are told in few words: PY-11."""

from sensverify.claims import Claim, FalseTwin
from sensverify.verdicts import Status

CLAIMS = (
    Claim(
        id="PY-11",
        statement=(
            "Directions found by maximising peak sensitivity on the neurons of a later MLP act on fewer of these "
            "neurons than random directions do, on held-out contexts."
        ),
        formula=(
            r"\frac{\overline{C}(\text{found by peak})}{\overline{C}(\text{random})} > 1, \qquad "
            r"C = \frac{\mathbb{E}\,\lVert\Delta\rVert_4^4}{\mathbb{E}\,\lVert\Delta\rVert_2^4}, \quad "
            r"\Delta = g(I_s^\alpha(x)) - g(I_s^0(x))"
        ),
        hypotheses=(
            "g: the neurons of the first MLP that sees what the next block's attention writes one token later, behind "
            "the activation (and the gate); centred logits in a model too shallow to have one",
            "search and evaluation share no page; all groups share contexts and presences",
            "refuted only if a search for concentration itself, same budget, is seen to find directions that act on "
            "fewer neurons",
        ),
        source="THEORY PY-11; claims SE-5 and TM-8.peak",
        # Known on the shipped model: what peaks have over random effects is size, 90 times as much; they land on more
        # neurons, not fewer, while a search for concentration does find directions that land on fewer.
        expected=Status.REFUTED,
        check="pythia.selective:check_peak_concentration",
        false_twins=(
            FalseTwin(
                statement=(
                    "Their effects are more concentrated than those of random directions in a randomly rotated basis "
                    "of the neurons too."
                ),
                check="pythia.selective:check_peak_in_a_rotated_basis",
            ),
            FalseTwin(
                statement="They act on few neurons even when every presence is set to what it already is.",
                check="pythia.selective:check_nothing_set",
            ),
        ),
        preflight="pythia.selective:preflight",
    ),
    Claim(
        id="PY-11.rules",
        statement=(
            "Rules tell where directions found by peak sensitivity are strongly present better than they do for "
            "directions found by plain sensitivity and for those of a sparse autoencoder."
        ),
        formula=(
            r"\overline{A}(\text{found by peak}) > \overline{A}(\text{found}), \qquad "
            r"\overline{A}(\text{found by peak}) > \overline{A}(\text{SAE})"
        ),
        hypotheses=(
            "accuracy A, rules, windows and halves as in PY-5",
            "intervals over windows and directions, corrected for the two comparisons",
        ),
        source="THEORY PY-11 and PY-5",
        # One layer is too little to tell; four do.
        expected=Status.INCONCLUSIVE,
        expected_full=Status.SUPPORTED,
        check="pythia.selective_rules:check_peak_rules",
        false_twins=(
            FalseTwin(
                statement="Rules tell their presences better even when these are moved to other contexts.",
                check="pythia.selective_rules:check_moved_presences",
            ),
        ),
        preflight="pythia.subject:preflight",
    ),
)
