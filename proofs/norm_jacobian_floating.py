"""The rounding errors of the derivative of LayerNorm (see :mod:`proofs.floating` for ``γ``, LN-1 for ``κ``).

``c`` comes out within ``2γκ‖c‖`` and ``σ² + ε`` within ``4γκ + γ`` of itself, so that ``c⟨c,h⟩/(d(σ²+ε))`` is off by
at most ``2γκ + (2γκ + γ) + (4γκ + γ)`` of ``‖h‖``, the centring of ``h`` by ``2γ‖h‖``, and the division adds
``2γκ + 2γ``: with ``κ ≥ 1``, at most ``16γκ‖h‖/√(σ²+ε)`` for each evaluation of ``Jh``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from proofs.draws import Draws
from proofs.floating import VACUOUS, Comparison, distance, where_informative
from proofs.layer_norm import condition
from sensverify import formulas


def compare_jacobian(draws: Draws) -> list[Comparison]:
    """LN-4: autograd, kernel, scaling, size."""
    x, h, k, gamma = draws.x, draws.u, draws.scale, draws.gamma
    kappa = condition(x)
    own = 16 * gamma * kappa
    sigma = formulas.sqrt(formulas.variance(x.double()))
    length = formulas.norm(h.double())
    image = formulas.layer_norm_jvp(x, h)
    centred = formulas.centre(x)
    power = torch.exp2(torch.round(torch.log2(k)))
    scaled = k * formulas.layer_norm_jvp(k * x, h)
    doubled = power * formulas.layer_norm_jvp(power * x, h)
    epsilon = 1e-5
    root = torch.sqrt(sigma**2 + epsilon)
    exact = where_informative(own <= VACUOUS, torch.zeros_like(own))  # else σ = 0 may come out
    return [
        Comparison(
            law="autograd of torch.nn.LayerNorm, ε = 0",
            error=distance(_autograd(x, h, 0.0), image) * sigma / length,
            bound=2 * own,
        ),
        Comparison(
            law="autograd of torch.nn.LayerNorm, ε = 10⁻⁵",
            error=distance(_autograd(x, h, epsilon), formulas.layer_norm_jvp(x, h, epsilon)) * root / length,
            bound=2 * own,
        ),
        Comparison(
            law="J c = 0",
            error=formulas.norm(formulas.layer_norm_jvp(x, centred).double()) * sigma / formulas.norm(centred.double()),
            bound=own,
        ),
        # The rounding of kx moves x by u‖x‖ = uκ‖c‖, which counts twice in J and is less than 4γκ.
        Comparison(
            law="J(kx) = J(x)/k",
            error=distance(scaled, image) * sigma / length,
            bound=20 * gamma * (kappa + condition(k * x)),
        ),
        Comparison(law="J(2ʲx) = 2⁻ʲJ(x)", error=distance(doubled, image), bound=exact),
        Comparison(
            law="‖Jh‖ ≤ √d‖h‖/‖Px‖",
            error=(formulas.norm(image.double()) * sigma / length - 1).clamp(min=0),
            bound=own,
        ),
    ]


def _autograd(x: Tensor, h: Tensor, epsilon: float) -> Tensor:
    """``Jᵀh = Jh`` as torch's own backward pass has it."""
    layer = torch.nn.LayerNorm(x.shape[-1], eps=epsilon, elementwise_affine=False, dtype=x.dtype)
    point = x.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(layer(point), point, grad_outputs=h)
    return gradient
