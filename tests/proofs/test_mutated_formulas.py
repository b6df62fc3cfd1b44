"""The claims are about the formulas that the engine runs: break one, and its claim is no longer PROVED."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sensverify import formulas
from sensverify.claims import Run, resolve
from sensverify.verdicts import Status


def without_root(length: Any, s: Any, v: Any, alpha: Any) -> Any:
    return length * (s * alpha + v * ((1 - alpha) * (1 + alpha)))


def unit_result(x: Any, s: Any, alpha: Any) -> Any:
    return formulas.at_presence(1, s, formulas.perpendicular_unit(x, s), alpha)


def other_side(x: Any, s: Any, alpha: Any) -> Any:
    return formulas.at_presence(formulas.norm(x), s, formulas.perpendicular_unit(x, s) * -1, alpha)


def unbiased_variance(x: Any) -> Any:
    centred = formulas.centre(x)
    return formulas.inner(centred, centred) / (formulas.dimension(x) - 1)


def epsilon_outside_the_root(x: Any, epsilon: Any = 0) -> Any:
    return formulas.centre(x) / (formulas.sqrt(formulas.variance(x)) + epsilon)


def no_centring(x: Any) -> Any:
    return x * 1


def gain_inverted(variance: Any, epsilon: Any, scale: Any) -> Any:
    return (variance + epsilon / scale**2) / (variance + epsilon)


def bound_without_share(variance: Any, epsilon: Any, scale: Any) -> Any:
    return epsilon * (1 - 1 / scale) / variance


def cosine_of_sum(length: Any, rho: Any, alpha: Any) -> Any:
    return 2 * length**2 * (1 - formulas.cos(formulas.arccos(rho) + formulas.arccos(alpha)))


def shrink_inverted(rho_other: Any, rho: Any, overlap: Any, alpha: Any) -> Any:
    shrink = formulas.sqrt((1 - rho) * (1 + rho)) / formulas.sqrt((1 - alpha) * (1 + alpha))
    return alpha * overlap + shrink * (rho_other - rho * overlap)


def budget_without_coherence(tau: Any, mu: Any) -> Any:
    return (1 - mu) / tau**2


def floor_without_dimension(count: Any, dimension: Any) -> Any:
    return formulas.sqrt((count - dimension) / (count - 1))


def sum_of_squares(x: Any, epsilon: Any = 0) -> Any:
    return x / formulas.sqrt(formulas.inner(x, x) + epsilon)


def slope_of_the_centring_alone(x: Any, h: Any, epsilon: Any = 0) -> Any:
    return formulas.centre(h) / formulas.sqrt(formulas.variance(x) + epsilon)


def shift_not_read(weight: Any, bias: Any, gain: Any, shift: Any) -> Any:
    return weight * gain, shift + bias[:1]


MUTATIONS: list[tuple[str, Callable[..., Any], str]] = [
    ("at_presence", without_root, "proofs.nearest_point:check_nearest"),
    ("at_presence", without_root, "proofs.relative_norm:check_composition"),
    ("at_presence", without_root, "proofs.relative_norm:check_presence_of_others"),
    ("minimal_intervention", unit_result, "proofs.nearest_point:check_nearest"),
    ("minimal_intervention", unit_result, "proofs.relative_norm:check_composition"),
    ("minimal_intervention", other_side, "proofs.nearest_point:check_nearest"),
    ("variance", unbiased_variance, "proofs.layer_norm:check_invariance"),
    ("variance", unbiased_variance, "proofs.layer_norm_gain:check_gain"),
    ("layer_norm", epsilon_outside_the_root, "proofs.layer_norm_gain:check_gain"),
    ("centre", no_centring, "proofs.layer_norm:check_invariance"),
    ("layer_norm_gain_squared", gain_inverted, "proofs.layer_norm_gain:check_gain"),
    ("layer_norm_gain_bound", bound_without_share, "proofs.layer_norm_gain:check_gain"),
    ("squared_displacement", cosine_of_sum, "proofs.nearest_point:check_nearest"),
    ("presence_of_other", shrink_inverted, "proofs.relative_norm:check_presence_of_others"),
    ("variance", unbiased_variance, "proofs.norm_output:check_output"),
    ("layer_norm", epsilon_outside_the_root, "proofs.norm_output:check_output"),
    ("centre", no_centring, "proofs.norm_output:check_output"),
    ("layer_norm_jvp", slope_of_the_centring_alone, "proofs.norm_jacobian:check_jacobian"),
    ("layer_norm", epsilon_outside_the_root, "proofs.norm_jacobian:check_jacobian"),
    ("rms_norm", sum_of_squares, "proofs.rms_norm:check_rms_norm"),
    ("layer_norm_gain_squared", gain_inverted, "proofs.rms_norm:check_rms_norm"),
    ("fold_affine", shift_not_read, "proofs.folding:check_folding"),
    ("centre", no_centring, "proofs.folding:check_folding"),
    ("norm_budget", budget_without_coherence, "proofs.norm_budget:check_budget"),
    ("welch_bound", floor_without_dimension, "proofs.welch_bound:check_floor"),
]


@pytest.mark.parametrize(("name", "mutant", "check"), MUTATIONS, ids=lambda value: getattr(value, "__name__", value))
def test_a_broken_formula_is_noticed(
    name: str, mutant: Callable[..., Any], check: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(formulas, name, mutant)
    finding = resolve(check)(Run(seed=0, directory=tmp_path))
    assert finding.status is Status.REFUTED
    assert finding.witness


def test_a_formula_broken_only_in_floating_point_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Orthogonalising once is the same for symbols; near-parallel draws show the difference."""
    monkeypatch.setattr(formulas, "rejection", formulas.perpendicular)
    finding = resolve("proofs.nearest_point:check_nearest")(Run(seed=0, directory=tmp_path))
    assert finding.status is Status.REFUTED
    assert finding.witness is not None
    assert finding.witness["error"] > finding.witness["bound"]
    assert len(finding.witness["x"]) == finding.witness["dimension"]
