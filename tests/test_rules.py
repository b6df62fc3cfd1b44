"""Rules: planted ones of every kind are found, noise is not explained, and the best set is the best of all sets."""

import itertools
import math
import re

import numpy
import pytest
import torch

from sensverify.rule_features import Contexts, families_of, token_class
from sensverify.rules import NO_RULE, RuleOptions, _part, _search, explain_presence
from sensverify.statistics import bootstrap_weights

STRINGS = [
    " she", " She", " her", " dog", " cat", " house", " walk", "ing", "ed", " not", " and", ",", ".", " (", ")", ' "',
    '"', " 12", " 7", "\n", " Mary", " of", " to", " in", " it", " was", " be", " we", " sing", " bring",
]  # fmt: skip
WINDOWS, LENGTH = 160, 40


@pytest.fixture(scope="module")
def contexts():
    generator = numpy.random.default_rng(0)
    tokens = generator.integers(len(STRINGS), size=(WINDOWS, LENGTH))
    for first, second in ((" walk", "ing"), (" and", " not")):
        follows = (tokens[:, :-1] == STRINGS.index(first)) & (generator.random((WINDOWS, LENGTH - 1)) < 0.5)
        tokens[:, 1:][follows] = STRINGS.index(second)
    return Contexts(tokens=tokens, strings=dict(enumerate(STRINGS)))


def explained(contexts, fires, *, shuffles=0, **options):
    """The explanation of a presence that is high exactly where ``fires(window of strings, position)``."""
    windows = [[contexts.strings[token] for token in row] for row in contexts.tokens.tolist()]
    table = torch.tensor(
        [[float(fires(row, at)) for at in range(contexts.first_position, len(row))] for row in windows]
    )
    noise = torch.rand(table.shape, generator=torch.Generator().manual_seed(1))
    share = min(0.5, float(table.mean()))
    options = RuleOptions(share=share, shuffles=shuffles, resamples=200, **options)
    return explain_presence(contexts, (table + 0.5 * noise)[None], torch.Generator().manual_seed(0), options).each[0]


def depth(row, at):
    level = 0
    for string in row[: at + 1]:
        level = max(0, level + string.count("(") - string.count(")"))
    return level


def inside_quotes(row, at):
    return "".join(row[: at + 1]).count('"') % 2 == 1


def word_before(row, at):
    text = "".join(row[: at + 1]).lower()
    words = ["", "", *re.findall(r"\w+", text)]
    return words[-2] if text[-1].isalnum() else words[-1]


def after_full_stop(row, at):
    """The first token of a sentence that opens inside the window."""
    behind = [string for string in row[:at] if string.strip() not in {'"', ")"} and string.strip()]
    return bool(row[at].strip()) and row[at].strip() not in {'"', ")"} and bool(behind) and behind[-1] == "."


PLANTED = {
    "a token": ("token", {"' dog'"}, lambda row, at: row[at] == " dog"),
    "a set of tokens": ("token", {"' dog'", "' cat'", "' of'"}, lambda row, at: row[at] in (" dog", " cat", " of")),
    "a token in any case": ("token in any case", {"'she'"}, lambda row, at: row[at] in (" she", " She")),
    "a class": ("class", {"digits"}, lambda row, at: row[at].strip().isdigit()),
    "an ending": ("ends in 3", {"'ing'"}, lambda row, at: row[at].endswith("ing")),
    "the token before": ("token before", {"'not'", "'it'"}, lambda row, at: at > 0 and row[at - 1] in (" not", " it")),
    "two back": ("token before the last", {"'not'"}, lambda row, at: at > 1 and row[at - 2] == " not"),
    "an n-gram": (
        "2-gram", {"'and'+'not'", "'walk'+'ing'"},
        lambda row, at: tuple(row[max(0, at - 1) : at + 1]) in ((" and", " not"), (" walk", "ing")),
    ),
    "a position": ("position", {"5", "6", "7"}, lambda row, at: 5 <= at <= 7),
    "among the last four": (
        "within 4", {"'not'", "'be'"}, lambda row, at: bool({" not", " be"} & set(row[max(0, at - 4) : at])),
    ),
    "a pair with others between": (
        "pair", {"'not' … 'be'"}, lambda row, at: row[at] == " be" and " not" in row[max(0, at - 8) : at]
    ),
    "brackets": ("brackets", {"1"}, lambda row, at: depth(row, at) == 1),
    "quotation marks": ("quotation", {"inside quotation marks"}, inside_quotes),
    "a sentence's first token": ("sentence", {"0"}, after_full_stop),
    "the word before": ("word before", {"'walking'"}, lambda row, at: word_before(row, at) == "walking"),
    "a repeated token": ("seen before", {"yes"}, lambda row, at: row[at] in row[:at]),
}  # fmt: skip


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_rule_is_found(contexts, kind):
    family, answers, fires = PLANTED[kind]
    found = explained(contexts, fires)
    assert (found.rule.family, set(found.rule.answers), found.rule.negated) == (family, answers, False)
    assert found.accuracy.value > 0.95, found.rule.words
    assert found.accuracy.low <= found.accuracy.value <= found.accuracy.high


