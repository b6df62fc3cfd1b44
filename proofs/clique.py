"""Largest cliques, exactly: branch and bound, where the bound is the number of colours of a greedy colouring.

A graph is a sequence of bit masks, the neighbours of each vertex. Source of the method: Tomita and Seki 2003. The
re-check of published witnesses uses another implementation (:mod:`proofs.recheck`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def largest_clique(neighbours: Sequence[int], vertices: int | None = None) -> list[int]:
    """A largest clique among the vertices of the bit mask ``vertices`` (all by default), in increasing order."""
    everything = (1 << len(neighbours)) - 1 if vertices is None else vertices
    best: list[int] = []
    for component in _components(neighbours, everything):
        best = _search(neighbours, component, best)
    return sorted(best)


def _search(neighbours: Sequence[int], vertices: int, best: list[int]) -> list[int]:
    """A clique larger than ``best`` if there is one among ``vertices``, the largest; else ``best``."""
    clique: list[int] = []

    def expand(candidates: int) -> None:
        nonlocal best
        order, colours = _colour(neighbours, candidates)
        for v, colour in zip(reversed(order), reversed(colours), strict=True):
            if len(clique) + colour <= len(best):
                return  # even one vertex of each remaining colour would not beat the best
            clique.append(v)
            if remaining := candidates & neighbours[v]:
                expand(remaining)
            elif len(clique) > len(best):
                best = clique.copy()
            clique.pop()
            candidates &= ~(1 << v)

    expand(vertices)
    return best


def _colour(neighbours: Sequence[int], vertices: int) -> tuple[list[int], list[int]]:
    """Vertices in the order of a greedy colouring, and the number of colours used up to each."""
    order, colours, colour = [], [], 0
    while vertices:
        colour += 1
        free = vertices
        while free:
            bit = free & -free
            v = bit.bit_length() - 1
            free &= ~(neighbours[v] | bit)
            vertices ^= bit
            order.append(v)
            colours.append(colour)
    return order, colours


def _components(neighbours: Sequence[int], vertices: int) -> Iterator[int]:
    """The connected components of the graph restricted to ``vertices``, as bit masks."""
    while vertices:
        component = frontier = vertices & -vertices
        while frontier:
            bit = frontier & -frontier
            found = neighbours[bit.bit_length() - 1] & vertices & ~component
            component |= found
            frontier = (frontier ^ bit) | found
        yield component
        vertices &= ~component
