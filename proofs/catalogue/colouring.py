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
    Claim(
        id="RA-4",
        statement="N(2) = 4, N(3) = 16, N(4) = 52, R(3,3) = 6, R(3,4) = 9, R(4,4) = 18 and R(3,3,3) = 17.",
        formula=r"N(2) = 4, N(3) = 16, N(4) = 52, R(3,3) = 6, R(3,4) = 9, R(4,4) = 18, R(3,3,3) = 17",
        hypotheses=(
            "N(k): the least number of points that forces k points missing one of three values, diagonal included",
            "R(a, b, …): the least number of points that forces a points with all pairs of the first colour, or b of "
            "the second, …",
        ),
        source="Greenwood and Gleason 1955 for R; " + RAMSEY + ", made exact, for N",
        expected=Status.PROVED,
        check="proofs.small_numbers:check_small_numbers",
        false_twins=(
            FalseTwin(statement="R(3,3) = 5.", check="proofs.small_numbers:twin_r33_is_5"),
            FalseTwin(statement="R(3,3) = 7.", check="proofs.small_numbers:twin_r33_is_7"),
            FalseTwin(statement="R(3,4) = 8.", check="proofs.small_numbers:twin_r34_is_8"),
            FalseTwin(statement="R(3,3,3) = 16.", check="proofs.small_numbers:twin_r333_is_16"),
            FalseTwin(statement="N(3) = 15.", check="proofs.small_numbers:twin_n3_is_15"),
            FalseTwin(statement="N(4) = 51.", check="proofs.small_numbers:twin_n4_is_51"),
            FalseTwin(
                statement="The colours of R(3,4) may be swapped without loss of generality.",
                check="proofs.small_numbers:twin_colours_swapped",
            ),
            FalseTwin(
                statement="In two colours on 18 points, a point has 10 neighbours in one colour.",
                check="proofs.small_numbers:twin_ten_neighbours",
            ),
            FalseTwin(
                statement="With 9 neighbours of point 0 fixed, 10 points may still change places.",
                check="proofs.small_numbers:twin_sorted_too_far",
            ),
        ),
    ),
    Claim(
        id="RA-5",
        statement="Enough points, however many that is for k, have k among them on which F is constant, diagonal "
        "included.",
        formula=r"|X| \geq n(k) \implies \exists S:\ |S| = k,\ F|_{S \times S} = \text{const}",
        hypotheses=("F: X × X → Y with F(x, y) = F(y, x), diagonal included", "Y has r ≥ 2 values", "k ≥ 2"),
        source=RAMSEY + ", the other reading",
        expected=Status.REFUTED,
        check="proofs.constant_sets:check_constant",
        false_twins=(
            FalseTwin(
                statement="The same colouring has no pair constant off the diagonal either.",
                check="proofs.constant_sets:twin_off_the_diagonal_too",
            ),
            FalseTwin(
                statement="R_r(k) ≤ (r^(r(k−2)+1) + r − 2)/(r − 1) − 1.",
                check="proofs.constant_sets:twin_greedy_less_one",
            ),
            FalseTwin(
                statement="R(k_1, …, k_r) ≤ Σ R(…, k_i − 1, …) − r + 1.",
                check="proofs.constant_sets:twin_recursion_saves_one",
            ),
            FalseTwin(
                statement="r(R_r(k) − 1) points have a k-set constant on the diagonal and, separately, off it.",
                check="proofs.constant_sets:twin_separate_less_one",
            ),
        ),
    ),
    Claim(
        id="RA-6",
        statement="On 3m − 2 points or more, m = C(2k−2, k−1), the finder that halves by majority names k points and a "
        "value that they miss after at most 3m − 1 + (k−2)(2m − 2k + 3) evaluations of F, for every F and however many "
        "points there are; on one adversary it takes exactly so many, for k = 2, …, 7.",
        formula=r"E(k) \leq 3m - 1 + (k-2)(2m - 2k + 3), \quad m = \binom{2k-2}{k-1}",
        hypotheses=(_COLOURING, "a set misses y if F(a, b) ≠ y for all a, b in it", "k ≥ 2", "|X| ≥ 3m − 2"),
        source=RAMSEY + ", made constructive",
        expected=Status.PROVED,
        check="proofs.finder_cost:check_cost",
        false_twins=(
            FalseTwin(
                statement="One per cent fewer evaluations are enough for this finder.",
                check="proofs.finder_cost:twin_one_per_cent_cheaper",
            ),
            FalseTwin(
                statement="This finder halves at most 2k − 5 times.", check="proofs.finder_cost:twin_one_step_less"
            ),
            FalseTwin(statement="This finder halves at most k times.", check="proofs.finder_cost:twin_linear"),
            FalseTwin(
                statement="3m − 3 points are enough for this finder.", check="proofs.finder_cost:twin_one_point_fewer"
            ),
        ),
    ),
    Claim(
        id="RA-7",
        statement="3·4^k points have k that miss a value, so have 3C(2k−2, k−1) − 2, and for k ≥ 2 the least number is "
        "3R(k, k) − 2: Coq accepts the proofs, from its standard library and without axioms.",
        formula=r"n \geq 3 \cdot 4^k \implies \exists y, S:\ |S| = k,\ y \notin F(S \times S)",
        hypotheses=(_COLOURING, "a set misses y if F(a, b) ≠ y for all a, b in it", "X = {0, …, n−1}"),
        source=RAMSEY + "; Erdős and Szekeres 1935; proofs/coq, checked by Coq",
        expected=Status.PROVED,
        check="proofs.machine_checked:check_coq",
        preflight="proofs.machine_checked:begin",
        false_twins=(
            FalseTwin(statement="3·2^k points are enough.", check="proofs.machine_checked:twin_base_two"),
            FalseTwin(
                statement="3·4^k points are enough for F that is not symmetric as well.",
                check="proofs.machine_checked:twin_without_symmetry",
            ),
            FalseTwin(
                statement="On k of 3·4^k points F is constant, diagonal included.",
                check="proofs.machine_checked:twin_constant",
            ),
        ),
    ),
    Claim(
        id="RA-8",
        statement="With r ≥ 3 values, N_r(k) ≤ min over t of ⌊r(C_t(k) − 1)/(r − t)⌋ + 1, exact for all k if and only "
        "if r = 3; N_{r+1}(k) ≤ N_r(k); and N_r(k) = k exactly if k = 1 or k(k+1)/2 < r.",
        formula=r"N_r(k) \leq \min_{2 \leq t \leq r-1} \left\lfloor \frac{r (C_t(k) - 1)}{r - t} \right\rfloor + 1",
        hypotheses=(
            "F: X × X → Y with F(x, y) = F(y, x), diagonal included, Y of r ≥ 3 values",
            "N_r(k) is the least |X| that forces a k-set missing a value",
            "C_t(k) is the least number of points such that t colours on their pairs leave a k-set missing a colour",
        ),
        source=RAMSEY
        + ", for more values; related: Erdős, Hajnal and Rado 1965; Erdős and Szemerédi 1972; Chung and Liu 1978",
        expected=Status.PROVED,
        check="proofs.more_values:check_more_values",
        false_twins=(
            FalseTwin(
                statement="N_r(k) ≤ min over t of ⌊r(C_t(k) − 1)/(r − t)⌋.",
                check="proofs.more_values:twin_bound_less_one",
            ),
            FalseTwin(
                statement="The bound is exact for all k at r = 4 as well.",
                check="proofs.more_values:twin_exact_for_four",
            ),
            FalseTwin(
                statement="N_r(k) = k exactly if k = 1 or k(k−1)/2 < r.",
                check="proofs.more_values:twin_pairs_alone",
            ),
            FalseTwin(statement="N_4(3) = 8.", check="proofs.more_values:twin_eight_points"),
        ),
    ),
)
