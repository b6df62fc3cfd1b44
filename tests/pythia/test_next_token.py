"""The divergence of next-token distributions against independent oracles: the whole Hugging Face model, hooked, with a
softmax over the whole vocabulary in float64; and, where float64 has no digits left, fifty digits of mpmath."""

import copy

import mpmath
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pythia.architectures import Linear
from pythia.loading import LanguageModel
from pythia.next_token import NextTokenDivergence, NextTokenReadout
from pythia.site import open_site
from sensverify.claims import Subject
from sensverify.discovery import SearchOptions, search
from sensverify.errors import InputError
from sensverify.geometry import random_directions
from sensverify.interventions import set_presence
from sensverify.scoring import kullback_leibler
from sensverify.sensitivity import Probe, effects, estimate_on
from sensverify.sites import SiteOptions

transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-5  # relative, float32
VOCABULARY, WIDTH = 97, 32
KINDS = ("gpt_neox", "gpt2", "llama")
SMALL = (16, 96)  # a tile of six pairs: several chunks of tokens, of directions and of contexts


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def random_model(kind, *, tied=False, seed=0):
    """A small network of one of the three families with weights so large that every part of it matters."""
    common = {"vocab_size": VOCABULARY, "tie_word_embeddings": tied}
    stream = {"hidden_size": WIDTH, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
    config = {
        "gpt_neox": lambda: transformers.GPTNeoXConfig(**common, **stream, max_position_embeddings=64),
        "gpt2": lambda: transformers.GPT2Config(**common, n_embd=WIDTH, n_layer=3, n_head=4, n_positions=64),
        "llama": lambda: transformers.LlamaConfig(**common, **stream, num_key_value_heads=2),
    }[kind]()
    torch.manual_seed(seed)
    network = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter) + (parameter.ndim == 1) * parameter)
    return LanguageModel("random", None, network.eval().requires_grad_(False), None, "0" * 64)


def full_softmax(network, windows, positions, x, *, layer, offset):
    """``log P [S, B, V]`` at ``p + offset`` by running the full model once per direction with the residual replaced."""
    layers = {
        "gpt_neox": lambda: network.gpt_neox.layers,
        "gpt2": lambda: network.transformer.h,
        "llama": lambda: network.model.layers,
    }[network.config.model_type]()
    rows, results = torch.arange(len(windows)), []
    for replacement in x:

        def replace(_module, _inputs, output, replacement=replacement):
            changed = output.clone()
            changed[rows, positions] = replacement
            return changed

        handle = layers[layer].register_forward_hook(replace)
        results.append(network(windows).logits[rows, positions + offset].log_softmax(-1))
        handle.remove()
    return torch.stack(results)


def divergence(log_p, log_q):
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def swapped(log_p, log_q):
    return divergence(log_q, log_p)


def relative_error(ours, theirs):
    return float(((ours - theirs).norm() / theirs.norm()).detach())


def worst_error(ours, theirs):
    """The largest relative error of any of the vectors along the last axis."""
    return float(((ours - theirs).norm(dim=-1) / theirs.norm(dim=-1)).max())


class Case:
    """One model at one site: what the engine says of interventions, and what the full model says, in float64."""

    def __init__(self, kind, *, layer=0, offset=1, tied=False, reference="clean", tile=SMALL):
        self.model, self.layer, self.offset, self.reference = random_model(kind, tied=tied), layer, offset, reference
        self.windows = torch.randint(VOCABULARY, (5, 14), generator=seeded(1))
        self.positions = torch.tensor([0, 1, 4, 7, 13 - offset])
        self.readout = NextTokenReadout(self.model, self.windows, layer=layer, offset=offset)
        self.readout.distance = NextTokenDivergence(self.model.architecture.unembedding, tile=tile)
        self.batch = self.readout.at(torch.arange(5), self.positions)
        self.directions = random_directions(3, WIDTH, self.readout.centring, seeded(2))
        self.alpha = torch.linspace(0.1, 0.8, 5)

    def ours(self):
        """Divergences ``[S, B]`` and the gradient of a weighted sum of them."""
        s = self.directions.clone().requires_grad_()
        clean = self.readout.clean(self.batch)
        table = effects(self.readout, self.batch, clean, s, self.alpha, self.readout.distance, self.reference)
        return table.detach(), self._gradient(table, s)

    def theirs(self, oracle=divergence):
        """The same the plain way."""
        network = copy.deepcopy(self.model.network).double()
        s = self.directions.double().requires_grad_()
        x, alpha = self.batch.x.double(), self.alpha.double()

        def softmax(activations):
            site = {"layer": self.layer, "offset": self.offset}
            return full_softmax(network, self.windows, self.positions, activations, **site)

        base = x[None] if self.reference == "clean" else set_presence(x, s, 0.0, self.readout.centring)
        table = oracle(softmax(base), softmax(set_presence(x, s, alpha, self.readout.centring)))
        return table.detach(), self._gradient(table, s)

    def _gradient(self, table, s):
        weights = torch.linspace(1, 2, table.numel(), dtype=table.dtype).view_as(table)
        (gradient,) = torch.autograd.grad((weights * table).sum(), s)
        return gradient


