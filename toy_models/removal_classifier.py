"""TM-4.classifier: directions that remove by construction are told from those that add.

Five planted families of each kind, as many directions in each, and four that construction leaves open. Beside the
classifier stand two that do not ask the read-out: the share predicted from presences, and the sign of their mean.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sensverify.claims import Run
from sensverify.exhibits import Exhibit, Histogram, Table
from sensverify.statistics import Interval
from sensverify.verdicts import Finding
from toy_models.removal import MAJORITY, decompose, predicted_share, verdicts
from toy_models.removal_check import CONTEXTS, DRAWS, finding, seeded
from toy_models.removal_found import over_models, proportion, seeds, share_over_models
from toy_models.removal_planted import Case, cases

PER_FAMILY = 12
REQUIRED_ACCURACY = 0.9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """One family on one seed: removal ``share`` per direction, its prediction from presences alone, and that of −s."""

    case: Case
    seed: int
    share: Tensor
    predicted: Tensor
    negative: Tensor
    mean_presence: Tensor
    decided: Tensor


def judged_cases(run: Run) -> list[Judged]:
    """Every planted family on every seed."""

    def make() -> list[Judged]:
        judged = []
        for seed in seeds(run):
            for case in cases(seed, PER_FAMILY):
                generator = seeded(seed + 2)
                batch = case.readout.sample(CONTEXTS, generator)
                state = generator.get_state()
                parts = decompose(case.readout, case.directions, batch=batch, generator=generator, draws=DRAWS)
                generator.set_state(state)
                negative = decompose(case.readout, -case.directions, batch=batch, generator=generator, draws=DRAWS)
                decided = verdicts(parts)
                judged.append(
                    Judged(
                        case=case,
                        seed=seed,
                        share=decided.share,
                        predicted=predicted_share(parts.presence),
                        negative=negative.removal_share,
                        mean_presence=parts.presence.mean(1),
                        decided=decided.decided,
                    )
                )
        return judged

    return run.shared("toy_models.removal_cases", make)


def check_classifier(run: Run) -> Finding:
    """TM-4.classifier."""
    items = judged_cases(run)
    families: dict[str, Any] = {}
    for family in dict.fromkeys(item.case.family for item in items):
        group = [item for item in items if item.case.family == family]
        share = [item.share for item in group]
        families[family] = {
            "by_construction": {True: "removes", False: "adds", None: "open"}[group[0].case.removes],
            "called_removing": share_over_models([one > MAJORITY for one in share], group[0].seed).to_json(),
            "removal_share": over_models(share, group[0].seed).to_json(),
            "share_predicted_from_presences": float(torch.cat([item.predicted for item in group]).mean()),
            "decided": float(torch.cat([item.decided for item in group]).double().mean()),
        }
    others = {
        "presences_alone": _accuracies(items, lambda item: item.predicted > MAJORITY),
        "sign_of_mean_presence": _accuracies(items, lambda item: item.mean_presence < 0),
    }
    evidence = {
        "seeds": seeds(run),
        "families": families,
        "other_classifiers": {
            name: {f"seed {seed}": value.to_json() for seed, value in by_seed.items()}
            for name, by_seed in others.items()
        },
    }
    return _judge_accuracy(
        _accuracies(items, lambda item: item.share > MAJORITY),
        evidence,
        (_share_histogram(items), _family_table(families)),
    )


def check_flipped_classifier(run: Run) -> Finding:
    """False twin: each direction judged by its negative."""
    return _judge_accuracy(_accuracies(judged_cases(run), lambda item: item.negative > MAJORITY), {}, ())


def check_presences_alone(run: Run) -> Finding:
    """False twin: presences without the read-out."""
    return _judge_accuracy(_accuracies(judged_cases(run), lambda item: item.predicted > MAJORITY), {}, ())


def check_shuffled_labels(run: Run) -> Finding:
    """False twin: the labels dealt out afresh among a seed's directions."""
    return _judge_accuracy(_accuracies(judged_cases(run), lambda item: item.share > MAJORITY, shuffled=True), {}, ())


def _accuracies(
    items: Sequence[Judged], removes: Callable[[Judged], Tensor], *, shuffled: bool = False
) -> dict[int, Interval]:
    """By seed, over the families that construction decides: as many directions that remove as add."""
    found = {}
    for seed in dict.fromkeys(item.seed for item in items):
        group = [item for item in items if item.seed == seed and item.case.removes is not None]
        called = torch.cat([removes(item) for item in group])
        truth = torch.cat([torch.full((len(item.share),), bool(item.case.removes)) for item in group])
        if shuffled:
            truth = truth[torch.randperm(len(truth), generator=seeded(seed))]
        found[seed] = proportion(int((called == truth).sum()), len(truth))
    return found


def _judge_accuracy(accuracy: dict[int, Interval], evidence: dict[str, Any], exhibits: tuple[Exhibit, ...]) -> Finding:
    worst = min(accuracy, key=lambda seed: accuracy[seed].high)
    failing = {"seed": worst, "accuracy": accuracy[worst].to_json(), "required": REQUIRED_ACCURACY}
    return finding(
        failing if accuracy[worst].high < REQUIRED_ACCURACY else None,
        all(value.low > REQUIRED_ACCURACY for value in accuracy.values()),
        {"accuracy": {f"seed {seed}": value.to_json() for seed, value in accuracy.items()}, **evidence},
        exhibits,
    )


def _share_histogram(items: Sequence[Judged]) -> Histogram:
    names = {True: "planted to remove", False: "planted to add", None: "left open"}
    groups = {
        name: torch.cat([item.share for item in items if item.case.removes is truth]).tolist()
        for truth, name in names.items()
    }
    return Histogram(
        title="Removal share of planted directions",
        caption="One count per direction, all seeds. The classifier is right where what was planted to add lies left "
        "of one half and what was planted to remove right of it; mixtures and faint constants, which construction does "
        "not decide, may lie anywhere.",
        x_label="removal share",
        groups=groups,
    )


def _family_table(families: dict[str, Any]) -> Table:
    return Table(
        title="Planted families",
        caption="Families that remove should be called removing, those that add should not (95 % intervals over seeds "
        "and directions). Where the last two columns differ, presences do not tell what the read-out does: by "
        "construction −f among orthonormal features only removes, whatever the size of its presences.",
        columns=["family", "by construction", "called removing", "removal share", "predicted from presences"],
        rows=[
            [
                family,
                item["by_construction"],
                Interval(**item["called_removing"]).text(),
                Interval(**item["removal_share"]).text(),
                f"{item['share_predicted_from_presences']:.2f}",
            ]
            for family, item in families.items()
        ],
    )
