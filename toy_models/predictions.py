"""What the toys predict of language models, derived before any is read.

Each prediction is an extrapolation by one rule, fixed here and written into the file with the seeds it was computed
from. The rules are deliberately simple, so that a language model can fail them; a failed prediction is a result. A
prediction is written only if every claim that it rests on (:data:`NEEDED`) was run and decided as expected, and if the
toys themselves obey it; the others are left out of the file. Rules:

- *half the excess* (PY-4, PY-4.stable, PY-10): if a figure exceeds what there is by chance (a ratio 1, stability and
  the share at the null rotation 0) on every toy, at least half of its smallest excess, that of the lowest end of any
  95 % interval, is predicted of a trained network. The smallest, since no toy is like a language model; half, since
  there effects add to a residual stream which is large.
- *order* (PY-2, PY-2.matched, PY-3, PY-4.sae, PY-5, PY-6, PY-6.contrast, PY-11.peak): one quantity exceeds another on
  every toy; how far, nothing in the toys fixes. Of the directions of an autoencoder it cannot: they do not seek
  sensitivity, and that of true features falls to that of random directions as features become dense (TM-3.boundary),
  and nobody knows how dense those of a language model are.
- *allowance* (PY-7): presence at most 5 times as often as in the sparse toys (TM-2), since the features of a language
  model may be denser. How much denser, no toy tells: what plain searches find on the denser planted transformers is
  mostly no feature (TM-8.plain) but leans against the mean activation, and so does not measure how often features are
  present. The factor is therefore a convention; it is fitted to no language model: the shipped one exceeds it (PY-7).
- *law* (PY-1, PY-7.budget): exact, up to rounding.
- *second order* (PY-8, PY-8.lean): see :func:`toy_models.removal_found.removal_prediction`.

Nothing is predicted, and the claims are judged by what the theory states, of what no toy shows: that rules tell found
directions better than those of an autoencoder (PY-5), or those found by peaks better than either (PY-11.rules), since
in TM-8.rules they are told alike; and that a direction's logit weights agree with what it does (PY-9), since what a
planted transformer reads, it writes anew at right angles before it is unembedded: the direct path carries nothing.

The file that is shipped with the language-model suite: ``sensverify verify toy_models --out DIR`` (seed 0, quick
profile; the claims of :data:`NEEDED` are enough), then ``cp DIR/predictions.json pythia/``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from sensverify import formulas
from sensverify.claims import Run
from sensverify.geometry import presence
from sensverify.predictions import Prediction, replace_predictions
from sensverify.scoring import angular_distance
from sensverify.sparsity import CHANCE_MULTIPLE, summarise_presence
from sensverify.statistics import Interval
from sensverify.verdicts import Verdict
from toy_models import budget, planted, planted_predictions, removal_found, sae_sensitivity
from toy_models.extrapolation import extent, half_the_excess, order, planted_seeds, seed_text
from toy_models.separation import score_groups
from toy_models.trained import EVALUATION_CONTEXTS, evaluation_generator, found_directions, trained_models

NEEDED: Mapping[str, frozenset[str]] = {
    "PY-1.norm_output": frozenset({"TM-1", "TM-7"}),
    "PY-1.residual_stream": frozenset({"TM-1", "TM-7"}),
    "PY-2": frozenset({"TM-8.swaps"}),
    "PY-2.matched": frozenset({"TM-8.swaps"}),
    "PY-3": frozenset({"TM-1", "TM-3.boundary", "TM-8", "TM-8.sae"}),
    "PY-4": frozenset({"TM-1", "TM-2", "TM-8", "TM-8.carried"}),
    "PY-4.sae": frozenset({"TM-1", "TM-2", "TM-8", "TM-8.carried", "TM-8.sae"}),
    "PY-4.stable": frozenset({"TM-8.stable"}),
    "PY-5": frozenset({"TM-8.rules"}),
    "PY-6": frozenset({"TM-8.shuffled"}),
    "PY-6.contrast": frozenset({"TM-8.shuffled"}),
    "PY-7": frozenset({"TM-2"}),
    "PY-7.budget": frozenset({"TM-6"}),
    "PY-8": frozenset({"TM-4.classifier", "TM-4.found", "TM-4.lean", "TM-4.bias"}),
    "PY-8.lean": frozenset({"TM-4.lean"}),
    "PY-10": frozenset({"TM-8.published"}),
    "PY-11.peak": frozenset({"TM-8.peak"}),
}
"""For each prediction, the claims without which it is not made."""

SHARE_ALLOWANCE = 5.0
FACTORS = (0.5, 2.0, 8.0)
ROUNDINGS = 64
RESIDUAL_MULTIPLE = 1000.0
EPSILON = 1e-5


def derive(verdicts: Sequence[Verdict], /, *, run: Run) -> dict[str, Prediction]:
    """All predictions that ``verdicts`` allow, by ID, written as ``predictions.json`` into the run's folder as well.

    A file that an earlier run left there is replaced, or removed before the first rule is applied: a run that is
    interrupted while it derives leaves no predictions rather than those of another run.
    """
    replace_predictions(run, [])
    decided = {verdict.claim.id for verdict in verdicts if verdict.as_expected}
    allowed = [name for name, claims in NEEDED.items() if claims <= decided]
    made = []
    for done, name in enumerate(allowed):
        run.progress("deriving predictions", done, len(allowed))
        made.append(RULES[name](run))
    run.progress("deriving predictions", len(allowed), len(allowed))
    derived = {one.id: one for one in made if one is not None}
    replace_predictions(run, derived.values())
    return derived


def _seeds(run: Run) -> str:
    return seed_text(trained.seed for trained in trained_models(run))


def predict_ratio(run: Run) -> Prediction | None:
    """PY-4, half the excess: found directions over random ones. None if a toy shows no excess."""
    sparse = min(score.ratio("found", "random").low for score in score_groups(run))
    transformer = min(_found_to_random(run), key=lambda ratio: ratio.low).low
    return half_the_excess(
        "PY-4",
        "mean SeS of found directions over mean SeS of random directions, held-out contexts",
        min(sparse, transformer),
        1.0,
        f"TM-1 and TM-2, seeds {_seeds(run)}: the lowest interval bound of found over random is "
        f"{sparse:.3f}; TM-8, planted transformers, seeds {planted_seeds(run)}: {transformer:.3f}. At least half of "
        "the smaller one's excess over 1 is expected to survive in a trained network, whose effects pass through "
        "attention and add to a residual stream. No upper side: nothing in the toys limits it.",
    )


def _found_to_random(run: Run) -> list[Interval]:
    """On each planted transformer, directions found by plain sensitivity over random ones of the whole stream."""

    def make() -> list[Interval]:
        found = []
        for subject, directions in zip(planted.subjects(run), planted.found_directions(run, "plain"), strict=True):
            count = subject.planted.config.features
            random = planted.directions_of(subject, "random", count, subject.generator(4))
            scores = planted.score(subject.readout(1), subject, {"found": directions, "random": random})
            found.append(scores.ratio("found", "random"))
        return found

    return run.shared("toy_models.predictions.planted", make)


def predict_sae(run: Run) -> Prediction | None:
    """PY-3, order: directions of an autoencoder over random ones."""
    return _sae_order(
        run,
        "PY-3",
        "mean SeS of the decoder directions of a sparse autoencoder (dead latents left out) over mean SeS of random "
        "directions, held-out contexts",
        lambda row: row.sae_to_random,
        "No size is predicted: directions of an autoencoder do not seek sensitivity, and where features are dense, "
        "even the directions of features are no more sensitive than random ones (claim TM-3.boundary).",
    )


def predict_found_over_sae(run: Run) -> Prediction | None:
    """PY-4.sae, order: found directions over those of an autoencoder."""
    return _sae_order(
        run,
        "PY-4.sae",
        "mean SeS of found directions over mean SeS of the decoder directions of a sparse autoencoder (dead latents "
        "left out), held-out contexts",
        lambda row: row.found_to_sae,
        "A search maximises what is compared here, an autoencoder does not. No size is predicted: where both find the "
        "features, the ratio is near 1.",
    )


def _sae_order(
    run: Run, name: str, quantity: str, of: Callable[[sae_sensitivity.Ratios], Interval], reason: str
) -> Prediction | None:
    rows = sae_sensitivity.ratios(run)
    parts = []
    for toy in dict.fromkeys(row.toy for row in rows):
        group = [row for row in rows if row.toy == toy]
        parts.append(f"{toy}, seeds {seed_text(row.seed for row in group)}: {extent([of(row) for row in group])}")
    told = "TopK autoencoders, told how many features there are and how many are active"
    return order(name, quantity, [of(row) for row in rows], f"{told}. {'; '.join(parts)}. {reason}")


def predict_share(run: Run) -> Prediction:
    """PY-7, allowance: how often a found direction is present."""
    shares = []
    for trained, state in zip(trained_models(run), found_directions(run), strict=True):
        batch = trained.readout.sample(EVALUATION_CONTEXTS, evaluation_generator(trained))
        rho = presence(batch.x, state.directions, trained.readout.centring)
        shares.append(summarise_presence(rho, state.directions).median_share)
    density = trained_models(run)[0].model.config.density
    return Prediction(
        id="PY-7",
        quantity=f"median over found directions of the share of contexts with |presence| ≥ {CHANCE_MULTIPLE:g}/√d",
        low=None,
        high=SHARE_ALLOWANCE * max(shares),
        derived_from=f"TM-2, seeds {_seeds(run)}: the largest median share is {max(shares):.4f}, where the toys' "
        f"features have density {density:g}; a language model's may be denser, so {SHARE_ALLOWANCE:g} times that is "
        "allowed.",
    )


def predict_budget(run: Run) -> Prediction:
    """PY-7.budget, law: the norm budget (RN-4)."""
    accounts = [one for group in budget.accounts(run).values() for one in group]
    seeds = seed_text(sorted({one.seed for one in accounts}))
    largest = max(float(one.spent.max()) / one.largest_eigenvalue for one in accounts)
    return Prediction(
        id="PY-7.budget",
        quantity="largest sum over found directions of squared presences in any context, as a share of the largest "
        "eigenvalue of their Gram matrix",
        low=None,
        high=1.0,
        derived_from=f"RN-4, a theorem, up to rounding. TM-6, seeds {seeds}: "
        f"at most {largest:.3f} in trained dictionaries, sparse and dense. What breaks it is an error of measurement.",
    )


def predict_removal(run: Run) -> Prediction:
    """PY-8, second order: few found directions remove where the mean of unit activations is short."""
    figures = removal_found.removal_prediction(run)
    low, high = figures["seen_beyond"]
    return Prediction(
        id="PY-8",
        quantity="share of removal directions (more than half of the effect is removal, clean reference) among those "
        f"found with the clean reference, where ‖E x̂‖ ≤ {figures['mean_length_at_most']:.2f} (x̂: centred activations, "
        "each divided by its norm); where it is longer nothing is predicted",
        low=None,
        high=figures["high"],
        derived_from=f"{figures['derived_from']} Beyond that length the toys show anything from {low:.2f} to "
        f"{high:.2f}.",
    )


def predict_lean(run: Run) -> Prediction:
    """PY-8.lean, second order: found directions lean against the mean of unit activations."""
    figures = removal_found.removal_prediction(run)
    return Prediction(
        id="PY-8.lean",
        quantity="mean cosine of directions found with the clean reference to E x̂ (x̂: centred activations, each "
        f"divided by its norm), where ‖E x̂‖ ≥ {figures['mean_length_at_least']:.2f}",
        low=None,
        high=figures["lean_high"],
        derived_from=f"SE-3 and TM-4.lean, seeds {seed_text(removal_found.seeds(run))}: the step to a given presence "
        "is the longer the more negative presence was, which pulls a search with the clean reference against whatever "
        f"is always there. The weakest lean of any setting is {2 * figures['lean_high']:.3f} (upper end of its 95 % "
        "interval); half of that is asked for, since it depends on how many directions repel each other.",
    )


def _toy_block(run: Run) -> tuple[float, float]:
    """Largest angular distance of the norm's output, least mean distance of the block's, when the input is scaled.

    A residual block ``x + W₂ ReLU(W₁ LN(x))`` with random weights on the toys' hidden activations.
    """

    def make() -> tuple[float, float]:
        worst_norm, least_residual = 0.0, 1.0
        for trained in trained_models(run):
            generator = evaluation_generator(trained)
            x = trained.readout.sample(EVALUATION_CONTEXTS, generator).x
            width = trained.readout.width
            inner = torch.randn(4 * width, width, generator=generator) / width**0.5
            outer = torch.randn(width, 4 * width, generator=generator) / (4 * width) ** 0.5
            norm = formulas.layer_norm(x, EPSILON)
            block = x + torch.relu(norm @ inner.T) @ outer.T
            for factor in FACTORS:
                scaled_norm = formulas.layer_norm(factor * x, EPSILON)
                scaled = factor * x + torch.relu(scaled_norm @ inner.T) @ outer.T
                worst_norm = max(worst_norm, float(angular_distance(norm, scaled_norm).max()))
                least_residual = min(least_residual, float(angular_distance(block, scaled).mean()))
        return worst_norm, least_residual

    return run.shared("toy_models.predictions.block", make)


ROUNDING_BOUND = (ROUNDINGS * torch.finfo(torch.float32).eps) ** 2 / 4


def predict_norm_output(run: Run) -> Prediction | None:
    """PY-1.norm_output, law: scaling the stream does not turn a norm's output."""
    worst, _ = _toy_block(run)
    if worst > ROUNDING_BOUND:
        return None
    return Prediction(
        id="PY-1.norm_output",
        quantity="largest angular distance of a norm's output when the residual stream is scaled",
        low=None,
        high=ROUNDING_BOUND,
        derived_from=f"LN-2 and TM-7 (exact invariance of direction) and float32: {ROUNDINGS} roundings of relative "
        "size eps turn a unit vector by at most that, and the distance is its square over 4. Toy block, "
        f"seeds {_seeds(run)}: at most {worst:.2e}.",
    )


