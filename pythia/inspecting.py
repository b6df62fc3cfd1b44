"""Looks into a language model for ``sensverify inspect``: the inspector registered under ``sensverify.inspectors``.

Everything is measured on held-out windows but for the mean presence, which is that of the search windows: what a
presence is set to must not be fitted to where the effect is measured. Two random directions go through the same
interventions on the text: an effect is the direction's own only as far as it differs from theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from pythia.corpus import Corpus, read_subject
from pythia.explain import explain
from pythia.gallery import excerpts_at, extreme_excerpts
from pythia.intervened import Pin, presences_after, residuals_after, window_losses, write
from pythia.loading import LanguageModel, load_subject
from pythia.logit_weights import extreme_tokens, how_weighed, logit_weights, seen_tokens, text_of
from pythia.positions import Positions
from pythia.tasks import TokenisedTask, log_odds, read_tasks, tokenise
from sensverify.claims import Progress
from sensverify.directions import DirectionSet, check_belongs
from sensverify.errors import InputError
from sensverify.exhibits import FoundRule
from sensverify.geometry import random_directions, unit_directions
from sensverify.inspection import (
    ContextList,
    Effect,
    Inspected,
    Inspection,
    InspectionRequest,
    Neighbour,
    Sample,
    usable_rows,
)
from sensverify.recorded import recorded_number
from sensverify.statistics import Interval, mean_interval

WINDOWS = 64
"""Held-out windows whose loss is measured, and search windows for the mean presence."""
EXCERPTS, NEIGHBOURS, PRESENCES = 8, 8, 4000
SAMPLES, PROMPT, STEPS = 3, 16, 48
RANDOM_DIRECTIONS = 2
_OWN = "direction"
"""What a row of the inspected file is called among the neighbours."""


def inspect(request: InspectionRequest, found: DirectionSet, indices: tuple[int, ...], progress: Progress) -> Inspected:
    """Look at the rows ``indices`` of ``found``; see :class:`sensverify.inspection.Inspector`.

    Raises :class:`~sensverify.errors.InputError` for whatever of the request does not fit the model.
    """
    tasks = () if request.tasks is None else read_tasks(request.tasks)
    model = load_subject(request.subject)
    layer = recorded_number(found.config, "layer", request.layer)
    if not 0 <= layer < model.depth:
        raise InputError(
            expected=f"a layer from 0 to {model.depth - 1} (the model has {model.depth} blocks)",
            got=str(layer),
            remedy="pass another --layer",
        )
    check_belongs(
        found,
        width=model.width,
        weights_sha256=model.weights_sha256,
        model=request.subject.model,
        allow_other_model=request.allow_other_model,
    )
    directions = {index: _unit_row(model, found, index) for index in indices}
    corpus = read_subject(model, request.subject, length=_length(request, model), seed=request.seed, pad=False)
    place = _Place(request, model, corpus, layer, found)
    tokenised = tuple(tokenise(model, task, seed=request.seed) for task in tasks)
    inspections = []
    for done, index in enumerate(indices):
        progress("inspecting", done, len(indices))
        inspections.append(place.inspect(index, directions[index], tokenised))
    progress("inspecting", len(indices), len(indices))
    return Inspected(facts=place.facts(), inspections=tuple(inspections))


def _unit_row(model: LanguageModel, found: DirectionSet, index: int) -> Tensor:
    """Row ``index`` as the unit direction ``[1, d]`` of what the model's norms see."""
    try:
        return unit_directions(found.directions[index][None].to(model.device), model.architecture.centring)
    except ValueError as error:  # as parallel to the all-ones vector, in front of a LayerNorm
        raise InputError(
            expected="a direction that the model's norms can see",
            got=f"row {index}: {error}",
            remedy="pass another --index",
        ) from error


def _length(request: InspectionRequest, model: LanguageModel) -> int:
    """The context asked for, or all that the model has if that is less."""
    return min(request.context, int(getattr(model.config, "max_position_embeddings", request.context)))


