"""Subjects that tests share: tiny random language models, made on the spot, in Hugging Face layout."""

from __future__ import annotations

import os
import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell leaves it to jobs in the background; tests interrupt
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does; read when torch is imported

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

WORDS = tuple("the quick brown fox jumps over the lazy dog while seven wise owls watch from old oaks".split())  # noqa: SIM905


def sentences(count: int, seed: int = 0) -> str:
    """``count`` random sentences over a few words: enough text for a tiny tokenizer and a tiny model."""
    generator = torch.Generator().manual_seed(seed)
    picks = torch.randint(len(WORDS), (count, 8), generator=generator).tolist()
    return "\n".join(" ".join(WORDS[i] for i in row).capitalize() + "." for row in picks)


@pytest.fixture(scope="session")
def tiny_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "tiny.txt"
    path.write_text(sentences(400), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def make_model_folder(tmp_path_factory: pytest.TempPathFactory, tiny_text: Path) -> Callable[..., Path]:
    """A function that writes a random GPT-NeoX with a tokenizer to a new folder; keywords go to its config."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")

    def make(*, seed: int = 0, **overrides: object) -> Path:
        folder = tmp_path_factory.mktemp("model")
        tokenizer = tokenizers.ByteLevelBPETokenizer()
        tokenizer.train([str(tiny_text)], vocab_size=300, special_tokens=["<|endoftext|>"], show_progress=False)
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer._tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>"
        ).save_pretrained(folder)
        settings = {
            "vocab_size": 300,
            "hidden_size": 32,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "max_position_embeddings": 64,
        }
        config = transformers.GPTNeoXConfig(**{**settings, **overrides})
        torch.manual_seed(seed)
        network = transformers.GPTNeoXForCausalLM(config)
        with torch.no_grad():  # the default initialisation is so small that blocks are nearly the identity
            for parameter in network.parameters():
                parameter.mul_(6.0) if parameter.ndim > 1 else parameter.add_(0.1 * torch.randn_like(parameter))
        network.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_model_folder(make_model_folder: Callable[..., Path]) -> Path:
    return make_model_folder()
