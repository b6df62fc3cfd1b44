"""Measure the shipped model: ``python -m pythia.embedded.evaluate --text-dir FOLDER``.

Writes ``figures.json``, ``held_out_pages.txt`` and ``README.md`` beside the weights. What is measured is what
is shipped: the float16 weights, loaded as float32. Every model scores the same tokens in the same windows,
each token given those before it in its window and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from pythia.embedded import FOLDER, HELD_OUT_PAGES
from pythia.embedded.architecture import WEIGHTS
from pythia.embedded.baselines import Baselines, Floats, fit_baselines
from pythia.embedded.card import CARD, write_card
from pythia.embedded.text import Novel, fingerprint, held_out_pages, read_novels, split_pages
from pythia.embedded.train import RECORD
from pythia.embedded.windows import EvaluationWindows, encode, evaluation_windows
from sensverify.errors import InputError

FIGURES = "figures.json"
PAGE_CHARACTERS = 17_500
SAMPLE_SEEDS = (0, 1, 2)
SAMPLE_TEMPERATURE = 0.8
SAMPLE_TOKENS = 200
TRAINING_STRIDE = 20


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are drawn: percentiles over ``resamples`` draws of whole windows, with replacement."""

    resamples: int = 10_000
    seed: int = 0

    def ratio(self, nats: Floats, units: np.ndarray) -> dict[str, float]:
        """Sum of ``nats`` [windows] over sum of ``units`` [windows], with its 95 % interval."""
        weights = _draws(self, len(nats))
        low, high = np.percentile((weights @ nats) / (weights @ units), [2.5, 97.5])
        value = nats.sum() / units.sum()
        return {"value": round(float(value), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


@lru_cache(maxsize=4)
def _draws(bootstrap: Bootstrap, windows: int) -> Floats:
    """How often each window is drawn, float64 [resamples, windows]: the same for all models, so they pair up."""
    generator = np.random.default_rng(bootstrap.seed)
    shares = np.full(windows, 1 / windows)
    return generator.multinomial(windows, shares, size=bootstrap.resamples).astype(np.float64)


def load(folder: Path) -> tuple[GPTNeoXForCausalLM, PreTrainedTokenizerFast]:
    """Open a folder in Hugging Face layout, offline, weights as float32, ready to evaluate.

    Raises:
        InputError: the folder holds no weights.
    """
    if not (folder / WEIGHTS).is_file():
        raise InputError(
            expected=f"{WEIGHTS} in {folder}",
            got="none",
            remedy="train first: python -m pythia.embedded.train",
        )
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return model.eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True)


@torch.inference_mode()
def model_nats(model: GPTNeoXForCausalLM, windows: EvaluationWindows, *, batch: int = 16) -> Floats:
    """Negative log-likelihood of each token under the network, [windows, context]; 0 where there is none."""
    ids = torch.from_numpy(windows.ids)
    rows = []
    for chunk in ids.split(batch):
        logits = model(input_ids=chunk[:, :-1], use_cache=False).logits
        rows.append(F.cross_entropy(logits.mT, chunk[:, 1:], reduction="none").double().numpy())
    return np.where(windows.valid, np.concatenate(rows), 0.0)


@torch.inference_mode()
def sample(model: GPTNeoXForCausalLM, *, seed: int, tokens: int, temperature: float) -> list[int]:
    """Draw ``tokens`` ids after a lone end-of-text token, from the softmax of logits / ``temperature``."""
    generator = torch.Generator().manual_seed(seed)
    ids, cache, latest = [], None, torch.zeros(1, 1, dtype=torch.int64)
    for _ in range(tokens):
        output = model(input_ids=latest, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        probabilities = torch.softmax(output.logits[:, -1] / temperature, dim=-1)
        latest = torch.multinomial(probabilities, 1, generator=generator)
        ids.append(int(latest))
    return ids


def compare(
    nats: Mapping[str, Floats], windows: EvaluationWindows, bootstrap: Bootstrap
) -> dict[str, dict[str, dict[str, float]]]:
    """Nats per token and per character of each named model, from its nats per token [windows, context]."""
    return {
        name: {
            "nats_per_token": bootstrap.ratio(each.sum(axis=1), windows.tokens),
            "nats_per_character": bootstrap.ratio(each.sum(axis=1), windows.characters),
        }
        for name, each in nats.items()
    }


def measure(
    model: GPTNeoXForCausalLM, baselines: Baselines, windows: EvaluationWindows, bootstrap: Bootstrap
) -> dict[str, Any]:
    """Score network and baselines on the same windows.

    ``trigram_minus_model`` is the paired difference, its interval drawn from the same windows for both.
    """
    nats = {
        "model": model_nats(model, windows),
        "trigram": baselines.trigram_nats(windows),
        "unigram": baselines.unigram_nats(windows),
    }
    nats["trigram_minus_model"] = nats["trigram"] - nats["model"]
    counts = {
        "windows": len(windows.ids),
        "tokens": int(windows.tokens.sum()),
        "characters": int(windows.characters.sum()),
    }
    return counts | compare(nats, windows, bootstrap)


def figures(folder: Path, novels: list[Novel], bootstrap: Bootstrap) -> dict[str, Any]:
    """Every figure of the model card, measured on the model in ``folder``.

    Raises:
        InputError: the folder holds no trained model, or ``novels`` is not the text it was trained on.
    """
    if not (folder / RECORD).is_file():
        raise InputError(
            expected=f"{RECORD} in {folder}", got="none", remedy="train first: python -m pythia.embedded.train"
        )
    training = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    if training["text_sha256"] != fingerprint(novels):
        raise InputError(
            expected="the text that the model was trained on",
            got="another one, by its SHA-256",
            remedy="pass the same --text-dir as to train, or train on this one",
        )
    model, tokenizer = load(folder)
    backend = tokenizer.backend_tokenizer
    context = model.config.max_position_embeddings
    training_texts = [novel.training for novel in novels]
    held_out_texts = [novel.held_out for novel in novels]
    baselines = fit_baselines(encode(backend, training_texts), vocabulary=model.config.vocab_size)

    held_out = evaluation_windows(backend, held_out_texts, context=context)
    pages = split_pages(held_out_pages(novels, characters_each=PAGE_CHARACTERS))
    seen = evaluation_windows(backend, training_texts, context=context).take(slice(None, None, TRAINING_STRIDE))
    unbroken = baselines.unbroken_trigram_nats(encode(backend, held_out_texts)) / held_out.tokens.sum()
    return {
        "schema": 1,
        "weights": {
            "sha256": hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest(),
            "stored_as": "float16",
            "measured_as": "float32",
            "parameters": model.num_parameters(),
        },
        "bootstrap": {
            "over": "windows",
            "resamples": bootstrap.resamples,
            "seed": bootstrap.seed,
            "level": 0.95,
        },
        "window_tokens": context,
        "held_out": measure(model, baselines, held_out, bootstrap)
        | {"trigram_with_unbroken_context_nats_per_token": round(float(unbroken), 4)},
        "held_out_pages": measure(model, baselines, evaluation_windows(backend, pages, context=context), bootstrap),
        "training_sample": {
            "every_nth_window": TRAINING_STRIDE,
            **measure(model, baselines, seen, bootstrap),
        },
        "samples": [
            {
                "seed": seed,
                "temperature": SAMPLE_TEMPERATURE,
                "tokens": SAMPLE_TOKENS,
                "text": tokenizer.decode(ids),
            }
            for seed in SAMPLE_SEEDS
            for ids in [sample(model, seed=seed, tokens=SAMPLE_TOKENS, temperature=SAMPLE_TEMPERATURE)]
        ],
        "training": training,
    }


def main(
    text_dir: Annotated[Path, typer.Option(help="The folder of .txt files that the model was trained on.")],
    model: Annotated[Path, typer.Option(help="Folder of the model; the files are written there.")] = FOLDER,
    resamples: Annotated[int, typer.Option(min=1, help="Bootstrap draws.")] = Bootstrap.resamples,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
) -> None:
    """Measure MODEL against count-based baselines and write its figures, its held-out pages and its card."""
    try:
        torch.set_num_threads(threads)
        novels = read_novels(text_dir)
        measured = figures(model, novels, Bootstrap(resamples=resamples))
        pages = held_out_pages(novels, characters_each=PAGE_CHARACTERS)
        (model / HELD_OUT_PAGES.name).write_text(pages, encoding="utf-8")
        (model / FIGURES).write_text(json.dumps(measured, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (model / CARD).write_text(write_card(measured, pages), encoding="utf-8")
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(2) from error
    for name in ("model", "trigram", "unigram"):
        value = measured["held_out"][name]["nats_per_token"]
        typer.echo(f"{name}: {value['value']} nats/token held out, 95 % [{value['low']}, {value['high']}]")


if __name__ == "__main__":
    typer.run(main)
