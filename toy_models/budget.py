"""TM-6: how much can be present at once in a trained dictionary, against the norm budget (RN-4).

For the unit feature directions ``s_i`` of a model, with Gram matrix ``G``, and an activation with presences ``ρ_i``:

- *sum of squares*: ``Σρ_i² ≤ λ_max(G)``, and so at most ``λ_max/τ²`` features have ``|ρ_i| ≥ τ``;
- *count*: if ``k`` features have ``|ρ_i| ≥ τ`` and pairwise ``|⟨s_i, s_j⟩| ≤ μ < τ²``, then ``k ≤ (1−μ)/(τ²−μ)``.

The count is put to its hardest test: the set of the ``k`` most present features, ``τ`` the presence of the last of them
and ``μ`` the largest overlap within this set, for every ``k`` from 2 to :data:`LARGEST_SET` in every context. Larger
sets are covered by the sum of squares alone. Where ``μ ≥ τ²`` nothing is claimed. Trained dictionaries overlap much
(where features are dense, in opposite pairs), so that with the overlap of the *whole* dictionary in place of the set's
the bound is void at nearly every ``τ``. Counting only positive presences, with signed overlaps, an opposite pair never
counts twice: the same bound, more often informative.

All is computed in float64. A law counts as broken only if it fails by more than ``32(n + d)u`` relative to the larger
side: several times what the sums of ``n`` and of ``d`` terms, and the eigenvalue, may be off by rounding.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from sensverify import formulas
from sensverify.claims import Run
from sensverify.exhibits import Curve, Table
from sensverify.geometry import gram, presence
from sensverify.statistics import Interval, seed_mean
from sensverify.verdicts import Finding, Status
from toy_models.superposition import SuperpositionConfig, SuperpositionModel, SuperpositionReadout
from toy_models.trained import grid

WIDTH = 32
LOADS = (2, 4, 8)
DENSITIES = {"sparse": 0.02, "dense": 0.2}
STEPS, BATCH, LEARNING_RATE = 400, 128, 1e-2
CONTEXTS = {"quick": 256, "full": 2048}
SEEDS = {"quick": 3, "full": 8}
FIRST_SEED = 600
LARGEST_SET = 64
"""Sets of more features than this are not looked at one by one; of them the sum of squares alone is tried."""
LOSSES = ("loss", "loss_of_zero", "loss_change")
TAUS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclasses.dataclass(frozen=True)
class Sets:
    """The most present features of every context, ``[B, K]``: column ``k − 1`` speaks of the first ``k``.

    ``tau``: presence of the last of them; ``mu``: largest overlap within the set (0 for one feature alone).
    """

    tau: Tensor
    mu: Tensor

    @property
    def claimed(self) -> Tensor:
        """Where the bound says something: at least two features, all present, ``μ < τ²``."""
        claimed = (self.mu < self.tau.square()) & (self.tau > 0)
        claimed[:, 0] = False
        return claimed

    @property
    def bound(self) -> Tensor:
        """``(1−μ)/(τ²−μ)`` where something is claimed, elsewhere infinite."""
        spare = torch.where(self.claimed, self.tau.square() - self.mu, torch.ones_like(self.mu))
        bound: Tensor = formulas.norm_budget((spare + self.mu).sqrt(), self.mu)
        return torch.where(self.claimed, bound, torch.inf)


def most_present(rho: Tensor, overlaps: Tensor, *, signed: bool) -> Sets:
    """From presences ``rho [B, n]`` and the Gram matrix ``overlaps [n, n]``; ``signed`` counts positive ones only."""
    size = min(LARGEST_SET, rho.shape[1])
    top = (rho if signed else rho.abs()).topk(size, dim=1)
    among = overlaps[top.indices[:, :, None], top.indices[:, None, :]]
    below = torch.ones(size, size, dtype=torch.bool).tril(-1)
    with_earlier = (among if signed else among.abs()).masked_fill(~below, -1.0).amax(2)
    mu = with_earlier.cummax(1).values
    mu[:, 0] = 0.0
    return Sets(tau=top.values, mu=mu)


@dataclasses.dataclass(frozen=True)
class Account:
    """What one model's contexts spend: ``rho [B, n]``, its sum of squares ``spent [B]``, and the limits on it.

    ``losses``: those with which the model's training ended.
    """

    label: str
    seed: int
    rho: Tensor
    spent: Tensor
    largest_eigenvalue: float
    overlap: float
    sets: dict[str, Sets]
    roundings: float
    losses: dict[str, Any]

    def count(self, tau: float) -> Tensor:
        """How many features have ``|ρ| ≥ τ``, ``[B]``."""
        return (self.rho.abs() >= tau).sum(1)


def account(model: SuperpositionModel, contexts: int, label: str) -> Account:
    """Presences of all represented features on fresh contexts."""
    readout = SuperpositionReadout(model)
    batch = readout.sample(contexts, torch.Generator().manual_seed(model.seed + 10**6))
    features = torch.nn.functional.normalize(model.feature_directions.double())
    overlaps = gram(features)
    rho = presence(batch.x.double(), features, readout.centring).T
    off_diagonal = overlaps.abs() - torch.eye(len(overlaps), dtype=torch.float64)
    return Account(
        label=label,
        seed=model.seed,
        rho=rho,
        spent=rho.square().sum(1),
        largest_eigenvalue=float(torch.linalg.eigvalsh(overlaps)[-1]),
        overlap=float(off_diagonal.max()),
        sets={
            "|presence|": most_present(rho, overlaps, signed=False),
            "presence": most_present(rho, overlaps, signed=True),
        },
        losses={name: readout.describe()[name] for name in LOSSES},
        roundings=32 * sum(features.shape) * torch.finfo(torch.float64).eps / 2,
    )


def seeds_of(run: Run) -> list[int]:
    """No other claim's."""
    return [1000 * run.seed + FIRST_SEED + i for i in range(SEEDS[run.profile])]


