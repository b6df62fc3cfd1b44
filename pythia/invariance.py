"""PY-1: what scaling the residual stream does inside a trained model.

At each block the whole residual stream is multiplied by ``k`` on its way in. Every norm that reads it should see
the same direction (LN-2: exactly, up to rounding) and a gain within LN-2's bound; the block's output, which adds the
scaled stream to an unscaled update, should turn (LN-6).

What rounding may do is predicted for float32. A model that computes in fewer digits rounds by more, and by the same
rule, :func:`rounding_limit`, is allowed more.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pythia import subject
from pythia.architectures import Norm
from pythia.loading import LanguageModel
from pythia.subject import corpus, model, prediction
from sensverify import formulas
from sensverify.claims import Run
from sensverify.exhibits import Curve
from sensverify.naming import public_name
from sensverify.numerals import number
from sensverify.predictions import JUDGED, Prediction, Side, judged
from sensverify.scoring import angular_distance
from sensverify.statistics import Interval
from sensverify.verdicts import Finding, Status

FACTORS = (0.5, 2.0, 8.0)
WINDOWS = 32
NEEDED: Mapping[str, Side] = {"PY-1.norm_output": "high", "PY-1.residual_stream": "low"}
"""The predictions that PY-1 is judged by, and the side of each that it cannot do without."""


ROUNDINGS = 64
"""So many roundings a norm's output may turn by; the rule that the text of PY-1.norm_output tells."""


STREAM_ROUNDINGS = 8
"""So many a block's output may turn by in the mean: it is two sums, and what both branches round of what they add."""


def rounding_limit(dtype: torch.dtype, roundings: int = ROUNDINGS) -> float:
    """How far roundings turn a unit vector: ``roundings`` of relative size eps by ``roundings·eps``, and the angular
    distance is the square of that over 4."""
    return (roundings * torch.finfo(dtype).eps) ** 2 / 4


def preflight(run: Run) -> None:
    """As :func:`pythia.subject.preflight` does for every claim, with the predictions of PY-1."""
    subject.preflight(run, NEEDED)


@dataclasses.dataclass(frozen=True)
class Scaling:
    """What one block does when its input is multiplied by ``factor``; all over contexts and positions.

    ``norm_output`` is the largest angular distance between a norm's outputs, ``gain_excess`` the largest
    ``|g² − 1|`` as a share of LN-2's bound plus rounding, ``residual`` the mean angular distance between the
    block's outputs.
    """

    block: int
    factor: float
    norm_output: float
    gain_excess: float
    residual: float


@torch.no_grad()
def measure_scaling(model: LanguageModel, windows: Tensor, real: Tensor) -> list[Scaling]:
    """One :class:`Scaling` per block and factor on ``windows [N, L]``, where ``real [N, L]``: tokens of the text."""
    rows = []
    for index, block in enumerate(model.architecture.blocks):
        # where attention and MLP do not run in parallel, the second norm reads x + Attn, which is not x scaled
        norms = [block.attention_norm, block.mlp_norm] if block.parallel else [block.attention_norm]
        plain = _pass(model, windows, index, 1.0)
        for factor in FACTORS:
            scaled = _pass(model, windows, index, factor)
            x, kx = plain.input[real], scaled.input[real]
            norm_distance, gain = 0.0, 0.0
            for norm in norms:
                norm_distance = max(norm_distance, float(_distance(_bare(norm, x), _bare(norm, kx)).max()))
                gain = max(gain, _gain_excess(norm, x, kx, factor))
            residual = _distance(plain.output[real], scaled.output[real])
            rows.append(Scaling(index, factor, norm_distance, gain, float(residual.mean())))
    return rows


def _distance(first: Tensor, second: Tensor) -> Tensor:
    """Angular distance, itself in float32 at least: measuring must add no roundings of a narrow dtype."""
    wide = torch.promote_types(first.dtype, torch.float32)
    return angular_distance(first.to(wide), second.to(wide))