def predict_residual_stream(run: Run) -> Prediction | None:
    """PY-1.residual_stream, law: scaling the stream turns a block's output."""
    _, least = _toy_block(run)
    if least < RESIDUAL_MULTIPLE * ROUNDING_BOUND:
        return None
    return Prediction(
        id="PY-1.residual_stream",
        quantity="mean angular distance of a block's output when its input is scaled, least of all blocks",
        low=RESIDUAL_MULTIPLE * ROUNDING_BOUND,
        high=None,
        derived_from=f"LN-6 and TM-7: the block's output turns. Toy block, seeds {_seeds(run)}: at least {least:.2e}; "
        f"a trained block may add little, so only {RESIDUAL_MULTIPLE:g} times the bound on norms is asked for.",
    )


RULES: Mapping[str, Callable[[Run], Prediction | None]] = {
    "PY-1.norm_output": predict_norm_output,
    "PY-1.residual_stream": predict_residual_stream,
    "PY-2": planted_predictions.predict_swaps,
    "PY-2.matched": planted_predictions.predict_turns,
    "PY-3": predict_sae,
    "PY-4": predict_ratio,
    "PY-4.sae": predict_found_over_sae,
    "PY-4.stable": planted_predictions.predict_stability,
    "PY-5": planted_predictions.predict_rules,
    "PY-6": planted_predictions.predict_single_token,
    "PY-6.contrast": planted_predictions.predict_contrast,
    "PY-7": predict_share,
    "PY-7.budget": predict_budget,
    "PY-8": predict_removal,
    "PY-8.lean": predict_lean,
    "PY-10": planted_predictions.predict_null_share,
    "PY-11.peak": planted_predictions.predict_peak,
}
"""How each prediction is computed; None where the toys themselves do not show what it says."""