def accounts(run: Run) -> dict[str, list[Account]]:
    """For each load and density, one account per seed; once per run."""

    def make() -> dict[str, list[Account]]:
        cells = [(load, name) for name in DENSITIES for load in LOADS]
        configs = [
            SuperpositionConfig(
                features=load * WIDTH,
                width=WIDTH,
                density=DENSITIES[name],
                steps=STEPS,
                batch=BATCH,
                learning_rate=LEARNING_RATE,
            )
            for load, name in cells
        ]
        made = {}
        for (load, name), models in zip(cells, grid(run, configs, seeds_of(run)), strict=True):
            label = f"{name} (p = {DENSITIES[name]}), n = {load}d"
            made[label] = [account(model, CONTEXTS[run.profile], label) for model in models]
        return made

    return run.shared("toy_models.budget", make)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """TM-6 by default. ``of_squares``, ``of_count`` multiply the bounds; ``orthonormal``: 1 is taken for ``λ_max``."""

    of_squares: float = 1.0
    of_count: float = 1.0
    orthonormal: bool = False

    def limit(self, one: Account) -> float:
        """What the sum of squares is said not to exceed."""
        return self.of_squares * (1.0 if self.orthonormal else one.largest_eigenvalue)


def check_budget(run: Run, statement: Budget = Budget()) -> Finding:
    """TM-6: no context of any seed may spend more than the budget."""
    found = accounts(run)
    everything = [one for group in found.values() for one in group]
    broken = next(filter(None, (_overspent(one, statement) for one in everything)), None)
    whole = statement == Budget()
    return Finding(
        status=Status.SUPPORTED if broken is None else Status.REFUTED,
        evidence={
            "seeds": seeds_of(run),
            "contexts_per_model": CONTEXTS[run.profile],
            "contexts": sum(len(one.spent) for one in everything),
            "largest_set": LARGEST_SET,
            "sets_with_a_bound": {
                kind: sum(int(one.sets[kind].claimed.sum()) for one in everything) for kind in everything[0].sets
            },
            **({label: _figures(group) for label, group in found.items()} if whole else {}),
        },
        witness=broken,
        exhibits=(_curve(found), _table(found)) if whole else (),
    )


def twin_half_the_squares(run: Run) -> Finding:
    """False: the squares sum to at most ``λ_max/2``."""
    return check_budget(run, Budget(of_squares=0.5))


def twin_half_the_count(run: Run) -> Finding:
    """False: half as many features may be present."""
    return check_budget(run, Budget(of_count=0.5))


def twin_orthonormal(run: Run) -> Finding:
    """False: features behave like an orthonormal basis, ``Σρ² ≤ 1``."""
    return check_budget(run, Budget(orthonormal=True))


def _overspent(one: Account, statement: Budget) -> dict[str, Any] | None:
    """The worst context of this model, if it breaks either law by more than rounding."""
    limit, worst = statement.limit(one), int(one.spent.argmax())
    if float(one.spent[worst]) > limit * (1 + one.roundings):
        return {
            "model": one.label,
            "seed": one.seed,
            "context": worst,
            "sum_of_squared_presences": float(one.spent[worst]),
            "said_to_be_at_most": limit,
            "largest_presences": one.rho[worst].abs().topk(8).values.tolist(),
        }
    for kind, sets in one.sets.items():
        size = torch.arange(1, sets.tau.shape[1] + 1, dtype=torch.float64)
        # Multiplied out, so that a bound that is nearly infinite does not magnify rounding.
        excess = size * (sets.tau.square() - sets.mu) - statement.of_count * (1 - sets.mu)
        excess = torch.where(sets.claimed, excess, -torch.inf)
        context, column = divmod(int(excess.argmax()), len(size))
        if float(excess[context, column]) > one.roundings * (column + 1):
            return {
                "model": one.label,
                "seed": one.seed,
                "context": context,
                "counted": kind,
                "present": column + 1,
                "tau": float(sets.tau[context, column]),
                "mu": float(sets.mu[context, column]),
                "said_to_be_at_most": statement.of_count * float(sets.bound[context, column]),
            }
    return None