class _Place:
    """A model, a text and a layer, with what is measured there once for all directions."""

    def __init__(
        self, request: InspectionRequest, model: LanguageModel, corpus: Corpus, layer: int, found: DirectionSet
    ) -> None:
        self.request, self.model, self.corpus, self.layer, self.found = request, model, corpus, layer, found
        self.first = corpus.first_position
        self.held_out, self.counted = self._windows("held_out")
        self.search, self.search_counted = self._windows("search")
        self.clean = self._losses(None)
        self.neighbours_of, self.names, self.candidates = self._candidates()
        generator = torch.Generator().manual_seed(request.seed + 5)
        centring = model.architecture.centring
        self.random = random_directions(RANDOM_DIRECTIONS, model.width, centring, generator).to(model.device)
        levels = {"0": 0.0, f"{request.pin:g}": request.pin}
        self.control = {name: self._control(level) for name, level in levels.items()}

    def _windows(self, part: str) -> tuple[Tensor, Tensor]:
        """The windows ``[N, L]`` that have anything to intervene on, and where."""
        windows: Tensor = getattr(self.corpus, part)
        counted = Positions(
            (windows.shape[0], windows.shape[1]),
            first=self.first,
            offset=0,
            allowed=self.corpus.allowed(part),
            residuals=[residuals_after(self.model, self.layer, windows)],
            device=windows.device,
        ).counted
        some = (counted[:, :-1] & counted[:, 1:]).any(1)  # a loss has a next token
        return windows[some], counted[some]

    def _losses(self, pin: Pin | None) -> Tensor:
        return window_losses(
            self.model, self.held_out[:WINDOWS], pin, first=self.first, where=self.counted[:WINDOWS]
        )  # fmt: skip

    def facts(self) -> Mapping[str, str]:
        """What the page says at its head."""
        return {
            "model": self.request.subject.model,
            "weights": f"sha256 {self.model.weights_sha256[:12]}…",
            "layer": f"after block {self.layer} of 0 to {self.model.depth - 1}",
            "text": f"{self.corpus.source}, {len(self.held_out)} held-out windows of {self.held_out.shape[1]} tokens",
        }

    def inspect(self, index: int, direction: Tensor, tasks: tuple[TokenisedTask, ...]) -> Inspection:
        """All there is to see of one direction, given as a unit row ``[1, d]``."""
        model, seed = self.model, self.request.seed
        rho = presences_after(model, self.layer, self.held_out, direction, self.first)[0].float()
        other = presences_after(model, self.layer, self.search[:WINDOWS], direction, self.first)[0].float()
        mean = float(other[self.search_counted[:WINDOWS, self.first :]].mean())
        weights, seen = logit_weights(model, direction)[0].float(), seen_tokens(self.corpus)
        levels = {f"its mean, {mean:.3f}": mean, "0": 0.0, f"{self.request.pin:g}": self.request.pin}
        pins = {name: self._pin(direction, level) for name, level in levels.items()}
        rule, rule_note = self._rule(rho)
        return Inspection(
            index=index,
            score_plus=_score(self.found.score_plus, index),
            score_minus=_score(self.found.score_minus, index),
            contexts=self._contexts(rho),
            presences=tuple(_thinned(rho[self.counted[:, self.first :]])),
            mean_presence=mean,
            rule=rule,
            promoted=tuple(extreme_tokens(model, weights, seen, largest=True)),
            demoted=tuple(extreme_tokens(model, weights, seen, largest=False)),
            logit_note=how_weighed(model),
            effects=(*self._text_effects(pins), *self._task_effects(pins, tasks, seed)),
            pinned_presence=self.request.pin,
            samples=self._samples(direction),
            neighbours_of=self.neighbours_of,
            neighbours=self._neighbours(direction, index),
            notes=tuple(note for note in (rule_note, left_out(tasks)) if note),
        )

    def _pin(self, direction: Tensor, level: float) -> Pin:
        presence = torch.tensor([level], device=direction.device)
        return Pin(layer=self.layer, directions=direction, presence=presence)

    def _control(self, level: float) -> Tensor:
        """Mean loss of each window over the random directions."""
        return torch.stack([self._losses(self._pin(s[None], level)) for s in self.random]).mean(0)

    def _contexts(self, rho: Tensor) -> tuple[ContextList, ...]:
        windows, counted = self.held_out[:, self.first :], self.counted[:, self.first :]
        generator = torch.Generator().manual_seed(self.request.seed + 3)
        everywhere = counted.nonzero()
        picks = torch.randperm(len(everywhere), generator=generator)[:EXCERPTS].to(rho.device)
        rows, positions = everywhere[picks].T
        at_most, at_least = (rho.masked_fill(~counted, sign * torch.inf) for sign in (-1, 1))
        return (
            ContextList(
                title="Most present, one context per window",
                excerpts=tuple(extreme_excerpts(self.model, windows, at_most, EXCERPTS, largest=True)),
            ),
            ContextList(
                title="Least present, one context per window",
                excerpts=tuple(extreme_excerpts(self.model, windows, at_least, EXCERPTS, largest=False)),
            ),
            ContextList(
                title="Drawn uniformly from all positions",
                excerpts=tuple(excerpts_at(self.model, windows, rho, rows, positions)),
            ),
        )

    def _rule(self, rho: Tensor) -> tuple[FoundRule | None, str | None]:
        try:
            best = explain(
                self.model, self.held_out, rho, first_position=self.first, counted=self.counted[:, self.first :],
                seed=self.request.seed,
            )  # fmt: skip
        except ValueError as error:
            return None, f"no rule: {error}"
        shown = best.accuracy
        rule = FoundRule(text=best.rule.words, accuracy=shown.value, low=shown.low, high=shown.high)
        note = (
            f"the rule was fitted on half of the windows; accuracy is balanced; {len(best.null)} searches on shuffled "
            f"windows reach {best.null_mean:.2f} on average, p = {best.p_value:.2g}"
        )
        return rule, note

    def _text_effects(self, pins: Mapping[str, Pin]) -> Iterable[Effect]:
        quantity = "next-token loss, nats"
        for name, pin in pins.items():
            yield self._effect("held-out text", quantity, name, (self.clean, self._losses(pin)))
        for name, losses in self.control.items():
            where = f"held-out text, mean of {RANDOM_DIRECTIONS} random directions"
            yield self._effect(where, quantity, name, (self.clean, losses))

    def _task_effects(self, pins: Mapping[str, Pin], tasks: tuple[TokenisedTask, ...], seed: int) -> Iterable[Effect]:
        for task in tasks:
            if len(task.prompts) < 2:
                continue
            clean = log_odds(self.model, task)
            for name, pin in pins.items():
                odds = log_odds(self.model, task, pin)
                yield self._effect(task.name, "log odds of right to wrong answer, nats", name, (clean, odds))

    def _effect(self, where: str, quantity: str, intervention: str, both: tuple[Tensor, Tensor]) -> Effect:
        clean, moved = both
        generator = torch.Generator().manual_seed(self.request.seed)
        return Effect(
            where=where,
            quantity=quantity,
            intervention=intervention,
            items=len(clean),
            clean=_mean(clean, generator),
            change=_mean(moved - clean, generator),
        )

    def _samples(self, direction: Tensor) -> tuple[Sample, ...]:
        windows = self.held_out
        generator = torch.Generator().manual_seed(self.request.seed + 7)
        rows = torch.randperm(len(windows), generator=generator)[:SAMPLES].to(windows.device)
        length = self.first + min(PROMPT, (windows.shape[1] - self.first) // 2)
        prompts, where = windows[rows, :length], self.counted[rows, :length]
        pin = self._pin(direction, self.request.pin)
        plain, pinned = (
            write(self.model, prompts, STEPS, seed=self.request.seed, pin=one, first=self.first, where=where)
            for one in (None, pin)
        )
        return tuple(
            Sample(
                prompt=text_of(self.model, prompts[i, self.first :].tolist()),
                plain=text_of(self.model, plain.tokens[i].tolist()),
                pinned=text_of(self.model, pinned.tokens[i].tolist()),
            )
            for i in range(len(prompts))
        )

    def _candidates(self) -> tuple[str, list[str], Tensor]:
        """Where neighbours are looked for: what it is called, names, and unit rows ``[R, d]``.

        Rows that the norm does not see, parallel to the all-ones vector before a LayerNorm, are nobody's neighbours.
        """
        centring = self.model.architecture.centring
        if self.request.sae is None:
            directions, kind = self.found.directions, _OWN
            rows = torch.arange(len(directions))
        else:
            directions, rows = usable_rows(self.request.sae, self.layer)
            kind = "latent"
            if directions.shape[1] != self.model.width:
                raise InputError(
                    expected=f"directions of width {self.model.width} in --sae",
                    got=f"width {directions.shape[1]}",
                    remedy="pass an autoencoder of this model",
                )
        directions = directions.to(self.model.device).float()
        lengths, seen = directions.norm(dim=1), centring.project(directions).norm(dim=1)
        visible = (seen > 1e-4 * lengths) & torch.isfinite(lengths)
        rows = rows[visible.cpu()]
        name = "the others of the same file"
        if self.request.sae is not None:
            name = f"{len(rows)} decoder directions of {self.request.sae.name}"
        units = unit_directions(directions[visible], centring)
        return name, [f"{kind} {row}" for row in rows.tolist()], units

    def _neighbours(self, direction: Tensor, index: int) -> tuple[Neighbour, ...]:
        cosines = (self.candidates @ direction[0].float()).cpu()
        own = f"{_OWN} {index}"
        if own in self.names:
            cosines[self.names.index(own)] = -torch.inf
        best = cosines.topk(min(NEIGHBOURS, len(cosines)))
        return tuple(
            Neighbour(name=self.names[row], cosine=cosine)
            for cosine, row in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            if cosine > -torch.inf
        )


def left_out(tasks: tuple[TokenisedTask, ...]) -> str | None:
    """One line on the items that the tokenizer has no single tokens for, or None if there are none."""
    counts = [f"{task.name} {task.left_out} of {task.items}" for task in tasks if task.left_out]
    if not counts:
        return None
    return (
        "items left out, whose answers are no single tokens of this tokenizer or which hold words that it does not "
        f"know: {', '.join(counts)}"
    )


def _mean(values: Tensor, generator: torch.Generator) -> Interval:
    return mean_interval(values.cpu(), generator)


def _score(scores: Tensor | None, index: int) -> float | None:
    return None if scores is None else float(scores[index])


def _thinned(rho: Tensor) -> list[float]:
    flat = rho.flatten().cpu()
    kept: list[float] = flat[:: max(1, len(flat) // PRESENCES)].tolist()
    return kept
