"""What `inspect` is asked and how its answer is written, with an inspector that makes things up."""

import dataclasses
import importlib.metadata
import io
import json
import re

import pytest
import torch
from rich.console import Console

from sensverify import cli
from sensverify.claims import Subject
from sensverify.clipping import clip_end, clip_start
from sensverify.directions import DirectionSet, save_directions
from sensverify.errors import InputError, MissingExtraError
from sensverify.exhibits import Excerpt, FoundRule, Table
from sensverify.inspection import (
    ContextList,
    Control,
    Effect,
    Inspected,
    Inspection,
    InspectionRequest,
    Neighbour,
    Sample,
    inspect_directions,
    usable_rows,
)
from sensverify.statistics import Interval

NASTY = "<script>alert(1)</script>\x1b[31m\n"
ASKED = []


def made_up(index):
    excerpt = Excerpt(before="before ", token=NASTY, after=" after", presence=-0.25)
    return Inspection(
        index=index,
        score_plus=0.5,
        score_minus=0.0625,
        score_plus_se=0.03125,
        score_name="sensitivity (SeS)",
        contexts=(ContextList(title="Most present", excerpts=(excerpt,)),),
        presences=(-0.5, 0.0, 0.25, 0.5),
        positions=9,
        left_alone=("BOS",),
        quantiles={"least": -0.5, "median": 0.125, "greatest": 0.5},
        mean_presence=0.0625,
        rule=FoundRule(text=f"the token is {NASTY}", accuracy=0.75, low=0.7, high=0.8),
        promoted=((NASTY, 1.5),),
        demoted=((" the", -2.5),),
        logit_note="Direct path.",
        effects=(
            Effect(
                where="held-out text",
                quantity="next-token loss, nats",
                intervention="0",
                items=7,
                clean=Interval(3.0, 2.5, 3.5),
                change=Interval(0.125, 0.0625, 0.1875),
                control=Control(directions=8, mean=Interval(0.25, 0.125, 0.375), least=-0.5, greatest=0.75),
            ),
        ),
        pinned_presence=0.5,
        pin_note="as asked",
        samples=(Sample(prompt=NASTY, plain="one", pinned="two"),),
        neighbours_of="the others",
        neighbours=(Neighbour(name="direction 9", cosine=0.875),),
        notes=("items left out: 3 of 5",),
    )


def inspector(request, found, indices, progress):
    ASKED.append((request, found, indices))
    inspections = tuple(made_up(index) for index in indices)
    return Inspected(facts={"model": "made & up"}, inspections=inspections, hints=("--tasks FOLDER adds effects.",))


@pytest.fixture
def folder(tmp_path):
    found = tmp_path / "found"
    found.mkdir()
    rows = torch.nn.functional.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)))
    scores = torch.tensor([0.1, float("nan"), 0.4, 0.3])
    save_directions(found, DirectionSet(directions=rows, config={"layer": 1}, score_plus=scores))
    return found


def ask(folder, **changes):
    return inspect_directions(InspectionRequest(directions=folder, subject=Subject(), **changes), inspector=inspector)


def test_the_best_scored_direction_is_looked_at_unless_others_are_named(folder):
    assert [one.index for one in ask(folder).inspections] == [2]
    assert [one.index for one in ask(folder, indices=(3, 0, 3)).inspections] == [3, 0]


def test_without_scores_the_first_direction_is_looked_at(folder):
    save_directions(folder, DirectionSet(directions=torch.eye(3), config={"layer": 1}))
    assert [one.index for one in ask(folder).inspections] == [0]


@pytest.mark.parametrize("index", [-1, 4])
def test_an_index_out_of_range_is_refused_before_any_model_is_opened(folder, index):
    before = len(ASKED)
    with pytest.raises(InputError, match="an index from 0 to 3"):
        ask(folder, indices=(0, index))
    assert len(ASKED) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"pin": 0.0}, "presence above 0"), ({"pin": 1.5}, "presence above 0"), ({"pin": float("nan")}, "presence")],
)
def test_presences_that_cannot_be_pinned_to_are_refused(folder, changes, message):
    with pytest.raises(InputError, match=message):
        ask(folder, **changes)


