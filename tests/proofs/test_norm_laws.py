"""LN-3, LN-4, LN-5, LN-7 and LN-8 on concrete vectors, against numpy and torch; their witnesses against a stranger."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proofs import recheck
from proofs.folding import _difference, check_folding, presence_witness
from proofs.norm_jacobian import _in_coordinates
from proofs.post_norm import Law, PostNorm, check_post_norm, law_of_the_post_norm_block, refute
from proofs.rms_norm import check_rms_norm
from sensverify import formulas
from sensverify.claims import Run
from sensverify.verdicts import Status

FINITE = st.floats(-1e3, 1e3, allow_subnormal=False)
VECTORS = st.lists(FINITE, min_size=2, max_size=12).map(np.array)
seeded = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = Run(seed=0, directory=tmp_path_factory.mktemp("norms"))
    for check in (check_rms_norm, check_post_norm, check_folding):
        check(run)
    return run.directory / "witnesses"


def published(folder: Path, claim: str) -> dict[str, Any]:
    return json.loads((folder / f"{claim}.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


@seeded
@given(x=VECTORS, epsilon=st.floats(0, 10))
def test_the_output_lies_on_a_sphere_across_the_ones(x: np.ndarray, epsilon: float) -> None:
    assume(x.std() > 1e-2)
    layer = torch.nn.LayerNorm(len(x), eps=epsilon, elementwise_affine=False, dtype=torch.float64)
    output = layer(torch.from_numpy(x)).numpy()
    assert output @ output == pytest.approx(len(x) * x.var() / (x.var() + epsilon), rel=1e-6)
    assert output.sum() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("dimension", [2, 3, 7])
@pytest.mark.parametrize("epsilon", [0.0, 1e-5, 0.5])
def test_the_derivative_is_that_of_torch(dimension: int, epsilon: float) -> None:
    x = normal(dimension)
    layer = torch.nn.LayerNorm(dimension, eps=epsilon, elementwise_affine=False, dtype=torch.float64)
    matrix = torch.autograd.functional.jacobian(layer, x)
    columns = formulas.layer_norm_jvp(x.expand(dimension, -1), torch.eye(dimension, dtype=torch.float64), epsilon)
    torch.testing.assert_close(columns.mT, matrix)
    sigma2, c = x.var(correction=0), x - x.mean()
    factors = sorted([0.0, epsilon / (sigma2 + epsilon) ** 1.5] + [1 / (sigma2 + epsilon) ** 0.5] * (dimension - 2))
    torch.testing.assert_close(
        torch.linalg.eigvalsh(matrix), torch.tensor([float(f) for f in factors], dtype=torch.float64)
    )
    assert torch.linalg.matrix_rank(matrix, atol=1e-9) == dimension - (1 if epsilon else 2)
    if not epsilon:
        assert (matrix @ c).norm() < 1e-12


def test_a_finite_difference_agrees_with_the_derivative() -> None:
    x, h, step = normal(9), normal(9, seed=1), 1e-6
    slope = (formulas.layer_norm(x + step * h, 1e-3) - formulas.layer_norm(x - step * h, 1e-3)) / (2 * step)
    torch.testing.assert_close(formulas.layer_norm_jvp(x, h, 1e-3), slope, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_a_small_step_counts_relative_to_the_input(scale: float) -> None:
    x, h = scale * normal(16), normal(16, seed=1)
    moved = formulas.layer_norm_jvp(x, h)
    assert moved.norm() <= 4 * h.norm() / formulas.centre(x).norm()
    torch.testing.assert_close(moved * scale, formulas.layer_norm_jvp(x / scale, h))


def test_a_wrong_entry_of_the_matrix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formulas, "layer_norm_jvp", lambda x, h, epsilon=0: formulas.centre(h) / formulas.variance(x))
    found = _in_coordinates([2, 3])
    assert found is not None
    assert (found["d"], found["x"]) == (2, [0, 1])
    assert found["derivative"] != found["layer_norm_jvp"]


@seeded
@given(x=VECTORS, k=st.floats(1e-2, 1e2), epsilon=st.floats(1e-8, 10))
def test_rms_norm_sees_no_scale_but_the_gain_of_epsilon(x: np.ndarray, k: float, epsilon: float) -> None:
    mean_square = float(np.mean(x**2))
    assume(mean_square > 1e-4)
    np.testing.assert_allclose(formulas.rms_norm(k * x), x / np.sqrt(mean_square), rtol=1e-9)
    layer = torch.nn.RMSNorm(len(x), eps=epsilon, elementwise_affine=False, dtype=torch.float64)
    gain = np.sqrt(formulas.layer_norm_gain_squared(mean_square, epsilon, k))
    expected = gain * layer(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(layer(torch.from_numpy(k * x)).numpy(), expected, rtol=1e-9, atol=1e-12)


def test_rms_norm_sees_a_shift_that_layer_norm_does_not(folder: Path) -> None:
    witness = published(folder, "LN-5")
    x, c = np.array(witness["x"], dtype=float), float(witness["c"])
    before, after = (v / np.sqrt(np.mean(v**2)) for v in (x, x + c))
    assert not np.allclose(before, after)
    np.testing.assert_allclose(np.sign(after) * after**2, np.array(witness["RMS(x + c1)"], dtype=float))
    np.testing.assert_allclose(formulas.layer_norm(x + c), formulas.layer_norm(x))


def test_the_smallest_witness_of_the_post_norm_block(folder: Path) -> None:
    witness = published(folder, "LN-7")
    x, k, b = np.array(witness["x"], dtype=float), witness["k"], np.array(witness["b"], dtype=float)
    layer = torch.nn.LayerNorm(2, eps=0.0, dtype=torch.float64)
    at_x, at_kx = (layer(torch.from_numpy(point + b)).tolist() for point in (x, k * x))
    assert (at_x, at_kx) == ([-1, 1], [1, -1])
    assert (witness["F(x)"], witness["F(kx)"]) == (at_x, at_kx)


@pytest.mark.parametrize(
    ("law", "status"),
    [(Law.SAME, Status.PROVED), (Law.DIRECTION, Status.PROVED), (Law.HOMOGENEOUS, Status.REFUTED)],
)
def test_a_linear_branch_is_not_refuted_wrongly(law: Law, status: Status, tmp_path: Path) -> None:
    # LN(x + Wx) does not see the scale; only "F(kx) = kF(x)" is false for it.
    assert refute(Run(seed=0, directory=tmp_path), PostNorm(law=law, bias=False)).status is status


def test_a_torch_post_norm_block_sees_the_scale_only_through_its_bias(tmp_path: Path) -> None:
    assert law_of_the_post_norm_block(Run(seed=0, directory=tmp_path)).status is Status.PROVED
    x, weight, bias = normal(16), normal(16, 16, seed=1), normal(16, seed=2)
    norm = torch.nn.LayerNorm(16, eps=0.0, dtype=torch.float64)
    homogeneous = lambda point: norm(point + torch.relu(weight @ point))  # noqa: E731
    biased = lambda point: norm(point + torch.tanh(weight @ point) + bias)  # noqa: E731
    torch.testing.assert_close(homogeneous(7 * x), homogeneous(x))
    assert (biased(7 * x) - biased(x)).norm() > 0.1
    for k in (10.0, 1e3, 1e5):  # a bounded branch is forgotten
        branch = torch.tanh(weight @ (k * x)) + bias
        assert (biased(k * x) - norm(x)).norm() <= 8 * branch.norm() / (k * formulas.centre(x).norm())


@pytest.mark.parametrize("dimension", [2, 5, 16])
def test_folding_leaves_torch_layers_unchanged(dimension: int) -> None:
    layer = torch.nn.LayerNorm(dimension, dtype=torch.float64)
    linear = torch.nn.Linear(dimension, 3, dtype=torch.float64)
    x = normal(4, dimension)
    with torch.no_grad():
        layer.weight.copy_(normal(dimension, seed=1))
        layer.bias.copy_(normal(dimension, seed=2))
        weight, bias = formulas.fold_affine(linear.weight, linear.bias, layer.weight, layer.bias)
        torch.testing.assert_close(linear(layer(x)), formulas.layer_norm(x, layer.eps) @ weight.mT + bias)
        reading = formulas.centre(weight) @ x.mT / torch.sqrt(x.var(-1, correction=0) + layer.eps)
        torch.testing.assert_close(linear(layer(x)), reading.mT + bias)


def test_a_fold_of_the_wrong_shape_is_a_counterexample() -> None:
    found = _difference(lambda weight, bias, gain, shift: (weight, gain))
    assert found is not None
    assert _difference(formulas.fold_affine) is None


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_presence_changes_with_the_gain_while_the_function_does_not(folder: Path) -> None:
    witness = published(folder, "LN-8")
    x, s, gain = (np.array(witness[name], dtype=float) for name in ("x", "s", "gain"))
    assert cosine(x, s) == pytest.approx(1 / 2)
    assert cosine(gain * x, gain * s) == pytest.approx(1 / np.sqrt(10))
    assert witness["presence"] == {"before": "1/4", "after": "1/10", "after_of_s": "1/10"}
    np.testing.assert_array_equal(np.array(witness["W"]) @ (gain * x), np.array(witness["folded_W"]) @ x)


@seeded
@given(seed=st.integers(0, 10**6), dimension=st.integers(3, 9), equal=st.booleans())
def test_presences_survive_a_gain_exactly_if_its_sizes_are_equal(seed: int, dimension: int, equal: bool) -> None:
    generator = np.random.default_rng(seed)
    signs = generator.choice([-1, 1], dimension)
    gain = signs * (3.0 if equal else generator.uniform(0.5, 2, dimension))
    pairs = [generator.standard_normal((2, dimension)) for _ in range(20)]
    centred = [pair - pair.mean(1, keepdims=True) for pair in pairs]
    largest = max(abs(cosine(gain * x, gain * s) - cosine(x, s)) for x, s in centred)
    assert (largest < 1e-9) is equal


def test_in_the_plane_every_gain_keeps_presence() -> None:
    x, s, gain = np.array([3.0, -3]), np.array([-1.0, 1]), np.array([5.0, -0.1])
    assert cosine(gain * x, gain * s) == pytest.approx(cosine(x, s)) == -1


@pytest.mark.parametrize(
    ("claim", "change"),
    [
        ("LN-5", {"c": 0}),
        ("LN-5", {"c": 2}),
        ("LN-5", {"x": [1, 1], "RMS(x)": [1, 1], "RMS(x + c1)": [1, 1]}),
        ("LN-5", {"x": [0, 0]}),
        ("LN-5", {"RMS(x)": [1, 1]}),
        ("LN-7", {"k": 1}),
        ("LN-7", {"k": -3}),
        ("LN-7", {"b": [0, 0]}),
        ("LN-7", {"b": [-1, 1]}),
        ("LN-7", {"F(x)": [1, -1]}),
        ("LN-7", {"b": [0, 0], "F(x)": [1, -1], "F(kx)": [1, -1], "kF(x)": [9, -9]}),
        ("LN-7", {"law": "F(kx) is parallel to F(x)"}),
        ("LN-8", {"gain": [1, 1, 1]}),
        ("LN-8", {"gain": [1, 1, 3]}),
        ("LN-8", {"folded_W": [[1, 2, 3], [1, 1, 1]]}),
        ("LN-8", {"presence": {"before": "1/4", "after": "1/4", "after_of_s": "1/4"}}),
        ("LN-8", {"x": [1, 1, 1]}),
    ],
    ids=str,
)
def test_a_tampered_witness_is_rejected(claim: str, change: dict[str, Any], folder: Path) -> None:
    witness = published(folder, claim)
    assert recheck.recheck(witness) == []
    assert recheck.recheck({**witness, **change})


def test_the_witnesses_stand_in_a_bare_interpreter(folder: Path, tmp_path: Path) -> None:
    shutil.copy(recheck.__file__, tmp_path / "recheck.py")
    names = [str(folder / f"{claim}.json") for claim in ("LN-5", "LN-7", "LN-8")]
    command = [sys.executable, "-P", "recheck.py", *names]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("the witness stands") == 3


def test_a_gain_of_equal_sizes_is_no_witness() -> None:
    assert recheck.recheck(presence_witness([2, 2, 2])) == ["the presence does not change here"]


def test_a_law_of_the_block_that_fails_leaves_the_claim_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def epsilon_left_in(x: Any, epsilon: Any = 0) -> Any:
        return formulas.centre(x) / formulas.sqrt(formulas.variance(x) + 1)

    monkeypatch.setattr(formulas, "layer_norm", epsilon_left_in)
    finding = check_post_norm(Run(seed=0, directory=tmp_path))
    assert finding.status is Status.INCONCLUSIVE
    assert not (tmp_path / "witnesses").exists()
