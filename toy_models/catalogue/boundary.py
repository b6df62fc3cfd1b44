"""Why and where plain sensitivity stops separating features from random directions."""

from __future__ import annotations

from sensverify.claims import Claim, FalseTwin
from sensverify.verdicts import Status

claims: tuple[Claim, ...] = (
    Claim(
        id="TM-3.boundary",
        statement=(
            "The number of features, the dimension and the density alone predict how much more sensitive features are "
            "than random directions, and hence the density at which they no longer are: on configurations that were "
            "not used to find the theory the ratio is predicted to a mean error of at most 6 %, with at least 80 % of "
            "the variance of its logarithm explained, and the density where it falls to 1 within a factor of 2."
        ),
        formula=(
            r"\begin{aligned}"
            r"\frac{\mathrm{SeS}(\text{feature})}{\mathrm{SeS}(\text{random})} &= R(n, d, p) \\"
            r"(\text{geometry}, k, c, b) &= \arg\min \mathbb{E}"
            r"\bigl(\mathrm{ReLU}(c^2(x + \eta) + b) - x\bigr)^2 \\"
            r"\mathbb{E}\,g &= \frac{-1}{k-1},\quad \mathbb{E}\,g^2 = \frac{k/d - 1}{k-1},"
            r"\quad \mathbb{E}\,g^3 \ge \frac{-1}{k-1}"
            r"\end{aligned}"
        ),
        hypotheses=(
            "independent features of equal importance, trained to convergence",
            "the density at the boundary is judged for n ≥ 3d; at n = 2d the ratio is near 1 at every density",
            "judged on widths, densities and seeds that it was not developed on: 18 to 56 dimensions, loads 2 to "
            "10 (quick profile: 18 dimensions, loads 2, 3 and 6)",
            "densities from 0.02 to 0.38; sparser features are not judged",
        ),
        source="Mean-field theory of this project; Elhage et al. 2022 for the model",
        expected=Status.SUPPORTED,
        check="toy_models.boundary_check:check_theory",
        false_twins=(
            FalseTwin(
                statement="Sensitivity separates without a threshold: the theory with b = 0 predicts the ratio.",
                check="toy_models.boundary_check:check_without_threshold",
            ),
            FalseTwin(
                statement="Interference does not matter: the theory of orthogonal features predicts the ratio.",
                check="toy_models.boundary_check:check_without_interference",
            ),
            FalseTwin(
                statement="The ratio is the same in every configuration: its mean predicts it.",
                check="toy_models.boundary_check:check_constant",
            ),
            FalseTwin(
                statement="Features are as sensitive as random directions in every configuration.",
                check="toy_models.boundary_check:check_one",
            ),
        ),
    ),
)
