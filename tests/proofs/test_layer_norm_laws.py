"""LN-1, LN-2 and LN-6 on concrete vectors, against numpy and torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import sympy
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proofs.residual_block import Block, Law, check_block, law_of_the_block, refute
from sensverify import formulas
from sensverify.claims import Run
from sensverify.verdicts import Status

FINITE = st.floats(-1e3, 1e3, allow_subnormal=False)
VECTORS = st.lists(FINITE, min_size=2, max_size=12).map(np.array)
seeded = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@seeded
@given(x=VECTORS, k=st.floats(1e-2, 1e2), c=FINITE)
def test_layer_norm_sees_neither_scale_nor_shift(x: np.ndarray, k: float, c: float) -> None:
    assume(x.std() > 1e-2)
    np.testing.assert_allclose(formulas.layer_norm(k * x + c), (x - x.mean()) / x.std(), rtol=1e-6, atol=1e-6)


@seeded
@given(x=VECTORS, k=st.floats(1e-2, 1e2), epsilon=st.floats(1e-8, 10))
def test_the_gain_is_that_of_torch(x: np.ndarray, k: float, epsilon: float) -> None:
    assume(x.std() > 1e-2)
    layer = torch.nn.LayerNorm(len(x), eps=epsilon, elementwise_affine=False, dtype=torch.float64)
    gain = np.sqrt(formulas.layer_norm_gain_squared(x.var(), epsilon, k))
    scaled, plain = layer(torch.from_numpy(k * x)).numpy(), layer(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(scaled, gain * plain, rtol=1e-9, atol=1e-9)


@seeded
@given(variance=st.floats(1e-3, 1e3), epsilon=st.floats(1e-6, 1e2), k=st.floats(1e-3, 1e3))
def test_the_gain_stays_within_its_bounds(variance: float, epsilon: float, k: float) -> None:
    change = abs((variance + epsilon) / (variance + epsilon / k**2) - 1)
    if k >= 1:
        assert change <= formulas.layer_norm_gain_bound(variance, epsilon, k) * (1 + 1e-9) + 1e-12
    else:
        assert change <= min(1, formulas.layer_norm_gain_bound_shrinking(variance, epsilon, k)) * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize("law", list(Law))
def test_a_block_whose_branches_return_zero_is_not_refuted_wrongly(law: Law, tmp_path: Path) -> None:
    checked = refute(Run(seed=0, directory=tmp_path), Block(law=law, branches=0))
    # F(x) = x is homogeneous and keeps its direction; only "F(kx) = F(x)" is false for it.
    assert checked.status is (Status.REFUTED if law is Law.SAME else Status.PROVED)


def test_the_smallest_witness_of_the_residual_block(tmp_path: Path) -> None:
    finding = check_block(Run(seed=0, directory=tmp_path))
    assert finding.witness is not None
    assert (finding.witness["x"], finding.witness["k"]) == ([1, -1], 2)
    assert (finding.witness["F(kx)"], finding.witness["kF(x)"]) == ([3, -1], [4, 0])
    assert finding.witness["cosine_squared_of_F(kx)_and_kF(x)"] == "9/10"
    written = json.loads((tmp_path / "witnesses" / "LN-6.json").read_text(encoding="utf-8"))
    assert written["F(kx)"] == [3, -1]


def test_the_cosine_approaches_that_of_input_and_output(tmp_path: Path) -> None:
    assert law_of_the_block(Run(seed=0, directory=tmp_path)).status is Status.PROVED
    x, f = np.array([1.0, -1.0]), np.array([1.0, 1.0])

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    assert cosine(2 * x + f, x + f) == pytest.approx(3 / np.sqrt(10))
    assert cosine(1e9 * x + f, x + f) == pytest.approx(cosine(x, x + f), abs=1e-8)


def test_a_torch_block_is_not_scale_invariant_but_its_update_is() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16, generator=generator, dtype=torch.float64)
    weight = torch.randn(16, 16, generator=generator, dtype=torch.float64)
    norm = torch.nn.LayerNorm(16, eps=0.0, dtype=torch.float64)
    update = lambda point: torch.tanh(weight @ norm(point))  # noqa: E731
    torch.testing.assert_close(update(7 * x), update(x))
    assert not torch.allclose(7 * x + update(7 * x), 7 * (x + update(x)))


def test_half_angles_reach_every_presence() -> None:
    t = sympy.Symbol("t", positive=True)
    assert sympy.solve((1 - t**2) / (1 + t**2) - sympy.Rational(-3, 5), t) == [2]