@pytest.mark.parametrize("reference", ["clean", "absent"])
@pytest.mark.parametrize(("layer", "offset"), [(0, 0), (0, 2), (1, 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_divergence_and_gradient_are_those_of_the_full_model(kind, layer, offset, reference):
    case = Case(kind, layer=layer, offset=offset, reference=reference)
    (ours, our_gradient), (theirs, their_gradient) = case.ours(), case.theirs()
    assert 1e-4 < float(theirs.max()) < 100
    assert relative_error(ours, theirs) < TOLERANCE
    assert relative_error(our_gradient, their_gradient) < TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
def test_a_tied_unembedding_works(kind):
    case = Case(kind, tied=True)
    network = case.model.network
    assert network.get_input_embeddings().weight.data_ptr() == network.get_output_embeddings().weight.data_ptr()
    (ours, our_gradient), (theirs, their_gradient) = case.ours(), case.theirs()
    assert relative_error(ours, theirs) < TOLERANCE
    assert relative_error(our_gradient, their_gradient) < TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
def test_parity_would_notice_swapped_arguments(kind):
    """The oracle is only worth something if a plausible mistake fails it."""
    case = Case(kind)
    (ours, our_gradient), (theirs, their_gradient) = case.ours(), case.theirs(swapped)
    assert relative_error(ours, theirs) > 100 * TOLERANCE
    assert relative_error(our_gradient, their_gradient) > 100 * TOLERANCE


# --- The arithmetic alone: n, n' and an unembedding -------------------------------------------------------------------


def streams(scale, *, directions=4, contexts=3, vocabulary=60, width=8, seed=0, bias=True):
    """An unembedding and streams ``n [B, d]`` and ``n' [S, B, d]`` that differ by about ``scale``, in float32."""
    generator = seeded(seed)
    weight = torch.randn(vocabulary, width, generator=generator)
    n = torch.randn(contexts, width, generator=generator)
    moved = n + scale * torch.randn(directions, contexts, width, generator=generator)
    return Linear(weight, torch.randn(vocabulary, generator=generator) if bias else None), n, moved


def measured(unembedding, n, moved, tile=SMALL):
    """Divergences and the gradients of their sum with respect to ``n`` and ``n'``."""
    n, moved = n.clone().requires_grad_(), moved.clone().requires_grad_()
    table = NextTokenDivergence(unembedding, tile=tile)(n, moved)
    return table.detach(), *torch.autograd.grad(table.sum(), (n, moved))


def in_float64(unembedding, n, moved, oracle=kullback_leibler):
    """The same by whole tables of logits."""
    n, moved = n.double().requires_grad_(), moved.double().requires_grad_()
    weight, bias = unembedding.weight.double(), unembedding.bias
    bias = 0 if bias is None else bias.double()
    table = oracle((n @ weight.T + bias).expand(len(moved), -1, -1), moved @ weight.T + bias)
    return table.detach(), *torch.autograd.grad(table.sum(), (n, moved))


def in_fifty_digits(unembedding, n, moved):
    """Divergence of one pair ``n, n' [d]``, and its gradient with respect to ``n'``."""
    mpmath.mp.dps = 50
    weight = mpmath.matrix(unembedding.weight.tolist())

    def softmax(stream):
        logits = weight * mpmath.matrix(stream.tolist())
        shares = [mpmath.exp(z + c) for z, c in zip(logits, unembedding.bias.tolist(), strict=True)]
        return [share / mpmath.fsum(shares) for share in shares]

    p, q = softmax(n), softmax(moved)
    value = mpmath.fsum(a * mpmath.log(a / b) for a, b in zip(p, q, strict=True))
    gradient = weight.T * mpmath.matrix([b - a for a, b in zip(p, q, strict=True)])
    return float(value), torch.tensor([float(one) for one in gradient], dtype=torch.float64)


@pytest.mark.parametrize("scale", [1e-6, 1e-5, 1e-4, 1e-3, 1e-2])
def test_tiny_effects_keep_their_digits(scale):
    unembedding, n, moved = streams(scale, directions=1)
    table, _, gradients = measured(unembedding, n, moved)
    naive = kullback_leibler(n @ unembedding.weight.T, moved @ unembedding.weight.T)
    for context, value in enumerate(table[0]):
        exact, slope = in_fifty_digits(unembedding, n[context], moved[0, context])
        assert exact < 50 * scale**2
        assert float(value) == pytest.approx(exact, rel=TOLERANCE)
        assert relative_error(gradients[0, context], slope) < TOLERANCE
        if scale < 1e-3:  # what the usual formula makes of it
            assert float(naive[0, context]) != pytest.approx(exact, rel=100 * TOLERANCE)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("scale", [0.03, 0.3, 1.0, 3.0])
def test_ordinary_effects_are_those_of_float64(scale, bias):
    unembedding, n, moved = streams(scale, bias=bias, seed=1)
    for ours, theirs in zip(measured(unembedding, n, moved), in_float64(unembedding, n, moved), strict=True):
        assert relative_error(ours, theirs) < TOLERANCE
    for ours, theirs in zip(
        measured(unembedding, n, moved), in_float64(unembedding, n, moved, swapped_logits), strict=True
    ):
        assert relative_error(ours, theirs) > 100 * TOLERANCE


def swapped_logits(clean, perturbed):
    return kullback_leibler(perturbed, clean)


@pytest.mark.parametrize("scale", [0.01, 0.3, 3.0])
def test_what_all_tokens_have_in_common_blurs_no_gradient(scale):
    """Rows of a trained unembedding share a large part, which no softmax sees and which rounds like the rest."""
    unembedding, n, moved = streams(scale, seed=7)
    unembedding = Linear(unembedding.weight + 100 * torch.randn(8, generator=seeded(8)), unembedding.bias)
    for ours, theirs in zip(measured(unembedding, n, moved), in_float64(unembedding, n, moved), strict=True):
        assert relative_error(ours, theirs) < 10 * TOLERANCE


@pytest.mark.parametrize("scale", [60.0, 200.0])
def test_huge_effects_stay_finite_and_right(scale):
    unembedding, n, moved = streams(scale, seed=2)
    assert float(((moved - n) @ unembedding.weight.T).abs().amax(-1).mean()) > 200  # float32 holds e to the 88th
    for ours, theirs in zip(measured(unembedding, n, moved), in_float64(unembedding, n, moved), strict=True):
        assert bool(torch.isfinite(ours).all())
        assert relative_error(ours, theirs) < TOLERANCE


@pytest.mark.parametrize("where", [0, 40, 59])
@pytest.mark.parametrize("clean_logit", [0.0, -150.0])
def test_one_token_may_rise_by_two_hundred_whatever_tile_it_is_in(where, clean_logit):
    """Of a token whose clean probability is zero in float32 too; and the pair beside it keeps its tiny effect."""
    unembedding, n, moved = streams(1e-3, directions=2, contexts=2, seed=3)
    weight, bias = unembedding.weight.clone(), unembedding.bias.clone()
    weight[:, 0] = 0
    weight[where] = torch.eye(8)[0]
    n[:, 0], moved[:, :, 0], bias[where] = 0, 0, clean_logit
    moved[0, 0] = 2 * moved[0, 0]  # other tokens change too, by much less
    moved[0, 0, 0] = 200
    unembedding = Linear(weight, bias)
    ours, theirs = measured(unembedding, n, moved), in_float64(unembedding, n, moved)
    assert float(theirs[0][0, 0]) > 30
    assert float(theirs[0][1].max()) < 1e-4
    assert worst_error(ours[0][..., None], theirs[0][..., None]) < TOLERANCE
    assert worst_error(ours[1], theirs[1]) < TOLERANCE
    assert worst_error(ours[2], theirs[2]) < TOLERANCE


@pytest.mark.parametrize("scale", [1e-4, 0.3, 100.0])
def test_tiles_change_nothing_beyond_rounding(scale):
    unembedding, n, moved = streams(scale, directions=5, contexts=7, seed=4)
    whole = measured(unembedding, n, moved, tile=(60, 60 * 35))
    for tile in [(5, 5), (16, 48), (59, 59 * 8), (4096, 2**20)]:
        for ours, theirs in zip(measured(unembedding, n, moved, tile=tile), whole, strict=True):
            assert relative_error(ours, theirs) < TOLERANCE


@pytest.mark.parametrize("scale", [0.01, 1.0, 8.0])
@pytest.mark.parametrize("shared", [True, False])
def test_gradients_are_those_of_finite_differences(scale, shared):
    unembedding, n, moved = streams(scale, directions=2, contexts=2, vocabulary=20, width=3, seed=5)
    double = Linear(unembedding.weight.double(), unembedding.bias.double())
    n = n if shared else n + 0.1 * torch.randn(2, 2, 3, generator=seeded(6))
    inputs = [n.double().requires_grad_(), moved.double().requires_grad_()]
    assert torch.autograd.gradcheck(NextTokenDivergence(double, tile=(7, 14)), inputs, rtol=1e-5)


def test_the_distance_is_zero_of_the_same_and_never_negative():
    unembedding, n, _ = streams(0)
    assert bool((NextTokenDivergence(unembedding)(n, n.repeat(2, 1, 1)) == 0).all())
    for scale in (1e-7, 1e-3, 1.0, 100.0):
        assert float(NextTokenDivergence(unembedding)(*streams(scale)[1:]).min()) >= 0


@pytest.mark.parametrize("kind", KINDS)
def test_untouched_activations_have_no_effect(kind):
    case = Case(kind)
    clean = case.readout.clean(case.batch)
    same = case.readout.distance(clean, case.readout.read(case.batch, case.batch.x[None]))
    assert float(same.max()) < 1e-10
    changed = case.readout.distance(clean, case.readout.read(case.batch, case.batch.x[None] * 1.01))
    assert float(changed.max()) > 1e-7


def test_bfloat16_streams_are_compared_in_float32():
    unembedding, n, moved = streams(0.1, bias=False)
    coarse = Linear(unembedding.weight.bfloat16(), None)
    n, moved = n.bfloat16(), moved.bfloat16()
    ours, _, gradient = measured(coarse, n, moved)
    theirs, _, expected = in_float64(coarse, n, moved)
    assert relative_error(ours, theirs) < TOLERANCE
    assert gradient.dtype == torch.bfloat16
    assert relative_error(gradient, expected) < 4e-3


def test_a_clean_stream_that_was_overwritten_is_not_remembered():
    unembedding, n, moved = streams(0.3)
    measure = NextTokenDivergence(unembedding)
    measure(n, moved)
    n.mul_(1.5)
    assert torch.equal(measure(n, moved), NextTokenDivergence(unembedding)(n, moved))


# --- What it costs ----------------------------------------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """The most elements that any tensor has which is made inside."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        sizes = [one.numel() for one in tree_leaves(made) if isinstance(one, torch.Tensor)]
        self.elements = max([self.elements, *sizes])
        return made


def largest_table(distance, n, moved):
    moved = moved.clone().requires_grad_()
    with Largest() as largest:
        distance(n, moved).sum().backward()
    return largest.elements


@pytest.mark.parametrize("shared", [True, False])
def test_no_table_of_all_logits_is_made(shared):
    unembedding, n, moved = streams(0.3, directions=16, contexts=32, vocabulary=3000, width=16)
    n = n if shared else n.expand_as(moved).clone()
    everything = 16 * 32 * 3000
    assert largest_table(NextTokenDivergence(unembedding), n, moved) < everything / 2
    assert largest_table(NextTokenDivergence(unembedding, tile=(100, 3200)), n, moved) <= 2 * 3200 + 3000 * 16

    def naive(clean, perturbed):
        return kullback_leibler(clean @ unembedding.weight.T, perturbed @ unembedding.weight.T)

    assert largest_table(naive, n, moved) >= everything


class Multiplications(TorchDispatchMode):
    """How many there are in products of matrices."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__.rstrip("_") in ("mm", "addmm", "bmm", "baddbmm"):
            self.count += made.numel() * [one for one in args if isinstance(one, torch.Tensor)][-1].shape[-2]
        return made


@pytest.mark.parametrize(("wanted", "products"), [((False, False), 1), ((False, True), 2), ((True, True), 3)])
def test_the_unembedding_is_multiplied_twice_for_each_pair(wanted, products):
    """Once without gradient, and three times only if the clean stream wants one as well."""
    unembedding, n, moved = streams(0.3, directions=16, contexts=8, vocabulary=500, width=16)
    measure = NextTokenDivergence(unembedding, tile=(64, 64 * 24))
    n, moved = (one.clone().requires_grad_(is_wanted) for one, is_wanted in zip((n, moved), wanted, strict=True))
    with Multiplications() as forward:
        table = measure(n, moved)
    once_for_each_context = 3 * 8  # the normaliser, WᵀP, and the logits once more
    assert forward.count == 500 * 16 * (products * 16 * 8 + once_for_each_context)
    if any(wanted):
        with Multiplications() as backward:
            table.sum().backward()
        assert backward.count <= 16 * 8 * 16  # a number for each pair and dimension


def test_clean_distributions_are_summed_up_once_for_a_batch(monkeypatch):
    calls, summed = [], NextTokenDivergence.anchor
    monkeypatch.setattr(NextTokenDivergence, "anchor", lambda self, n: calls.append(len(n)) or summed(self, n))
    case = Case("gpt2")
    probe = Probe(distance=case.readout.distance)
    estimate_on(case.readout, case.batch, case.directions, generator=seeded(0), probe=probe, pairs_per_chunk=5)
    assert calls == [5]


# --- How the engine takes it ------------------------------------------------------------------------------------------


def test_a_search_by_next_token_divergence_raises_it():
    readout = NextTokenReadout(
        random_model("gpt_neox"), torch.randint(VOCABULARY, (40, 12), generator=seeded(0)), layer=0, offset=1
    )
    probe = Probe(distance=readout.distance)
    options = SearchOptions(directions=2, steps=25, contexts=16, seed=0, probe=probe)
    found = search(readout, options).directions
    batch = readout.sample(40, seeded(1))
    random = random_directions(32, WIDTH, readout.centring, seeded(2))
    ours, others = (
        estimate_on(readout, batch, group.to(batch.x), generator=seeded(3), probe=probe) for group in (found, random)
    )
    assert float(ours.mean.min()) > 1.5 * float(others.mean.mean())
    assert ours.configuration["distance"] == options.to_json()["probe"]["distance"] == "next_token_kl"


def test_the_plain_read_and_that_of_coordinates_and_pairs_agree():
    case = Case("llama")
    x = set_presence(case.batch.x, case.directions, case.alpha, case.readout.centring)
    read = case.readout.read(case.batch, x)
    contexts = torch.tensor([4, 0, 2])
    pairs = case.readout.read_pairs(case.batch, contexts, x[1, contexts])
    assert relative_error(pairs, read[1, contexts]) < TOLERANCE
    norm = case.model.network.model.norm
    assert relative_error(read, norm(super(NextTokenReadout, case.readout).read(case.batch, x))) < 1e-6
    clean = case.readout.clean(case.batch)
    by_reading = case.readout.distance(clean, read)
    by_coordinates = effects(
        case.readout, case.batch, clean, case.directions, case.alpha, case.readout.distance, "clean"
    )
    assert relative_error(by_coordinates, by_reading) < TOLERANCE


@pytest.mark.parametrize("target", [1, 3])
def test_a_target_that_is_not_the_last_block_is_refused(target):
    windows = torch.randint(VOCABULARY, (4, 12))
    with pytest.raises(InputError, match=r"a target from 1 to 2|the last block, 2, as target") as refusal:
        NextTokenReadout(random_model("gpt2"), windows, layer=0, target=target, offset=1)
    assert "\n" not in str(refusal.value)


def test_a_site_opens_with_either_readout(tiny_model_folder, tiny_text):
    subject = Subject(model=str(tiny_model_folder), text=tiny_text)
    options = {"layer": 1, "offset": 1, "context": 16, "limit": 24}
    plain = open_site(subject, SiteOptions(**options, target=3))
    site = open_site(subject, SiteOptions(**options, target=3, readout="next_token"))
    assert isinstance(site.search, NextTokenReadout)
    assert isinstance(site.held_out, NextTokenReadout)
    assert site.description == {**plain.description, "readout": "next_token"}
    assert not isinstance(plain.search, NextTokenReadout)
    with pytest.raises(InputError, match="the last block, 3, as target"):
        open_site(subject, SiteOptions(**options, target=2, readout="next_token"))


def test_the_spectral_solution_is_not_passed_off_as_one_of_the_divergence():
    """It solves for the turn of the read-out; a search by divergence may start from it, and no more."""
    readout = NextTokenReadout(random_model("gpt2"), torch.randint(VOCABULARY, (6, 12)), layer=0, target=2, offset=1)
    probe = Probe(distance=readout.distance)
    with pytest.raises(InputError, match=r"angular distance with the method spectral.*next_token_kl"):
        search(readout, SearchOptions(directions=3, steps=2, contexts=4, method="spectral", probe=probe))
    begun = search(readout, SearchOptions(directions=3, steps=2, contexts=4, start="spectral", probe=probe))
    assert begun.step == 2
