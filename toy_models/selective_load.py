"""TM-9.load: how many features per dimension a search by effects can tell apart.

SE-5.peak proves, for unit features and a linear read-out, that ``F(s) = Σ⟨w_j, s⟩⁴`` is at least 1 at a feature and
``3n/(d(d+2))`` at a random direction on average. That compares values; it says nothing about where an ascent from a
random start ends. Here that is measured, on random unit features that nobody trained:

- *linear*: ``Wᵀh + b`` with presence 0.02, where ``Δ ∝ Wᵀs`` but for 1 % and peak sensitivity is ``F`` itself. ``F`` is
  even, so cosines count by absolute value.
- *ReLU*: the read-out and the presences of all other claims, at density 0.3.

The measure is the share of directions that end at a feature (cosine 0.9), freed of chance: a uniformly random direction
meets one of ``n`` features with probability ``q ≈ 1 − (1 − cap)ⁿ``, and what counts is ``(share − q)/(1 − q)``. At ``d
= 8`` the share never falls to one half, however many features there are, since in so few dimensions a maximum between
features is near one of them as well; so dimensions begin at 24 where a boundary is measured.

What to expect of its growth: ``F`` less its mean is a bump of height 1 at every feature, on noise of standard deviation
about ``√(96n)/d²``. At ``n = d(d+2)/3`` that is ``5.7/d``: the same load becomes easier as ``d`` grows, so over these
sizes the boundary may grow faster than ``d²``. This is a heuristic, and says nothing about large ``d``. Behind a ReLU
half is reached beyond that load, at about 4 times it for ``d = 16`` and 2.7 times for 24 and 32: how it grows with
``d`` cannot be told from these sizes, and is not claimed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sensverify.claims import Run
from sensverify.discovery import SearchOptions
from sensverify.errors import MissingExtraError
from sensverify.exhibits import Curve, Exhibit, Table
from sensverify.sensitivity import PresenceLaw, Probe
from sensverify.statistics import Interval, seed_mean, share_interval
from sensverify.verdicts import Finding, Status
from toy_models.folder import plant
from toy_models.readouts import Linear
from toy_models.recovery import RECOVERED_COSINE, match
from toy_models.searching import PEAK, PLAIN, SELECTIVE, search_seed, searched
from toy_models.superposition import SuperpositionReadout

LABEL = "TM-9 limits"
"""Of the seeds of searches here and in the claims beside this one."""
SEEDS, RELU_SEEDS = 5, 3
DENSITY = 0.3
PRESENCE = 0.02
"""Setting a presence from 0 to ``α`` moves by ``α`` along the direction and by ``α²/2`` along what there was."""

WIDTHS = {"quick": (24, 64), "full": (24, 32, 48, 64)}
LOADS = {"quick": (0.18, 0.35, 0.7, 1.4), "full": (0.18, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4)}
"""Over ``d(d+2)/3``, the same for every ``d`` and beyond :data:`FACTOR` on both sides: if one half is not crossed
within them, the boundary is put at an end, and that is outside."""
RELU_WIDTHS = {"quick": (24,), "full": (16, 24, 32)}
RELU_LOADS = {"quick": (1.0,), "full": (0.5, 1.0, 2.0, 4.0)}

EXPONENT = (2.0, math.inf)
FACTOR = (0.25, 1.0)
RELU_SHARE = 0.5
"""One half, as everywhere. Ranges and budgets were chosen on seeds from 9000 on: there the exponent was 2.6, factors
0.37 and 0.71, the share 0.85 to 0.9."""

LINEAR_SEARCH = dataclasses.replace(
    PEAK,
    directions=48,
    steps=150,
    contexts=1,
    probe=Probe(reference="absent", law=PresenceLaw(low=PRESENCE, high=PRESENCE)),
)
"""One context: where effects are linear, contexts differ by a factor, which the ascent of the logarithm drops."""
RELU_SEARCHES: Mapping[str, SearchOptions] = {
    name: dataclasses.replace(options, directions=32, steps=150, contexts=4)
    for name, options in {"peak": PEAK, "selective": SELECTIVE, "plain": PLAIN}.items()
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expected:
    """What is held against the measurement: ``exponent`` of the boundary in ``d``, where it lies over ``bound``, and
    ``score``, with which half the directions and more are features at ``n = d(d+2)/3`` behind a ReLU."""

    exponent: tuple[float, float] = EXPONENT
    factor: tuple[float, float] = FACTOR
    bound: str = "d(d+2)/3"
    score: str = "peak"


def check_load(run: Run) -> Finding:
    """TM-9.load."""
    finding = _judge(run, Expected())
    relu = {name: _relu_cells(run, name) for name in RELU_SEARCHES}
    evidence = {
        **finding.evidence,
        "linear": [_row(run, cell, measured) for cell, measured in _linear_cells(run).items()],
        "relu": {name: [_row(run, cell, measured) for cell, measured in cells.items()] for name, cells in relu.items()},
        "searches": {"linear": LINEAR_SEARCH.to_json(), **{k: v.to_json() for k, v in RELU_SEARCHES.items()}},
    }
    return dataclasses.replace(finding, evidence=evidence, exhibits=_exhibits(run, relu))


def twin_linear_growth(run: Run) -> Finding:
    """False: the boundary grows in proportion to ``d``."""
    return _judge(run, Expected(exponent=(0.5, 1.5)))


def twin_at_the_width(run: Run) -> Finding:
    """False: the boundary lies at ``n = d`` up to a factor of two."""
    return _judge(run, Expected(exponent=(-math.inf, math.inf), factor=(0.5, 2.0), bound="d"))


def twin_up_to_the_bound(run: Run) -> Finding:
    """False: an ascent of ``F`` ends at features for as long as features are above the mean of ``F``."""
    return _judge(run, Expected(factor=(1.0, math.inf)))


def twin_plain(run: Run) -> Finding:
    """False: plain sensitivity passes the load of the theory, behind a ReLU."""
    return _judge(run, Expected(score="plain"))


def load(width: int) -> float:
    """``d(d+2)/3``: with more features than that, ``F`` has a mean above 1."""
    return width * (width + 2) / 3


def loads(run: Run) -> tuple[float, ...]:
    """At which loads the linear read-out is searched."""
    return LOADS[run.profile]


def chance(count: int, width: int, *, signed: bool) -> float:
    """How probably a uniformly random direction is within cosine 0.9 of one of ``count`` random features.

    Raises :class:`~sensverify.errors.MissingExtraError` without scipy.
    """
    try:
        from scipy.special import betainc
    except ImportError as error:
        raise MissingExtraError(package="scikit-learn", extra="toys") from error
    both = float(betainc((width - 1) / 2, 0.5, 1 - RECOVERED_COSINE**2))
    return -math.expm1(count * math.log1p(-(both / 2 if signed else both)))


def corrected(share: float, by_chance: float) -> float:
    """``share`` with 0 at what chance gives and 1 at all."""
    return (share - by_chance) / (1 - by_chance)


def crossing(x: Sequence[float], shares: Sequence[float], level: float = 0.5) -> float:
    """Where ``shares`` first fall below ``level``, between two ``x`` on a logarithmic scale.

    The first ``x`` if they begin there, the last one if they never do: then the boundary is that or beyond.
    """
    for i, share in enumerate(shares):
        if share < level:
            if i == 0:
                return x[0]
            part = (shares[i - 1] - level) / (shares[i - 1] - share)
            return float(x[i - 1] * (x[i] / x[i - 1]) ** part)
    return x[-1]


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The exponent ``β`` of ``y ∝ x^β``, by least squares on logarithms."""
    u, v = torch.tensor(x, dtype=torch.float64).log(), torch.tensor(y, dtype=torch.float64).log()
    u = u - u.mean()
    return float((u * v).sum() / u.square().sum())