def test_what_is_only_left_of_bos_is_context_and_no_position(contexts):
    strings = {**contexts.strings, 99: "<bos>"}
    tokens = numpy.concatenate([numpy.full((WINDOWS, 1), 99), contexts.tokens], axis=1)
    opened = Contexts(tokens=tokens, strings=strings, first_position=1)
    assert opened.positions == LENGTH
    found = explained(opened, lambda row, at: row[at - 1] == "<bos>")
    assert found.accuracy.value == 1
    assert found.rule.family in {"token before", "position", "class before"}


def test_positions_that_are_not_asked_about_are_neither_strong_nor_others(contexts):
    """Whatever stands there, finite or not; told windows without a single position, too."""
    asked = numpy.random.default_rng(5).random((WINDOWS, LENGTH)) < 0.7
    asked[3] = False
    some = Contexts(tokens=contexts.tokens, strings=contexts.strings, counted=asked)
    dog = torch.from_numpy(contexts.tokens == STRINGS.index(" dog")).float()
    noise = torch.rand(dog.shape, generator=torch.Generator().manual_seed(1))
    options = RuleOptions(share=float(dog[torch.from_numpy(asked)].mean()), shuffles=3, resamples=50)
    told = []
    for elsewhere in (0.0, 9.0, math.nan):
        rho = torch.where(torch.from_numpy(asked), dog + 0.5 * noise, elsewhere)
        told.append(explain_presence(some, rho[None], torch.Generator().manual_seed(0), options))
    assert told[0].each == told[1].each == told[2].each
    assert told[0].each[0].rule.answers == ("' dog'",)
    assert told[0].each[0].accuracy.value > 0.95
    assert int(told[0].strong.sum() + told[0].others.sum()) in range(int(0.3 * asked.sum()), int(0.7 * asked.sum()))
    all_of_them = explain_presence(contexts, (9.0 - 9.0 * torch.from_numpy(asked))[None] + dog + 0.5 * noise,
                                   torch.Generator().manual_seed(0), options).each[0]  # fmt: skip
    assert all_of_them.accuracy.value < 0.7


def test_the_best_set_is_the_best_of_all_sets():
    """Brute force over every set of six tokens, negated or not, with the stated description length."""
    generator = numpy.random.default_rng(3)
    size, total, count, share = 6, 300, 30, 0.1
    tokens = generator.choice(size, size=(total, 1), p=[0.3, 0.25, 0.2, 0.15, 0.07, 0.03])
    contexts = Contexts(tokens=tokens, strings=dict(enumerate("abcdef")))
    families = [_part(family, numpy.arange(total), total) for family in families_of(contexts)]
    header = math.log2(2 * len(families))
    lean = numpy.array([0.9, 0.1, 0.5, 0.05, 0.8, 0.9])
    explained_by_a_rule = 0
    for _ in range(20):
        scores = lean[generator.permutation(size)][tokens[:, 0]] + generator.random(total)
        strong = numpy.argsort(-scores)[:count]
        present = numpy.isin(numpy.arange(total), strong)
        admitted = [m for m in range(size) if pays_for_itself(tokens[:, 0] == m, present, header)]
        worths = {((), False): 0.0}
        for r, negated in itertools.product(range(1, size + 1), (False, True)):
            for members in itertools.combinations(admitted, r):
                fires = numpy.isin(tokens[:, 0], members) != negated
                spared = count * math.log2(1 / share) * (fires[present].mean() - fires[~present].mean())
                bits = sum(1 - math.log2((tokens == m).mean()) for m in members)
                worths[members, negated] = spared - bits - header
        best = max(worths, key=worths.get)
        found = _search(families, strong[None], total, RuleOptions(share=share, answers=size))[0]
        assert found.worth == pytest.approx(max(0.0, worths[best]))
        explained_by_a_rule += bool(best[0])
        if best[0]:
            assert (tuple(sorted(found.answers.tolist())), found.negated) == best
    assert explained_by_a_rule > 10