@pytest.mark.parametrize("option", ["tasks", "sae"])
def test_paths_that_are_not_there_are_refused(folder, option):
    with pytest.raises(InputError, match=f"--{option}"):
        ask(folder, **{option: folder / "nowhere"})


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(folder):
    before = len(ASKED)
    with pytest.raises(InputError):
        ask(folder, out=folder / "cfg.json" / "below a file")
    assert len(ASKED) == before


def test_without_an_inspector_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: [])
    with pytest.raises(MissingExtraError, match=r"sensverify\[lm\]"):
        inspect_directions(InspectionRequest(directions=folder, subject=Subject()))


def test_the_record_is_strict_json_and_holds_every_number(folder, tmp_path):
    answer = ask(folder, indices=(1,), out=tmp_path / "out")
    record = json.loads((tmp_path / "out" / "inspection.json").read_text(), parse_constant=pytest.fail)
    assert record == json.loads(json.dumps(answer.to_json()))
    (seen,) = record["inspections"]
    assert seen["effects"][0]["change"] == {"value": 0.125, "low": 0.0625, "high": 0.1875}
    assert seen["contexts"][0]["excerpts"][0]["token"] == NASTY
    assert seen["rule"]["accuracy"] == 0.75


def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing_it_shows(folder, tmp_path):
    answer = ask(folder, indices=(0, 1), out=tmp_path / "out")
    assert answer.page == tmp_path / "out" / "inspection.html"
    page = answer.page.read_text()
    assert "<script" not in page
    assert "\x1b" not in page
    assert not re.search(r"(?:src|href)=[\"'](?!#)", page)
    assert "made &amp; up" in page
    for shown in ("direction 0", "direction 1", "+0.5" if "+0.5" in page else "0.5", "0.75", "direction 9", "3 of 5"):
        assert shown in page
    assert page.count('<figure class="exhibit contexts">') == 2
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids)), "two directions on one page share no id"


def shown_by(terminal, folder, **changes):
    """What a console of 80 columns shows, with its control codes if it is a ``terminal``."""
    file = io.StringIO()
    colours = "standard" if terminal else None
    console = Console(width=80, file=file, force_terminal=terminal, color_system=colours)
    console.print(ask(folder, indices=(0,), **changes).terminal())
    return file.getvalue()


def test_the_terminal_shows_the_same_with_control_characters_spelt_out(folder):
    text = shown_by(False, folder)
    assert "\x1b" not in text
    for shown in ("direction 0: sensitivity (SeS) of +s 0.5 ± 0.031, of −s 0.0625 (±", "−0.25", "\\u001b", "1.50",
                  "3 of 5", "held-out contexts 0.75 [0.70, 0.80]; 0.5", "least −0.50", "greatest +0.50", "␣the −2.50",
                  "--tasks FOLDER adds effects."):  # fmt: skip
        assert shown in " ".join(text.split()), shown
    assert "balanced accuracy" in " ".join(text.split())


def test_effects_stand_beside_those_of_random_directions(folder, tmp_path):
    lines = shown_by(False, folder).splitlines()
    (at,) = [i for i, line in enumerate(lines) if line.startswith("set to ")]
    assert " ".join(lines[at + 1].split()) == "0 0.125 [0.062, 0.188] 0.25 [0.12, 0.38] −0.50 to 0.75"
    page = ask(folder, out=tmp_path / "out").page.read_text()
    for shown in ("random directions", "−0.50 to 0.75", "the same along 8 of them", "untouched 3.00 [2.50, 3.50]"):
        assert shown in page, shown
    (bare,) = [table for table in made_up(0).exhibits() if table.title.startswith("What it does")]
    without = dataclasses.replace(made_up(0).effects[0], control=None)
    (alone,) = [t for t in dataclasses.replace(made_up(0), effects=(without,)).exhibits() if t.title == bare.title]
    assert "andom" in bare.caption
    assert "andom" not in alone.caption
    assert list(alone.rows[0][2:]) == ["—", "—"]


