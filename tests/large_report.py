"""A report as large as they come, with invented data: 60 claims, plots, tables, predictions, 300 directions."""

from __future__ import annotations

import random

from sensverify import report
from sensverify.claims import Claim, Run
from sensverify.exhibits import (
    JUDGED,
    Curve,
    DirectionCard,
    DirectionGallery,
    Excerpt,
    FoundRule,
    Histogram,
    IntervalRow,
    Intervals,
    PresenceCounts,
    Table,
)
from sensverify.predictions import Prediction, judged
from sensverify.statistics import Interval
from sensverify.verdicts import Finding, Status, Verdict

GROUPS = ("found", "SAE", "random", "PCA", "shuffled model")
WORDS = (
    *("the", "of", "and", "to", "in", "was", "he", "his", "it", "with", "had", "her", "not", "she", "for", "on", "at"),
    *(
        "Elinor",
        "Marianne",
        "Darcy",
        "Bennet",
        "letter",
        "carriage",
        "Bath",
        "ball",
        "sister",
        "room",
        "morning",
        "ing",
    ),
    *("<i>&amp;</i>", '"indeed"', "\u2019s", "tion", "\u00e9t\u00e9", "\u4f60"),
)
RARE = "zeugma"
"""Stands in the rule of one direction alone, in capital letters."""


def cards(count: int, *, seed: int = 0) -> list[DirectionCard]:
    """Invented directions of all groups; the last of them lacks what can be missing."""
    draw = random.Random(seed)

    def words(most: int) -> str:
        return " ".join(draw.choice(WORDS) for _ in range(draw.randint(1, most)))

    def token() -> str:
        return draw.choice((" ", "", "")) + draw.choice((*WORDS, "\n", " ", "\t", "\n\n", "  "))

    made = []
    for index in range(count):
        group, score = GROUPS[index % len(GROUPS)], draw.lognormvariate(-6, 1)
        weights = sorted((draw.gauss(0, 1) for _ in range(16)), reverse=True)
        excerpts = [
            Excerpt(before=words(11) + " ", token=token(), after=f" {words(6)}\n{words(3)}", presence=presence)
            for presence in sorted((draw.uniform(0.2, 0.9) for _ in range(6)), reverse=True)
        ]
        lowest = [
            Excerpt(before=words(11) + " ", token=token(), after=f" {words(6)}", presence=presence)
            for presence in sorted(draw.uniform(-0.6, -0.02) for _ in range(4))
        ]
        counts = [round(20000 * 2.0 ** (-abs(i - 20) * draw.uniform(0.7, 1.2))) for i in range(40)]
        rule = (
            f'after "{draw.choice(WORDS)}" within {draw.randint(1, 8)} tokens, or the token is "{draw.choice(WORDS)}"'
        )
        accuracy = draw.uniform(0.5, 0.99)
        found = FoundRule(text=rule, accuracy=accuracy, low=accuracy - 0.03, high=min(1, accuracy + 0.03))
        made.append(
            DirectionCard(
                name=f"{group} {index // len(GROUPS)}",
                group=group,
                score_plus=score,
                score_minus=score * draw.uniform(0.3, 0.9),
                excerpts=excerpts,
                lowest=lowest,
                promoted=[(token(), w) for w in weights[:8]],
                demoted=[(token(), w) for w in reversed(weights[8:])],
                ratio=score / 0.0015,
                rule=found if index else FoundRule(text=f"the word {RARE.upper()}", accuracy=0.995),
                presence_share=draw.uniform(0, 0.2),
                presences=PresenceCounts(low=-0.8, high=0.8, counts=counts),
            )
        )
    bare = {"rule": None, "ratio": None, "presence_share": None, "presences": None, "excerpts": (), "lowest": ()}
    made[-1] = DirectionCard(**{**vars(made[-1]), **bare, "name": "bare"})
    return sorted(made, key=lambda card: -card.score_plus)


def gallery(count: int) -> DirectionGallery:
    """The directions of :func:`cards` to browse."""
    return DirectionGallery(
        title="Directions to browse", caption="All groups on one set of contexts.", cards=cards(count)
    )


