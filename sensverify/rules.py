"""Explanations without a language model: the rule that best says where a direction is strongly present.

The *strong* positions of a direction are its highest presences, ``share`` of all. A rule asks one question of a
position (:mod:`sensverify.rule_features`) and fires where the answer is, or is not, in a small set. It is chosen on one
half of the windows and scored on the other by balanced accuracy, ``(hits / strong + quiet / others) / 2``: what is
expected of equal numbers of strong and of uniformly drawn other positions, without the noise of drawing them.

**Complexity.** A rule takes bits to write down: which question and whether negated (``log₂`` of their number), for each
answer in the set its Shannon code in the text, ``−log₂`` of its frequency, and one bit for "another follows"; for a
range of numbers its two ends. It is charged for them twice.

1. Against chance: an answer that stands at ``c`` positions, a share ``h`` of them strong, is admitted only if coding
   which of them are strong by ``h`` instead of by ``share`` saves more, ``c·KL(h ‖ share)`` bits, than writing down a
   rule with this answer alone takes. Of a range the same is asked as a whole.
2. Against needless length: to name a strong position outright takes ``log₂(1/share)`` bits, so ``n`` strong positions,
   hit at a rate that exceeds the rate of false alarms by ``J``, are worth ``J·n·log₂(1/share)``. The rule that is worth
   most net of its length is taken; where none is worth anything, the answer is *no rule*, accuracy 1/2.

For a question with one answer at a position ``J`` is a sum over the answers in the set, so the best set, of all sets of
admitted answers, is that of the answers worth more than their own length. Where a position has several answers (tokens
within the last few) the sets tried are those of the best answers in order.

**Null.** The same search, with the strong positions of each half rotated through the text by random amounts of their
own: they stay as many and as clustered as they were, and lose what binds them to the tokens.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from sensverify.rule_features import Codes, Contexts, Family, families_of
from sensverify.statistics import Interval, bootstrap_weights

Floats = NDArray[numpy.float64]
TABLE = 2**22
"""Entries of the largest table of directions by answers that is made at once."""
TIE = 1e-6
UNION = 4
"""Of answers that can hold together, so many of the best are tried as a set."""
NO_RULE = "no rule"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RuleOptions:
    """``share``: of the positions, how many count as strong. ``answers``: the largest set. ``shuffles``: searches of
    the null for each direction. ``resamples``: of the bootstrap over windows. ``price``: of a bit of rule in bits of
    data; 1 is the description length above, 0 takes what fits best whatever its length."""

    share: float = 0.05
    answers: int = 8
    shuffles: int = 20
    resamples: int = 1000
    price: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 0.5 or self.answers < 1 or self.shuffles < 0 or self.price < 0:
            raise ValueError(f"expected a share in (0, 1/2], answers >= 1, shuffles and price >= 0, got {self}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """What was found: in words, as the ``family`` and its ``answers``, with its length in ``bits``.

    ``token_alone``: the token at the position decides it; ``single_token``: it names exactly one token.
    """

    words: str
    family: str
    answers: tuple[str, ...]
    negated: bool
    bits: float
    token_alone: bool
    single_token: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explanation:
    """One direction's best rule, and what it is worth on held-out windows.

    ``accuracy`` is balanced accuracy with its 95 % interval over windows; ``null`` those of the shuffled searches, and
    ``p_value`` the share of searches, this one included, that did as well; ``hit_rate`` and ``alarm_rate`` are the
    shares of strong and of other positions where the rule fires. ``fitted`` is the accuracy where it was chosen.
    """

    rule: Rule
    accuracy: Interval
    fitted: float
    hit_rate: float
    alarm_rate: float
    null: tuple[float, ...]
    p_value: float

    @property
    def null_mean(self) -> float:
        """Mean accuracy of the shuffled searches; 1/2 where there were none."""
        return float(numpy.mean(self.null)) if self.null else 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explanations:
    """Of many directions: one explanation each, and the counts ``[K, W]`` in each held-out window behind them.

    ``hits`` of ``strong`` positions, ``alarms`` among ``others``: what group comparisons resample.
    """

    each: tuple[Explanation, ...]
    hits: Tensor
    strong: Tensor
    alarms: Tensor
    others: Tensor

    def __len__(self) -> int:
        return len(self.each)

    def resampled(self, weights: Tensor) -> Tensor:
        """Balanced accuracy ``[R, K]`` of every direction when windows weigh ``weights [R, W]``."""
        rates = [
            (weights @ top.T) / (weights @ bottom.T).clamp(min=torch.finfo(torch.float64).tiny)
            for top, bottom in ((self.hits, self.strong), (self.alarms, self.others))
        ]
        return (1 + rates[0] - rates[1]) / 2


def explain_presence(
    contexts: Contexts, presence: Tensor, generator: torch.Generator, options: RuleOptions | None = None
) -> Explanations:
    """The best rule for each direction, given its ``presence [K, N, L']`` at the positions of ``contexts``.

    Windows are split at random into a half to fit and a half to score; positions that ``contexts`` does not ask about
    are neither strong nor others. Raises ``ValueError`` for shapes that do not fit, presences that are not finite, and
    too few windows for a strong position in each half.
    """
    options = options or RuleOptions()
    windows, positions = len(contexts.tokens), contexts.positions
    asked = contexts.asked
    rho = presence.detach().cpu()
    if rho.shape[1:] != asked.shape or not bool(torch.isfinite(rho[:, torch.from_numpy(asked)]).all()):
        raise ValueError(f"expected finite presences [K, {windows}, {positions}], got {tuple(presence.shape)}")
    random = numpy.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    order = torch.randperm(windows, generator=generator).numpy()
    halves = [numpy.sort(part) for part in (order[: windows // 2], order[windows // 2 :])]
    tables = [rho.double().numpy()[:, half][:, asked[half]] for half in halves]
    if min(table.shape[1] for table in tables) * options.share < 1:
        raise ValueError(f"expected at least {math.ceil(1 / options.share)} positions in each half of the windows")
    strong, strong_held = (_strongest(table, options.share) for table in tables)
    families = families_of(contexts)
    where = [(half[:, None] * positions + numpy.arange(positions))[asked[half]] for half in halves]
    fit, held = ([_part(family, here, windows * positions) for family in families] for here in where)
    total = len(where[0])
    shuffled = [
        ((part[:, None] + random.integers(1, size, (len(part), options.shuffles, 1))) % size).reshape(-1, part.shape[1])
        for part, size in ((strong, total), (strong_held, len(where[1])))
    ]
    found = _search(fit, numpy.concatenate([strong, shuffled[0]]), total, options)
    strong_held = numpy.concatenate([strong_held, shuffled[1]])
    counts = [_count(held, choice, rows, len(where[1])) for choice, rows in zip(found, strong_held, strict=True)]
    accuracy = numpy.array([_balanced(one) for one in counts])
    null = accuracy[len(presence) :].reshape(len(presence), options.shuffles)
    fitted = [_balanced(_count(fit, choice, rows, total)) for choice, rows in zip(found, strong, strict=False)]
    by_window = torch.from_numpy(
        numpy.stack([_by_window(one, asked[halves[1]]) for one in counts[: len(presence)]])
    )  # [K, 4, W]
    weights = bootstrap_weights(by_window.shape[2], options.resamples, generator)
    hits, strong_rows, alarms, others = by_window.unbind(1)
    table = Explanations(each=(), hits=hits, strong=strong_rows, alarms=alarms, others=others)
    low, high = torch.quantile(table.resampled(weights), torch.tensor([0.025, 0.975], dtype=torch.float64), dim=0)
    each = tuple(
        Explanation(
            rule=_rule(families, found[k]),
            accuracy=Interval(float(accuracy[k]), float(low[k]), float(high[k])),
            fitted=fitted[k],
            hit_rate=float(hits[k].sum() / strong_rows[k].sum()),
            alarm_rate=float(alarms[k].sum() / others[k].sum()),
            null=tuple(null[k].tolist()),
            p_value=float((1 + (null[k] >= accuracy[k]).sum()) / (1 + options.shuffles)),
        )
        for k in range(len(presence))
    )
    return dataclasses.replace(table, each=each)


@dataclasses.dataclass(frozen=True)
class _Half:
    """A family on one half of the windows, positions renumbered from 0."""

    family: Family
    where: Codes
    codes: Codes


@dataclasses.dataclass
class _Choice:
    """A rule in the making: the family's number, the answers, the bits and what it spares net of them."""

    family: int = -1
    answers: Codes = dataclasses.field(default_factory=lambda: numpy.zeros(0, numpy.int64))
    negated: bool = False
    bits: float = 0.0
    worth: float = 0.0


def _strongest(presence: Floats, share: float) -> Codes:
    """Where each row is highest, ``[K, n]``; of equal presences the first."""
    count = max(1, round(share * presence.shape[1]))
    return numpy.argsort(-presence, axis=1, kind="stable")[:, :count]


def _part(family: Family, here: Codes, total: int) -> _Half:
    renumbered = numpy.full(total, -1)
    renumbered[here] = numpy.arange(len(here))
    where = renumbered[family.where]
    kept = where >= 0
    return _Half(family, where[kept], family.codes[kept])


def _search(halves: Sequence[_Half], strong: Codes, total: int, options: RuleOptions) -> list[_Choice]:
    """The rule worth most for each row of ``strong [K, n]``, positions out of ``total``."""
    best = [_Choice() for _ in strong]
    header = math.log2(2 * len(halves))
    for number, half in enumerate(halves):
        for row, candidate in _best_of_family(half, strong, total, header, options):
            # families are in order of preference: of equals, told apart by rounding alone, the first stays
            if candidate.worth > best[row].worth + TIE:
                candidate.family = number
                best[row] = candidate
    return best


def _best_of_family(
    half: _Half, strong: Codes, total: int, header: float, options: RuleOptions
) -> Iterator[tuple[int, _Choice]]:
    """Rules of one family that beat no rule, at most two for each row."""
    count, spared = strong.shape[1], strong.shape[1] * math.log2(1 / options.share)
    size = len(half.family)
    totals = numpy.bincount(half.codes, minlength=size)
    bits = 1 - numpy.log2(numpy.maximum(totals, 1) / total)
    # an answer saves most if all its places are strong: what would not be admitted even so is left out at once
    pays = totals * math.log2(total / count) > options.price * (bits + header)
    kept = numpy.arange(size) if half.family.ordered else numpy.flatnonzero(pays)
    renumbered = numpy.full(size, -1)
    renumbered[kept] = numpy.arange(len(kept))
    table = _Incidence.of(half, renumbered, total)
    pick = _ranges if half.family.ordered else _sets if half.family.single else table.unions
    limited = dataclasses.replace(options, answers=min(options.answers, half.family.most or options.answers))
    step = max(1, TABLE // max(1, len(kept)))
    for start in range(0, len(strong), step):
        rows = strong[start : start + step]
        hits = table.hits(rows, len(kept))
        gains = spared * (hits / count - (totals[kept] - hits) / (total - count))
        if not half.family.ordered:  # what is not admitted is worth nothing on either side
            admitted = _saved(hits, totals[kept], count / total) > options.price * (bits[kept] + header)
            gains = numpy.where(admitted, gains, 0.0)
        for negated in (False, True):
            picked = pick(-gains if negated else gains, bits[kept], rows, negated, limited)
            for row, (members, gain, length) in enumerate(picked):
                worth = gain - options.price * (header + length)
                if half.family.ordered and worth > 0:
                    inside = hits[row, members].sum(), totals[kept][members].sum()
                    worth *= float(_saved(*inside, count / total) > options.price * (header + length))
                if len(members) and worth > 0:
                    yield start + row, _Choice(-1, kept[members], negated, header + length, worth)


def _saved(hits: Floats, places: Codes, share: float) -> Floats:
    """Bits that are saved by coding which of ``places`` are strong by their own rate, ``places · KL(h ‖ share)``."""
    rate = hits / numpy.maximum(places, 1)
    with numpy.errstate(divide="ignore", invalid="ignore"):  # 0·log 0 = 0
        yes = numpy.where(rate > 0, rate * numpy.log2(rate / share), 0.0)
        no = numpy.where(rate < 1, (1 - rate) * numpy.log2((1 - rate) / (1 - share)), 0.0)
    return numpy.asarray(places * (yes + no))


_Picks = Iterator[tuple[Codes, float, float]]
"""For each row: the answers, what they gain as a set, their length in bits."""


def _sets(gains: Floats, bits: Floats, _rows: Codes, _negated: bool, options: RuleOptions) -> _Picks:
    """The best set of answers for each row of ``gains [K, F]``: those that gain more than their bits cost."""
    for row, worth in zip(gains, gains - options.price * bits, strict=True):
        members = numpy.flatnonzero(worth > 0)
        members = members[numpy.argsort(-worth[members], kind="stable")[: options.answers]]
        yield members, float(row[members].sum()), float(bits[members].sum())


def _ranges(gains: Floats, _bits: Floats, _rows: Codes, _negated: bool, _options: RuleOptions) -> _Picks:
    """The range of numbers with the largest sum of gains, for each row."""
    sums = numpy.concatenate([numpy.zeros((len(gains), 1)), numpy.cumsum(gains, axis=1)], axis=1)
    ends = (sums - numpy.minimum.accumulate(sums, axis=1)).argmax(axis=1)
    length = 2 * math.log2(max(2, gains.shape[1]))
    for row, end in zip(sums, ends, strict=True):
        start = int(row[: end + 1].argmin())
        yield numpy.arange(start, end), float(row[end] - row[start]), length


@dataclasses.dataclass(frozen=True)
class _Incidence:
    """Which answers hold where, by position and by answer."""

    codes: Codes
    starts: Codes
    where: Codes
    ends: Codes
    total: int

    @classmethod
    def of(cls, half: _Half, renumbered: Codes, total: int) -> _Incidence:
        """Of the answers that got a new number."""
        codes = renumbered[half.codes]
        where, codes = half.where[codes >= 0], codes[codes >= 0]
        by_position, by_code = numpy.argsort(where, kind="stable"), numpy.argsort(codes, kind="stable")
        starts = numpy.searchsorted(where[by_position], numpy.arange(total + 1))
        ends = numpy.searchsorted(codes[by_code], numpy.arange(int(renumbered.max(initial=-1)) + 2))
        return cls(codes[by_position], starts, where[by_code], ends, total)

    def hits(self, strong: Codes, size: int) -> Floats:
        """How often each answer holds at each row's strong positions, ``[K, size]``."""
        lengths = (self.starts[1:] - self.starts[:-1])[strong]  # [K, n]
        row = numpy.repeat(numpy.arange(len(strong)), lengths.sum(axis=1))
        flat = lengths.reshape(-1)
        offsets = numpy.arange(flat.sum()) - numpy.repeat(numpy.cumsum(flat) - flat, flat)
        codes = self.codes[numpy.repeat(self.starts[strong].reshape(-1), flat) + offsets]
        return numpy.bincount(row * size + codes, minlength=len(strong) * size).reshape(len(strong), size).astype(float)

    def unions(self, gains: Floats, bits: Floats, strong: Codes, negated: bool, options: RuleOptions) -> _Picks:
        """The best of the sets of the first one, two, ... answers in order of what each pays by itself."""
        count = strong.shape[1]
        spared = count * math.log2(1 / options.share)
        most = min(UNION, options.answers, gains.shape[1])
        for row, worth in zip(strong, gains - options.price * bits, strict=True):
            order = numpy.argsort(-worth, kind="stable")[:most]
            order = order[worth[order] > 0]
            covered = numpy.zeros(self.total, dtype=bool)
            best: tuple[float, Codes, float, float] = (0.0, order[:0], 0.0, 0.0)
            for number, answer in enumerate(order, 1):
                covered[self.where[self.ends[answer] : self.ends[answer + 1]]] = True
                hits = int(covered[row].sum())
                gain = spared * (hits / count - (int(covered.sum()) - hits) / (self.total - count))
                gain, length = -gain if negated else gain, float(bits[order[:number]].sum())
                if gain - options.price * length > best[0]:
                    best = (gain - options.price * length, order[:number], gain, length)
            yield best[1:]


def _count(halves: Sequence[_Half], choice: _Choice, strong: Codes, total: int) -> NDArray[numpy.bool_]:
    """Hits, strong positions, alarms, other positions: ``[4, total]``, yes or no."""
    fires = numpy.zeros(total, dtype=bool)
    if choice.family >= 0:
        half = halves[choice.family]
        chosen = numpy.zeros(len(half.family), dtype=bool)
        chosen[choice.answers] = True
        fires[half.where[chosen[half.codes]]] = True
        fires ^= choice.negated
    present = numpy.zeros(total, dtype=bool)
    present[strong] = True
    return numpy.stack([fires & present, present, fires & ~present, ~present])


def _by_window(counts: NDArray[numpy.bool_], asked: NDArray[numpy.bool_]) -> Floats:
    """``counts [4, total]`` of the positions that are ``asked [W, L']`` about, added up in each window: ``[4, W]``."""
    everywhere = numpy.zeros((len(counts), *asked.shape), dtype=bool)
    everywhere[:, asked] = counts
    sums: Floats = everywhere.sum(-1).astype(float)
    return sums


def _balanced(counts: NDArray[numpy.bool_]) -> float:
    hits, strong, alarms, others = counts.sum(axis=1)
    return float((1 + hits / strong - alarms / others) / 2)


def _rule(families: Sequence[Family], choice: _Choice) -> Rule:
    if choice.family < 0:
        return Rule(
            words=NO_RULE, family="", answers=(), negated=False, bits=0.0, token_alone=False, single_token=False
        )
    family, members, negated = families[choice.family], choice.answers.tolist(), choice.negated
    if negated and len(family) == 2 and len(members) == 1 and family.complete:  # not the one is the other
        members, negated = [1 - members[0]], False
    return Rule(
        words=family.sentence(members, negated=negated),
        family=family.name,
        answers=tuple(family.labels[member] for member in members),
        negated=negated,
        bits=choice.bits,
        token_alone=family.token_alone,
        single_token=family.exact and len(members) == 1 and not negated,
    )
