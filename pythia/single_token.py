"""PY-6: on a copy with shuffled weights, found directions hang on the current token alone.

Towards Monosemanticity's control: features of a model whose weights say nothing are about single tokens, since the
token is all that is left to tell apart. A direction is called *single-token* here if the token at the position decides
its presence: it explains more than half of its variance on held-out windows (:mod:`sensverify.token_identity`).

*Such directions are not the search's doing.* On the copy, the token explains about as much of a random direction's
presence as of a found one's: medians of 0.92 and 0.91 on the embedded model, 0.48 for both on a small model of
characters, 0.71 for both on the toys of TM-8.shuffled. So PY-6 is about the stream of a shuffled model, where the token
is all there is, and not about what a search finds in it; what is found on the copy less what is random there is given
in the evidence.

Only tokens that are seen often enough are scored; where that is less than half of the positions, nothing is concluded.

*Mostly* single-token means: the median of ``R²`` over the directions found on the copy is above 1/2; and as a control
is of use only where what it controls is different, their mean ``R²`` must exceed that of the directions found on the
model itself, each measured in the activations of its own model. Whether *one* token, and no other, calls a direction up
is a stricter question: the share of its highest contexts that have the same token is given beside it, not judged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from pythia import compared, subject
from pythia.compared import FOUND, RANDOM, SHUFFLED
from pythia.explained import LEVEL, RESAMPLES
from pythia.gallery import presences
from pythia.readout import LanguageModelReadout
from sensverify.claims import Run
from sensverify.exhibits import Exhibit, Histogram, Table
from sensverify.predictions import JUDGED, Side, judged
from sensverify.statistics import bootstrap_weights, percentile_interval
from sensverify.token_identity import COVERED, TokenIdentity, largest_token_share, token_identity
from sensverify.verdicts import Finding, Status

MOSTLY, MORE = "PY-6", "PY-6.contrast"
SIDE: Side = "low"
"""The side of both intervals that the claim cannot do without."""
ON_COPY, ON_MODEL = "found on the copy", "found on the model"
RANDOM_ON_COPY, RANDOM_ON_MODEL = "random on the copy", "random on the model"
CONTEXTS_SHOWN = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """Of every group, over all layers: what tokens explain, and the largest share of one token in its contexts."""

    identity: Mapping[str, TokenIdentity]
    one_token: Mapping[str, Tensor]


def preflight(run: Run) -> None:
    """As :func:`pythia.subject.preflight` does for every claim, with the predictions of PY-6."""
    subject.preflight(run, {MOSTLY: SIDE, MORE: SIDE})


def check_shuffled_directions(run: Run) -> Finding:
    """PY-6 on the run's model."""
    return _judge(run, run.shared("pythia.single_token", lambda: measure(run)), details=True)


def check_tokens_of_other_windows(run: Run) -> Finding:
    """False twin: the token at the same position of another window decides it as well."""
    return _judge(run, measure(run, moved=1), details=False)


def measure(run: Run, moved: int = 0) -> Measured:
    """All groups; with ``moved`` the tokens are those of so many windows before."""
    identity: dict[str, list[TokenIdentity]] = {}
    one_token: dict[str, list[Tensor]] = {}
    for layer in compared.layers(run):
        groups = compared.directions(run, layer)
        model_readout = compared.language_readouts(compared.site(run, layer))[1]
        copy_readout = LanguageModelReadout(
            compared.shuffled_model(run),
            model_readout.windows,
            layer=layer,
            target=layer + 1,
            offset=1,
            first_position=model_readout.first_position,
            allowed=model_readout.allowed,
        )
        tokens = model_readout.windows[:, model_readout.first_position :].roll(moved, 0)
        for name, readout, directions in (
            (ON_COPY, copy_readout, groups[SHUFFLED]),
            (ON_MODEL, model_readout, groups[FOUND]),
            (RANDOM_ON_COPY, copy_readout, groups[RANDOM]),
            (RANDOM_ON_MODEL, model_readout, groups[RANDOM]),
        ):
            rho = presences(readout, directions)
            generator = torch.Generator().manual_seed(run.seed)  # the same halves for every group
            # a token of another window counts if it does so there
            counted = readout.counted_inside & readout.counted_inside.roll(moved, 0)
            identity.setdefault(name, []).append(token_identity(tokens, rho, generator, counted))
            one_token.setdefault(name, []).append(largest_token_share(tokens, rho, CONTEXTS_SHOWN, counted))
    return Measured(
        identity={name: TokenIdentity.joined(parts) for name, parts in identity.items()},
        one_token={name: torch.cat(parts) for name, parts in one_token.items()},
    )