def _bare(norm: Norm, x: Tensor) -> Tensor:
    """The norm's output before its affine part, by torch's own kernel."""
    return dataclasses.replace(norm, gain=torch.ones_like(norm.gain), shift=None)(x)


def _gain_excess(norm: Norm, x: Tensor, kx: Tensor, factor: float) -> float:
    """Largest measured ``|g² − 1|`` over LN-2's bound, the bound widened by the rounding of measuring it."""
    squared_gain = (_bare(norm, kx).double().square().sum(-1)) / (_bare(norm, x).double().square().sum(-1))
    variance = norm.centring.project(x.double()).square().mean(-1)
    if factor >= 1:
        bound = formulas.layer_norm_gain_bound(variance, norm.epsilon, factor)
    else:
        bound = formulas.layer_norm_gain_bound_shrinking(variance, norm.epsilon, factor).clamp(max=1.0)
    # g² is a quotient of sums of d squares of numbers that each carry a few roundings of the norm's kernel.
    rounding = 16 * torch.finfo(x.dtype).eps
    return float(((squared_gain - 1).abs() / (bound + rounding)).max())


@dataclasses.dataclass
class _Captured:
    input: Tensor
    output: Tensor


def _pass(model: LanguageModel, windows: Tensor, index: int, factor: float) -> _Captured:
    """Run the model with the input of block ``index`` multiplied by ``factor``; what it reads and what it returns."""
    captured, block = _Captured(torch.empty(0), torch.empty(0)), model.architecture.modules[index]

    def scale(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        captured.input = (args[0] if args else kwargs["hidden_states"]) * factor
        if args:
            return (captured.input, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": captured.input}

    def keep_output(_module: nn.Module, _args: Any, output: Any) -> None:
        captured.output = output if isinstance(output, Tensor) else output[0]

    with _hooks(
        block.register_forward_pre_hook(scale, with_kwargs=True),
        block.register_forward_hook(keep_output),
    ):
        model.architecture.body(input_ids=windows, use_cache=False)
    return captured


@contextlib.contextmanager
def _hooks(*handles: Any) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _measured(run: Run) -> list[Scaling]:
    text = corpus(run)
    return run.shared(
        "pythia.scaling", lambda: measure_scaling(model(run), text.held_out[:WINDOWS], text.held_out_real[:WINDOWS])
    )


def check_scaling(run: Run) -> Finding:
    """PY-1, judged against the toy models' predictions."""
    return _judge(run, _measured(run), gain_share=1.0, residual_invariant=False)


def check_residual_invariance(run: Run) -> Finding:
    """False twin: the residual stream does not turn either."""
    return _judge(run, _measured(run), gain_share=1.0, residual_invariant=True)


def check_tightened_gain(run: Run) -> Finding:
    """False twin: a far tighter bound on the gain."""
    return _judge(run, _measured(run), gain_share=1e-3, residual_invariant=False)


def _judge(run: Run, rows: list[Scaling], *, gain_share: float, residual_invariant: bool) -> Finding:
    """SUPPORTED if every block and factor obeys; else REFUTED with the worst one as witness."""
    predictions = {name: prediction(run, name, side) for name, side in NEEDED.items()}
    origin = predictions["PY-1.norm_output"][1]
    dtype = model(run).network.dtype
    assert isinstance(dtype, torch.dtype)
    judged_by = {name: one for name, (one, _) in predictions.items()}
    judged_by["PY-1.norm_output"] = widened(judged_by["PY-1.norm_output"], dtype)
    predicted_limit = predictions["PY-1.norm_output"][0].high
    norm_limit, residual_limit = judged_by["PY-1.norm_output"].high, judged_by["PY-1.residual_stream"].low
    assert predicted_limit is not None
    assert norm_limit is not None
    assert residual_limit is not None
    invariant_limit = max(predicted_limit, rounding_limit(dtype, STREAM_ROUNDINGS))
    worst_norm = max(rows, key=lambda row: row.norm_output)
    worst_gain = max(rows, key=lambda row: row.gain_excess)
    least_turned = min(rows, key=lambda row: row.residual)
    most_turned = max(rows, key=lambda row: row.residual)
    residual_fails = (
        most_turned if residual_invariant and most_turned.residual > invariant_limit
        else least_turned if not residual_invariant and least_turned.residual < residual_limit
        else None
    )  # fmt: skip
    witness = (
        worst_norm if worst_norm.norm_output > norm_limit
        else worst_gain if worst_gain.gain_excess > gain_share
        else residual_fails
    )  # fmt: skip
    measured = {"PY-1.norm_output": worst_norm.norm_output, "PY-1.residual_stream": least_turned.residual}
    evidence = {
        JUDGED: [  # the extremes of all that was tested: nothing was sampled, so their intervals have no width
            judged(judged_by[name], Interval(value, value, value), origin=origin) for name, value in measured.items()
        ],
        "model": public_name(run.subject.model),
        "factors": FACTORS,
        "blocks": 1 + max(row.block for row in rows),
        "contexts": WINDOWS,
        "largest_norm_output_distance": worst_norm.norm_output,
        "predicted_norm_output_distance_at_most": predicted_limit,
        "dtype": str(dtype).removeprefix("torch."),
        "rounding_limit_of_dtype": rounding_limit(dtype),
        "judged_norm_output_distance_at_most": norm_limit,
        "largest_gain_error_over_bound": worst_gain.gain_excess,
        "largest_residual_stream_distance": most_turned.residual,
        "least_residual_stream_distance": least_turned.residual,
        "predicted_residual_stream_distance_at_least": residual_limit,
        "predictions": origin,
    }
    status = Status.SUPPORTED if witness is None else Status.REFUTED
    if status is Status.SUPPORTED and residual_invariant and invariant_limit > predicted_limit:
        # such turning may be rounding and may be none: nothing is known of the stream, invariant or not
        status = Status.INCONCLUSIVE
        evidence["reason"] = f"{evidence['dtype']} rounds too coarsely to tell an invariant stream from one that turns"
    return Finding(
        status=status,
        evidence=evidence,
        witness=None if witness is None else dataclasses.asdict(witness),
        exhibits=(_curve(rows),),
    )


def widened(predicted: Prediction, dtype: torch.dtype) -> Prediction:
    """``predicted``, or with the limit that the same rule gives for ``dtype`` where that is the larger one."""
    assert predicted.high is not None
    limit = rounding_limit(dtype)
    if limit <= predicted.high:
        return predicted
    name = str(dtype).removeprefix("torch.")
    return dataclasses.replace(
        predicted,
        high=limit,
        derived_from=f"{predicted.derived_from} The model computes in {name}: the limit is that of {ROUNDINGS} of its "
        "roundings.",
    )


def _curve(rows: list[Scaling]) -> Curve:
    blocks = sorted({row.block for row in rows})
    series = {
        f"residual stream, k = {factor:g}": [row.residual for row in rows if row.factor == factor] for factor in FACTORS
    }
    # An exact zero cannot be drawn on a logarithmic axis; 1e-18 lies far below any rounding of float32.
    series["norm output, worst k"] = [
        max(1e-18, *(row.norm_output for row in rows if row.block == block)) for block in blocks
    ]
    return Curve(
        title="Scaling the residual stream",
        caption="Angular distance after multiplying a block's input by k. The norms' outputs (the largest distance of "
        f"all contexts) turn by {number(max(row.norm_output for row in rows), 2)} at most; the residual stream after "
        f"the block (mean over contexts) by {number(min(row.residual for row in rows), 2)} to "
        f"{number(max(row.residual for row in rows), 2)}, depending on block and k.",
        x_label="block",
        y_label="angular distance",
        x=blocks,
        series=series,
        log_y=True,
    )
