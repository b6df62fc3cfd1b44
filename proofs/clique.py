"""Largest cliques, exactly: branch and bound, where the bound is the number of colours of a greedy colouring.

A graph is a sequence of bit masks, the neighbours of each vertex. Vertices are taken in the order of their degrees, the
largest first; a greedy clique is known before the search; and branches are taken only at vertices that the colouring
cannot bound. Sources of the method: Tomita and Seki 2003, San Segundo et al. 2011. The re-check of published witnesses
uses another implementation (:mod:`proofs.recheck`).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clique:
    """The largest clique found, in increasing order, and an upper bound; they meet if the search came to its end."""

    vertices: list[int]
    at_most: int

    @property
    def is_largest(self) -> bool:
        """Whether no larger clique exists."""
        return len(self.vertices) == self.at_most


def largest_clique(neighbours: Sequence[int], vertices: int | None = None) -> list[int]:
    """A largest clique among the vertices of the bit mask ``vertices`` (all by default), in increasing order."""
    return search_clique(neighbours, vertices).vertices


def search_clique(
    neighbours: Sequence[int], vertices: int | None = None, *, seconds: float | None = None, more_than: int = 0
) -> Clique:
    """The same, for at most about so many ``seconds`` of search.

    Cliques of ``more_than`` vertices or fewer are not looked for: then ``vertices`` may be empty and ``at_most`` is as
    large as ``more_than``.
    """
    everything = (1 << len(neighbours)) - 1 if vertices is None else vertices
    deadline = None if seconds is None else time.monotonic() + seconds
    best: list[int] = []
    at_most = 0
    for component in _components(neighbours, everything):
        members = sorted(_bits(component), key=lambda v: -(neighbours[v] & component).bit_count())
        search = _Search(_relabelled(neighbours, members), least=max(more_than, len(best)))
        search.greedy(starts=64)
        bound = search.run(deadline)
        if search.best:
            best = [members[v] for v in search.best]
        at_most = max(at_most, bound)
    return Clique(vertices=sorted(best), at_most=max(at_most, len(best), more_than))


class _Search:
    """One component; ``best`` is a clique of more than ``least`` vertices, the largest, or empty if there is none."""

    def __init__(self, neighbours: Sequence[int], *, least: int) -> None:
        self.neighbours = neighbours
        self.apart = [~mask & ~(1 << v) for v, mask in enumerate(neighbours)]
        self.best: list[int] = []
        self.size = least

    def greedy(self, starts: int) -> None:
        """From each of the first vertices, always take the first that is joined to all taken before."""
        for start in range(min(starts, len(self.neighbours))):
            clique, candidates = [start], self.neighbours[start]
            while candidates:
                v = (candidates & -candidates).bit_length() - 1
                clique.append(v)
                candidates &= self.neighbours[v]
            if len(clique) > self.size:
                self.best, self.size = clique, len(clique)

    def run(self, deadline: float | None) -> int:
        """Search to the end, or to the deadline; the bound on the cliques of this component that is then known."""
        everything = (1 << len(self.neighbours)) - 1
        clique: list[int] = []
        # An entry per vertex of the clique, and one for the root: what is left to try, in order, and the colours.
        left = [everything]
        tries = [self._colour(everything, self.size)]
        while tries:
            order, colours = tries[-1]
            if not order or len(clique) + colours[-1] <= self.size:
                left.pop()
                tries.pop()
                if clique:
                    clique.pop()
                continue
            if deadline is not None and time.monotonic() > deadline:
                untried, below = tries[0][1], len(tries) > 1  # below: the root's last vertex is being tried
                return max(self.size, untried[-1] + below if untried else self.size + 1)
            v = order.pop()
            colours.pop()
            clique.append(v)
            remaining = left[-1] & self.neighbours[v]
            left[-1] &= ~(1 << v)
            if remaining:
                left.append(remaining)
                tries.append(self._colour(remaining, self.size - len(clique)))
                continue
            if len(clique) > self.size:
                self.best, self.size = clique.copy(), len(clique)
            clique.pop()
        return self.size

    def _colour(self, vertices: int, least: int) -> tuple[list[int], list[int]]:
        """The vertices that a greedy colouring gives more than ``least`` colours, in order, and their colours.

        A clique among the others has at most ``least`` vertices.
        """
        apart = self.apart
        order: list[int] = []
        colours: list[int] = []
        colour = 0
        while vertices:
            colour += 1
            free = vertices
            while free:
                bit = free & -free
                v = bit.bit_length() - 1
                free &= apart[v]
                vertices ^= bit
                if colour > least:
                    order.append(v)
                    colours.append(colour)
        return order, colours


def masks(graph: NDArray[np.bool_]) -> list[int]:
    """The neighbours of each vertex of an adjacency matrix ``[n, n]`` as bit masks."""
    packed = np.packbits(graph, axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]


def _relabelled(neighbours: Sequence[int], members: Sequence[int]) -> list[int]:
    """The graph on ``members``, renamed ``0, 1, …`` in their order."""
    if list(members) == list(range(len(neighbours))):
        return list(neighbours)
    width = -(-len(neighbours) // 8)
    packed = np.frombuffer(b"".join(neighbours[v].to_bytes(width, "little") for v in members), dtype=np.uint8)
    return masks(np.unpackbits(packed.reshape(-1, width), axis=1, bitorder="little")[:, members].astype(bool))


def _bits(mask: int) -> Iterator[int]:
    """The vertices of a bit mask, in increasing order."""
    while mask:
        bit = mask & -mask
        yield bit.bit_length() - 1
        mask ^= bit


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
