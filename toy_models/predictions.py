"""What the toys predict of language models, derived before any is read.

Each prediction is an extrapolation and says by which rule. The rules are deliberately simple and fixed here, so that a
language model can fail them; a failed prediction is a result.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sensverify import formulas
from sensverify.claims import Run
from sensverify.geometry import presence
from sensverify.predictions import PREDICTIONS_NAME, Prediction, write_predictions
from sensverify.scoring import angular_distance
from sensverify.sparsity import CHANCE_MULTIPLE, summarise_presence
from sensverify.verdicts import Status, Verdict
from toy_models.separation import score_groups
from toy_models.trained import EVALUATION_CONTEXTS, evaluation_generator, found_directions, trained_models

NEEDED = {"TM-1", "TM-2"}
SHARE_ALLOWANCE = 5.0
FACTORS = (0.5, 2.0, 8.0)
ROUNDINGS = 64
RESIDUAL_MULTIPLE = 1000.0
EPSILON = 1e-5


def derive(run: Run, verdicts: Sequence[Verdict]) -> None:
    """Write ``predictions.json`` into the run's folder if TM-1 and TM-2 were run and are SUPPORTED; else nothing."""
    supported = {verdict.claim.id for verdict in verdicts if verdict.status is Status.SUPPORTED}
    if supported >= NEEDED:
        predictions = [predict_ratio(run), predict_share(run), *predict_scaling(run)]
        write_predictions(run.directory / PREDICTIONS_NAME, predictions)


def _seeds(run: Run) -> str:
    return ", ".join(str(trained.seed) for trained in trained_models(run))


def predict_ratio(run: Run) -> Prediction:
    """PY-4: how far found directions exceed random ones."""
    lowest = min(score.ratio("found", "random").low for score in score_groups(run))
    return Prediction(
        id="PY-4",
        quantity="mean SeS of found directions over mean SeS of random directions, held-out contexts",
        low=1 + (lowest - 1) / 2,
        high=None,
        derived_from=f"TM-1 and TM-2, seeds {_seeds(run)}: the lowest interval bound of found over random is "
        f"{lowest:.3f}; at least half of its excess over 1 is expected to survive in a trained network, whose effects "
        "pass through attention and add to a residual stream. No upper side: nothing in the toys limits it.",
    )


def predict_share(run: Run) -> Prediction:
    """PY-7: how often a found direction is present."""
    shares = []
    for trained, state in zip(trained_models(run), found_directions(run), strict=True):
        batch = trained.readout.sample(EVALUATION_CONTEXTS, evaluation_generator(trained))
        rho = presence(batch.x, state.directions, trained.readout.centring)
        shares.append(summarise_presence(rho, state.directions).median_share)
    return Prediction(
        id="PY-7",
        quantity=f"median over found directions of the share of contexts with |presence| ≥ {CHANCE_MULTIPLE:g}/√d",
        low=None,
        high=SHARE_ALLOWANCE * max(shares),
        derived_from=f"TM-2, seeds {_seeds(run)}: the largest median share is {max(shares):.4f}, where the toys' "
        f"features have density 0.01; a language model's may be denser, so {SHARE_ALLOWANCE:g} times that is allowed.",
    )


def predict_scaling(run: Run) -> tuple[Prediction, Prediction]:
    """PY-1: a norm's output against the residual stream, when the stream is scaled.

    The toy is a residual block ``x + W₂ ReLU(W₁ LN(x))`` with random weights on the toys' hidden activations.
    """
    bound = (ROUNDINGS * torch.finfo(torch.float32).eps) ** 2 / 4
    worst_norm, least_residual = 0.0, 1.0
    for trained in trained_models(run):
        generator = evaluation_generator(trained)
        x = trained.readout.sample(EVALUATION_CONTEXTS, generator).x
        width = trained.readout.width
        inner = torch.randn(4 * width, width, generator=generator) / width**0.5
        outer = torch.randn(width, 4 * width, generator=generator) / (4 * width) ** 0.5
        norm = formulas.layer_norm(x, EPSILON)
        block = x + torch.relu(norm @ inner.T) @ outer.T
        for factor in FACTORS:
            scaled_norm = formulas.layer_norm(factor * x, EPSILON)
            scaled = factor * x + torch.relu(scaled_norm @ inner.T) @ outer.T
            worst_norm = max(worst_norm, float(angular_distance(norm, scaled_norm).max()))
            least_residual = min(least_residual, float(angular_distance(block, scaled).mean()))
    if worst_norm > bound or least_residual < RESIDUAL_MULTIPLE * bound:
        raise AssertionError("the toy block itself breaks the bounds that are predicted from it")
    return (
        Prediction(
            id="PY-1.norm_output",
            quantity="largest angular distance of a norm's output when the residual stream is scaled",
            low=None,
            high=bound,
            derived_from=f"LN-2 (exact invariance of direction) and float32: {ROUNDINGS} roundings of relative size "
            "eps turn a unit vector by at most that, and the distance is its square over 4. Toy block, "
            f"seeds {_seeds(run)}: at most {worst_norm:.2e}.",
        ),
        Prediction(
            id="PY-1.residual_stream",
            quantity="mean angular distance of a block's output when its input is scaled, least of all blocks",
            low=RESIDUAL_MULTIPLE * bound,
            high=None,
            derived_from=f"LN-6: the block's output turns. Toy block, seeds {_seeds(run)}: at least "
            f"{least_residual:.2e}; a trained block may add little, so only {RESIDUAL_MULTIPLE:g} times the "
            "bound on norms is asked for.",
        ),
    )