def test_the_spread_is_told_by_what_lies_between_its_ends_however_well_the_mean_is_known():
    control = Control(directions=8, mean=Interval(0.25, 0.2497, 0.2503), least=-5.0, greatest=9.0)
    assert control.spread == "−5.0 to 9.0"


def test_the_token_is_marked_by_colour_in_a_terminal_and_by_brackets_in_a_file(folder):
    marked = "<script>alert(1)</script>\\u001b[31m⏎"
    assert f"before [{marked}] after" in shown_by(False, folder)
    assert "is in brackets" in shown_by(False, folder)
    coloured = shown_by(True, folder)
    assert f"[{marked}]" not in coloured
    assert f"\x1b[4m{marked}\x1b[0m" in coloured, "a negative presence is underlined"


def test_lines_of_context_end_at_words_and_fit_the_width(folder, monkeypatch):
    words = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    excerpt = Excerpt(before=words, token="HERE", after=f" {words}", presence=0.5)
    long = dataclasses.replace(made_up(0), contexts=(ContextList(title="Most present", excerpts=(excerpt,)),))
    console = Console(width=60, file=io.StringIO(), color_system=None)
    console.print(long.terminal())
    (line,) = [line for line in console.file.getvalue().splitlines() if "HERE" in line]
    assert len(line) <= 60
    presence, *shown = line.split()
    assert presence == "+0.50"
    assert set(shown) <= {*words.split(), "[HERE]", "…"}, "no word is cut"
    assert shown[0] == shown[-1] == "…"
    assert {"fifteen", "one"} <= set(shown)


@pytest.mark.parametrize(
    ("text", "most", "end", "start"),
    [
        ("short enough", 12, "short enough", "short enough"),
        ("some words here", 12, "some words …", "… words here"),
        ("no;words", 4, "no;…", "…rds"),
        ("unbroken", 5, "unbr…", "…oken"),
        ("some words", 0, "", ""),
    ],
)
def test_text_is_shortened_at_words_or_where_there_are_none_inside_one(text, most, end, start):
    assert clip_end(text, most) == end
    assert clip_start(text, most) == start


def test_a_word_that_may_go_on_is_left_out():
    assert clip_end(" who is Darc", 40, goes_on=True) == " who is …"
    assert clip_end(" who is he?", 40, goes_on=True) == " who is he?"


def test_the_page_says_what_was_asked_of_what_and_how_text_was_written(folder, tmp_path):
    page = ask(folder, indices=(3,), out=tmp_path / "one").page.read_text()
    assert "<h1>Direction 3 of made &amp; up</h1>" in page
    assert "<title>Direction 3 of made &amp; up · sensverify</title>" in page
    assert "pinned to 0.5 (as asked) at all that is written and, in the prompt, at every position but BOS;" in page
    assert "balanced accuracy on held-out contexts 0.75 [0.70, 0.80]; 0.5 is guessing" in page
    assert "of <i>−s</i> 0.0625" in page
    assert "--tasks FOLDER adds effects." in page
    assert (
        "<h1>2 directions of made &amp; up</h1>" in ask(folder, indices=(0, 1), out=tmp_path / "two").page.read_text()
    )


def test_the_histogram_says_what_it_is_of():
    shown = made_up(0).exhibits()[0]
    assert shown.caption.startswith("4 of the presences at all 9 held-out positions, in even steps of rank")
    whole = dataclasses.replace(made_up(0), positions=4).exhibits()[0]
    assert whole.caption.startswith("At all 4 held-out positions.")


