"""Count-based language models over the same tokens: the bar that the network has to clear.

Interpolated modified Kneser-Ney (Chen and Goodman, 1999). For a context ``h``, its suffix ``h'``, a word
``w``,

    p(w | h) = max(c(hw) - D(c(hw)), 0) / c(h)  +  γ(h) · p(w | h'),
    γ(h) = (D1·N1(h) + D2·N2(h) + D3·N3+(h)) / c(h),

where ``Nk(h)`` words follow ``h`` exactly ``k`` times. At the highest order ``c`` counts occurrences; below
it, the different tokens seen to the left. The lowest order leans on the uniform distribution. ``γ`` gives
back exactly what the discounts took, so ``p(· | h)`` sums to one for every ``h``, seen or not. ``D1, D2, D3``
are estimated from the counts of counts, separately at each order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pythia.embedded.windows import EvaluationWindows, Ids

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Level:
    """The counts of one order. An n-gram is one integer: its context's times ``vocabulary``, plus its word.

    Attributes:
        vocabulary: number of tokens.
        ngrams: int64 [ngrams], sorted.            counts: int64 [ngrams].
        contexts: int64 [contexts], sorted.        totals: int64 [contexts], c(h).
        back_off: float64 [contexts], γ(h).        discounts: float64 [4], by min(count, 3).
    """

    vocabulary: int
    ngrams: Ids
    counts: Ids
    contexts: Ids
    totals: Ids
    back_off: Floats
    discounts: Floats

    def interpolate(self, contexts: Ids, words: Ids, lower: Floats) -> Floats:
        """p(w | h) [n] of words [n] after contexts [n], given the lower order's p(w | h') [n]."""
        counts = _look_up(self.ngrams, self.counts, contexts * self.vocabulary + words, absent=0)
        totals = _look_up(self.contexts, self.totals, contexts, absent=1)
        back_off = _look_up(self.contexts, self.back_off, contexts, absent=1.0)
        kept = np.maximum(counts - self.discounts[np.minimum(counts, 3)], 0.0)
        return kept / totals + back_off * lower


def _look_up(keys: Ids, values: NDArray, queries: Ids, *, absent: float) -> NDArray:
    """``values`` at the place of each query in the sorted ``keys``, or ``absent``."""
    place = np.minimum(np.searchsorted(keys, queries), len(keys) - 1)
    return np.where(keys[place] == queries, values[place], absent).astype(values.dtype)


def discounts_from(counts: Ids) -> Floats:
    """Chen and Goodman's discounts by min(count, 3), [0, D1, D2, D3+], from the counts of counts.

    ½ each where that estimate is undefined: in a text so small or so regular that no n-gram occurs exactly
    once, twice, three or four times.
    """
    n1, n2, n3, n4 = (int((counts == k).sum()) for k in (1, 2, 3, 4))
    if min(n1, n2, n3, n4) == 0:
        return np.asarray([0.0, 0.5, 0.5, 0.5])
    y = n1 / (n1 + 2 * n2)
    estimates = np.asarray([0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    return np.clip(estimates, 0.0, [0.0, 1.0, 2.0, 3.0])


def _level(ngrams: Ids, counts: Ids, vocabulary: int) -> Level:
    discounts = discounts_from(counts)
    contexts, group = np.unique(ngrams // vocabulary, return_inverse=True)
    totals = np.bincount(group, weights=counts).astype(np.int64)
    taken = np.bincount(group, weights=discounts[np.minimum(counts, 3)])
    return Level(vocabulary, ngrams, counts, contexts, totals, taken / totals, discounts)


@dataclass(frozen=True)
class KneserNey:
    """An interpolated modified Kneser-Ney model; ``levels[k]`` holds the counts of order ``k + 1``."""

    levels: tuple[Level, ...]

    @property
    def order(self) -> int:
        """Tokens in the longest n-gram: 3 for a trigram model."""
        return len(self.levels)

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return self.levels[0].vocabulary

    def probability(self, contexts: Ids, words: Ids) -> Floats:
        """p(word | context) [n] of words [n] after contexts [n, order - 1], the nearest token last."""
        result = np.full(len(words), 1.0 / self.vocabulary)
        key = np.zeros(len(words), dtype=np.int64)
        for length, level in enumerate(self.levels):
            if length:
                key = key + contexts[:, -length] * self.vocabulary ** (length - 1)
            result = level.interpolate(key, words, result)
        return result

    def distribution(self, context: Sequence[int]) -> Floats:
        """p(· | context), [vocabulary], after ``order - 1`` tokens."""
        words = np.arange(self.vocabulary, dtype=np.int64)
        contexts = np.tile(np.asarray(context, dtype=np.int64), (self.vocabulary, 1))
        return self.probability(contexts, words)


def fit(documents: Sequence[Ids], *, vocabulary: int, order: int) -> KneserNey:
    """Count the n-grams of ``documents`` (none crosses from one into the next) and estimate the discounts."""
    place_values = vocabulary ** np.arange(order - 1, -1, -1, dtype=np.int64)
    grams = [np.lib.stride_tricks.sliding_window_view(ids, order) for ids in documents if len(ids) >= order]
    ngrams, counts = np.unique(np.concatenate(grams) @ place_values, return_counts=True)
    levels = [_level(ngrams, counts.astype(np.int64), vocabulary)]
    for length in range(order - 1, 0, -1):
        # Below the top, an n-gram counts as often as it has different left neighbours.
        ngrams, counts = np.unique(ngrams % vocabulary**length, return_counts=True)
        levels.insert(0, _level(ngrams, counts.astype(np.int64), vocabulary))
    return KneserNey(tuple(levels))


@dataclass(frozen=True)
class Baselines:
    """The models of order 1, 2 and 3, each fitted with raw counts at its own top."""

    unigram: KneserNey
    bigram: KneserNey
    trigram: KneserNey

    def unigram_nats(self, windows: EvaluationWindows) -> Floats:
        """Negative log-likelihood of each token, [windows, context]; 0 where there is none."""
        return np.where(windows.valid, -_log_probability(self.unigram, windows.ids[:, 1:]), 0.0)

    def trigram_nats(self, windows: EvaluationWindows) -> Floats:
        """The same under the trigram model, with contexts reset at every window.

        A window's first token has no context and is scored by the unigram model, its second by the bigram
        model: kinder than backing off inside the trigram model, whose lower orders count neighbours instead.
        """
        tokens = windows.ids[:, 1:]
        models = (self.unigram, tokens[:, :1]), (self.bigram, tokens[:, :2]), (self.trigram, tokens)
        nats = np.concatenate([-_log_probability(model, rows) for model, rows in models], axis=1)
        return np.where(windows.valid, nats, 0.0)

    def unbroken_trigram_nats(self, documents: Sequence[Ids]) -> float:
        """Summed over whole documents, contexts running across windows: more than the network is allowed."""
        total = 0.0
        for ids in documents:
            rows = ids[None, :]
            total -= float(_log_probability(self.unigram, rows[:, :1]).sum())
            total -= float(_log_probability(self.bigram, rows[:, :2]).sum())
            total -= float(_log_probability(self.trigram, rows).sum())
        return total


def _log_probability(model: KneserNey, rows: Ids) -> Floats:
    """log p [rows, length - order + 1] of the tokens of ``rows`` [rows, length] with a full context there."""
    reach = model.order - 1
    words = rows[:, reach:]
    columns = [rows[:, back : back + words.shape[1]].ravel() for back in range(reach)]
    contexts = np.stack(columns, axis=1) if columns else np.empty((words.size, 0), dtype=np.int64)
    return np.log(model.probability(contexts, words.ravel())).reshape(words.shape)


def fit_baselines(documents: Sequence[Ids], *, vocabulary: int) -> Baselines:
    """Fit the three models to the training tokens."""
    return Baselines(*(fit(documents, vocabulary=vocabulary, order=order) for order in (1, 2, 3)))
