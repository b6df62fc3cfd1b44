"""Which method finds the features at which density, load and dimension (TM-3)."""

from __future__ import annotations

from sensverify.claims import Claim, FalseTwin
from sensverify.verdicts import Status

_CHECK = "toy_models.phase_check:"
_MODEL = "h = Wx with x_i ~ U(0, 1) with probability p, else 0; read-out ReLU(Wᵀh + b), trained on squared error"
_CELLS = (
    "d = 16, n = 2d, and d = 32, n = 4d; p = 0.02, 0.1, 0.4; full profile: d = 16 and 32, n/d = 2, 4, 8, d = 64, "
    "n = 2d; p = 0.01 to 0.5"
)
_SEEDS = (
    "3 models a cell; 95 % interval of their mean, models and the features (or directions) of each resampled; regions "
    "and thresholds were fixed on other seeds"
)
_SAME = (
    "every method looks at the same 4,096 contexts, is asked for the same number of directions (3n/2, at most 256 or "
    "n; sequential search for 4) and shows each equally many contexts; autoencoders at least 60 times as many; "
    "PCA, FastICA and the spectral solution hand out both signs of d components, 2d directions at most"
)
_RECOVERED = "recovered: represented features matched one to one with directions at cosine 0.9"

claims: tuple[Claim, ...] = (
    Claim(
        id="TM-3",
        statement="Whatever the density of the features, a search for directions of large sensitivity recovers them: "
        "at least half of them in every cell.",
        formula=r"\forall d, n, p: \quad \frac1n \#\{i : \langle s_{\pi(i)}, f_i \rangle \geq 0.9\} \geq \tfrac12",
        hypotheses=(
            _MODEL,
            _CELLS,
            _SAME,
            _RECOVERED,
            "plain sensitivity, angular distance, clean reference",
            "refuted only if the same judge finds half of the features recovered by a TopK autoencoder at n = 2d, "
            "p ≤ 0.1 (positive control)",
            _SEEDS,
        ),
        source="THEORY TM-3; Stambler 2025 (no sparsity needed); Elhage et al. 2022 (model)",
        expected=Status.REFUTED,
        check=_CHECK + "check_whatever_the_density",
        false_twins=(
            FalseTwin(
                statement="Principal components with both signs recover half of them in every cell with n = 2d.",
                check=_CHECK + "check_by_components",
            ),
            FalseTwin(
                statement="Independent components (FastICA) with both signs, at most half of the features at n = 4d, "
                "recover a third of them there.",
                check=_CHECK + "check_by_independent_components",
            ),
            FalseTwin(statement="Random directions recover half of them.", check=_CHECK + "check_by_random"),
        ),
    ),
    Claim(
        id="TM-3.sparse",
        statement="Plain sensitivity recovers features where they are sparse, overlap and have room, and not where "
        "they are dense: at least half of them at d = 32, n = 4d, p ≤ 0.02; less than a tenth at p ≥ 0.1 in every "
        "cell, where less than a tenth of the directions found are features.",
        formula=r"d = 32,\; n = 4d,\; p \leq 0.02: \; \text{share} \geq \tfrac12; \qquad "
        r"p \geq 0.1: \; \text{share} \leq \tfrac1{10}",
        hypotheses=(_MODEL, _CELLS, _SAME, _RECOVERED, _SEEDS),
        source="THEORY TM-3",
        expected=Status.SUPPORTED,
        check=_CHECK + "check_sparse",
        false_twins=(
            FalseTwin(statement="It recovers half of them at p ≥ 0.1 too.", check=_CHECK + "check_dense"),
            FalseTwin(
                statement="It recovers half of them in 16 dimensions too.", check=_CHECK + "check_sparse_but_small"
            ),
            FalseTwin(statement="So do random directions.", check=_CHECK + "check_sparse_by_random"),
        ),
    ),
    Claim(
        id="TM-3.methods",
        statement="Peak sensitivity recovers features at every density, at least 40 % of them in every cell; a TopK "
        "autoencoder told how many are active recovers at least 90 % at n = 2d, p ≤ 0.1, and less than 10 % at "
        "p ≥ 0.4.",
        formula=r"\text{peak}(s) = \frac{E\|f(I_s^\alpha(x)) - f(I_s^0(x))\|_4^4}{E\|f(x)\|_2^4}",
        hypotheses=(_MODEL, _CELLS, _SAME, _RECOVERED, "a read-out with a privileged basis, for peak", _SEEDS),
        source="THEORY TM-3, TM-9, SE-5; Gao et al. 2024 (TopK)",
        expected=Status.SUPPORTED,
        check=_CHECK + "check_methods",
        false_twins=(
            FalseTwin(statement="The same with the two methods exchanged.", check=_CHECK + "check_methods_swapped"),
            FalseTwin(statement="Plain sensitivity recovers 40 % in every cell.", check=_CHECK + "check_methods_plain"),
        ),
    ),
)