@pytest.mark.parametrize(
    ("text", "tasks", "said", "not_counted"),
    [
        ((), None, "every position", None),
        ((), (), "every position", None),
        (("BOS",), ("BOS",), "every position but BOS", "BOS."),
        (("BOS", "special tokens"), None, "every position but BOS and special tokens", "BOS and special tokens."),
        (
            ("BOS", "special tokens", "outliers"),
            ("BOS",),
            "every position but BOS, special tokens and outliers (in prompts of tasks, every position but BOS)",
            "BOS, special tokens and outliers.",
        ),
    ],
)
def test_captions_name_the_positions_that_are_left_alone_and_no_others(text, tasks, said, not_counted):
    one = dataclasses.replace(made_up(0), left_alone=text, left_alone_in_tasks=tasks)
    assert one.effects_caption().startswith(f"The presence is set at {said}: to its mean")
    in_prompts = said.partition(" (")[0]
    assert f"at all that is written and, in the prompt, at {in_prompts}; and by" in one.samples_caption()
    told = one.exhibits()[0].caption
    assert told.endswith("0.062." if not_counted is None else f"0.062. Not counted: {not_counted}")


def test_tables_without_rows_are_left_out():
    bare = made_up(0)
    empty = dataclasses.replace(bare, effects=(), samples=(), neighbours=())
    assert [type(one) for one in bare.exhibits() if isinstance(one, Table)] == [Table] * 2
    assert not any(isinstance(one, Table) for one in empty.exhibits())
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(empty.terminal())
    for heading in ("What it does", "What is written", "Nearest and most opposed"):
        assert heading not in console.file.getvalue()


def test_an_autoencoder_is_indexed_by_latent_and_its_dead_rows_are_refused(tmp_path):
    from safetensors.torch import save_file

    decoder = torch.nn.functional.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)))
    decoder[3] = 0
    tensors = {"W_dec": decoder, "W_enc": decoder.T.contiguous(), "b_enc": torch.zeros(5), "b_dec": torch.zeros(8)}
    save_file(tensors, tmp_path / "sae_weights.safetensors")
    config = {"architecture": "standard", "d_in": 8, "d_sae": 5, "hook_name": "blocks.2.hook_resid_post"}
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    assert [one.index for one in ask(tmp_path, indices=(4,)).inspections] == [4]
    found = ASKED[-1][1]
    assert torch.allclose(found.directions[4], decoder[4])
    assert found.config["layer"] == 2
    with pytest.raises(InputError, match="latent 3"):
        ask(tmp_path, indices=(4, 3))
    rows, latents = usable_rows(tmp_path, 2)
    assert latents.tolist() == [0, 1, 2, 4]
    assert torch.allclose(rows[3], decoder[4])


def test_the_command_prints_json_alone_or_a_page_and_ends_with_two_on_bad_input(folder, tmp_path, monkeypatch, capsys):
    class Point:
        def load(self):
            return inspector

    own = importlib.metadata.entry_points

    def entry_points(**wanted):
        return [Point()] if wanted.get("group") == "sensverify.inspectors" else own(**wanted)

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    assert cli.run(["inspect", str(folder), "--index", "1", "--index", "3", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [one["index"] for one in printed["inspections"]] == [1, 3]
    assert cli.run(["inspect", str(folder), "--pin", "0.75", "--seed", "5", "--out", str(tmp_path / "out")]) == 0
    assert "inspection.html" in capsys.readouterr().out
    request = ASKED[-1][0]
    assert (request.pin, request.seed, request.subject.model) == (0.75, 5, "embedded")
    assert cli.run(["inspect", str(folder)]) == 0
    assert ASKED[-1][0].pin is None, "by default the inspector looks for a presence that the text has"
    capsys.readouterr()
    assert cli.run(["inspect", str(folder), "--index", "9"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "an index from 0 to 3" in told