def pays_for_itself(here, present, header):
    """Whether coding the labels where an answer stands by their own rate saves more bits than a rule with it takes."""
    rate, share = present[here].mean(), present.mean()
    terms = ((rate, share), (1 - rate, 1 - share))
    saved = here.sum() * sum(p * math.log2(p / q) for p, q in terms if p > 0)
    return saved > header + 1 - math.log2(here.mean())


def test_a_set_is_no_larger_than_asked(contexts):
    many = {" dog", " cat", " of", " to", " in", " it"}
    found = explained(contexts, lambda row, at: row[at] in many, answers=2)
    assert len(found.rule.answers) <= 2
    assert explained(contexts, lambda row, at: row[at] in many, answers=6).accuracy.value > found.accuracy.value + 0.1


def test_noise_is_not_explained_and_a_free_rule_overfits(contexts):
    noise = torch.rand(20, WINDOWS, LENGTH, generator=torch.Generator().manual_seed(5))

    def means(price):
        options = RuleOptions(shuffles=0, resamples=50, price=price)
        each = explain_presence(contexts, noise, torch.Generator().manual_seed(0), options).each
        return [sum(values) / len(each) for values in zip(*((e.fitted, e.accuracy.value) for e in each), strict=True)]

    fitted, held_out = means(1.0)
    assert fitted < 0.52
    assert abs(held_out - 0.5) < 0.01
    free, free_held_out = means(0.0)
    assert free > 0.58
    assert abs(free_held_out - 0.5) < 0.03


def test_shuffled_labels_give_chance_and_a_planted_rule_the_smallest_p_value(contexts):
    found = explained(contexts, lambda row, at: row[at] == " dog", shuffles=19)
    assert found.p_value == pytest.approx(1 / 20)
    assert found.null_mean == pytest.approx(0.5, abs=0.03)
    options = RuleOptions(shuffles=19, resamples=50, price=0.0)
    noise = torch.rand(20, WINDOWS, LENGTH, generator=torch.Generator().manual_seed(6))
    values = [e.p_value for e in explain_presence(contexts, noise, torch.Generator().manual_seed(2), options).each]
    assert sum(value <= 0.05 for value in values) <= 4  # 1 is expected of 20; 5 or more have a chance of 0.3 %


def test_accuracy_is_what_the_windows_counts_say(contexts):
    presence = torch.rand(3, WINDOWS, LENGTH, generator=torch.Generator().manual_seed(7))
    presence[0] += torch.tensor(contexts.tokens == 3)
    presence[1] += torch.tensor(numpy.isin(contexts.tokens, (4, 9)))
    table = explain_presence(contexts, presence, torch.Generator().manual_seed(0), RuleOptions(shuffles=0))
    whole = table.resampled(torch.ones(1, table.hits.shape[1], dtype=torch.float64))[0]
    for each, value in zip(table.each, whole.tolist(), strict=True):
        assert each.accuracy.value == pytest.approx(value)
        assert value == pytest.approx((1 + each.hit_rate - each.alarm_rate) / 2)
    assert (table.strong + table.others == LENGTH).all()
    replicates = table.resampled(bootstrap_weights(table.hits.shape[1], 500, torch.Generator().manual_seed(0)))
    assert float(replicates[:, 0].std()) == pytest.approx(
        (table.each[0].accuracy.high - table.each[0].accuracy.low) / 3.92, rel=0.25
    )


