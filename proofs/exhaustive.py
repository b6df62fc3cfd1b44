"""Is there a colouring in which every ``k``-set sees every value? An exhaustive search that says yes or no.

Each pair of points has the set of values that it may still take. A value that a ``k``-set lacks must fall on one of
its open pairs; where only one pair is left for it, or as many pairs are open as values are missing, the pairs have no
choice. Otherwise the search branches on a pair. It leaves out no colouring but by these two rules, so "none" is none.

- :func:`seeing_all`: with the diagonal given, or left out of account;
- :func:`threshold_search`: over all diagonals, up to the names of points and values, which change nothing.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from proofs.colourings import Colouring


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """A colouring in which every ``k``-set sees every value, or None if there is none; and the branches tried."""

    table: Colouring | None
    branches: int


def threshold_search(points: int, values: int, k: int) -> Search:
    """A colouring of so many points, diagonal included, without a ``k``-set that misses one of the ``values``.

    Renaming points and values turns any diagonal into one where value ``0`` is the most frequent, then ``1``, and so
    on, and the points are in that order; only these are tried.
    """
    branches = 0
    for shares in _partitions(points, values, points):
        diagonal = [value for value, share in enumerate(shares) for _ in range(share)]
        found = seeing_all(points, values, k, diagonal=diagonal)
        branches += found.branches
        if found.table is not None:
            return Search(table=found.table, branches=branches)
    return Search(table=None, branches=branches)


def _partitions(total: int, parts: int, most: int) -> Iterator[tuple[int, ...]]:
    """The ways to write ``total`` as so many parts, none above ``most``, in falling order."""
    if parts == 0:
        if total == 0:
            yield ()
        return
    for first in range(min(total, most), -1, -1):
        for rest in _partitions(total - first, parts - 1, first):
            yield (first, *rest)


def seeing_all(points: int, values: int, k: int, *, diagonal: Sequence[int] | None) -> Search:
    """A colouring with this diagonal in which every ``k``-set sees every value; without one, pairs alone count.

    In the table returned for ``diagonal=None`` the diagonal is 0 and means nothing.
    """
    pairs = list(itertools.combinations(range(points), 2))
    number = {pair: n for n, pair in enumerate(pairs)}
    sets = [
        (
            0 if diagonal is None else _mask(diagonal[point] for point in members),
            [number[pair] for pair in itertools.combinations(members, 2)],
        )
        for members in itertools.combinations(range(points), k)
    ]
    search = _Search(sets=sets, pairs=len(pairs), values=values)
    domains = search.run()
    if domains is None:
        return Search(table=None, branches=search.branches)
    table = np.diag(np.array(diagonal if diagonal is not None else [0] * points, dtype=int))
    for (i, j), domain in zip(pairs, domains, strict=True):
        table[i, j] = table[j, i] = domain.bit_length() - 1
    return Search(table=table, branches=search.branches)


def _mask(values: Iterator[int]) -> int:
    mask = 0
    for value in values:
        mask |= 1 << value
    return mask


class _Search:
    """Depth first, with a domain (a bit mask of values) per pair; ``sets`` are (values of the diagonal, pairs)."""

    def __init__(self, *, sets: Sequence[tuple[int, Sequence[int]]], pairs: int, values: int) -> None:
        self.sets, self.values, self.everything, self.branches = sets, values, (1 << values) - 1, 0
        self.domains = [self.everything] * pairs
        self.sets_of: list[list[int]] = [[] for _ in range(pairs)]
        for n, (_, members) in enumerate(sets):
            for pair in members:
                self.sets_of[pair].append(n)

    def run(self) -> list[int] | None:
        """The domains of a solution, one value each, or None."""
        domains = self.domains
        return self._branch(domains) if self._propagate(domains, list(range(len(self.sets)))) else None

    def _branch(self, domains: list[int]) -> list[int] | None:
        self.branches += 1
        open_pairs = [pair for pair, domain in enumerate(domains) if domain & (domain - 1)]
        if not open_pairs:
            return domains
        pair = min(open_pairs, key=lambda p: domains[p].bit_count())
        for value in range(self.values):
            if domains[pair] >> value & 1:
                tried = domains.copy()
                tried[pair] = 1 << value
                if self._propagate(tried, list(self.sets_of[pair])) and (found := self._branch(tried)) is not None:
                    return found
        return None

    def _propagate(self, domains: list[int], queue: list[int]) -> bool:
        """Narrow the domains to what the sets in the queue allow; False if some set cannot see every value."""
        while queue:
            seen, members = self.sets[queue.pop()]
            free = []
            for pair in members:
                if domains[pair] & (domains[pair] - 1):
                    free.append(pair)
                else:
                    seen |= domains[pair]
            missing = self.everything & ~seen
            if missing.bit_count() > len(free):
                return False
            forced = [(pair, missing) for pair in free] if missing.bit_count() == len(free) else []
            for value in range(self.values):
                if missing >> value & 1:
                    places = [pair for pair in free if domains[pair] >> value & 1]
                    if not places:
                        return False
                    if len(places) == 1:
                        forced.append((places[0], 1 << value))
            for pair, allowed in forced:
                narrowed = domains[pair] & allowed
                if not narrowed:
                    return False
                if narrowed != domains[pair]:
                    domains[pair] = narrowed
                    queue.extend(self.sets_of[pair])
        return True