def _fullness(sets: Sets) -> float:
    """The largest share of its bound that any set fills; 0 if nothing is claimed of any."""
    size = torch.arange(1, sets.tau.shape[1] + 1, dtype=torch.float64)
    return float((size / sets.bound).max())


def _figures(group: list[Account]) -> dict[str, Any]:
    """How tight the budget is on one kind of model."""
    eigenvalue = max(one.largest_eigenvalue for one in group)
    counts: dict[str, Any] = {}
    for tau in TAUS:
        overlap = max(one.overlap for one in group)
        counts[f"tau {tau}"] = {
            "largest_count": max(int(one.count(tau).max()) for one in group),
            "mean_count": seed_mean([float(one.count(tau).double().mean()) for one in group]).to_json(),
            "bound_by_eigenvalue": eigenvalue / tau**2,
            "bound_by_overlap_of_all": formulas.norm_budget(tau, overlap) if overlap < tau**2 else None,
        }
    return {
        "seeds": [one.seed for one in group],
        "trained_models": [{"seed": one.seed, **one.losses} for one in group],
        "features": [one.rho.shape[1] for one in group],
        "largest_eigenvalue": [one.largest_eigenvalue for one in group],
        "overlap_of_all": [one.overlap for one in group],
        "share_of_budget_spent": seed_mean(
            [float(one.spent.mean()) / one.largest_eigenvalue for one in group]
        ).to_json(),
        "largest_share_spent": max(float(one.spent.max()) / one.largest_eigenvalue for one in group),
        "largest_share_of_count_bound": {
            kind: seed_mean([_fullness(one.sets[kind]) for one in group]).to_json() for kind in group[0].sets
        },
        "largest_share_of_count_bound_by_seed": {
            kind: [_fullness(one.sets[kind]) for one in group] for kind in group[0].sets
        },
        "counts": counts,
    }


def _curve(found: dict[str, list[Account]]) -> Curve:
    label = f"sparse (p = {DENSITIES['sparse']}), n = {LOADS[0]}d"
    dense = f"dense (p = {DENSITIES['dense']}), n = {LOADS[0]}d"
    series: dict[str, list[float]] = {}
    for name in (label, dense):
        group = found[name]
        eigenvalue = max(one.largest_eigenvalue for one in group)
        series[f"most present, {name}"] = [float(max(int(one.count(tau).max()) for one in group)) for tau in TAUS]
        series[f"bound, {name}"] = [min(eigenvalue / tau**2, float(group[0].rho.shape[1])) for tau in TAUS]
    return Curve(
        title="How many features are present at once",
        caption="The largest number of features with |ρ| at least τ in any context of any seed, beside the bound "
        "λ_max/τ² (or n, if that is less), λ_max the largest of the seeds'. The law holds if every count stays at or "
        "below its bound; how near it comes says how tight the bound is. The bound assumes no sparsity.",
        x_label="τ",
        y_label="features",
        x=list(TAUS),
        series=series,
        log_y=True,
    )


def _table(found: dict[str, list[Account]]) -> Table:
    rows = []
    for label, group in found.items():
        figures = _figures(group)
        spent = Interval(**figures["share_of_budget_spent"])
        full = {kind: Interval(**value) for kind, value in figures["largest_share_of_count_bound"].items()}
        rows.append(
            [
                label,
                f"{max(figures['largest_eigenvalue']):.3g}",
                f"{max(figures['overlap_of_all']):.3g}",
                spent.text(),
                f"{figures['largest_share_spent']:.3g}",
                *(value.text() for value in full.values()),
            ]
        )
    return Table(
        title="How tight the budget is",
        caption="Shares of the bounds that contexts use: a value above 1 would break RN-4, one near 1 says that no "
        "bound of its kind could be better. Intervals are Student's for the mean over seeds and may reach where no "
        "value can lie; 'largest share spent' is of all contexts and seeds.",
        columns=[
            "model",
            "λ_max",
            "largest overlap",
            "mean share spent",
            "largest share spent",
            "fullest set, |ρ| ≥ τ",
            "fullest set, ρ ≥ τ",
        ],
        rows=rows,
    )
