"""Parity with the published research code: PY-10."""

from sensverify.claims import Claim, FalseTwin
from sensverify.verdicts import Status

CLAIMS = (
    Claim(
        id="PY-10",
        statement=(
            "What the published score gives to random directions, at the site where it was published, is in part its "
            "own construction: at the null rotation, where nothing is rotated, at least the share that the toy models "
            "predict is there."
        ),
        formula=(
            r"\frac{\mathbb{E}\, D(F(x), F(x / \|x\|))}"
            r"{\mathbb{E}\, D(F(x), F(I_s^\alpha(x) / \|x\|))} \geq \text{predicted}"
        ),
        hypotheses=(
            "same token, one block later, a third of the way into the model",
            "x' of norm 1, presences from U(0, 7/8), positions of padding included, weights folded and centred",
            "random directions, windows held out from every search",
        ),
        source="THEORY PY-10 and SE-2; the research code published with the sensitivity hypothesis",
        expected=Status.SUPPORTED,
        check="pythia.author:check_construction",
        false_twins=(
            FalseTwin(
                statement="So is what our score gives to them, by that share.",
                check="pythia.author:check_ours",
            ),
            FalseTwin(
                statement="So it is one token later.",
                check="pythia.author:check_next_token",
            ),
        ),
        preflight="pythia.author:preflight",
    ),
)
