"""Sensitivity's own claims: checked by strangers, able to fail, and true only where they say so."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

from proofs import engine_geometry, recheck, small_readouts
from proofs.concentrated_effects import exact_frames, tight_frame
from proofs.draws import Draws, cases
from proofs.floating import Comparison, sweep
from proofs.hunting import hunt
from proofs.opposite_direction import Opposite, check_opposite
from proofs.peak_effects import Peak, check_peak
from proofs.peak_engine import against_theory, failure, pairs
from proofs.plane_frames import APART, CROWDED, ROTATED_BASIS, plane_maximisers
from proofs.random_frames import allowed_angles, ascend, at_features, largest_curvatures
from proofs.sensitivity_range import check_range
from proofs.small_readouts import Case, SmallReadout, definition
from proofs.unit_norm_score import Null, check_null, share_of_the_norm
from sensverify import formulas, geometry, interventions, planes, scoring, selectivity, sensitivity, spectral
from sensverify.claims import Run, resolve
from sensverify.verdicts import Status


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(seed=0, directory=tmp_path)


# --- Hunting and shrinking ------------------------------------------------------------------------------


def test_a_broken_law_is_shrunk_to_something_a_person_can_check(run: Run) -> None:
    def too_strict(draws: Draws) -> list[Comparison]:
        error = (formulas.norm(draws.x) - 0.5).clamp(min=0)
        return [Comparison(law="‖x‖ ≤ 1/2", error=error, bound=torch.zeros_like(error))]

    swept = sweep(run, "test", too_strict)
    assert swept.failure is not None
    assert swept.failure["dimension"] == 2
    assert sorted(map(abs, swept.failure["x"])) == [0.0, 1.0]


def test_a_check_that_raises_is_not_taken_for_a_broken_law(run: Run) -> None:
    def defective(draws: Draws) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        hunt(run, cases(), defective)


def test_the_same_seed_hunts_the_same_cases(run: Run) -> None:
    def seen() -> list[str]:
        shown: list[str] = []
        hunt(run, cases(), lambda draws: shown.append(json.dumps(draws.case(0))))  # type: ignore[func-returns-value]
        return shown

    assert seen() == seen()


# --- The engine against the definition ------------------------------------------------------------------


def wrong_variance(estimate: Any) -> torch.Tensor:
    residual = estimate.weights * (estimate.effects - estimate.mean[:, None]) / estimate.weights.mean(1, keepdim=True)
    return residual.square().mean(1).div(residual.shape[1]).sqrt()


def unit_norm(x: Any, directions: Any, alpha: Any, centring: Any, original: Callable[..., Any]) -> Any:
    moved = original(x, directions, alpha, centring)
    return moved / formulas.norm(moved)


ENGINE_MUTANTS: list[tuple[str, Any, str, Callable[[Callable[..., Any]], Any]]] = [
    ("biased standard error", sensitivity.SensitivityEstimate, "standard_error", lambda old: property(wrong_variance)),
    (
        "mean without weights",
        sensitivity.SensitivityEstimate,
        "mean",
        lambda old: property(lambda estimate: estimate.effects.mean(1)),
    ),
    ("x' of norm 1", planes, "set_presence", lambda old: lambda x, s, a, c: unit_norm(x, s, a, c, old)),
    ("−α for α", planes, "set_presence", lambda old: lambda x, s, a, c: old(x, s, -torch.as_tensor(a), c)),
    ("no centring", planes, "set_presence", lambda old: lambda x, s, a, c: old(x, s, a, geometry.Centring.NONE)),
    (
        "−α for α in the plane",
        planes.Plane,
        "coordinates",
        lambda old: lambda plane, alpha: old(plane, -alpha),
    ),
    ("the context left out", planes, "combine", lambda old: lambda s, x, along, across: old(s, x, along, 0 * across)),
    ("cosine for angle", sensitivity, "angular_distance", lambda old: lambda y, z: 2 * old(y, z)),
    (
        "weight without square",
        formulas,
        "inactive_weight",
        lambda old: lambda rho, sigma: torch.exp(-rho.abs() / sigma),
    ),
    ("norm squared", interventions, "scale_norm", lambda old: lambda x, factor, c: old(x, factor**2, c)),
    ("KL the other way", scoring, "kullback_leibler", lambda old: lambda p, q: old(q, p)),
]


@pytest.mark.parametrize("mutant", ENGINE_MUTANTS, ids=lambda mutant: mutant[0])
def test_a_broken_engine_is_noticed_by_se_1(mutant: Any, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    name, owner, attribute, change = mutant
    original = getattr(owner, attribute)
    mutated = change(original)
    if name == "cosine for angle":  # the default distance of a probe was bound when its class was made
        monkeypatch.setattr(sensitivity.Probe, "__init__", _with_distance(sensitivity.Probe.__init__, mutated))
    monkeypatch.setattr(owner, attribute, mutated)
    for module, names in ((engine_geometry, {"norm squared"}), (small_readouts, {"the context left out"})):
        if name in names:
            monkeypatch.setattr(module, attribute, mutated)
    finding = check_range(run)
    assert finding.status is Status.REFUTED
    assert finding.witness is not None
    assert finding.witness["law"]


def _with_distance(init: Callable[..., None], distance: Any) -> Callable[..., None]:
    def start(self: Any, **options: Any) -> None:
        init(self, **{**options, "distance": distance})

    return start


def test_the_definition_is_the_textbook_case() -> None:
    """x = (3, 4), s = (1, 0), α = 0, read out as it is: the angle moves from arccos 3/5 to a right angle."""
    eye = torch.eye(2, dtype=torch.float64)
    readout = SmallReadout(
        contexts=torch.tensor([[3.0, 4.0]], dtype=torch.float64),
        inner=torch.cat([eye, -eye]),
        outer=torch.cat([eye, -eye], 1),
        centring=geometry.Centring.NONE,
        through_norm=False,
    )
    found = definition(Case(readout=readout, directions=eye[:1], alpha=0.0, seed=0))
    assert found.effects[0, 0] == pytest.approx((1 - 0.8) / 2, abs=1e-15)
    assert found.presences[0, 0] == pytest.approx(0.6, abs=1e-15)


# --- The published score (SE-2) -------------------------------------------------------------------------


def test_behind_a_norm_the_published_score_does_vanish(run: Run) -> None:
    assert check_null(run, Null(residual=False, branches=0)).status is Status.PROVED


def test_shrinking_explains_most_of_a_published_score_at_large_norm(run: Run) -> None:
    shares = [float(str(row[3]).split()[0]) for row in share_of_the_norm(run)]
    assert shares[0] < 1e-6  # ‖x‖ = 1: nothing is shrunk
    assert shares == sorted(shares)
    assert shares[-1] > 0.9


@pytest.mark.parametrize(
    "change",
    [
        {"branches": [[[0] * 4] * 4]},
        {"x": ["1/2", "-1/2", "1/2", "-1/2"]},
        {"x": [1, -1, 1, 1]},
        {"alpha": "1/2"},
        {"s": [1, 0, 0, 0]},
        {"at_most": "1/2"},
        {"F(x')": [1, 1, 1, 1]},
    ],
    ids=str,
)
def test_a_tampered_unit_norm_witness_is_rejected(change: dict[str, Any], run: Run) -> None:
    witness = check_null(run).witness
    assert witness is not None
    assert recheck.recheck(witness) == []
    assert recheck.recheck({**witness, **change})


# --- Opposite directions (SE-4) -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "equal",
    [Opposite(even=True, mirrored=True), Opposite(linear=True, absent=False, mirrored=True)],
    ids=["even read-out", "odd read-out"],
)
def test_where_both_directions_are_equal_no_witness_is_found(equal: Opposite, run: Run) -> None:
    assert check_opposite(run, equal).status is Status.INCONCLUSIVE


@pytest.mark.parametrize(
    "change",
    [
        {"score_plus": "1/5"},
        {"W": [["1", "0"], ["-1", "0"], ["0", "1"]], "score_minus": "1/10"},
        {"activation": "absolute value"},
        {"alpha": "0"},
        {"direction": ["2", "0"]},
        {"contexts": [["1", "0"]]},
    ],
    ids=str,
)
def test_a_tampered_opposite_witness_is_rejected(change: dict[str, Any], run: Run) -> None:
    witness = check_opposite(run).witness
    assert witness is not None
    assert recheck.recheck(witness) == []
    assert recheck.recheck({**witness, **change})


def test_the_opposite_witness_is_what_a_stranger_computes(run: Run) -> None:
    witness = check_opposite(run).witness
    assert witness is not None

    def score(sign: int) -> float:
        (x,), alpha = [[float(Fraction(c)) for c in p] for p in witness["contexts"]], float(Fraction(witness["alpha"]))
        assert x == [0.0, 1.0]
        moved = [sign * alpha, math.sqrt(1 - alpha**2)]
        before, after = ([max(sum(float(w) * c for w, c in zip(row, p, strict=True)), 0.0) for row in witness["W"]]
                         for p in (x, moved))  # fmt: skip
        dot = sum(a * b for a, b in zip(before, after, strict=True))
        return (1 - dot / math.hypot(*before) / math.hypot(*after)) / 2

    assert score(1) == pytest.approx(float(Fraction(witness["score_plus"])))
    assert score(-1) == pytest.approx(float(Fraction(witness["score_minus"])))


# --- Second order (SE-3) and concentration (SE-5) --------------------------------------------------------


@pytest.mark.parametrize(
    "mutant",
    [
        lambda readout, batch, vectors: 2 * spectral.apply_operator(readout, batch, vectors),
        lambda readout, batch, vectors: spectral.apply_operator(readout, batch, vectors) + 1e-6 * vectors,
        lambda readout, batch, vectors: vectors,
    ],
    ids=["twice", "a little identity", "identity"],
)
def test_a_broken_operator_is_noticed_by_se_3(mutant: Any, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setattr("proofs.second_order.apply_operator", mutant)
    assert resolve("proofs.second_order:check_expansion")(run).status is Status.REFUTED


@pytest.mark.parametrize(
    "mutant",
    [
        lambda effect: formulas.inner(effect * effect, effect * effect) / formulas.inner(effect, effect),
        lambda effect: formulas.inner(effect, effect) ** 2 / formulas.inner(effect * effect, effect * effect),
    ],
    ids=["norm not squared", "inverted"],
)
def test_a_broken_concentration_is_noticed_by_se_5(mutant: Any, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setattr(formulas, "concentration", mutant)
    assert resolve("proofs.concentrated_effects:check_concentration")(run).status is Status.REFUTED


def test_a_random_direction_is_as_concentrated_as_said() -> None:
    """Monte Carlo, blind to the derivation: the mean of ``C`` over the sphere for a tight frame."""
    frame = tight_frame(24, 8, torch.Generator().manual_seed(1))
    s = torch.randn(200_000, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    c = formulas.concentration((s / s.norm(dim=1, keepdim=True)) @ frame.T)[..., 0]
    error = float(c.std()) / len(c) ** 0.5
    assert abs(float(c.mean()) - 3 * 8 / (24 * 10)) < 5 * error


@pytest.mark.parametrize("name", list(exact_frames()))
def test_features_are_local_maxima_exactly_where_the_coherence_condition_says(name: str) -> None:
    frame = torch.tensor([[float(c) for c in row] for row in exact_frames()[name]], dtype=torch.float64)
    n, d = frame.shape
    coherence = float((frame @ frame.T - torch.eye(n, dtype=torch.float64)).abs().max())
    if not coherence**2 < d / (3 * n) - 1e-9:
        pytest.skip("the condition does not hold, nothing is claimed")
    feature = frame[0]
    own = float(formulas.concentration(frame @ feature))
    for seed in range(50):
        u = torch.randn(d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        u = u - (u @ feature) * feature
        moved = math.cos(0.05) * feature + math.sin(0.05) * u / u.norm()
        assert float(formulas.concentration(frame @ moved)) < own


# --- Peak sensitivity (SE-5.peak) ------------------------------------------------------------------------


def random_units(n: int, d: int, seed: int) -> torch.Tensor:
    w = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(w, dim=1)


def fourth(frame: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    return (s @ frame.T).pow(4).sum(-1)


def test_the_mean_of_peaks_over_the_sphere_is_as_said_in_a_frame_that_is_not_tight() -> None:
    """Monte Carlo, blind to the derivation, in a frame as far from tight as can be: one feature five times."""
    frame = random_units(1, 6, 3).repeat(5, 1)
    s = random_units(200_000, 6, 4)
    found = fourth(frame, s)
    assert abs(float(found.mean()) - 3 * 5 / (6 * 8)) < 5 * float(found.std()) / len(found) ** 0.5


@pytest.mark.parametrize("seed", range(4))
def test_slopes_and_second_derivatives_at_features_are_finite_differences(seed: int) -> None:
    frame, step = random_units(7, 4, seed), 1e-4
    u = random_units(4000, 4, seed + 100)
    own, steepest = fourth(frame, frame), at_features(frame)["slope"]
    for i, w in enumerate(frame):
        along = u - (u @ w)[:, None] * w
        along = along / along.norm(dim=1, keepdim=True)
        forth, back = (math.cos(step) * w + sign * math.sin(step) * along for sign in (1, -1))
        slope = (fourth(frame, forth) - fourth(frame, back)) / (2 * step)
        second = (fourth(frame, forth) + fourth(frame, back) - 2 * own[i]) / step**2
        assert float(slope.max()) == pytest.approx(float(steepest[i]), rel=0.02)
        assert float(second.max()) == pytest.approx(float(largest_curvatures(frame)[i]), abs=0.1)


def test_no_ascent_leaves_the_ball_that_the_theorem_names() -> None:
    frame = random_units(24, 150, 5)
    allowed = allowed_angles(frame)
    assert bool((allowed < 0.2).all())
    for seed in range(5):  # from anywhere within the radius, not from the feature alone
        starts = frame + 0.05 * random_units(24, 150, seed + 6)
        found = ascend(frame, starts / starts.norm(dim=1, keepdim=True))
        assert bool((torch.arccos((found * frame).sum(1).clamp(max=1)) <= allowed + 1e-6).all())


@pytest.mark.parametrize("quotient", [False, True], ids=["F", "C"])
@pytest.mark.parametrize("frame", [ROTATED_BASIS, APART, (*APART, CROWDED[1])], ids=["basis", "two", "three"])
def test_the_maximisers_in_the_plane_are_those_of_a_fine_grid(frame: Any, quotient: bool) -> None:
    w = torch.tensor([[float(c) for c in v] for v in frame], dtype=torch.float64)
    angle = torch.linspace(0, math.pi, 200_001, dtype=torch.float64)[:-1]
    y = torch.stack([angle.cos(), angle.sin()], 1) @ w.T
    values = (y**4).sum(1) / ((y**2).sum(1) ** 2 if quotient else 1)
    peaks = angle[(values > values.roll(1)) & (values >= values.roll(-1))].tolist()
    found = [math.atan(float(low)) % math.pi for low, _ in plane_maximisers(frame, quotient=quotient)]
    assert sorted(found) == pytest.approx(sorted(peaks), abs=1e-4)


def test_a_frame_whose_maximum_is_on_the_vertical_is_refused() -> None:
    with pytest.raises(ValueError, match="turn it"):
        plane_maximisers(((Fraction(1), Fraction(0)), (Fraction(0), Fraction(1))), quotient=False)


@pytest.mark.parametrize(
    "false",
    [Peak(random=3 * formulas.dimension(torch.zeros(7))), Peak(curvature=11), Peak(same=True)],
    ids=["a number for the mean", "11 for 12", "same maximisers"],
)
def test_other_false_statements_on_peaks_are_refuted_with_numbers(false: Peak, run: Run) -> None:
    finding = check_peak(run, false)
    assert finding.status is Status.REFUTED
    assert finding.witness is not None
    assert any(character.isdigit() for character in json.dumps(finding.witness))


PEAK_MUTANTS: list[tuple[str, Any, str, Callable[[Callable[..., Any]], Any]]] = [
    (
        "by each context's own length",
        selectivity,
        "peaks",
        lambda old: lambda f, c: f.values * (f.sizes / c.norm()) ** 4,
    ),
    ("second power", selectivity, "peaks", lambda old: lambda f, c: old(f, c) ** 0.5),
    ("concentration alone", selectivity, "peaks", lambda old: lambda f, c: f.values),
    (
        "clean for absent",
        selectivity,
        "compared",
        lambda old: lambda r, b, c, s, a, reference: old(r, b, c, s, a, "clean"),
    ),
    (
        "absent is a half",
        sensitivity,
        "read_moved",
        lambda old: lambda r, b, s, alphas: old(r, b, s, [0.5 if isinstance(a, float) else a for a in alphas]),
    ),
]


@pytest.mark.parametrize("mutant", PEAK_MUTANTS, ids=lambda mutant: mutant[0])
def test_broken_peaks_are_noticed_by_se_5_peak(mutant: Any, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    _, owner, attribute, change = mutant
    monkeypatch.setattr(owner, attribute, change(getattr(owner, attribute)))
    assert against_theory(run) is not None or hunt(run, pairs(), failure) is not None


def test_a_broken_peak_refutes_the_claim(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    original = selectivity.peaks
    monkeypatch.setattr(selectivity, "peaks", lambda found, clean: original(found, clean) * (1 + 1e-6))
    finding = check_peak(run)
    assert finding.status is Status.REFUTED
    assert finding.witness is not None