def test_directions_are_explained_alone_as_among_others(contexts):
    presence = torch.rand(5, WINDOWS, LENGTH, generator=torch.Generator().manual_seed(8))
    presence += torch.tensor(contexts.tokens == 4)
    options = RuleOptions(shuffles=0)
    together = explain_presence(contexts, presence, torch.Generator().manual_seed(4), options).each
    alone = explain_presence(contexts, presence[3:4], torch.Generator().manual_seed(4), options).each[0]
    assert (alone.rule, alone.accuracy.value) == (together[3].rule, together[3].accuracy.value)


def test_families_are_what_reading_the_windows_says(contexts):
    """Answers of the families that are made by array tricks, against plain loops."""
    families = {family.name: family for family in families_of(contexts)}
    folded = [[contexts.strings[token].strip().casefold() or "\n" for token in row] for row in contexts.tokens.tolist()]

    def answers(name):
        family = families[name]
        return {(int(w), family.labels[c]) for w, c in zip(family.where, family.codes, strict=True)}

    flat = [(row, at) for row in folded for at in range(LENGTH)]
    expected = {"2-gram": set(), "3-gram": set(), "within 4": set(), "pair": set(), "seen before": set()}
    for place, (row, at) in enumerate(flat):
        for n in (2, 3):
            if at + 1 >= n:
                expected[f"{n}-gram"].add((place, "+".join(repr(part) for part in row[at + 1 - n : at + 1])))
        expected["within 4"] |= {(place, repr(before)) for before in row[max(0, at - 4) : at]}
        expected["pair"] |= {(place, f"{before!r} … {row[at]!r}") for before in row[max(0, at - 8) : at]}
        exact = contexts.tokens[place // LENGTH].tolist()
        expected["seen before"].add((place, "yes" if exact[at] in exact[:at] else "no"))
    for name, table in expected.items():
        assert answers(name) == table, name
    assert token_class(" 12") == "digits"


def test_characters_are_a_vocabulary_too():
    """A text of single characters: the word so far, and longer n-grams."""
    text = "the cat and the dog were there with her and the other one. " * 150
    letters = sorted(set(text))
    size = len(text) // 60 * 60
    tokens = numpy.array([letters.index(character) for character in text[:size]]).reshape(-1, 60)
    contexts = Contexts(tokens=tokens, strings=dict(enumerate(letters)))
    found = explained(contexts, lambda row, at: "".join(row[: at + 1]).endswith(" the"))
    assert found.accuracy.value > 0.97
    names = {family.name for family in families_of(contexts)}
    assert {"5-gram", "word"} <= names
    assert not names & {"ends in 2", "begins with 2", "length"}


def test_a_rule_is_told_in_words(contexts):
    assert explained(contexts, lambda row, at: row[at] == " dog").rule.words == "the token is ' dog'"
    several = explained(contexts, lambda row, at: row[at] in (" dog", " cat")).rule
    assert several.words in {"the token is one of ' dog', ' cat'", "the token is one of ' cat', ' dog'"}
    near = explained(contexts, lambda row, at: " not" in row[max(0, at - 4) : at]).rule
    assert near.words == "the 4 tokens before hold 'not'"
    assert several.token_alone
    assert not several.single_token
    assert not near.token_alone


def test_no_rule_says_so(contexts):
    noise = torch.rand(1, WINDOWS, LENGTH, generator=torch.Generator().manual_seed(11))
    options = RuleOptions(shuffles=5, price=2.0)
    found = explain_presence(contexts, noise, torch.Generator().manual_seed(0), options).each[0]
    assert (found.rule.words, found.accuracy.value, found.p_value) == (NO_RULE, 0.5, 1.0)


def test_what_cannot_be_explained_is_refused(contexts):
    with pytest.raises(ValueError, match="presences"):
        explain_presence(contexts, torch.zeros(1, WINDOWS, LENGTH - 1), torch.Generator())
    with pytest.raises(ValueError, match="finite"):
        explain_presence(contexts, torch.full((1, WINDOWS, LENGTH), math.nan), torch.Generator())
    with pytest.raises(ValueError, match="string"):
        Contexts(tokens=numpy.array([[0, 1]]), strings={0: "a"})
    with pytest.raises(ValueError, match="share"):
        RuleOptions(share=0.9)
    few = Contexts(tokens=contexts.tokens[:2, :5], strings=contexts.strings)
    with pytest.raises(ValueError, match="positions"):
        explain_presence(few, torch.zeros(1, 2, 5), torch.Generator())