def beyond_chance(run: Run, hits: Sequence[Tensor], by_chance: float) -> Interval:
    """Share of the directions at a feature, corrected for chance: mean over seeds, with their directions resampled.

    ``hits``: for each seed, yes or no for each direction, ``[K]``. The correction is linear, so that it takes the ends
    of the interval along.
    """
    found = share_interval(hits, torch.Generator().manual_seed(run.seed))
    return Interval(*(corrected(end, by_chance) for end in (found.value, found.low, found.high)))


Cell = tuple[int, float]
"""Width and load."""

NOWHERE = Interval(math.nan, math.nan, math.nan)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """Of one cell: for each seed which directions end at a feature, ``[K]``, and how probably a random one does."""

    hits: Sequence[Tensor]
    by_chance: float

    @property
    def shares(self) -> list[float]:
        """One per seed, corrected for chance."""
        return [corrected(float(one.double().mean()), self.by_chance) for one in self.hits]

    def interval(self, run: Run) -> Interval:
        """Of their mean."""
        return beyond_chance(run, self.hits, self.by_chance)


def _linear_cells(run: Run) -> dict[Cell, Measured]:
    """Every width at every load."""

    def make() -> dict[Cell, Measured]:
        cells = [(width, at) for width in WIDTHS[run.profile] for at in loads(run)]
        return {cell: _measured(run, cell, _seeds(run), LINEAR_SEARCH, linear=True) for cell in cells}

    return run.shared("toy_models.selective_load.linear", make)