def verdict(index: int, *exhibits: object, evidence: dict[str, object] | None = None) -> Verdict:
    """An invented verdict of one of three suites."""
    suite = ("proofs", "toy_models", "pythia")[index * 3 // 60]
    status = (Status.PROVED, Status.SUPPORTED, Status.REFUTED, Status.INCONCLUSIVE)[index % 4]
    claim = Claim(
        id=f"{suite[:2].upper()}-{index}",
        statement=f"Statement number {index} about $\\rho_s(x)$ and what follows from it for directions.",
        source="[SF] section 2",
        expected=status,
        check="nowhere:check",
        formula=r"\rho_s(x) = \frac{\langle \tilde x, \tilde s\rangle}{\lVert \tilde x\rVert\lVert\tilde s\rVert}",
        hypotheses=("$d \\ge 2$",),
    )
    finding = Finding(
        status=status,
        evidence=evidence or {f"figure_{i}": i / 7 for i in range(20)},
        witness={"x": [1, -1]} if status is Status.REFUTED else None,
        exhibits=exhibits,  # type: ignore[arg-type]
    )
    return Verdict(claim=claim, suite=suite, finding=finding, seed=0, seconds=0.25 * index)


def judged_rows() -> list[dict[str, object]]:
    """One prediction of each outcome, with one, two and no closed sides, small numbers and large."""
    rows = (
        ("PY-4", "mean SeS of found over random directions", 1.885, None, Interval(4.2, 3.9, 4.6), "layer 2"),
        *(
            (
                "PY-3",
                "mean SeS of SAE over random directions",
                1.0,
                None,
                Interval(1.02 + i / 9, 0.96, 1.2 + i / 9),
                f"layer {i}, single 95 % interval; the verdict is by Holm over all layers",
            )
            for i in range(4)
        ),
        ("PY-7", "median share present", None, 0.0195, Interval(0.031, 0.025, 0.04), ""),
        ("PY-1.norm_output", "largest distance of a norm's output", None, 1.5e-11, Interval(*3 * (2e-14,)), ""),
        ("PY-6", "detection accuracy of rules", 0.6, 0.9, Interval(0.75, 0.7, 0.8), "Holm"),
    )
    return [
        judged(
            Prediction(
                id=name, quantity=text, low=low, high=high, derived_from="TM-1, seeds 0, 1, 2: 2.770 & more <b>."
            ),
            measured,
            of=of,
            origin="shipped with the package",
        )
        for name, text, low, high, measured, of in rows
    ]


def write(directory: object, *, claims: int = 60, directions: int = 300) -> object:
    """Write record and page; the page's path."""
    draw = random.Random(1)
    interval = {"value": 3.1415, "low": 2.9, "high": 3.4}
    layers = Table(
        title="By layer",
        caption="Ratio of mean SeS to random, 95 % intervals.",
        columns=("layer", "found", "SAE", "contexts"),
        rows=[(f"{i} → {i + 1}", {**interval, "value": 3 + i / 7}, {**interval, "value": 11.5}, 256) for i in range(6)],
    )
    wide = Table(
        title="Wide",
        caption="As many columns as the comparison of groups has, and a text.",
        columns=("layer", *(f"{name} / random, shuffled tokens" for name in GROUPS), "another", "what was changed"),
        rows=[
            (
                i,
                *[{"value": 0.0123 * 3**i, "low": 0.0119 * 3**i, "high": 0.0141 * 3**i}] * 6,
                "padding, first tokens too",
            )
            for i in range(5)
        ],
    )
    histogram = Histogram(
        title="SeS", caption="c", x_label="SeS", log_x=True,
        groups={name: [draw.lognormvariate(-6, 1) for _ in range(200)] for name in ("found", "negated", "random")},
    )  # fmt: skip
    curve = Curve(
        title="Search", caption="c", x_label="step", y_label="mean SeS", x=list(range(200)),
        series={"found": [draw.random() for _ in range(200)]},
    )  # fmt: skip
    intervals = Intervals(
        title="Groups", caption="c", x_label="mean SeS", reference=1.0,
        rows=[IntervalRow(name=name, value=2.0, low=1.5, high=2.5) for name in GROUPS],
    )  # fmt: skip
    verdicts = [verdict(index, histogram, curve, intervals) for index in range(claims - 1)]
    last = verdict(claims - 1, layers, wide, gallery(directions), evidence={JUDGED: judged_rows(), "contexts": 256})
    facts = report.environment(Run(seed=0, directory=directory))  # type: ignore[arg-type]
    report.write_verdicts(directory, [*verdicts, last], facts, complete=True)  # type: ignore[arg-type]
    return report.write_html(directory)  # type: ignore[arg-type]
