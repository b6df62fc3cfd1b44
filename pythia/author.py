"""PY-10: the published score beside ours, on the same directions and windows, one ingredient at a time.

The published code compares ``F(x)`` with ``F(x')`` where ``x'`` has norm 1 (:mod:`sensverify.published`); limits its
presences by the factor 7/8, which our default law does too; draws positions from padding, and from the start of the
text, as well; and reads weights folded and centred by TransformerLens. Its figures for autoencoders were taken at the
same token, one block later, where ``F(x')`` is ``x'`` plus what the block adds: there the norm of ``x'`` decides how
much of ``x`` is left in it. Our default reads one token later, where the norm is felt through the block's norm alone.

Judged is how much of the score of random directions is there before anything is rotated: at the null rotation
``α = ρ_s(x)`` (SE-2). What that does to the ratios that are published is shown, each ratio with an interval and with
its quotient by ours, directions and windows paired.

The published code uses rows of the encoder, and directions with a mean; here all variants use the same directions.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pythia import compared, subject
from pythia.compared import FOUND, RANDOM, SAE
from pythia.folding import fold_norms
from pythia.loading import LanguageModel
from pythia.readout import LanguageModelReadout
from sensverify.claims import Run
from sensverify.exhibits import Exhibit, IntervalRow, Intervals, Table
from sensverify.predictions import JUDGED, Side, judged
from sensverify.published import (
    PUBLISHED_LAW,
    UNLIMITED_LAW,
    Comparison,
    UnitNormReadout,
    compare_ratios,
    null_share,
    share_interval,
)
from sensverify.readout import Readout
from sensverify.sensitivity import PresenceLaw, Probe, estimate_groups
from sensverify.statistics import Interval
from sensverify.verdicts import Finding, Status

CONTEXTS = {"quick": 128, "full": 256}
DRAWS = {"quick": 2, "full": 4}
GROUPS = (FOUND, SAE, RANDOM)
NULL_DIRECTIONS = 4
"""The null rotation leads to the same activation whatever the direction; a few show that it does."""

OURS, UNIT, UNLIMITED, PADDED, FOLDED, PUBLISHED = (
    "ours", "x' of norm 1", "α up to 1, without 7/8", "padding, first tokens drawn too", "folded weights", "published"
)  # fmt: skip
SAME_TOKEN, NEXT_TOKEN = 0, 1
FIGURES = {
    "model": "EleutherAI/pythia-70m-deduped, layers 0 to 4, same token, one block later; 100 directions each",
    "SAE": [0.1365, 0.1494, 0.2706, 0.4550, 0.01496],
    "random": [0.0647, 0.0440, 0.0719, 0.1097, 0.00670],
    "SAE_over_random": [2.11, 3.40, 3.76, 4.15, 2.23],
    "where": "published with the research code; shown for orientation only, not measured here",
}
PREDICTION = "PY-10"
SIDE: Side = "low"
"""The side of its interval that the claim cannot do without."""
MOST = 0.5


@dataclasses.dataclass(frozen=True)
class Variant:
    """How one score is taken: at ``readout``, with activations at norm 1 if ``unit_norm``, presences by ``law``, in
    window ``i`` at ``positions[i]``."""

    readout: LanguageModelReadout
    positions: Tensor
    unit_norm: bool = False
    law: PresenceLaw = PUBLISHED_LAW

    @property
    def score(self) -> Readout:
        """What our estimates are given to read."""
        return UnitNormReadout(self.readout) if self.unit_norm else self.readout


@dataclasses.dataclass(frozen=True)
class AtSite:
    """Of one offset: effects ``[S, B]`` by variant and group; of each variant's random directions the effect at the
    null rotation and the score, ``[2, B]``."""

    effects: Mapping[str, Mapping[str, Tensor]]
    null: Mapping[str, Tensor]

    def ratios(self, group: str, seed: int) -> dict[str, Comparison]:
        """Of the group to random directions, under each variant."""
        top, bottom = ({name: one[g] for name, one in self.effects.items()} for g in (group, RANDOM))
        return compare_ratios(top, bottom, OURS, torch.Generator().manual_seed(seed))

    def null_share(self, variant: str, seed: int) -> Interval:
        """How much of the score of random directions is there when nothing is rotated."""
        return share_interval(self.null[variant], torch.Generator().manual_seed(seed))


def preflight(run: Run) -> None:
    """As :func:`pythia.subject.preflight` does for every claim, with the prediction of PY-10."""
    subject.preflight(run, {PREDICTION: SIDE})


def folded(model: LanguageModel) -> LanguageModel:
    """A copy with norms folded and writing weights centred, in the model's own dtype; itself if that was done before.

    Raises :class:`~sensverify.errors.InputError` where the logits would change.
    """
    if model.folded is not None:
        return model
    network = copy.deepcopy(model.network)
    dtype = next(network.parameters()).dtype
    how = fold_norms(network, model.name)
    for parameter in network.parameters():
        parameter.data = parameter.data.to(dtype)
    return dataclasses.replace(model, network=network, folded=how)


def padding_token(model: LanguageModel) -> int:
    """As the published code chooses it: the tokenizer's own, else its end of text, else 0."""
    for token in (model.tokenizer.pad_token_id, model.tokenizer.eos_token_id):
        if token is not None and token < model.vocabulary:
            return int(token)
    return 0