def _relu_cells(run: Run, name: str) -> dict[Cell, Measured]:
    """The same behind a ReLU; other scores than peak at the load of the theory alone."""

    def make() -> dict[Cell, Measured]:
        tried = RELU_LOADS[run.profile] if name == "peak" else (1.0,)
        cells = [(width, at) for width in RELU_WIDTHS[run.profile] for at in tried]
        options = RELU_SEARCHES[name]
        return {cell: _measured(run, cell, _seeds(run)[:RELU_SEEDS], options, linear=False) for cell in cells}

    return run.shared(f"toy_models.selective_load.relu {name}", make)


def _seeds(run: Run) -> list[int]:
    """Nothing is trained here, so that five are affordable in the quick profile too."""
    return [1000 * run.seed + i for i in range(SEEDS)]


def _measured(run: Run, cell: Cell, seeds: Sequence[int], options: SearchOptions, *, linear: bool) -> Measured:
    width, at = cell
    hits = []
    for seed in seeds:
        model = plant(round(at * load(width)), width, seed, DENSITY)
        readout = Linear(model) if linear else SuperpositionReadout(model)
        found = searched(run, readout, dataclasses.replace(options, seed=search_seed(LABEL, seed, width, at)))
        hits.append(match(found, model.feature_directions, signed=not linear).precise)
    return Measured(hits=hits, by_chance=chance(round(at * load(width)), width, signed=not linear))


