"""What norms see of the residual stream, and what the prediction depends on: PY-1 and PY-2."""

from sensverify.claims import Claim, FalseTwin
from sensverify.verdicts import Status

CLAIMS = (
    Claim(
        id="PY-1",
        statement=(
            "In a pre-norm language model, scaling the residual stream by k > 0 leaves the direction of every "
            "norm's output unchanged up to rounding, and its gain within the bound of LN-2; the residual "
            "stream after the block is not invariant (LN-6)."
        ),
        formula=r"\mathrm{LN}(kx) = g\,\mathrm{LN}(x), \qquad F(kx) = kx + f(\mathrm{LN}(kx)) \neq k F(x)",
        hypotheses=(
            "k ∈ {1/2, 2, 8}, at every block, every held-out context and position but BOS",
            "directions after centring, before the norm's affine part",
        ),
        source="THEORY PY-1; Stambler 2025 (relative-norm hypothesis); claims LN-2 and LN-6",
        expected=Status.SUPPORTED,
        check="pythia.invariance:check_scaling",
        false_twins=(
            FalseTwin(
                statement="The residual stream after a block is invariant under scaling too.",
                check="pythia.invariance:check_residual_invariance",
            ),
            FalseTwin(
                statement="The gain stays within a thousandth of LN-2's bound.",
                check="pythia.invariance:check_tightened_gain",
            ),
        ),
        preflight="pythia.invariance:preflight",
    ),
    Claim(
        id="PY-2",
        statement=(
            "Giving an activation the direction of another context's, its norm kept, moves the next-token "
            "distribution more than giving it that activation's norm, its direction kept: after each of the blocks "
            "nearest to 25, 50 and 75 % of the depth."
        ),
        formula=(
            r"\mathrm{median}\, \frac{\mathrm{KL}(p(x) \,\|\, p(\|x\| \hat y))}"
            r"{\mathrm{KL}(p(x) \,\|\, p(\|y\| \hat x))} > 1"
        ),
        hypotheses=(
            "never after the last block: two depths, or one, in a model of three blocks or two",
            "pairs of contexts from different windows, at the same position; never BOS, nor a window's first token",
            "directions and norms after centring; the distribution at the position itself",
            "sign tests over contexts, Holm's correction over depths; the order is that of the toy models",
        ),
        source="THEORY PY-2; Stambler 2025 (relative-norm hypothesis); claim LN-6",
        expected=Status.SUPPORTED,
        check="pythia.relative_norm:check_swaps",
        false_twins=(
            FalseTwin(
                statement="Giving an activation its own direction moves it more than giving it another's norm.",
                check="pythia.relative_norm:check_own_direction",
            ),
            FalseTwin(
                statement="Swapping norms moves it more than swapping directions.",
                check="pythia.relative_norm:check_opposite_order",
            ),
        ),
        preflight="pythia.relative_norm:preflight",
    ),
    Claim(
        id="PY-2.matched",
        statement=(
            "Size for size too: turning an activation towards another context's, by a chord as long as the "
            "difference of their norms, moves the next-token distribution more than that difference of norm does."
        ),
        formula=r"\|x\| \, \| \hat z - \hat x \| = | \|y\| - \|x\| |, \quad \hat z \in \mathrm{arc}(\hat x, \hat y)",
        hypotheses=("the pairs, depths and tests of PY-2",),
        source="THEORY PY-2: norms of tokens differ little, so that plain swaps compare changes of unequal size",
        expected=Status.SUPPORTED,
        check="pythia.relative_norm:check_turns",
        false_twins=(
            FalseTwin(
                statement="Turning it towards itself moves it more than that difference of norm does.",
                check="pythia.relative_norm:check_own_direction",
            ),
        ),
        preflight="pythia.relative_norm:preflight",
    ),
)
