"""Our own autoencoder on a language model's activations: what it reports against what numpy makes of its weights."""

import json

import numpy
import pytest
import torch

from pythia.corpus import read_corpus
from pythia.loading import load_model
from pythia.readout import LanguageModelReadout
from pythia.sae_training import QUICK_WORK, default_options, normalised_activations, train_sae
from sensverify.autoencoders import AutoencoderOptions, TopK

OPTIONS = AutoencoderOptions(latents=48, sparsity=TopK(active=4), steps=150, batch=64, resample_every=30, seed=3)


@pytest.fixture(scope="module")
def readouts(tiny_model_folder, tiny_text):
    model = load_model(str(tiny_model_folder))
    text = read_corpus(model, tiny_text, length=16, limit=96)
    assert text.first_position == 1  # so that there is something to leave out

    def readout(windows):
        return LanguageModelReadout(model, windows, layer=1, target=2, offset=1, first_position=1)

    return readout(text.search), readout(text.held_out)


@pytest.fixture(scope="module")
def trained(readouts):
    return train_sae(*readouts, OPTIONS)


def by_hand(readout):
    """Activations after block 1 by the network's own pass, without BOS, centred, of length 1."""
    hidden = readout.model.network(readout.windows, output_hidden_states=True).hidden_states[2]
    rows = hidden[:, 1:].flatten(0, 1).double().numpy()
    rows = rows - rows.mean(1, keepdims=True)
    return rows / numpy.linalg.norm(rows, axis=1, keepdims=True)


def test_activations_are_centred_of_length_one_and_without_bos(readouts):
    for readout in readouts:
        assert numpy.allclose(normalised_activations(readout).numpy(), by_hand(readout), atol=1e-5)


def test_held_out_figures_are_those_of_the_weights_on_windows_never_seen(trained, readouts):
    weights = trained.autoencoder
    encoder, decoder, bias, shift = (
        value.double().numpy()
        for value in (weights.encoder, weights.decoder, weights.encoder_bias, weights.decoder_bias)
    )
    x = by_hand(readouts[1])
    latents = numpy.maximum((x / weights.scale - shift) @ encoder.T + bias, 0)
    latents[latents < numpy.sort(latents)[:, [-4]]] = 0
    error = x - weights.scale * (latents @ decoder + shift)
    explained = 1 - (error**2).sum() / ((x - x.mean(0)) ** 2).sum()
    assert trained.held_out_variance_explained == pytest.approx(explained, abs=1e-3)
    assert trained.held_out_active == pytest.approx((latents > 0).sum(1).mean(), abs=0.05)
    assert 0.3 < explained < 1  # far better than the mean, of which 0 would be told


def test_held_out_windows_are_not_trained_on(trained, readouts):
    swapped = train_sae(readouts[0], readouts[0], OPTIONS)
    assert swapped.autoencoder.decoder.equal(trained.autoencoder.decoder)
    assert swapped.held_out_variance_explained != trained.held_out_variance_explained
    assert trained.training_rows == len(by_hand(readouts[0]))


def test_latents_that_never_fire_are_left_out(readouts, monkeypatch):
    """A latent whose bias is far below everything, put there after training, is told to be dead, and no other."""
    from pythia import sae_training

    def train(x, options, progress):
        trained = train_autoencoder(x, options, progress)
        trained.encoder_bias[:5] = -100.0
        return trained

    train_autoencoder = sae_training.train_autoencoder
    plain = train_sae(*readouts, OPTIONS)
    monkeypatch.setattr(sae_training, "train_autoencoder", train)
    spoilt = train_sae(*readouts, OPTIONS)
    assert not spoilt.alive[:5].any()
    assert plain.alive[:5].any()
    assert spoilt.directions.shape == (int(spoilt.alive.sum()), 32)
    assert spoilt.to_json()["dead"] == 48 - int(spoilt.alive.sum())


def test_what_is_told_is_plain_json_with_how_activations_were_prepared(trained):
    told = json.loads(json.dumps(trained.to_json()))
    assert "centred" in told["activations"]
    assert told["options"]["sparsity"] == {"kind": "TopK", "active": 4}


@pytest.mark.parametrize("width", [8, 128, 192, 512, 4096])
@pytest.mark.parametrize("quick", [True, False])
def test_on_a_cpu_wide_models_get_fewer_latents_and_never_fewer_than_are_active(width, quick):
    options = default_options(width, quick=quick, seed=0)
    assert isinstance(options.sparsity, TopK)
    assert options.sparsity.active <= options.latents <= 8 * width
    work = 12 * options.steps * options.batch * width * options.latents
    if quick and options.latents > 32:
        assert work <= QUICK_WORK
    unbounded = default_options(width, quick=quick, seed=0, device=torch.device("cuda"))
    assert unbounded.latents == (4 if quick else 8) * width
