"""Whether what a direction writes, what it does and what is written with it agree: PY-9."""

from sensverify.claims import Claim, FalseTwin
from sensverify.verdicts import Status

CLAIMS = (
    Claim(
        id="PY-9",
        statement=(
            "A found direction's logit weights by the direct path, the effect of ablating it on next-token logits, and "
            "the tokens written with it pinned agree with each other, pair by pair, beyond chance: by a tenth at least "
            "of the way from the agreement of two different directions' readings to full agreement."
        ),
        formula=(
            r"C_{ij} = \mathrm{corr}_{\text{tokens}}(\mathrm{rank}\,A_i, \mathrm{rank}\,B_j), \qquad "
            r"\overline{\frac{C_{ii} - m_i}{1 - m_i}} \geq \frac{1}{10}, \quad m_i = \overline{C_{ij}}_{\,j \neq i}"
        ),
        hypotheses=(
            "tokens that occur in the text; at the layer of PY-4, at every layer in the full profile",
            "chance: other directions' readings, so that what all of them share counts for nothing",
            "nulls: tokens of one reading permuted, for all directions alike; directions permuted among each other",
            "intervals: bootstrap over tokens, for all directions alike, and over directions",
            "Holm over the pairs of readings, and over layers; refuted by intervals that hold together (Bonferroni)",
        ),
        source="THEORY PY-9; Bricken et al. 2023 (Towards Monosemanticity)",
        expected=Status.SUPPORTED,
        check="pythia.causal:check_agreement",
        false_twins=(
            FalseTwin(
                statement="Ablating a direction raises the tokens that its logit weights promote.",
                check="pythia.causal:check_reversed",
            ),
        ),
        preflight="pythia.causal:preflight",
    ),
)
