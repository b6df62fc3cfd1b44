"""The shipped language model is what its card says, and its training program can make it again."""

from __future__ import annotations

import dataclasses
import doctest
import hashlib
import json
import math
import socket
import subprocess
import sys
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from typer.testing import CliRunner

from pythia.embedded import END_OF_TEXT, FOLDER, HELD_OUT_PAGES, evaluate, text, train
from pythia.embedded.architecture import Shape, train_tokenizer
from pythia.embedded.baselines import KneserNey, fit, fit_baselines
from pythia.embedded.windows import encode, epoch_batches, evaluation_windows
from sensverify.errors import InputError

NOVELS = Path(__file__).resolve().parents[2] / "shared" / "data" / "text" / "austen"
needs_novels = pytest.mark.skipif(not NOVELS.is_dir(), reason="the training text is not beside this checkout")

SENTENCES = "It is a truth, she said; and the rain fell on the hill, and he went home. "


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def _shipped():
    return evaluate.load(FOLDER)


@pytest.fixture
def shipped():
    return _shipped()


@pytest.fixture(scope="module")
def figures():
    return json.loads((FOLDER / evaluate.FIGURES).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pages():
    return text.split_pages(HELD_OUT_PAGES.read_text(encoding="utf-8"))


# What is shipped


def test_the_folder_fits_in_eight_megabytes():
    files = [path for path in FOLDER.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) <= 8_000_000


def test_the_folder_opens_without_a_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    model, tokenizer = evaluate.load(FOLDER)
    assert type(model).__name__ == "GPTNeoXForCausalLM"
    assert not model.training
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == tokenizer.convert_tokens_to_ids(END_OF_TEXT) == 0


def test_the_architecture_is_the_one_on_the_card(shipped, figures):
    model, tokenizer = shipped
    config = model.config
    assert (config.num_hidden_layers, config.hidden_act) == (6, "gelu")
    assert config.use_parallel_residual
    assert not config.tie_word_embeddings
    assert config.rope_parameters["partial_rotary_factor"] == 0.25
    assert len(tokenizer) == config.vocab_size
    assert model.num_parameters() == figures["weights"]["parameters"]


def test_the_weights_are_finite_halves_and_the_ones_that_were_measured(figures):
    path = FOLDER / "model.safetensors"
    weights = load_file(path)
    assert {value.dtype for value in weights.values()} == {torch.float16}
    assert all(torch.isfinite(value).all() for value in weights.values())
    assert hashlib.sha256(path.read_bytes()).hexdigest() == figures["weights"]["sha256"]


def test_importing_the_package_does_not_import_torch():
    program = "import sys, pythia.embedded; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@given(st.text() | st.text(alphabet="aé£\u0301\U0001f600 \n\f\t'<|>").map(lambda s: s + END_OF_TEXT + s))
@settings(max_examples=200, deadline=None)
def test_any_text_survives_the_tokenizer(content):
    _, tokenizer = _shipped()
    assert tokenizer.decode(tokenizer(content).input_ids) == content


# The figures


def test_the_held_out_figures_are_measured_again_from_the_shipped_pages(shipped, figures, pages):
    model, tokenizer = shipped
    windows = evaluation_windows(tokenizer.backend_tokenizer, pages, context=model.config.max_position_embeddings)
    recorded = figures["held_out_pages"]
    assert int(windows.tokens.sum()) == recorded["tokens"]
    assert int(windows.characters.sum()) == recorded["characters"]
    nats = evaluate.model_nats(model, windows).sum() / windows.tokens.sum()
    assert nats == pytest.approx(recorded["model"]["nats_per_token"]["value"], abs=2e-3)
    assert nats == pytest.approx(figures["held_out"]["model"]["nats_per_token"]["value"], abs=0.1)
    assert nats < recorded["trigram"]["nats_per_token"]["low"] < recorded["unigram"]["nats_per_token"]["low"]


def test_the_network_beats_the_trigram_model_beyond_the_interval(figures):
    assert figures["held_out"]["trigram_minus_model"]["nats_per_token"]["low"] > 0.1
    assert figures["held_out_pages"]["trigram_minus_model"]["nats_per_token"]["low"] > 0.1


def test_nats_per_token_are_those_of_transformers_own_loss(shipped, pages):
    model, tokenizer = shipped
    windows = evaluation_windows(tokenizer.backend_tokenizer, pages[:1], context=256).take(slice(0, 1))
    ids = torch.from_numpy(windows.ids)
    with torch.inference_mode():
        loss = model(input_ids=ids, labels=ids).loss
    assert evaluate.model_nats(model, windows).sum() / 256 == pytest.approx(float(loss), rel=1e-5)


def test_the_bootstrap_interval_covers_a_known_mean_as_often_as_it_says():
    generator = np.random.default_rng(0)
    ones, covered = np.ones(60), 0
    for _ in range(200):
        figure = evaluate.Bootstrap(resamples=300).ratio(generator.gamma(2.0, 1.5, size=60), ones)
        covered += figure["low"] <= 3.0 <= figure["high"]
    assert 0.87 <= covered / 200 <= 0.99


@needs_novels
def test_the_baselines_and_the_pages_come_from_the_novels(shipped, figures):
    novels = text.read_novels(NOVELS)
    assert text.fingerprint(novels) == figures["training"]["text_sha256"]
    assert text.held_out_pages(novels, characters_each=evaluate.PAGE_CHARACTERS) == HELD_OUT_PAGES.read_text()
    backend = shipped[1].backend_tokenizer
    documents = encode(backend, [novel.training for novel in novels])
    baselines = fit_baselines(documents, vocabulary=len(shipped[1]))
    windows = evaluation_windows(backend, [novel.held_out for novel in novels], context=256)
    for name, nats in (
        ("trigram", baselines.trigram_nats(windows)),
        ("unigram", baselines.unigram_nats(windows)),
    ):
        recorded = figures["held_out"][name]["nats_per_token"]["value"]
        assert nats.sum() / windows.tokens.sum() == pytest.approx(recorded, abs=1e-3)


@needs_novels
def test_no_held_out_page_occurs_in_the_training_text(pages):
    training = [novel.training for novel in text.read_novels(NOVELS)]
    for page in pages:
        for start in range(0, len(page) - 200, 200):
            assert not any(page[start : start + 200] in part for part in training)


# The baselines


def _zipf_documents(vocabulary=40, tokens=3000):
    generator = np.random.default_rng(3)
    return [np.minimum(generator.zipf(1.4, tokens) - 1, vocabulary - 1).astype(np.int64) for _ in range(2)]


CONTEXTS = [(0, 0), (0, 1), (3, 7), (38, 39), (39, 39), (25, 31)]


def test_kneser_ney_sums_to_one_after_seen_and_unseen_contexts():
    trigram = fit(_zipf_documents(), vocabulary=40, order=3)
    seen = [context[0] * 40 + context[1] in trigram.levels[2].contexts for context in CONTEXTS]
    assert set(seen) == {True, False}
    for context in CONTEXTS:
        assert trigram.distribution(context).sum() == pytest.approx(1, abs=1e-12)
        assert trigram.distribution(context).min() > 0


def test_a_twin_that_backs_off_without_discounting_does_not_sum_to_one():
    trigram = fit(_zipf_documents(), vocabulary=40, order=3)
    undiscounted = dataclasses.replace(trigram.levels[2], discounts=np.zeros(4))
    twin = KneserNey((*trigram.levels[:2], undiscounted))
    assert twin.distribution((0, 0)).sum() > 1.001


def test_kneser_ney_agrees_with_the_formula_spelt_out_over_dictionaries():
    documents = _zipf_documents()
    trigram = fit(documents, vocabulary=40, order=3)
    grams = Counter(gram for ids in documents for gram in zip(ids, ids[1:], ids[2:], strict=False))
    tables = {3: grams}
    for length in (2, 1):
        tables[length] = Counter(gram[1:] for gram in tables[length + 1])

    def probability(context, word):
        length = len(context) + 1
        lower = probability(context[1:], word) if context else 1 / 40
        discount = _textbook_discounts(tables[length])
        following = defaultdict(int, {g[-1]: c for g, c in tables[length].items() if g[:-1] == context})
        if not following:
            return lower
        freed = sum(discount[min(count, 3)] for count in following.values())
        kept = max(following[word] - discount[min(following[word], 3)], 0)
        return (kept + freed * lower) / sum(following.values())

    for context in CONTEXTS:
        distribution = trigram.distribution(context)
        for word in (0, 1, 5, 39):
            assert distribution[word] == pytest.approx(probability(context, word), rel=1e-9)


def _textbook_discounts(table):
    n = Counter(table.values())
    if not all(n[k] for k in (1, 2, 3, 4)):
        return [0, 0.5, 0.5, 0.5]
    y = n[1] / (n[1] + 2 * n[2])
    return [0] + [min(max(k - (k + 1) * y * n[k + 1] / n[k], 0), k) for k in (1, 2, 3)]


def test_a_window_shows_the_trigram_model_nothing_of_the_one_before():
    documents = _zipf_documents()
    baselines = fit_baselines(documents, vocabulary=40)
    ids = np.concatenate([np.zeros((2, 1), dtype=np.int64), documents[0][:16].reshape(2, 8)], axis=1)
    windows = evaluate.EvaluationWindows(ids, np.ones((2, 8), dtype=bool), np.ones(2), np.zeros(2))
    nats = baselines.trigram_nats(windows)
    a, b, c = (int(token) for token in ids[1, 1:4])
    assert nats[1, 0] == pytest.approx(-math.log(baselines.unigram.distribution(())[a]))
    assert nats[1, 1] == pytest.approx(-math.log(baselines.bigram.distribution((a,))[b]))
    assert nats[1, 2] == pytest.approx(-math.log(baselines.trigram.distribution((a, b))[c]))


# Text and windows


def test_the_examples_in_the_documentation_of_text_hold():
    assert doctest.testmod(text).attempted > 0
    assert doctest.testmod(text).failed == 0


@given(st.lists(st.text(alphabet="ab \n\t\f", max_size=30), max_size=8).map("\n\n".join))
def test_cleaning_twice_is_cleaning_once(raw):
    assert text.clean(text.clean(raw)) == text.clean(raw)


def test_the_editors_note_is_cut_and_the_novel_is_not():
    assert text.clean("The end.\n\n\nA NOTE ON THE TEXT\n\nIt was printed in 1818.\n") == "The end."
    assert text.clean("He read A NOTE ON THE TEXT aloud.") == "He read A NOTE ON THE TEXT aloud."


def test_training_and_held_out_text_are_the_whole_and_do_not_overlap():
    whole = "\n\n".join(f"Paragraph {number}, and what it says." for number in range(200))
    training, held_out = text.split(whole)
    assert training + "\n\n" + held_out == whole
    assert 0.04 < len(held_out) / len(whole) <= 0.05


@given(st.lists(st.text(alphabet="abc £é.\n", min_size=1, max_size=80), min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_evaluation_windows_hold_every_token_and_character_once(texts):
    backend = _shipped()[1].backend_tokenizer
    windows = evaluation_windows(backend, texts, context=7)
    tokens = [token for row, valid in zip(windows.ids[:, 1:], windows.valid, strict=True) for token in row[valid]]
    assert tokens == [token for ids in encode(backend, texts) for token in ids]
    assert int(windows.characters.sum()) == sum(map(len, texts))


def test_an_epoch_shows_stretches_of_the_text_behind_the_end_of_text_token():
    documents = [np.arange(1, 101), np.arange(1001, 1061)]
    shown = np.concatenate(list(epoch_batches(documents, context=9, batch=2, seed=0, epoch=0)))
    again = np.concatenate(list(epoch_batches(documents, context=9, batch=2, seed=0, epoch=1)))
    assert (shown[:, 0] == 0).all()
    assert (np.diff(shown[:, 1:], axis=1) == 1).all()
    assert len(np.unique(shown[:, 1:])) == shown[:, 1:].size
    assert not np.array_equal(np.sort(shown[:, 1]), np.sort(again[:, 1]))


# The training program


def _run(*, seed: int = 0) -> train.Run:
    texts = [SENTENCES * 12, SENTENCES.upper() * 8]
    tokenizer = train_tokenizer(texts, 280)
    shape = Shape(vocabulary=280, hidden_size=16, blocks=2, heads=2, context=16)
    recipe = train.Recipe(shape=shape, epochs=2, batch=8, seed=seed, warm_up_steps=3)
    return train.Run(recipe, encode(tokenizer, texts), text="tiny", device=torch.device("cpu"))


def _same_bits(first: train.Run, second: train.Run) -> bool:
    pairs = zip(first.model.state_dict().values(), second.model.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_resumed_run_gives_the_bits_of_one_that_was_never_stopped(tmp_path):
    whole = train.train(_run(), tmp_path / "whole.pt")
    assert whole.total > 6
    train.train(_run(), tmp_path / "parts.pt", stop_at=whole.per_epoch + 1)
    resumed = _run()
    resumed.load(tmp_path / "parts.pt")
    train.train(resumed, tmp_path / "parts.pt")
    assert resumed.step == whole.total
    assert _same_bits(whole, resumed)
    assert not _same_bits(whole, train.train(_run(seed=1), tmp_path / "other.pt"))


def test_training_lowers_the_loss_and_leaves_the_callers_random_state_alone(tmp_path):
    run, before = _run(), torch.get_rng_state()
    batch = next(run.batches())
    start = float(train.window_loss(run.model.eval(), batch).detach())
    run.model.train()
    train.train(run, tmp_path / "checkpoint.pt")
    assert float(train.window_loss(run.model.eval(), batch).detach()) < start - 0.3
    assert torch.equal(before, torch.get_rng_state())


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path):
    train.train(_run(), tmp_path / "checkpoint.pt", stop_at=1)
    with pytest.raises(InputError, match="same recipe and text"):
        _run(seed=1).load(tmp_path / "checkpoint.pt")


def test_a_crash_while_writing_leaves_the_last_checkpoint_whole(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    run = train.train(_run(), path, stop_at=2)

    def crash(_, partial):
        Path(partial).write_bytes(b"half a checkpoint")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", crash)
    with pytest.raises(OSError, match="no space"):
        train.train(run, path, stop_at=3)
    fresh = _run()
    fresh.load(path)
    assert fresh.step == 2


def _invoke(command, *arguments):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (None, "expected a folder of .txt files"),
        ({}, "expected at least one .txt file"),
        ({"a.txt": b"\n \n"}, "expected some text"),
        ({"a.txt": b"caf\xe9 au lait"}, "expected text in UTF-8"),
        ({"a.txt": b"One paragraph."}, "expected a text of at least two paragraphs"),
        ({"a.txt": b"One.\n\nTwo."}, "expected text for at least 8 windows"),
    ],
)
def test_unusable_text_ends_in_one_line_and_exit_code_2(tmp_path, files, expected):
    folder = tmp_path / "texts"
    if files is not None:
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
    result = _invoke(train.main, "--text-dir", folder, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr.startswith(expected)
    assert "; remedy: " in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_model_trained_from_a_folder_is_measured_and_described(tmp_path):
    texts, out = tmp_path / "texts", tmp_path / "out"
    texts.mkdir()
    (texts / "rain.txt").write_text("\n\n".join([SENTENCES * 2] * 40), encoding="utf-8")
    small = ("--hidden-size", 48, "--context", 16, "--vocabulary", 300, "--epochs", 1, "--threads", 1)
    trained = _invoke(train.main, "--text-dir", texts, "--out", out, *small)
    assert trained.exit_code == 0, trained.stderr
    measured = _invoke(evaluate.main, "--text-dir", texts, "--model", out, "--resamples", 20, "--threads", 1)
    assert measured.exit_code == 0, measured.stderr
    written = json.loads((out / evaluate.FIGURES).read_text(encoding="utf-8"))
    card = (out / "README.md").read_text(encoding="utf-8")
    for figure in written["held_out"]["model"].values():
        assert f"{figure['value']:.3f}" in card
    assert all(each["text"] in card for each in written["samples"])

    (texts / "rain.txt").write_text("Something else.\n\nAltogether.", encoding="utf-8")
    refused = _invoke(evaluate.main, "--text-dir", texts, "--model", out, "--threads", 1)
    assert refused.exit_code == 2
    assert refused.stderr.startswith("expected the text that the model was trained on")
