"""The floor under measurements of speed, held against what torch itself counts; and the benchmark's own arithmetic."""

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pythia import speed
from pythia.operations import Work, multiplications
from pythia.readout import LanguageModelReadout
from sensverify.scoring import angular_distance
from sensverify.sensitivity import effects

transformers = pytest.importorskip("transformers")

LENGTH, CONTEXTS = 40, 6


def network(kind, parallel=True):
    torch.manual_seed(0)
    if kind == "gpt_neox":
        config = transformers.GPTNeoXConfig(
            vocab_size=50, hidden_size=128, num_hidden_layers=4, num_attention_heads=4, intermediate_size=512,
            max_position_embeddings=64, use_parallel_residual=parallel,
        )  # fmt: skip
    elif kind == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=50, n_embd=128, n_layer=4, n_head=4, n_positions=64, bos_token_id=None, eos_token_id=None
        )
    else:
        config = transformers.LlamaConfig(
            vocab_size=50, hidden_size=128, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
            intermediate_size=344, max_position_embeddings=64,
        )  # fmt: skip
    loaded = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    return speed.LanguageModel("random", None, loaded.eval().requires_grad_(False), None, "")


def readout_of(kind, parallel=True, **site):
    windows = torch.randint(50, (CONTEXTS, LENGTH), generator=torch.Generator().manual_seed(0))
    return LanguageModelReadout(network(kind, parallel), windows, **site)


def counted(readout, directions, *, gradient):
    """Multiplications in matrix products, by torch's own count of operations."""
    batch = readout.at(torch.arange(CONTEXTS), torch.full((CONTEXTS,), LENGTH - 1 - readout.offset))
    start = torch.randn(directions, readout.width, generator=torch.Generator().manual_seed(1))
    leaf = start.requires_grad_(gradient)
    clean = readout.clean(batch)
    effects(readout, batch, clean, leaf, torch.full((CONTEXTS,), 0.5))  # what is computed once is computed here
    with FlopCounterMode(display=False) as counter:
        distances = effects(readout, batch, clean, leaf, torch.full((CONTEXTS,), 0.5))
        if gradient:
            torch.autograd.grad(distances.mean(), leaf)
    return counter.get_total_flops() / 2


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("site", [(1, 2, 0), (1, 2, 1), (1, 2, 3), (0, 3, 0), (0, 3, 2)])
@pytest.mark.parametrize(
    ("kind", "parallel"), [("gpt_neox", True), ("gpt_neox", False), ("gpt2", False), ("llama", False)]
)
def test_no_fewer_multiplications_are_done_than_the_floor_has_and_not_many_more(kind, parallel, site, gradient):
    layer, target, offset = site
    readout = readout_of(kind, parallel, layer=layer, target=target, offset=offset)
    work = Work(directions=16, contexts=CONTEXTS, left=LENGTH - 1 - offset, gradient=gradient)
    floor = multiplications(readout.suffix, work)
    assert floor <= counted(readout, 16, gradient=gradient) <= 1.35 * floor


def test_the_floor_grows_with_every_size():
    readout = readout_of("gpt_neox", layer=1, target=3, offset=1)
    work = Work(directions=16, contexts=CONTEXTS, left=30)
    base = multiplications(readout.suffix, work)
    for change in ({"directions": 32}, {"contexts": 12}, {"left": 38}):
        assert multiplications(readout.suffix, dataclasses.replace(work, **change)) > base
    assert multiplications(readout.suffix, dataclasses.replace(work, gradient=False)) * 2 == base


def test_ways_of_measuring_take_turns_until_each_has_had_its_time():
    calls = []
    ways = {name: lambda name=name: calls.append(name) for name in ("one", "other")}
    times = speed.in_turns(ways, 0.01)
    assert all(len(times[name]) >= 3 and sum(times[name]) >= 0.01 for name in ways)
    assert set(calls[:4]) == {"one", "other"}


@pytest.mark.parametrize("site", [(2, 3, 1, False), (2, 5, 1, False), (2, 3, 0, False), (2, 5, 1, True)])
def test_all_ways_measure_the_same_thing(site):
    """Hooks on the whole model, hooks stopped early and ours give one distance: what is timed is one computation."""
    layer, target, offset, kl = site
    case = speed.Case(layer=layer, target=target, offset=offset, directions=1, contexts=3, length=20, kl=kl)
    model = speed.random_model_of_70m_shape()
    windows = torch.randint(50_000, (3, 20), generator=torch.Generator().manual_seed(0))
    kind = speed.NextTokenReadout if kl else LanguageModelReadout
    readout = kind(model, windows, layer=layer, target=target, offset=offset)
    batch, distance = (
        readout.at(torch.arange(3), speed._positions(case)),
        getattr(readout, "distance", angular_distance),
    )
    direction = speed._Hooked(model, windows, case).direction
    mine = effects(readout, batch, readout.clean(batch), direction, torch.full((3,), 0.5), distance)
    for stops in (False,) if kl else (False, True):
        hooked = speed._Hooked(model, windows, case, stops=stops)
        # differences of logarithms: of divergences of 1e-5, float32 would leave a digit or two
        found = hooked.distance(hooked.read(None).double(), hooked.read(hooked.direction).double()).float()
        torch.testing.assert_close(found, mine[0], rtol=1e-3 if kl else 1e-4, atol=1e-9)


def test_a_row_says_what_was_measured(monkeypatch):
    monkeypatch.setattr(speed, "random_model_of_70m_shape", lambda depth: network("gpt_neox"))
    monkeypatch.setattr(speed, "matrix_rate", lambda: 1e9)
    monkeypatch.setattr(
        torch, "randint", lambda high, *rest, ordinary=torch.randint, **more: ordinary(50, *rest, **more)
    )
    case = speed.Case(layer=1, target=2, directions=4, contexts=2, length=20, seconds=0.01, others=("plain", "cached"))
    row = speed.row(case)
    assert (row["case"], row["S"], row["B"], row["context"]) == ("b=a+1,t=1", 4, 2, 20)
    assert row["ratio_plain"] == row["pairs_per_s"] / row["plain_pairs_per_s"] > 1
    assert row["floor_share"] == pytest.approx(row["pairs_per_s"] / row["floor_pairs_per_s"])
    assert row["ratio_transformer_lens"] is None
