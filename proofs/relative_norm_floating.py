"""The rounding errors of the minimal intervention, law by law (see :mod:`proofs.floating` for ``γ``).

``x⊥`` is the part of ``x`` orthogonal to ``s``. The computed ``s`` and ``v`` have squared norms within ``γ(d+4)``
of 1 and inner product within ``3γ(d+4)``, hence ``αs + √(1−α²)v`` has norm and presence within ``8γ(d+8)``, the
error of measuring them included. Everything below is that, carried through the formula at hand.
"""

from __future__ import annotations

import torch

from proofs.draws import Draws
from proofs.draws import sine as angle_sine
from proofs.floating import Comparison, distance, where_informative
from sensverify import formulas

_WIDE = 16  # multiples of γ that keep x⊥ above its own rounding noise


def compare_nearest(draws: Draws) -> list[Comparison]:
    """RN-1: norm, presence, no nearer competitor, displacement."""
    x, s, alpha, gamma, sine = draws.x, draws.s, draws.alpha, draws.gamma, draws.sine
    moved = formulas.minimal_intervention(x, s, alpha)
    length = formulas.norm(x).double()
    competitor = formulas.at_presence(formulas.norm(x), s, formulas.perpendicular_unit(draws.u, s), alpha)
    apart = sine >= _WIDE * gamma
    closer = distance(moved, x) ** 2 - distance(competitor, x) ** 2
    rho = formulas.presence(x, s)
    said = formulas.squared_displacement(formulas.norm(x), rho, alpha).double()
    constant = torch.ones_like(sine)
    return [
        Comparison(
            law="‖I(x)‖ = ‖x‖",
            error=(formulas.norm(moved).double() / length - 1).abs(),
            bound=where_informative(apart, 8 * gamma * constant),
        ),
        Comparison(
            law="ρ(I(x)) = α",
            error=(formulas.presence(moved, s).double() - alpha.double()).abs(),
            bound=where_informative(apart, 8 * gamma * constant),
        ),
        # Each squared distance is off by at most 2·2‖x‖·8γ‖x‖, and 8γ more for measuring.
        Comparison(
            law="no competitor is nearer",
            error=closer.clamp(min=0) / length**2,
            bound=where_informative(apart & (angle_sine(draws.u, s) >= _WIDE * gamma), 72 * gamma * constant),
        ),
        # The arccos multiplies the error of ρ by 1/√(1−ρ²) = ‖x‖/‖x⊥‖.
        Comparison(
            law="displacement",
            error=(distance(moved, x) ** 2 - said).abs() / length**2,
            bound=where_informative(sine**2 >= _WIDE * gamma, 48 * gamma * (1 + 1 / sine)),
        ),
    ]


def compare_composition(draws: Draws) -> list[Comparison]:
    """RN-2: composition, identity at the own presence, homogeneity."""
    x, s, alpha, beta, k = draws.x, draws.s, draws.alpha, draws.beta, draws.scale
    gamma, sine, length = draws.gamma, draws.sine, formulas.norm(draws.x).double()
    once = formulas.minimal_intervention(x, s, alpha)
    twice = formulas.minimal_intervention(once, s, beta)
    own = formulas.minimal_intervention(x, s, formulas.presence(x, s).clamp(-1, 1))
    power = torch.exp2(torch.round(torch.log2(k)))
    apart = sine >= _WIDE * gamma
    left = torch.sqrt((1 - alpha.double()) * (1 + alpha.double()))  # how much of v the first intervention leaves
    amplified = 16 * gamma * (1 + 1 / sine)
    scaled = formulas.minimal_intervention(k * x, s, alpha)
    doubled = formulas.minimal_intervention(power * x, s, alpha)
    return [
        Comparison(
            law="I^β∘I^α = I^β",
            error=distance(twice, formulas.minimal_intervention(x, s, beta)) / length,
            bound=where_informative(apart & (left >= _WIDE * gamma), 32 * gamma / left),
        ),
        Comparison(
            law="I^ρ(x) = x",
            error=distance(own, x) / length,
            bound=where_informative(sine**2 >= _WIDE * gamma, amplified),
        ),
        Comparison(
            law="I(kx) = kI(x)",
            error=distance(scaled, k * once) / (k.double() * length),
            bound=where_informative(apart, amplified),
        ),
        Comparison(
            law="I(2ʲx) = 2ʲI(x)",
            error=distance(doubled, power * once),
            bound=where_informative(apart, torch.zeros_like(sine)),  # parallel to s there is no v
        ),
    ]


def compare_others(draws: Draws) -> list[Comparison]:
    """RN-3: the presence of another direction."""
    x, s, u, alpha, gamma, sine = draws.x, draws.s, draws.u, draws.alpha, draws.gamma, draws.sine
    after = formulas.presence(formulas.minimal_intervention(x, s, alpha), u)
    said = formulas.presence_of_other(formulas.presence(x, u), formulas.presence(x, s), formulas.inner(s, u), alpha)
    # √(1−ρ²) has relative error 3γ/(1−ρ²), and so has the shrink factor.
    return [
        Comparison(
            law="presence of u",
            error=(after - said).abs(),
            bound=where_informative(sine**2 >= _WIDE * gamma, 32 * gamma / sine**2),
        )
    ]
