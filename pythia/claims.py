"""The claims about language models. What decides each is named here and imported only when it runs."""

from sensverify.claims import Claim, FalseTwin, Suite
from sensverify.verdicts import Status

claims = Suite(
    claims=(
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
        Claim(
            id="PY-7",
            statement=(
                "The presence of the found directions is sparse, and within the norm budget of RN-4, without any "
                "sparsity term in the search."
            ),
            formula=r"\sum_i \rho_i^2 \leq \lambda_{\max}(G)",
            hypotheses=("the directions of PY-4, at every held-out position but BOS",),
            source="THEORY PY-7 and RN-4; Stambler 2025 (sparsity without assuming it)",
            # Known on the shipped model: the found directions lean against the mean activation, are present several
            # times as often as the toys allow, and their presence has no heavier tails than a Gaussian.
            expected=Status.REFUTED,
            check="pythia.sparsity:check_found_presence",
            false_twins=(
                FalseTwin(
                    statement="The presence of the mean activation's direction is sparse.",
                    check="pythia.sparsity:check_mean_direction_presence",
                ),
            ),
            preflight="pythia.sparsity:preflight",
        ),
    )
)
