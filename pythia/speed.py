"""How fast effects are measured, beside the ways in which it is usually done, and how far that is from the floor.

All on one random model of exactly Pythia-70M's shape, the same weights, tokens, positions and thread count, gradient
with respect to the directions included, in (direction, context) pairs per second:

- *ours*: the clean pass is kept; all directions and contexts as a step of a search has them
  (:func:`sensverify.parts.climb`); *fresh*: each call also selects its contexts from the clean pass anew;
- *plain*: hooks on the Hugging Face model, run clean and perturbed to its end, one direction at a time on all contexts
  (the published method);
- *cached*: the best ordinary practice: hooks, the clean read-out kept, stopped at the block that is read;
- *TransformerLens*: the same loop as *plain* with its hooks, if it is installed.

Each row is measured in a process of its own, whose largest resident memory is reported less that of a process which has
loaded the model and done nothing; the other ways are timed in the row's process too, in turns with ours. The floor is
:mod:`pythia.operations` at the rate of the fastest of three matrix products on this machine.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from pythia.embedded import FOLDER
from pythia.loading import LanguageModel, import_transformers
from pythia.next_token import NextTokenReadout
from pythia.operations import Work, multiplications
from pythia.readout import LanguageModelReadout
from sensverify.chunking import Chunking
from sensverify.claims import Progress, silent
from sensverify.geometry import random_directions
from sensverify.interventions import set_presence
from sensverify.memory import largest_resident
from sensverify.parts import Whole, climb
from sensverify.scoring import angular_distance, kullback_leibler
from sensverify.search_state import SearchOptions
from sensverify.sensitivity import Probe

ALPHA = 0.5
OTHERS = ("plain", "cached", "transformer_lens")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One row: ``layer`` a, ``target`` b, ``offset`` t, ``S`` directions, ``B`` contexts of ``length`` tokens.

    ``depth`` blocks; ``others``: which of :data:`OTHERS` are timed beside ours, for about ``seconds`` each. ``kl``: the
    divergence of the next-token distribution in place of the angle of the residual stream, at the last block.
    """

    layer: int = 2
    target: int = 3
    offset: int = 1
    directions: int = 64
    contexts: int = 16
    length: int = 150
    depth: int = 6
    seconds: float = 3.0
    others: tuple[str, ...] = OTHERS
    kl: bool = False

    @property
    def name(self) -> str:
        """As results call it."""
        apart = "b=a+1" if self.target == self.layer + 1 else f"a={self.layer},b={self.target}"
        return f"{apart},t={self.offset}{',KL' if self.kl else ''}"


def cases(*, quick: bool, seconds: float) -> Iterator[Case]:
    """The rows of a benchmark; quick: those that the project has promised ratios for."""
    of = functools.partial(Case, seconds=seconds)
    alone = functools.partial(of, others=())
    yield of(directions=1)
    yield of()
    yield of(target=5)
    if quick:
        return
    for target in (3, 5):
        for offset in (0, 1, 5):
            for directions in (1, 16, 64, 256):
                if offset == 1 and directions in ((1, 64) if target == 3 else (64,)):
                    continue  # among the first
                yield (of if directions == 64 else alone)(target=target, offset=offset, directions=directions)
    yield of(layer=0, target=5)
    for directions in (1, 64):
        yield (of if directions == 64 else alone)(target=5, directions=directions, kl=True)
    for contexts in (4, 64, 256):
        yield alone(contexts=contexts)
    yield alone(directions=256, contexts=64)
    for length in (50, 500, 1000):
        yield alone(length=length)
    for depth in (12, 24):
        yield alone(depth=depth, target=depth - 1)