def _judge(run: Run, outcome: Measured, *, details: bool) -> Finding:
    """Both predictions inside: SUPPORTED; one outside: REFUTED. Intervals hold together (Bonferroni).

    INCONCLUSIVE where too few positions have tokens that are known.
    """
    generator = torch.Generator().manual_seed(run.seed)
    windows = bootstrap_weights(outcome.identity[ON_COPY].error.shape[1], RESAMPLES, generator)
    drawn = {name: _redrawn(part.explained(windows), generator) for name, part in outcome.identity.items()}
    values = {name: part.explained() for name, part in outcome.identity.items()}
    medians = {name: replicates.median(1).values for name, replicates in drawn.items()}
    difference = float(values[ON_COPY].mean() - values[ON_MODEL].mean())
    differences = drawn[ON_COPY].mean(1) - drawn[ON_MODEL].mean(1)
    predicted = [subject.prediction(run, name, SIDE) for name in (MOSTLY, MORE)]
    intervals = [
        percentile_interval(float(values[ON_COPY].median()), medians[ON_COPY], LEVEL / 4),
        percentile_interval(difference, differences, LEVEL / 4),
    ]
    ledger = [
        judged(one, interval, of="Bonferroni over 2 comparisons", origin=origin)
        for (one, origin), interval in zip(predicted, intervals, strict=True)
    ]
    outcomes = [row["outcome"] for row in ledger]
    status = (
        Status.INCONCLUSIVE if not all(outcome.identity[name].covered for name in (ON_COPY, ON_MODEL))
        else Status.REFUTED if "outside" in outcomes
        else Status.SUPPORTED if outcomes == ["inside", "inside"]
        else Status.INCONCLUSIVE
    )  # fmt: skip
    measured = {
        one.id: {"measured": interval.to_json(), "predicted": one.to_json(), "outcome": outcome}
        for (one, _), interval, outcome in zip(predicted, intervals, outcomes, strict=True)
    }
    evidence = {
        JUDGED: ledger,
        **measured,
        "correction": "Bonferroni over 2 comparisons",
        "coverage": {name: part.coverage for name, part in outcome.identity.items()},
        "coverage_required": COVERED,
        "about": _about(values),
        "mean_on_the_copy_found_minus_random_not_judged": percentile_interval(
            float(values[ON_COPY].mean() - values[RANDOM_ON_COPY].mean()),
            drawn[ON_COPY].mean(1) - drawn[RANDOM_ON_COPY].mean(1),
            LEVEL / 2,
        ).to_json(),
        "directions_on_the_copy": len(values[ON_COPY]),
        "layers": list(compared.layers(run)),
        "median_explained_by_token": {
            name: percentile_interval(float(values[name].median()), medians[name], LEVEL / 2).to_json()
            for name in values
        },
        "share_single_token": {name: float((value > 0.5).double().mean()) for name, value in values.items()},
        f"share_with_one_token_in_half_of_{CONTEXTS_SHOWN}_top_contexts": {
            name: float((share >= 0.5).double().mean()) for name, share in outcome.one_token.items()
        },
    }
    return Finding(
        status=status,
        evidence=evidence if details else measured,
        witness=measured if status is Status.REFUTED else None,
        exhibits=_exhibits(values, outcome.one_token) if details else (),
    )


def _about(values: Mapping[str, Tensor]) -> str:
    """What the claim speaks of, said beside every verdict."""
    found, drawn = (float(values[name].median()) for name in (ON_COPY, RANDOM_ON_COPY))
    return (
        f"On the copy the token explains {found:.3f} of a found direction's presence and {drawn:.3f} of a random one's "
        "(medians). As far as these are alike, PY-6 is about the stream of a shuffled model, not about what a search "
        "finds in it."
    )


def _redrawn(values: Tensor, generator: torch.Generator) -> Tensor:
    """``values [R, K]`` with the directions of each row drawn anew."""
    return values.gather(1, torch.randint(values.shape[1], values.shape, generator=generator))


def _exhibits(values: Mapping[str, Tensor], one_token: Mapping[str, Tensor]) -> tuple[Exhibit, ...]:
    return (
        Histogram(
            title="How much of a direction's presence the current token decides",
            caption="Share of the variance of presence that the token's identity explains on held-out windows, at "
            "positions whose token the others have twice or more; each count is one direction, measured in the "
            "activations of the model that it belongs to. As far as random directions on the copy lie where found ones "
            "do, the claim is about the stream of a shuffled model.",
            x_label="variance explained by the token",
            groups={name: value.tolist() for name, value in values.items()},
        ),
        Table(
            title="Single-token directions",
            caption="Single-token: the token explains more than half of the variance. One token: the same token stands "
            f"at the peak of at least half of the {CONTEXTS_SHOWN} contexts where the direction is most present.",
            columns=["directions", "number", "median explained", "share single-token", "share of one token"],
            rows=[
                [
                    name, len(value), float(value.median()), float((value > 0.5).double().mean()),
                    float((one_token[name] >= 0.5).double().mean()),
                ]
                for name, value in values.items()
            ],
        ),
    )  # fmt: skip
