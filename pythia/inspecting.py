"""Looks into a language model for ``sensverify inspect``: the inspector registered under ``sensverify.inspectors``.

Everything is measured on held-out windows but for the mean presence, which is that of the search windows: what a
presence is set to must not be fitted to where the effect is measured. Random directions go through the same
interventions (:mod:`pythia.setting_effects`): an effect is the direction's own only as far as it differs from theirs.

What a direction is boosted and pinned to is by default about the greatest presence that it has in the text: far beyond
it the model meets activations that it never met, and writes what says nothing about the direction.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch
from torch import Tensor

from pythia.contexts import contexts_at, extreme_contexts
from pythia.corpus import Corpus, read_subject
from pythia.explain import ONE, explain
from pythia.intervened import Pin, Written, presences_in, residuals_after, window_losses, write
from pythia.loading import LanguageModel, load_subject
from pythia.logit_weights import extreme_tokens, how_weighed, logit_weights, seen_tokens, text_of
from pythia.positions import Positions
from pythia.setting_effects import Level, Quantity, quantile_of_chance
from pythia.tasks import TokenisedTask, log_odds, read_tasks, tokenise
from sensverify.claims import Progress
from sensverify.directions import DirectionSet, check_belongs
from sensverify.errors import InputError
from sensverify.evaluation import NAMES
from sensverify.exhibits import FoundRule
from sensverify.geometry import Centring, random_directions, unit_directions
from sensverify.inspection import (
    ContextList,
    Inspected,
    Inspection,
    InspectionRequest,
    Neighbour,
    Sample,
    source_file,
    usable_rows,
)
from sensverify.naming import public_name
from sensverify.numerals import number
from sensverify.recorded import recorded_number
from sensverify.rules import NO_RULE

WINDOWS = 64
"""Held-out windows whose loss is measured, and search windows for the mean presence."""
EXCERPTS, NEIGHBOURS, OPPOSED, PRESENCES = 8, 8, 2, 4000
SAMPLES, PROMPT, STEPS = 3, 16, 48
RANDOM_DIRECTIONS = 8
HIGH = 0.999
"""What is pinned to by default: this quantile of presence, but no less than that of random directions."""
QUANTILES = {"least": 0.0, "1 %": 0.01, "median": 0.5, "99 %": 0.99, "greatest": 1.0}


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
    tokenised = tuple(tokenise(model, task, seed=request.seed) for task in tasks)
    place = _Place(request, model, corpus, layer, found, tokenised)
    inspections = []
    for done, index in enumerate(indices):
        progress("inspecting", done, len(indices))
        inspections.append(place.inspect(index, directions[index]))
    progress("inspecting", len(indices), len(indices))
    return Inspected(facts=place.facts(), inspections=tuple(inspections), hints=_hints(request, found))


def _hints(request: InspectionRequest, found: DirectionSet) -> tuple[str, ...]:
    """What else could have been asked."""
    hints = []
    if request.tasks is None:
        hints.append("--tasks FOLDER adds effects on prompts with a right and a wrong answer.")
    if request.sae is None:
        hints.append("--sae FOLDER looks for the nearest directions among the latents of an autoencoder.")
    if found.score_plus is None:
        hints.append("The file has no scores of its directions; `sensverify score` measures them.")
    return tuple(hints)


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
        self,
        request: InspectionRequest,
        model: LanguageModel,
        corpus: Corpus,
        layer: int,
        found: DirectionSet,
        tasks: tuple[TokenisedTask, ...],
    ) -> None:
        self.request, self.model, self.corpus, self.layer, self.found = request, model, corpus, layer, found
        self.first = corpus.first_position
        self.held_out, self.counted, self._stream = self._windows("held_out")
        _, counted, stream = self._windows("search")
        self._mean_at, self._mean_stream = counted[:WINDOWS, self.first :], stream[:WINDOWS].clone()
        self.neighbours_of, self.names, self.rows, self.candidates = self._candidates()
        generator = torch.Generator().manual_seed(request.seed + 5)
        centring = model.architecture.centring
        self.random = random_directions(RANDOM_DIRECTIONS, model.width, centring, generator).to(model.device)
        self.random_means = self._means(self.random)
        self.tasks = tasks
        self.quantities = self._quantities()

    def _quantities(self) -> tuple[Quantity, ...]:
        """What effects are measured on: the loss of the text, and the answers of tasks with two items or more."""
        common = {"layer": self.layer, "random": self.random, "seed": self.request.seed}
        found = [Quantity("held-out text", "next-token loss, nats", self._losses, **common)]
        for task in self.tasks:
            if len(task.prompts) > 1:
                read = functools.partial(log_odds, self.model, task)
                found.append(Quantity(task.name, "log odds of right to wrong answer, nats", read, **common))
        return tuple(found)

    def _means(self, directions: Tensor) -> Tensor:
        """Mean presences ``[S]`` of ``directions [S, d]`` over search windows."""
        return self._presences(self._mean_stream, directions)[:, self._mean_at].mean(1)

    def _presences(self, stream: Tensor, directions: Tensor) -> Tensor:
        """``ρ [S, N, L']`` of ``directions [S, d]`` in the residual ``stream [N, L, d]``, which was run once for all of
        them, behind BOS."""
        return presences_in(stream[:, self.first :], directions, self.model.architecture.centring).float()

    def _windows(self, part: str) -> tuple[Tensor, Tensor, Tensor]:
        """The windows ``[N, L]`` that have anything to intervene on, where, and their residual stream ``[N, L, d]``."""
        windows: Tensor = getattr(self.corpus, part)
        stream = residuals_after(self.model, self.layer, windows)
        counted = Positions(
            (windows.shape[0], windows.shape[1]),
            first=self.first,
            offset=0,
            allowed=self.corpus.allowed(part),
            residuals=[stream],
            device=windows.device,
        ).counted
        some = (counted[:, :-1] & counted[:, 1:]).any(1)  # a loss has a next token
        return windows[some], counted[some], stream[some]

    def _losses(self, pin: Pin | None) -> Tensor:
        return window_losses(self.model, self.held_out[:WINDOWS], pin, first=self.first, where=self.counted[:WINDOWS])

    def _left_alone(self) -> tuple[str, ...]:
        """Which positions of the text are neither counted nor intervened on, in words."""
        special = (~self.corpus.held_out_real[:, self.first :]).any()  # nothing is padded here
        factor = self.corpus.options.outlier_norms
        return (
            *(["BOS"] if self.first else []),
            *(["special tokens inside windows"] if special else []),
            *([] if factor is None else [f"those of a residual norm above {factor:g} times the median"]),
        )

    def _left_alone_in_tasks(self) -> tuple[str, ...] | None:
        """The same of prompts of tasks, which have no special token but BOS; None where there are none."""
        return None if len(self.quantities) == 1 else () if self.model.bos is None else ("BOS",)

    def facts(self) -> Mapping[str, str]:
        """What the page says at its head."""
        return {
            "model": public_name(self.request.subject.model),
            "weights": f"sha256 {self.model.weights_sha256[:12]}…",
            "layer": f"after block {self.layer}, counted from 0; the model has {self.model.depth} blocks",
            "text": f"{self.corpus.source}, {len(self.held_out)} held-out windows of {self.held_out.shape[1]} tokens",
        }

    def inspect(self, index: int, direction: Tensor) -> Inspection:
        """All there is to see of one direction, given as a unit row ``[1, d]``."""
        model, found = self.model, self.found
        rho = self._presences(self._stream, direction)[0]
        ordered = rho[self.counted[:, self.first :]].sort().values.cpu()
        mean = float(self._means(direction))
        weights, seen = logit_weights(model, direction)[0].float(), seen_tokens(self.corpus)
        pin, pin_note = self._pinned_to(ordered)
        rule, rule_note = self._rule(rho)
        levels = self._levels(mean, pin)
        return Inspection(
            index=index,
            score_plus=_score(found.score_plus, index),
            score_minus=_score(found.score_minus, index),
            score_plus_se=_score(found.score_plus_se, index),
            score_minus_se=_score(found.score_minus_se, index),
            score_name=_score_name(found),
            contexts=self._contexts(rho),
            presences=tuple(_thinned(ordered)),
            positions=len(ordered),
            left_alone=self._left_alone(),
            left_alone_in_tasks=self._left_alone_in_tasks(),
            quantiles={name: _at(ordered, share) for name, share in QUANTILES.items()},
            mean_presence=mean,
            rule=rule,
            promoted=tuple(extreme_tokens(model, weights, seen, largest=True)),
            demoted=tuple(extreme_tokens(model, weights, seen, largest=False)),
            logit_note=how_weighed(model),
            effects=tuple(effect for one in self.quantities for effect in one.effects(direction, levels)),
            pinned_presence=pin,
            pin_note=pin_note,
            samples=self._samples(direction, pin),
            neighbours_of=self.neighbours_of,
            neighbours=self._neighbours(direction, index),
            notes=tuple(note for note in (rule_note, left_out(self.tasks)) if note),
        )

    def _pinned_to(self, ordered: Tensor) -> tuple[float, str]:
        """What a direction with these presences is boosted and pinned to, and why, in words."""
        high, greatest, asked = _at(ordered, HIGH), _at(ordered, 1.0), self.request.pin
        if asked is not None:
            beyond = (
                f", which is beyond {number(greatest, 3)}, the greatest presence on held-out text: what is written so "
                "far from all text may be nonsense"
            )
            return asked, "as asked" + (beyond if asked > greatest else "")
        quantile = f"the {100 * HIGH:g} % quantile of"
        visible = self.model.width - (self.model.architecture.centring is Centring.MEAN)
        chance = quantile_of_chance(visible, HIGH)
        if high >= chance:
            return high, f"{quantile} its presence on held-out text"
        return chance, (
            f"{quantile} the presence of random directions, since its own on held-out text is only {number(high, 3)}"
        )

    def _levels(self, mean: float, pin: float) -> tuple[Level, ...]:
        zero = torch.zeros(1, device=self.random.device)
        every = torch.zeros(RANDOM_DIRECTIONS, device=self.random.device)
        return (
            Level(name=f"mean {number(mean, 3)}", key="mean", own=zero + mean, control=self.random_means),
            Level(name="0", key="0", own=zero, control=every),
            Level(name=f"{pin:.3g}", key=repr(pin), own=zero + pin, control=every + pin),
        )

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
                excerpts=extreme_contexts(self.model, windows, at_most, EXCERPTS, largest=True),
            ),
            ContextList(
                title="Least present, one context per window",
                excerpts=extreme_contexts(self.model, windows, at_least, EXCERPTS, largest=False),
            ),
            ContextList(
                title="Drawn uniformly from all positions",
                excerpts=contexts_at(self.model, windows, rho, rows, positions),
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
        if best.rule.words == NO_RULE:
            return None, "no rule: none says more about where the direction is strongly present than it is long"
        shown, least = best.accuracy, 1 / (1 + len(best.null))
        rule = FoundRule(text=best.rule.words, accuracy=shown.value, low=shown.low, high=shown.high)
        note = (
            f"the rule says where the direction is strongly present, at the {100 * ONE.share:g} % of positions where "
            "it is most so; it was chosen on one half of the windows and tested on the other. Balanced accuracy is the "
            "mean of the shares of these and of other positions that it is right about. "
            f"{len(best.null)} searches with these positions rotated through the text reach {best.null_mean:.2f} on "
            f"average, p = {best.p_value:.2g}"
            + (", the least that so many can show" if best.p_value <= least + 1e-12 else "")
        )
        return rule, note

    @functools.cached_property
    def _prompts(self) -> tuple[Tensor, Tensor]:
        """Beginnings of held-out windows ``[m, L']``, and where they are intervened on."""
        windows = self.held_out
        generator = torch.Generator().manual_seed(self.request.seed + 7)
        rows = torch.randperm(len(windows), generator=generator)[:SAMPLES].to(windows.device)
        length = self.first + min(PROMPT, (windows.shape[1] - self.first) // 2)
        return windows[rows, :length], self.counted[rows, :length]

    def _write(self, pin: Pin | None) -> Written:
        prompts, where = self._prompts
        return write(self.model, prompts, STEPS, seed=self.request.seed, pin=pin, first=self.first, where=where)

    @functools.cached_property
    def _untouched(self) -> Written:
        """What the model writes by itself, which is the same beside every direction."""
        return self._write(None)

    def _samples(self, direction: Tensor, level: float) -> tuple[Sample, ...]:
        presence = torch.tensor([level], device=direction.device)
        pinned = self._write(Pin(layer=self.layer, directions=direction, presence=presence))
        prompts, plain = self._prompts[0], self._untouched
        return tuple(
            Sample(
                prompt=text_of(self.model, prompts[i, self.first :].tolist()),
                plain=text_of(self.model, plain.tokens[i].tolist()),
                pinned=text_of(self.model, pinned.tokens[i].tolist()),
            )
            for i in range(len(prompts))
        )

    def _candidates(self) -> tuple[str, list[str], list[int | None], Tensor]:
        """Where neighbours are looked for: what it is called, names, which row of the inspected file each is if it is
        one, and unit rows ``[R, d]``.

        Rows that the norm does not see, parallel to the all-ones vector before a LayerNorm, are nobody's neighbours.
        """
        centring = self.model.architecture.centring
        if self.request.sae is None:
            directions, kind = self.found.directions, "direction"
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
        same = self.request.sae is None or (
            source_file(self.request.sae, self.layer) == source_file(self.request.directions, self.request.layer)
        )
        name = "the others of the same file"
        if self.request.sae is not None and not same:
            name = f"{len(rows)} decoder directions of {self.request.sae.name}"
        units = unit_directions(directions[visible], centring)
        own: list[int | None] = [row if same else None for row in rows.tolist()]
        return name, [f"{kind} {row}" for row in rows.tolist()], own, units

    def _neighbours(self, direction: Tensor, index: int) -> tuple[Neighbour, ...]:
        cosines = (self.candidates @ direction[0].float()).cpu()
        order = [row for row in cosines.argsort(descending=True).tolist() if self.rows[row] != index]
        # Presence has a sign, so that the opposite is another direction, but nobody would want to miss it.
        opposed = [row for row in order[NEIGHBOURS:][-OPPOSED:] if cosines[row] < 0]
        return tuple(
            Neighbour(name=self.names[row], cosine=float(cosines[row])) for row in order[:NEIGHBOURS] + opposed
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


def _score(scores: Tensor | None, index: int) -> float | None:
    return None if scores is None else float(scores[index])


def _score_name(found: DirectionSet) -> str:
    """What the scores of the file are of."""
    evaluation = found.config.get("evaluation")
    kind = evaluation.get("score") if isinstance(evaluation, Mapping) else None
    return NAMES.get(kind, ("", "sensitivity (SeS)"))[1]


def _at(ordered: Tensor, share: float) -> float:
    """The value below which there is this share of ``ordered [n]``."""
    return float(ordered[round(share * (len(ordered) - 1))])


def _thinned(ordered: Tensor) -> list[float]:
    """All of ``ordered [n]``, or so many in even steps of rank, the first and the last included."""
    count = len(ordered)
    ranks = torch.linspace(0, count - 1, min(count, PRESENCES), dtype=torch.float64).round().long()
    kept: list[float] = ordered[ranks].tolist()
    return kept
