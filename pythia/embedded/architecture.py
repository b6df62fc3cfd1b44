"""The tokenizer and the network, and how both are written to a folder in Hugging Face layout.

The network is Pythia's in the small: parallel residual, rotary positions on a quarter of each head, an
untied read-out. Its initial weights follow GPT-NeoX too (``small_init`` and ``wang_init``): they scale with
width and depth, where the library's flat 0.02 is meant for widths in the thousands.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from pythia.embedded import END_OF_TEXT
from sensverify.errors import InputError

WEIGHTS = "model.safetensors"

_SETTINGS = (
    "attention_bias",
    "attention_dropout",
    "bos_token_id",
    "eos_token_id",
    "hidden_act",
    "hidden_dropout",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "layer_norm_eps",
    "max_position_embeddings",
    "model_type",
    "num_attention_heads",
    "num_hidden_layers",
    "rope_parameters",
    "tie_word_embeddings",
    "use_cache",
    "use_parallel_residual",
    "vocab_size",
)


@dataclass(frozen=True)
class Shape:
    """Sizes of the network.

    Raises:
        InputError: a quarter of a head is not an even number of dimensions, which rotary positions need.
    """

    vocabulary: int = 2048
    hidden_size: int = 192
    blocks: int = 6
    heads: int = 6
    context: int = 256

    def __post_init__(self) -> None:
        if self.hidden_size % (8 * self.heads):
            raise InputError(
                expected=f"a hidden size that is a multiple of {8 * self.heads} (8 times the heads)",
                got=str(self.hidden_size),
                remedy=f"pass --hidden-size {max(1, self.hidden_size // (8 * self.heads)) * 8 * self.heads}",
            )


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Byte-level BPE with ``END_OF_TEXT`` as token 0; all 256 bytes are kept, so no text is unknown to it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    return tokenizer


def build_model(shape: Shape, *, dropout: float, seed: int) -> GPTNeoXForCausalLM:
    """Build a float32 network with freshly drawn weights, the same for the same seed.

    Dropout acts on the embeddings and on what each half-block adds to the residual stream, not on attention
    weights: there it would rule out the fused attention kernel, and with it a third of the speed on a CPU.
    """
    config = GPTNeoXConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.blocks,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.hidden_size,
        max_position_embeddings=shape.context,
        hidden_act="gelu",
        hidden_dropout=dropout,
        attention_dropout=0.0,
        use_parallel_residual=True,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=math.sqrt(2 / (5 * shape.hidden_size)),
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPTNeoXForCausalLM(config)
        deviation = 2 / (shape.blocks * math.sqrt(shape.hidden_size))
        for block in model.gpt_neox.layers:
            for writer in (block.attention.dense, block.mlp.dense_4h_to_h):
                torch.nn.init.normal_(writer.weight, std=deviation)
    return model


def export(model: GPTNeoXForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Write float16 weights, configuration and tokenizer to ``folder``, for transformers to open offline."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().cpu().half().contiguous() for name, value in model.state_dict().items()}
    (folder / WEIGHTS).write_bytes(save(weights, metadata={"format": "pt"}))
    _write_json(folder / "config.json", _configuration(model.config))
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": END_OF_TEXT,
            "eos_token": END_OF_TEXT,
            "model_max_length": model.config.max_position_embeddings,
            "clean_up_tokenization_spaces": False,
        },
    )


def _configuration(config: GPTNeoXConfig) -> dict[str, Any]:
    """The settings that decide what the network computes, under the names of transformers 4 and 5 alike."""
    return {name: getattr(config, name) for name in _SETTINGS} | {
        "architectures": ["GPTNeoXForCausalLM"],
        "dtype": "float16",
        "rotary_emb_base": config.rope_parameters["rope_theta"],
        "rotary_pct": config.rope_parameters["partial_rotary_factor"],
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
