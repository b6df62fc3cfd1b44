"""Symmetric colourings ``F: X × X → {0, 1, 2}`` with their diagonal, and the sets that miss a value.

A colouring is a symmetric integer array ``[n, n]``. A set ``S`` *misses* ``y`` if ``F(a, b) ≠ y`` for all ``a, b`` in
``S``, ``a = b`` included. The constructions:

- :func:`paley`: the graph on the integers modulo a prime ``q ≡ 1 (mod 4)``, joined when they differ by a square;
- :func:`doubled`: Shearer's graph on ``2(q+1)`` vertices made from it, whose cliques are larger by one vertex only;
- :func:`three_classes`: from a graph without large cliques and independent sets, a colouring in which every large
  set sees all three values.

Sources: Greenwood and Gleason 1955 (Paley graphs as Ramsey graphs), Shearer 1986, Stambler 2025.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from proofs.clique import largest_clique, masks

Colouring = NDArray[np.int_]
Graph = NDArray[np.bool_]
VALUES = (0, 1, 2)


def paley(q: int) -> Graph:
    """The Paley graph on ``q`` vertices, ``[q, q]``.

    Raises ``ValueError`` unless ``q`` is a prime with ``q ≡ 1 (mod 4)``: for others, "differ by a square" is no
    symmetric relation, or the integers modulo ``q`` are no field.
    """
    if q < 5 or q % 4 != 1 or any(q % p == 0 for p in range(2, int(q**0.5) + 1)):
        raise ValueError(f"expected a prime q = 1 modulo 4, such as 5, 13, 17, 29, 37, 101; got {q}")
    squares = {x * x % q for x in range(1, q)}
    return np.array([[(i - j) % q in squares for j in range(q)] for i in range(q)])


def doubled(graph: Graph) -> Graph:
    """Two copies of the graph, each with an apex; vertices of different copies are joined where they were not."""
    n = len(graph)
    across = ~graph & ~np.eye(n, dtype=bool)
    apex, none = np.ones((n, 1), dtype=bool), np.zeros((n, 1), dtype=bool)
    zero = np.zeros((1, 1), dtype=bool)
    return np.block(
        [
            [graph, across, apex, none],
            [across, graph, none, apex],
            [apex.T, none.T, zero, zero],
            [none.T, apex.T, zero, zero],
        ]
    )


def three_classes(graph: Graph) -> Colouring:
    """Three classes of ``len(graph)`` points.

    In class ``b`` the diagonal is ``b``, edges are ``b+1`` and other pairs ``b+2`` modulo 3; pairs between two
    classes have the value of the third.
    """
    n = len(graph)
    table = np.empty((3 * n, 3 * n), dtype=int)
    for i in VALUES:
        for j in VALUES:
            block = np.where(graph, (i + 1) % 3, (i + 2) % 3) if i == j else np.full((n, n), 3 - i - j)
            table[i * n : (i + 1) * n, j * n : (j + 1) * n] = block
    np.fill_diagonal(table, np.repeat(VALUES, n))
    return table


def graph_of(graph: Graph) -> Colouring:
    """The pairs of a graph in two colours: 1 for edges, 0 for the others."""
    return graph.astype(int)


def cubic_residues() -> Colouring:
    """The 16 elements of a field, a pair coloured by the discrete logarithm of its difference modulo 3.

    No three of them have pairs of one colour (Greenwood and Gleason 1955); the diagonal is 0.
    """
    logarithm, power = {}, 1
    for exponent in range(15):  # the powers of x modulo x⁴ + x + 1 over the field with two elements
        logarithm[power] = exponent
        power = power << 1 if power < 8 else (power << 1) ^ 0b10011
    return np.array([[logarithm[i ^ j] % 3 if i != j else 0 for j in range(16)] for i in range(16)])


def separate_classes(pairs: Colouring, classes: int) -> Colouring:
    """So many copies of a colouring of pairs; the diagonal of copy ``b`` is ``b``, between copies the value is 0."""
    n = len(pairs)
    table = np.kron(np.eye(classes, dtype=int), pairs)
    np.fill_diagonal(table, np.repeat(np.arange(classes), n))
    return table


def largest_constant(table: Colouring, *, diagonal: bool) -> list[list[int]]:
    """For each value a largest set on whose pairs, and diagonal if it counts, ``F`` has that value only."""
    sets = []
    for value in np.unique(table):
        alike = table == value
        points = np.flatnonzero(alike.diagonal()) if diagonal else np.arange(len(table))
        graph = alike[np.ix_(points, points)] & ~np.eye(len(points), dtype=bool)
        sets.append([int(points[v]) for v in largest_clique(masks(graph))])
    return sets


def clique_number(graph: Graph) -> int:
    """The size of a largest clique."""
    return len(largest_clique(masks(graph)))


def complement(graph: Graph) -> Graph:
    """The graph of the pairs that are not joined."""
    return ~graph & ~np.eye(len(graph), dtype=bool)


def largest_set_missing(table: Colouring, value: int) -> list[int]:
    """A largest set that misses ``value``: a largest clique of the pairs, and points, without it."""
    allowed = table != value
    points = np.flatnonzero(allowed.diagonal())
    graph = allowed[np.ix_(points, points)] & ~np.eye(len(points), dtype=bool)
    return [int(points[v]) for v in largest_clique(masks(graph))]


def largest_sets(table: Colouring) -> dict[int, list[int]]:
    """For each value a largest set that misses it."""
    return {value: largest_set_missing(table, value) for value in VALUES}


def values_on(table: Colouring, points: Sequence[int]) -> set[int]:
    """The values that ``F`` takes on ``points``, diagonal included."""
    return {int(value) for value in table[np.ix_(points, points)].flat}


def rows(table: Colouring) -> list[str]:
    """The table as one string of digits per row, for a witness."""
    return ["".join(map(str, row)) for row in table.tolist()]


def random_colouring(generator: np.random.Generator, points: int) -> Colouring:
    """A symmetric table of independent uniform values."""
    table = np.triu(generator.integers(3, size=(points, points)))
    return np.asarray(table + np.triu(table, 1).T)


def monochromatic_free(graph: Graph, sizes: Iterable[int]) -> bool:
    """Whether the graph has neither a clique nor an independent set of each of the two ``sizes``."""
    clique, independent = sizes
    return clique_number(graph) < clique and clique_number(complement(graph)) < independent
