"""What `inspect` is asked and how its answer is written, with an inspector that makes things up."""

import importlib.metadata
import json
import re

import pytest
import torch
from rich.console import Console

from sensverify import cli
from sensverify.claims import Subject
from sensverify.directions import DirectionSet, save_directions
from sensverify.errors import InputError, MissingExtraError
from sensverify.exhibits import Excerpt, FoundRule, Table
from sensverify.inspection import (
    ContextList,
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
        score_minus=None,
        contexts=(ContextList(title="Most present", excerpts=(excerpt,)),),
        presences=(-0.5, 0.0, 0.25, 0.5),
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
            ),
        ),
        pinned_presence=0.5,
        samples=(Sample(prompt=NASTY, plain="one", pinned="two"),),
        neighbours_of="the others",
        neighbours=(Neighbour(name="direction 9", cosine=0.875),),
        notes=("items left out: 3 of 5",),
    )


def inspector(request, found, indices, progress):
    ASKED.append((request, found, indices))
    return Inspected(facts={"model": "made & up"}, inspections=tuple(made_up(index) for index in indices))


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


def test_the_terminal_shows_the_same_with_control_characters_spelt_out(folder):
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(ask(folder, indices=(0,)).terminal())
    text = console.export_text()
    assert "\x1b" not in text
    for shown in ("direction 0, score 5.000e-01", "-0.25", "\\u001b", "0.125 [0.0625, 0.188]", "+1.5", "3 of 5",
                  "held-out accuracy 0.75 [0.70, 0.80]", "least -0.50", "greatest +0.50", "␣the -2.5"):  # fmt: skip
        assert shown in text, shown


def test_tables_without_rows_are_left_out():
    bare = made_up(0)
    empty = Inspection(**{**vars(bare), "effects": (), "samples": (), "neighbours": ()})
    assert [type(one) for one in bare.exhibits() if isinstance(one, Table)] == [Table] * 3
    assert not any(isinstance(one, Table) for one in empty.exhibits())


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
    assert cli.run(["inspect", str(folder), "--index", "9"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "an index from 0 to 3" in told
