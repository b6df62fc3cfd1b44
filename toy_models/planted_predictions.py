"""Predictions that rest on transformers with planted features: PY-2, PY-4.stable, PY-5, PY-6, PY-10 and PY-11.

The rules are those of :mod:`toy_models.predictions`, *order* and *half the excess*.
"""

from __future__ import annotations

from sensverify import selectivity
from sensverify.claims import Run
from sensverify.predictions import Prediction
from sensverify.sensitivity import Probe
from sensverify.statistics import Interval, group_ratio
from sensverify.swaps import DIRECTION, HALVED, NORM, TURN
from toy_models import planted, published_score, stability, swapping, two_tokens
from toy_models.extrapolation import extent, half_the_excess, order, planted_seeds, seed_text


def predict_swaps(run: Run) -> Prediction | None:
    """PY-2, order: direction over norm, in nats of the next-token distribution."""
    rows = swapping.measured(run)
    against_norm, against_half = ([row.ratio(DIRECTION, bottom) for row in rows] for bottom in (NORM, HALVED))
    return order(
        "PY-2",
        "median over contexts of the divergence of the next-token distribution when the direction of an activation is "
        "swapped over that when its norm is, at the position itself",
        [*against_norm, *against_half],
        f"TM-8.swaps, planted transformers, seeds {planted_seeds(run)}, where the position itself reads what is "
        f"swapped: {extent(against_norm)}. There norms differ by half a percent only, so that the size is no "
        f"prediction; but over halving the norm it is {extent(against_half)} still.",
    )


def predict_turns(run: Run) -> Prediction | None:
    """PY-2.matched, order: a turn over a change of norm of the same length."""
    ratios = [row.ratio(TURN, NORM) for row in swapping.measured(run)]
    return order(
        "PY-2.matched",
        "median over contexts of the divergence of the next-token distribution when an activation is turned towards "
        "another over that when its norm is changed by a step of the same length, at the position itself",
        ratios,
        f"TM-8.swaps, planted transformers, seeds {planted_seeds(run)}: {extent(ratios)}. No size is predicted: how "
        "much a model makes of a direction depends on what reads it.",
    )


def predict_stability(run: Run) -> Prediction | None:
    """PY-4.stable, half the excess over random sets."""
    rows = stability.measured(run)
    parts = []
    for toy in dict.fromkeys(row.toy for row in rows):
        group = [row for row in rows if row.toy == toy]
        parts.append(f"{toy}, seeds {seed_text(row.seed for row in group)}: {extent([row.stability for row in group])}")
    return half_the_excess(
        "PY-4.stable",
        "mean matched |cosine| of searches from different seeds less that of random sets, over 1 less that of random "
        "sets; random sets with the second moment of what the searches found",
        min(row.stability.low for row in rows),
        0.0,
        f"TM-8.stable. {'; '.join(parts)}. Seeds find different directions where many more are as good as are asked "
        "for, as on the models of TM-2, and nobody knows how many a language model has: so at least half of the "
        "smallest is expected, which random sets with the second moment of what was found do not reach.",
    )


def predict_rules(run: Run) -> Prediction | None:
    """PY-5, order: detection accuracy of found over random directions."""
    differences = [row.difference(two_tokens.FOUND) for row in two_tokens.told(run)]
    return order(
        "PY-5",
        "held-out detection accuracy of rules about tokens, mean of found directions less that of random ones",
        differences,
        f"TM-8.rules, planted transformers, seeds {planted_seeds(run)}, where the stream carries two tokens of which "
        f"one is read: {extent(differences)}. A random direction mixes what different tokens wrote, a found one does "
        "not. No size is predicted: it depends on how many sources a stream has; with one source, after block 0, there "
        "is no difference.",
        above=0.0,
    )


def predict_single_token(run: Run) -> Prediction | None:
    """PY-6, order: on a shuffled copy the token explains more of a presence than it leaves."""
    medians = [row.figures()[0] for row in two_tokens.identities(run)]
    return order(
        "PY-6",
        "median over directions found on a copy with shuffled weights of the share of the held-out variance of "
        "presence that the current token explains, where the fitting half has that token twice or more",
        medians,
        f"TM-8.shuffled, planted transformers, seeds {planted_seeds(run)}: {extent(medians)}. More is explained than "
        "is left; how much more depends on the sizes of weights, which shuffling keeps.",
        above=0.5,
    )


def predict_contrast(run: Run) -> Prediction | None:
    """PY-6.contrast, order: more than on the model itself."""
    differences = [row.figures()[1] for row in two_tokens.identities(run)]
    return order(
        "PY-6.contrast",
        "mean over directions of the share of the held-out variance of presence that the current token explains, found "
        "on a copy with shuffled weights less found on the model, where the fitting half has that token twice or more",
        differences,
        f"TM-8.shuffled, planted transformers, seeds {planted_seeds(run)}: {extent(differences)}. No size is "
        "predicted: what a search finds there is all about the token before, which is built in.",
        above=0.0,
    )


def predict_null_share(run: Run) -> Prediction | None:
    """PY-10, half the excess over 0, which is what a score gives that vanishes at the null rotation."""
    shares = [one for row in published_score.measured(run) for one in row.shares[published_score.PUBLISHED]]
    return half_the_excess(
        "PY-10",
        "share of the published score of random directions that it gives at the null rotation, same token, one block "
        "later",
        min(share.low for share in shares),
        0.0,
        f"SE-2 and TM-8.published, planted transformers, seeds {planted_seeds(run)}, activations of norm √d: "
        f"{extent(shares)}, over both blocks. It grows with that norm, to which the model itself is blind; at least "
        "half of the smallest is expected, since a block may write more or less than the toys' do.",
    )


def predict_peak(run: Run) -> Prediction | None:
    """PY-11.peak, order: directions found by their peaks act on few units, random ones on many."""
    probe = Probe(reference="absent")
    found: list[Interval] = []
    for subject, directions in zip(planted.subjects(run), planted.found_directions(run, planted.PEAK), strict=True):
        readout = subject.readout(1, units=True)
        batch = readout.sample(planted.EVALUATION_CONTEXTS, subject.generator(1))
        generator, count = subject.generator(4), subject.planted.config.features
        groups = {
            name: planted.directions_of(subject, name, count, generator) for name in ("random", "random in A")
        } | {"found": directions}
        means = {
            name: selectivity.estimate_on(
                readout, batch, group, generator=subject.generator(3), draws=2, probe=probe
            ).mean[:, None]  # averaged by effect: directions alone are resampled
            for name, group in groups.items()
        }
        found += [group_ratio(means["found"], means[name], subject.generator(2)) for name in ("random", "random in A")]
    return order(
        "PY-11.peak",
        "mean concentration E‖Δ‖₄⁴/E‖Δ‖₂⁴ (absent reference) of directions found by maximising E‖Δ‖₄⁴ over that of "
        "random directions, on units of a privileged basis",
        found,
        f"TM-8.peak, planted transformers, seeds {planted_seeds(run)}: {extent(found)}, over random directions of the "
        "whole stream and over those of the subspace that attention carries. No size is predicted: how concentrated "
        "random directions are depends on the scales of the units.",
    )