def padded(windows: Tensor, token: int, generator: torch.Generator) -> Tensor:
    """``windows [N, L]``, each cut at a place drawn from its second half and filled with ``token`` from there on."""
    length = windows.shape[1]
    ends = torch.randint(length // 2, length + 1, (len(windows), 1), generator=generator, device=generator.device)
    beyond = torch.arange(length, device=windows.device) >= ends.to(windows.device)
    return windows.masked_fill(beyond, token)


def measured(run: Run) -> dict[int, AtSite]:
    """At the same token and one later, once per run."""
    return run.shared("pythia.author", lambda: _measure(run))


def _measure(run: Run) -> dict[int, AtSite]:
    model, layer = subject.model(run), subject.searched_layer(run)
    groups = {name: compared.directions(run)[name] for name in GROUPS}
    generator = torch.Generator(device=model.device).manual_seed(run.seed + 53)
    held_out = compared.site(run, layer).held_out
    assert isinstance(held_out, LanguageModelReadout)
    count = min(CONTEXTS[run.profile], len(held_out.positions.rows))
    rows, positions = held_out.draw(count, generator)  # tokens of the text, and so is the token after
    windows = held_out.windows[rows]
    filled = padded(windows, padding_token(model), generator)
    anywhere = torch.randint(0, windows.shape[1] - 1, (count,), generator=generator, device=generator.device)
    other = folded(model)

    def variants(offset: int) -> dict[str, Variant]:
        def at(which: LanguageModel, tokens: Tensor) -> LanguageModelReadout:
            return LanguageModelReadout(which, tokens, layer=layer, target=layer + 1, offset=offset)

        raw = at(model, windows)
        return {
            OURS: Variant(raw, positions),
            UNIT: Variant(raw, positions, unit_norm=True),
            UNLIMITED: Variant(raw, positions, law=UNLIMITED_LAW),
            PADDED: Variant(at(model, filled), anywhere),
            FOLDED: Variant(at(other, windows), positions),
            PUBLISHED: Variant(at(other, filled), anywhere, unit_norm=True),
        }

    return {offset: _at_site(run, variants(offset), groups) for offset in (SAME_TOKEN, NEXT_TOKEN)}


def _at_site(run: Run, variants: Mapping[str, Variant], groups: Mapping[str, Tensor]) -> AtSite:
    """Every group under every variant, presences from the same draws."""
    effects: dict[str, dict[str, Tensor]] = {}
    null: dict[str, Tensor] = {}
    for done, (name, variant) in enumerate(variants.items()):
        run.progress("the published score", done, len(variants))
        rows = torch.arange(len(variant.positions), device=variant.positions.device)
        batch = variant.readout.at(rows, variant.positions)
        generator = torch.Generator(device=batch.x.device).manual_seed(run.seed + 54)
        estimates = estimate_groups(
            variant.score,
            batch,
            {group: directions.to(batch.x) for group, directions in groups.items()},
            generator=generator,
            draws=DRAWS[run.profile],
            probe=Probe(law=variant.law),
        )
        effects[name] = {group: estimate.effects for group, estimate in estimates.items()}
        few = groups[RANDOM][:NULL_DIRECTIONS].to(batch.x)
        null[name] = null_share(variant.score, batch, estimates[RANDOM], few)
    run.progress("the published score", len(variants), len(variants))
    return AtSite(effects, null)


def check_construction(run: Run) -> Finding:
    """PY-10: how much of what random directions score is there before anything is rotated."""
    sites = measured(run)
    evidence: dict[str, object] = {
        "contexts": len(next(iter(sites[SAME_TOKEN].null.values()))[0]),
        "layer": subject.searched_layer(run),
        "padding": "each window cut in its second half, at a uniform place, and filled up with the padding token",
        "limit_7/8": "both scores draw α from U(0, 7/8); without the factor it is U(0, 1)",
        "not_varied": "directions: the published code takes rows of the encoder, and does not centre directions",
        "same_token": _figures(sites[SAME_TOKEN], run),
        "one_token_later": _figures(sites[NEXT_TOKEN], run),
        "published_elsewhere": FIGURES,
    }
    exhibits = (
        _table("The published score, one ingredient at a time: same token", sites[SAME_TOKEN], run),
        _table("The same one token later", sites[NEXT_TOKEN], run),
        _intervals(sites, run),
    )
    return _judge(run, sites[SAME_TOKEN].null_share(PUBLISHED, run.seed), evidence, exhibits)


def check_ours(run: Run) -> Finding:
    """False twin: the same of our score, which keeps the norm."""
    return _judge(run, measured(run)[SAME_TOKEN].null_share(OURS, run.seed))


def check_next_token(run: Run) -> Finding:
    """False twin: the same one token later, where the norm of ``x'`` is felt through a norm alone."""
    return _judge(run, measured(run)[NEXT_TOKEN].null_share(PUBLISHED, run.seed))


def _judge(
    run: Run, share: Interval, evidence: Mapping[str, object] | None = None, exhibits: tuple[Exhibit, ...] = ()
) -> Finding:
    predicted, origin = subject.prediction(run, PREDICTION, SIDE)
    status = predicted.status(share)
    measured_share = {"share_at_the_null_rotation": share.to_json(), "predicted": predicted.to_json()}
    return Finding(
        status=status,
        evidence={
            JUDGED: [judged(predicted, share, origin=origin)],
            "share_at_the_null_rotation": share.to_json(),
            "most_is_there": share.low > MOST,
            **(evidence or {}),
        },
        witness=measured_share if status is Status.REFUTED else None,
        exhibits=exhibits,
    )


def _figures(at: AtSite, run: Run) -> dict[str, Any]:
    found, sae = at.ratios(FOUND, run.seed), at.ratios(SAE, run.seed)
    return {
        name: {
            **{f"mean_{group}": float(effects.mean()) for group, effects in at.effects[name].items()},
            "found_over_random": found[name].ratio.to_json(),
            "SAE_over_random": sae[name].ratio.to_json(),
            "found_over_random_against_ours": found[name].change.to_json(),
            "SAE_over_random_against_ours": sae[name].change.to_json(),
            "null_share": at.null_share(name, run.seed).to_json(),
        }
        for name in at.effects
    }


def _table(title: str, at: AtSite, run: Run) -> Table:
    found, sae = at.ratios(FOUND, run.seed), at.ratios(SAE, run.seed)
    return Table(
        title=title,
        caption="Each row changes one ingredient of our score, the last one all of them; the law of presences is the "
        "same in both. Ratios of mean scores, and their quotient by ours, 95 % intervals with directions and windows "
        "paired. The last column is the part of the random directions' score that is there at the null rotation: the "
        f"nearer it comes to 1, the less a ratio says about directions. Of the published score it is "
        f"{_part(at.null_share(PUBLISHED, run.seed))}, of ours {_part(at.null_share(OURS, run.seed))}.",
        columns=["score", "random", "found / random", "against ours", "SAE / random", "against ours", "at null"],
        rows=[
            [
                name,
                float(f"{float(at.effects[name][RANDOM].mean()):.3g}"),
                *map(_rounded, (found[name].ratio, found[name].change, sae[name].ratio, sae[name].change)),
                _part(at.null_share(name, run.seed), bounds=True),
            ]
            for name in at.effects
        ],
    )


def _rounded(ratio: Interval) -> Interval:
    """To three decimals: no ratio of these scores is known better."""
    return Interval(*(round(number, 3) for number in (ratio.value, ratio.low, ratio.high)))


def _part(share: Interval, *, bounds: bool = False) -> str:
    """A share in per cent, as a person reads it; with its interval if ``bounds``."""
    value, low, high = (100 * number for number in (share.value, share.low, share.high))
    if value < 0.1:
        return "less than 0.1 %"
    return f"{value:.2g} % [{low:.2g}, {high:.2g}]" if bounds else f"{value:.2g} %"


def _intervals(sites: Mapping[int, AtSite], run: Run) -> Intervals:
    places = {SAME_TOKEN: "same token", NEXT_TOKEN: "one token later"}
    rows = []
    for offset, place in places.items():
        for group in (FOUND, SAE):
            ratios = sites[offset].ratios(group, run.seed)
            for name in (OURS, PUBLISHED):
                one = ratios[name].ratio
                label = f"{group} / random, {place}, {name}"
                rows.append(IntervalRow(name=label, value=one.value, low=one.low, high=one.high))
    here, later = (_part(sites[offset].null_share(PUBLISHED, run.seed)) for offset in places)
    return Intervals(
        title="What the score makes of a ratio",
        caption="Ratios of mean scores under ours and under the published score, 95 % intervals, at the same token and "
        "one token later. Of the published score of random directions, a part is there before anything is rotated, "
        f"and draws every ratio towards 1: {here} at the same token, {later} one token later.",
        x_label="ratio of mean scores",
        rows=rows,
        log_x=True,
        reference=1.0,
    )