def _judge(run: Run, expected: Expected) -> Finding:
    """Exponent, factor at every width and share behind the ReLU: all wholly inside their ranges, or one wholly out."""
    cells, widths = _linear_cells(run), WIDTHS[run.profile]
    crossings = [
        [crossing(loads(run), [cells[width, at].shares[i] for at in loads(run)]) for width in widths]
        for i in range(len(_seeds(run)))
    ]
    boundaries = [[at * load(width) for at, width in zip(row, widths, strict=True)] for row in crossings]
    exponent = seed_mean([slope(widths, row) for row in boundaries])
    judged: dict[str, tuple[Interval, tuple[float, float]]] = {"exponent": (exponent, expected.exponent)}
    for i, width in enumerate(widths):
        unit = load(width) if expected.bound == "d(d+2)/3" else width
        values = [row[i] / unit for row in boundaries]
        judged[f"n_half over {expected.bound}, d = {width}"] = (seed_mean(values), expected.factor)
    for width in RELU_WIDTHS[run.profile]:
        found = _relu_cells(run, expected.score)[width, 1.0].interval(run)
        name = f"{expected.score} behind a ReLU, d = {width}, n = d(d+2)/3"
        judged[name] = (found, (RELU_SHARE, 1.0))
    outside = [
        name for name, (found, (low, high)) in judged.items() if found.high < low or found.low > high
    ]  # fmt: skip
    inside = all(found.low >= low and found.high <= high for found, (low, high) in judged.values())
    status = Status.REFUTED if outside else Status.SUPPORTED if inside else Status.INCONCLUSIVE
    said = {
        "judged": {
            name: {"interval": found.to_json(), "range": [_number(end) for end in ends]}
            for name, (found, ends) in judged.items()
        },
        "boundary_per_seed": {f"d = {width}": [row[i] for row in boundaries] for i, width in enumerate(widths)},
        "seeds": _seeds(run),
        "seeds_behind_a_relu": _seeds(run)[:RELU_SEEDS],
    }
    return Finding(status=status, evidence=said, witness={"fails": outside, **said} if outside else None)


def _number(end: float) -> float | None:
    """``end`` of a range; None where it is open."""
    return end if math.isfinite(end) else None


def _row(run: Run, cell: Cell, measured: Measured) -> dict[str, Any]:
    width, at = cell
    return {
        "width": width,
        "features": round(at * load(width)),
        "load": at,
        "share_of_directions_at_a_feature_beyond_chance": measured.interval(run).to_json(),
        "per_seed": measured.shares,
    }


def _exhibits(run: Run, relu: Mapping[str, dict[Cell, Measured]]) -> tuple[Exhibit, ...]:
    linear = _linear_cells(run)
    low, high = FACTOR
    curves = [
        _curve(
            run,
            linear,
            "linear read-out",
            f"it should fall through one half between {low:g} and {high:g}, and further right for larger $d$",
        )
    ]
    if len(RELU_LOADS[run.profile]) > 1:
        curves.append(_curve(run, relu["peak"], "ReLU", "at 1 its band should still lie above one half"))
    rows = [
        [name, width, round(at * load(width)), at, f"{one.by_chance:.2g}", one.interval(run).text()]
        for name, cells in [("peak, linear", linear), *((f"{name}, ReLU", cells) for name, cells in relu.items())]
        for (width, at), one in cells.items()
    ]
    table = Table(
        title="Directions that end at a feature, by load",
        caption=f"Share beyond chance at cosine {RECOVERED_COSINE}, with intervals over seeds and directions. Compare "
        "the rows at load 1, n = d(d+2)/3: peak behind a ReLU should have its interval above one half, peak with a "
        "linear read-out below; plain and selective stand beside them.",
        columns=["score, read-out", "d", "n", "n / (d(d+2)/3)", "by chance", "share beyond chance"],
        rows=rows,
    )
    return (*curves, table)


def _curve(run: Run, cells: Mapping[Cell, Measured], name: str, see: str) -> Curve:
    """Where a width was not searched at some load, its line has a gap."""
    at = sorted({load for _, load in cells})
    rows = {
        f"d = {width}": [cells[width, x].interval(run) if (width, x) in cells else NOWHERE for x in at]
        for width in sorted({width for width, _ in cells})
    }
    return Curve(
        title=f"Directions at a feature over the load, {name}",
        caption="Share beyond chance of directions that end at a feature, one line for each $d$, bands over seeds and "
        f"directions. At 1, for every $d$, lies the proved bound up to which features are above the mean. Of each "
        f"line: {see}.",
        x_label="n / (d(d+2)/3)",
        y_label="share of directions at a feature",
        x=at,
        log_x=True,
        series={label: [one.value for one in row] for label, row in rows.items()},
        bands={label: [(one.low, one.high) for one in row] for label, row in rows.items()},
    )