def benchmark(
    *,
    quick: bool,
    alone: bool,
    seconds: float,
    progress: Progress = silent,
    after_row: Callable[[list[dict[str, Any]]], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """All rows; ``after_row`` gets those there are, after each. What ``sensverify bench`` calls.

    ``alone``: nothing is timed beside ours.

    Raises :class:`~sensverify.errors.MissingExtraError` without the ``lm`` extra.
    """
    import_transformers()
    done: list[dict[str, Any]] = []

    def keep(row: dict[str, Any]) -> None:
        done.append(row)
        after_row(done)

    chosen = list(cases(quick=quick, seconds=seconds))
    measure([dataclasses.replace(case, others=()) for case in chosen] if alone else chosen, progress, keep)
    after_row(done)
    return done


def measure(
    chosen: Sequence[Case], progress: Progress = silent, after_row: Callable[[dict[str, Any]], None] = lambda _: None
) -> list[dict[str, Any]]:
    """The rows of ``chosen``, each from a process of its own; ``after_row`` gets each as it is done.

    The other ways take one direction at a time, so that their rates are the same for any number of them: rows at which
    they were not timed get those of the row with 64 directions at the same site, if there is one.
    """
    rows: list[dict[str, Any]] = []
    spawn = multiprocessing.get_context("spawn")
    for done, case in enumerate(chosen):
        progress("measuring", done, len(chosen))
        with spawn.Pool(1) as pool:
            rows.append(pool.apply(row, (case,)))
        after_row(rows[-1])
    progress("measuring", len(chosen), len(chosen))
    timed = {_site(one): one for one in rows if one["S"] == 64 and one["plain_pairs_per_s"] is not None}
    for one in rows:
        sibling = timed.get(_site(one))
        if sibling is not None and one["plain_pairs_per_s"] is None:
            for name in OTHERS:
                rate = one[f"{name}_pairs_per_s"] = sibling[f"{name}_pairs_per_s"]
                one[f"ratio_{name}"] = None if rate is None else one["pairs_per_s"] / rate
    return rows


def _site(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("case", "B", "context", "depth"))


def row(case: Case) -> dict[str, Any]:
    """One row, measured in this process."""
    model = random_model_of_70m_shape(case.depth)
    windows = torch.randint(50_000, (case.contexts, case.length), generator=torch.Generator().manual_seed(0))
    before = largest_resident()
    kind = NextTokenReadout if case.kl else LanguageModelReadout
    readout = kind(model, windows, layer=case.layer, target=case.target, offset=case.offset)
    pairs = case.directions * case.contexts
    ways = {"ours": (ours(readout, case, fresh=False), pairs), "fresh": (ours(readout, case, fresh=True), pairs)}
    ways["fresh"][0]()  # before the others, so that the memory is ours
    peak = largest_resident() - before
    for name in case.others:
        made = _MAKERS[name](model, windows, case)
        if made is not None:
            ways[name] = made, case.contexts
    times = in_turns({name: work for name, (work, _) in ways.items()}, case.seconds)
    rates = {name: [count / second for second in times[name]] for name, (_, count) in ways.items()}
    middle = {name: statistics.median(values) for name, values in rates.items()}
    left = case.length - 1 - case.offset
    work = Work(directions=case.directions, contexts=case.contexts, left=left)
    operations = 2 * multiplications(readout.suffix, work)
    if case.kl:  # the unembedding, once for the divergence and once for its gradient
        operations += 4 * work.pairs * model.architecture.unembedding.weight.numel()
    speed = matrix_rate()
    return {
        "case": case.name,
        "S": case.directions,
        "B": case.contexts,
        "context": case.length,
        "depth": case.depth,
        "pairs_per_s": middle["ours"],
        "spread": _spread(rates["ours"]),
        "runs": len(rates["ours"]),
        "fresh_pairs_per_s": middle["fresh"],
        **{f"{name}_pairs_per_s": middle.get(name) for name in OTHERS},
        **{f"{name}_spread": _spread(rates[name]) if name in rates else None for name in OTHERS},
        **{f"ratio_{name}": middle["ours"] / middle[name] if name in middle else None for name in OTHERS},
        "operations_per_pair": operations / work.pairs,
        "operations_per_s_of_matrix_products": speed,
        "floor_pairs_per_s": speed / (operations / work.pairs),
        "floor_share": middle["ours"] * (operations / work.pairs) / speed,
        "peak_mb": peak / 1e6,
        "threads": torch.get_num_threads(),
    }


def random_model_of_70m_shape(depth: int = 6) -> LanguageModel:
    """A random model of exactly Pythia-70M's shape, or deeper; the tokenizer is not needed."""
    import transformers

    torch.manual_seed(0)
    config = transformers.GPTNeoXConfig(
        vocab_size=50304, hidden_size=512, num_hidden_layers=depth, num_attention_heads=8, intermediate_size=2048
    )
    network = transformers.GPTNeoXForCausalLM._from_config(config, attn_implementation="eager")
    return LanguageModel("random", None, network.eval().requires_grad_(False), None, "")


def in_turns(ways: dict[str, Callable[[], None]], seconds: float) -> dict[str, list[float]]:
    """Seconds of every call, the ways taking turns, until each has had about ``seconds`` and at least three calls."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for work in ways.values():
        work()
    while short := [name for name, spent in times.items() if len(spent) < 3 or sum(spent) < seconds]:
        for name in short:
            repeat = max(1, round(0.2 * seconds / times[name][-1])) if times[name] else 1
            for _ in range(repeat):
                start = time.perf_counter()
                ways[name]()
                times[name].append(time.perf_counter() - start)
    return times


def matrix_rate() -> float:
    """Operations per second (a multiplication and an addition are two) of the fastest of three matrix products."""
    best = 0.0
    for rows, inner, columns in ((1024, 1024, 1024), (1024, 512, 2048), (4096, 512, 512)):
        one, other = torch.randn(rows, inner), torch.randn(inner, columns)
        out = torch.empty(rows, columns)
        for _ in range(12):
            start = time.perf_counter()
            torch.mm(one, other, out=out)
            best = max(best, 2 * rows * inner * columns / (time.perf_counter() - start))
    return best


# --- The ways ---------------------------------------------------------------------------------------------------------


def _positions(case: Case) -> Tensor:
    return torch.full((case.contexts,), case.length - 1 - case.offset)


def ours(readout: LanguageModelReadout, case: Case, *, fresh: bool) -> Callable[[], None]:
    """All directions on all contexts; ``fresh``: contexts are selected from the clean pass anew in every call."""
    rows, positions = torch.arange(case.contexts), _positions(case)
    start = random_directions(case.directions, readout.width, readout.centring, torch.Generator().manual_seed(1))
    probe = Probe(distance=readout.distance) if isinstance(readout, NextTokenReadout) else Probe()
    options = SearchOptions(directions=case.directions, probe=probe)
    kept = readout.at(rows, positions)

    def work() -> None:
        batch = readout.at(rows, positions) if fresh else kept
        given = Whole(batch, readout.clean(batch), torch.full((case.contexts,), ALPHA))
        climb(readout, options, given, start, Chunking())

    return work


def plain(model: LanguageModel, windows: Tensor, case: Case) -> Callable[[], None]:
    """One direction on all contexts: clean forward, perturbed forward through hooks, backward."""
    hooked = _Hooked(model, windows, case)

    def work() -> None:
        with torch.no_grad():
            clean = hooked.read(None)
        leaf = hooked.direction.clone().requires_grad_()
        torch.autograd.grad(hooked.distance(clean, hooked.read(leaf)).mean(), leaf)

    return work


def cached(model: LanguageModel, windows: Tensor, case: Case) -> Callable[[], None]:
    """The same with the clean read-out kept, stopped at the block that is read."""
    hooked = _Hooked(model, windows, case, stops=not case.kl)
    with torch.no_grad():
        clean = hooked.read(None)

    def work() -> None:
        leaf = hooked.direction.clone().requires_grad_()
        torch.autograd.grad(hooked.distance(clean, hooked.read(leaf)).mean(), leaf)

    return work


class _Hooked:
    """A model run through forward hooks, with the residual stream of ``layer`` at ``p`` moved."""

    class Reached(Exception):
        """The block that is read has run."""

    def __init__(self, model: LanguageModel, windows: Tensor, case: Case, *, stops: bool = False) -> None:
        self.model, self.windows, self.stops, self.kl = model, windows, stops, case.kl
        self.distance = kullback_leibler if case.kl else angular_distance
        self.rows, self.positions, self.offset = torch.arange(case.contexts), _positions(case), case.offset
        self.centring = model.architecture.centring
        self.direction = random_directions(1, model.width, self.centring, torch.Generator().manual_seed(1))
        self.written, self.read_from = (model.architecture.modules[i] for i in (case.layer, case.target))

    def read(self, direction: Tensor | None) -> Tensor:
        """``[B, d]``, or logits ``[B, V]``, with the presence of ``direction [1, d]`` set, or clean."""
        kept: list[Tensor] = []

        def replace(_module: object, _inputs: object, output: Tensor) -> Tensor:
            assert direction is not None
            moved = set_presence(output[self.rows, self.positions], direction, ALPHA, self.centring)[0]
            return output.index_put((self.rows, self.positions), moved)

        def keep(_module: object, _inputs: object, output: Tensor) -> None:
            kept.append(output[self.rows, self.positions + self.offset])
            if self.stops:
                raise self.Reached

        handles = [self.read_from.register_forward_hook(keep)]
        if direction is not None:
            handles.append(self.written.register_forward_hook(replace))
        try:
            logits = self.model.network(self.windows).logits
            if self.kl:
                return logits[self.rows, self.positions + self.offset]
        except self.Reached:
            pass
        finally:
            for handle in handles:
                handle.remove()
        return kept[0]


def transformer_lens(model: LanguageModel, windows: Tensor, case: Case) -> Callable[[], None] | None:
    """*plain* with the hooks of TransformerLens (4 or later) on a copy of the same weights; None without it, and for
    divergences."""
    if case.kl:
        return None
    try:
        from transformer_lens.model_bridge import TransformerBridge
    except ImportError:
        return None
    from transformers import AutoTokenizer

    # the bridge takes the network it is given apart; the tokenizer is asked for, and not used
    peer = TransformerBridge.boot_transformers(
        "random", hf_model=copy.deepcopy(model.network), tokenizer=AutoTokenizer.from_pretrained(FOLDER), device="cpu"
    )
    rows, positions = torch.arange(case.contexts), _positions(case)
    centring = model.architecture.centring
    direction = random_directions(1, model.width, centring, torch.Generator().manual_seed(1))
    names = [f"blocks.{layer}.hook_resid_post" for layer in (case.layer, case.target)]

    def read(leaf: Tensor | None) -> Tensor:
        kept: list[Tensor] = []

        def replace(stream: Tensor, hook: object) -> Tensor:
            assert leaf is not None
            moved = set_presence(stream[rows, positions], leaf, ALPHA, centring)[0]
            return stream.index_put((rows, positions), moved)

        def keep(stream: Tensor, hook: object) -> None:
            kept.append(stream[rows, positions + case.offset])

        hooks: list[tuple[str, Any]] = [(names[1], keep)]
        if leaf is not None:
            hooks.append((names[0], replace))
        peer.run_with_hooks(windows, return_type=None, fwd_hooks=hooks)
        return kept[0]

    def work() -> None:
        with torch.no_grad():
            clean = read(None)
        leaf = direction.clone().requires_grad_()
        torch.autograd.grad(angular_distance(clean, read(leaf)).mean(), leaf)

    return work


_MAKERS: dict[str, Callable[[LanguageModel, Tensor, Case], Callable[[], None] | None]] = {
    "plain": plain,
    "cached": cached,
    "transformer_lens": transformer_lens,
}


def _spread(values: list[float]) -> float:
    """Half the interquartile range over the median."""
    low, middle, high = statistics.quantiles(values, n=4)
    return (high - low) / 2 / middle
