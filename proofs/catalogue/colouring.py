"""Symmetric colourings and the sets that miss a value (RA-1 to RA-8)."""

from __future__ import annotations

from proofs.catalogue.sources import RAMSEY
from sensverify.claims import Claim, FalseTwin, Status

_COLOURING = "F: X × X → {0, 1, 2} with F(x, y) = F(y, x), diagonal included"

CLAIMS = (
    Claim(
        id="RA-1",
        statement="The least number of points that forces a set of k points missing one of the three values is "
        "N(k) = 3R(k,k) − 2.",
        formula=r"N(k) = 3 R(k, k) - 2",
        hypotheses=(_COLOURING, "a set misses y if F(a, b) ≠ y for all a, b in it", "k ≥ 2"),
        source=RAMSEY + ", made exact",
        expected=Status.PROVED,
        check="proofs.symmetric_colouring:check_threshold",
        false_twins=(
            FalseTwin(statement="N(k) = 3R(k,k) − 3.", check="proofs.symmetric_colouring:twin_one_point_fewer"),
            FalseTwin(statement="N(k) = 3R(k,k) − 1.", check="proofs.symmetric_colouring:twin_one_point_more"),
        ),
    ),
    Claim(
        id="RA-2",
        statement="On n points there is a set S that misses a value with |S| ≥ 1 + ⌊½ log₂⌈n/3⌉⌋ ≥ ⌊½ log₂(n/3)⌋; more "
        "sharply, |S| ≥ k for the largest k with C(2k−2, k−1) ≤ ⌈n/3⌉.",
        formula=r"|S| \geq \left\lfloor \frac{1}{2} \log_2 \frac{n}{3} \right\rfloor",
        hypotheses=(_COLOURING, "a set misses y if F(a, b) ≠ y for all a, b in it"),
        source=RAMSEY + "; Erdős and Szekeres 1935; Greenwood and Gleason 1955",
        expected=Status.PROVED,
        check="proofs.logarithmic_size:check_guarantee",
        false_twins=(
            FalseTwin(
                statement="R(a,b) ≤ R(a−1,b) + R(a,b−1) − 1, even terms or not.",
                check="proofs.logarithmic_size:twin_parity_always",
            ),
            FalseTwin(
                statement="C(2k−2, k−1) ≤ 3.96^(k−1).",
                check="proofs.logarithmic_size:twin_growth_one_per_cent_slower",
            ),
            FalseTwin(
                statement="|S| ≥ 1 + ⌊log₂⌈n/3⌉⌋, without the half.",
                check="proofs.logarithmic_size:twin_whole_logarithm",
            ),
        ),
    ),
    Claim(
        id="RA-3",
        statement="For every k, 2^(k+2) points are enough for a set of k points that misses a value.",
        formula=r"N(k) \leq 2^{k+2}",
        hypotheses=(_COLOURING, "a set misses y if F(a, b) ≠ y for all a, b in it"),
        source=RAMSEY + ", as printed",
        expected=Status.REFUTED,
        check="proofs.printed_bound:check_printed_bound",
        false_twins=(
            FalseTwin(
                statement="No 5 of the 303 points miss a value, which would refute it at k = 5 as well.",
                check="proofs.printed_bound:twin_no_five",
            ),
        ),
    ),
)
