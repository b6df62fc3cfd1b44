"""Transformers with planted features: directions that are known, and effects that reach only later positions.

The residual stream, less the all-ones direction that LayerNorm cannot see, holds three orthogonal subspaces of equal
dimension ``m``, joined by fixed isometries.

- ``A``: every token's embedding is a sum of few of ``n > m`` *planted features*, random unit vectors in ``A``
  (superposition), plus a little noise in all directions. Block 0 does nothing.
- ``B``: block 1 has one head. Query and key are constant, so that rotary positions alone decide the pattern: nearly all
  attention goes to the token before. Its values carry ``A`` and nothing else, to ``B``.
- ``C``: block 2 has one ReLU unit per feature. Unit ``i`` fires when the copy of feature ``i`` in ``B`` is present
  enough, and writes a copy of the feature to ``C``. The unembedding reads ``C``: tokens that share features with the
  token before are predicted.

So what block 0 puts at ``p`` is felt at ``p + 1`` through attention alone, and only as far as it lies in ``A``. The
features are the ground truth; every direction orthogonal to ``A`` is a negative control. It is not without effect: the
intervention, and LayerNorm without it, takes from ``A`` what it gives elsewhere (RN-3), by exactly
``√((1−α²)/(1−ρ²))``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from sensverify import __version__
from sensverify.directions import DirectionSet, save_directions
from sensverify.errors import InputError, MissingExtraError
from sensverify.files import make_directory, write_atomically
from sensverify.geometry import Centring, unit_directions
from toy_models.transformer import Attention, Block, Linear, Mlp, Norm, Transformer, rotary_frequencies

LAYER, TARGET = 0, 2
"""Where the features are planted, and where their units are."""

UNKNOWN = "[UNK]"
LONGEST_CONTEXT = 512


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlantingConfig:
    """How features are planted.

    ``features``: ``n``, in ``m = (width - 1) // 3`` dimensions. A token has from 1 to ``most_active`` features of
    weight ``U(1/2, 1)``; ``noise`` is the length of what is added to an embedding of length 1. A unit fires above the
    presence ``threshold``, and writes ``write`` times what is above, in lengths of an embedding. ``sharpness`` is how
    strongly the head prefers the token before.

    Raises :class:`~sensverify.errors.InputError` for a width that is odd or too small, or more features than there are.
    """

    features: int = 64
    width: int = 96
    tokens: int = 512
    most_active: int = 8
    noise: float = 0.1
    threshold: float = 0.2
    write: float = 4.0
    sharpness: float = 10.0

    def __post_init__(self) -> None:
        if not 1 <= self.most_active <= self.features or self.width < 8 or self.width % 2:
            raise InputError(
                expected="an even width of at least 8 and no more features per token than there are",
                got=f"width {self.width}, {self.most_active} of {self.features} features",
                remedy="change width, features or most_active",
            )

    @property
    def dimension(self) -> int:
        """``m``, the dimension of each of the three subspaces."""
        return (self.width - 1) // 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planted:
    """A transformer, and what is planted in it.

    ``carried``, ``copied`` and ``written`` ``[m, d]`` are orthonormal bases of ``A``, ``B`` and ``C``; ``features
    [n, d]`` the unit directions in ``A``; ``codes [V, n]`` says how much of each feature a token has.
    """

    config: PlantingConfig
    seed: int
    transformer: Transformer
    carried: Tensor
    copied: Tensor
    written: Tensor
    features: Tensor
    codes: Tensor

    def windows(self, count: int, length: int, generator: torch.Generator) -> Tensor:
        """``[count, length]``: every token drawn uniformly, but for the last one, which stands for unknown words."""
        return torch.randint(self.config.tokens, (count, length), generator=generator)

    def without_values(self) -> Planted:
        """The same with the attention's value path cut: nothing passes between positions."""
        blocks = tuple(dataclasses.replace(block, attention=None) for block in self.transformer.blocks)
        return dataclasses.replace(self, transformer=dataclasses.replace(self.transformer, blocks=blocks))

    def describe(self) -> Mapping[str, Any]:
        """Plain JSON."""
        overlap = (self.features @ self.features.T).fill_diagonal_(0)
        return {
            **dataclasses.asdict(self.config),
            "seed": self.seed,
            "dimension_of_each_subspace": self.config.dimension,
            "coherence": float(overlap.max()),
            "weights_sha256": self.transformer.digest(),
        }


def plant(config: PlantingConfig, seed: int) -> Planted:
    """A transformer with features planted at random, all chance from ``seed``."""
    generator = torch.Generator().manual_seed(seed)
    d, m, n = config.width, config.dimension, config.features
    frame = torch.randn(d, 3 * m, generator=generator, dtype=torch.float64)
    frame = torch.linalg.qr(torch.cat([torch.ones(d, 1, dtype=torch.float64), frame], 1)).Q[:, 1:].T.float()
    carried, copied, written = frame.split(m)
    coordinates = torch.nn.functional.normalize(torch.randn(n, m, generator=generator))
    codes = _codes(config, generator)
    meaning = torch.nn.functional.normalize(codes @ coordinates)
    noise = Centring.MEAN.project(torch.randn(len(codes), d, generator=generator))
    embedding = unit_directions(meaning @ carried + config.noise * torch.nn.functional.normalize(noise), Centring.MEAN)

    def norm() -> Norm:
        return Norm(torch.ones(d), torch.zeros(d))

    transformer = Transformer(
        embedding=embedding,
        blocks=(
            Block(norm(), norm()),
            Block(norm(), norm(), attention=_token_before(config, carried, copied)),
            Block(norm(), norm(), mlp=_detectors(config, coordinates @ copied, coordinates @ written)),
        ),
        final_norm=norm(),
        unembedding=meaning @ written,
    )
    return Planted(
        config=config, seed=seed, transformer=transformer, carried=carried, copied=copied, written=written,
        features=coordinates @ carried, codes=codes,
    )  # fmt: skip


def _codes(config: PlantingConfig, generator: torch.Generator) -> Tensor:
    """``[V + 1, n]``: the weights of each token's features; the last row is the unknown token's."""
    rows = config.tokens + 1
    order = torch.rand(rows, config.features, generator=generator).argsort(1)
    active = torch.randint(1, config.most_active + 1, (rows, 1), generator=generator)
    weights = 0.5 + 0.5 * torch.rand(rows, config.features, generator=generator)
    return torch.where(order < active, weights, 0.0)


def _token_before(config: PlantingConfig, carried: Tensor, copied: Tensor) -> Attention:
    """One head on the token before, carrying ``A`` to ``B``: an embedding in ``A`` arrives with length 1."""
    d = config.width
    frequencies = rotary_frequencies(d, Transformer.rotary_base)
    half = len(frequencies)
    # Score of a key j places back: Σ_r cos((j − 1)θ_r), largest for j = 1, whatever query and key position.
    size = (config.sharpness * d**0.5) ** 0.5
    query = torch.cat([frequencies.cos(), -frequencies.sin()]) * size
    key = torch.cat([torch.ones(half), torch.zeros(half)]) * size
    none = torch.zeros(d)
    return Attention(
        query=Linear(None, query),
        key=Linear(None, key),
        value=Linear(copied.T @ carried / math.sqrt(d), none),
        out=Linear(torch.eye(d), none),
    )


def _detectors(config: PlantingConfig, read: Tensor, write: Tensor) -> Mlp:
    """One unit per feature, ``write·max(0, presence − threshold)`` in the clean run.

    There the stream at ``p + 1`` is an embedding of length 1 plus a copy of length 1: LayerNorm brings both to
    ``√(d/2)``.
    """
    scale = config.write * math.sqrt(2 / config.width)
    bias = torch.full((len(read),), -config.write * config.threshold)
    return Mlp(enter=Linear(scale * read, bias), out=Linear(write.T.contiguous(), torch.zeros(config.width)))


def words(planted: Planted) -> list[str]:
    """The vocabulary: each token's number and its features, as ``w007:f03+f41``; last the unknown word."""
    active = [row.nonzero()[:, 0].tolist() for row in planted.codes[:-1]]
    return [f"w{i:03d}:" + "+".join(f"f{j:02d}" for j in row) for i, row in enumerate(active)] + [UNKNOWN]


def export(planted: Planted, folder: Path, *, text_words: int = 40_000) -> Path:
    """Write ``planted`` as a model folder in Hugging Face layout (GPT-NeoX), with a tokenizer and a text of its words.

    Beside ``config.json``, ``model.safetensors`` and the tokenizer there are ``text.txt``, ``text_words`` words as the
    model's contexts are drawn, and ``planted/directions.safetensors``, the planted features, bound to these weights.
    ``sensverify discover --model FOLDER --layer 0 --target 2 --offset 1 --text FOLDER/text.txt --out OUT`` searches it.
    Returns ``folder``. Raises :class:`~sensverify.errors.MissingExtraError` without the extra ``lm`` and
    :class:`~sensverify.errors.InputError` for a folder that cannot be written.
    """
    vocabulary = words(planted)
    tokenizer = _tokenizer(vocabulary)
    make_directory(folder)
    write_atomically(folder / "config.json", json.dumps(neox_config(planted.transformer), indent=1) + "\n")
    write_atomically(
        folder / "model.safetensors",
        safetensors.torch.save(neox_weights(planted.transformer), metadata={"format": "pt"}),
    )
    write_atomically(folder / "tokenizer.json", tokenizer)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": UNKNOWN, "model_max_length": LONGEST_CONTEXT}
    write_atomically(folder / "tokenizer_config.json", json.dumps(settings, indent=1) + "\n")
    lines = planted.windows(-(-text_words // 16), 16, torch.Generator().manual_seed(planted.seed)).tolist()
    write_atomically(folder / "text.txt", "\n".join(" ".join(vocabulary[i] for i in line) for line in lines) + "\n")
    make_directory(folder / "planted")
    site = {"model": str(folder), "revision": None, "layer": LAYER, "target": TARGET, "offset": 1,
            "hook_name": f"blocks.{LAYER}.hook_resid_post", "weights_sha256": _digest(folder),
            "version": __version__, "planted": planted.describe()}  # fmt: skip
    save_directions(folder / "planted", DirectionSet(directions=planted.features, config=site))
    return folder


def _tokenizer(vocabulary: list[str]) -> str:
    """``tokenizer.json``: words between white space."""
    try:
        import tokenizers
    except ImportError as error:
        raise MissingExtraError(package="tokenizers", extra="lm") from error
    model = tokenizers.models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token=UNKNOWN)
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    written: str = tokenizer.to_str(pretty=True)
    return written


def neox_config(model: Transformer) -> dict[str, Any]:
    """``config.json`` of a GPT-NeoX with these weights."""
    return {
        "architectures": ["GPTNeoXForCausalLM"],
        "model_type": "gpt_neox",
        "vocab_size": len(model.embedding),
        "hidden_size": model.width,
        "num_hidden_layers": len(model.blocks),
        "num_attention_heads": model.heads,
        "intermediate_size": _units(model),
        "hidden_act": "relu",
        "max_position_embeddings": LONGEST_CONTEXT,
        "layer_norm_eps": model.final_norm.epsilon,
        "use_parallel_residual": True,
        "attention_bias": True,
        "tie_word_embeddings": False,
        "rotary_pct": 1.0,  # these two for older readers of the format, the next for newer ones
        "rotary_emb_base": model.rotary_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": model.rotary_base, "partial_rotary_factor": 1.0},
        "bos_token_id": None,
        "eos_token_id": None,
        "torch_dtype": "float32",
    }


def _units(model: Transformer) -> int:
    return max((len(block.mlp.enter.bias) for block in model.blocks if block.mlp), default=1)


def neox_weights(model: Transformer) -> dict[str, Tensor]:
    """The weights under the names and in the layout of GPT-NeoX; parts that a block lacks are zero.

    Query, key and value of one head lie next to each other in ``query_key_value``.
    """
    d, units = model.width, _units(model)
    named: dict[str, Tensor] = {"gpt_neox.embed_in.weight": model.embedding, "embed_out.weight": model.unembedding}

    def put(name: str, linear: Linear | None, rows: int, columns: int) -> None:
        weight = None if linear is None else linear.weight
        named[f"{name}.weight"] = torch.zeros(rows, columns) if weight is None else weight
        named[f"{name}.bias"] = torch.zeros(rows) if linear is None else linear.bias

    def put_norm(name: str, norm: Norm) -> None:
        named[f"{name}.weight"], named[f"{name}.bias"] = norm.gain, norm.shift

    for i, block in enumerate(model.blocks):
        prefix = f"gpt_neox.layers.{i}"
        put_norm(f"{prefix}.input_layernorm", block.norm_1)
        put_norm(f"{prefix}.post_attention_layernorm", block.norm_2)
        attention, mlp = block.attention, block.mlp
        joint = None
        if attention is not None:
            parts = (attention.query, attention.key, attention.value)
            tables = [torch.zeros(d, d) if part.weight is None else part.weight for part in parts]
            by_head = torch.stack([table.view(model.heads, -1, d) for table in tables], 1)
            biases = torch.stack([part.bias.view(model.heads, -1) for part in parts], 1)
            joint = Linear(by_head.reshape(3 * d, d), biases.flatten())
        put(f"{prefix}.attention.query_key_value", joint, 3 * d, d)
        put(f"{prefix}.attention.dense", attention.out if attention else None, d, d)
        put(f"{prefix}.mlp.dense_h_to_4h", mlp.enter if mlp else None, units, d)
        put(f"{prefix}.mlp.dense_4h_to_h", mlp.out if mlp else None, d, units)
    put_norm("gpt_neox.final_layer_norm", model.final_norm)
    return {name: tensor.detach().clone().contiguous() for name, tensor in named.items()}


def _digest(folder: Path) -> str:
    """What directions are bound to: sha256 over names, shapes, dtypes and bytes of the weights, in the order of names.

    Names are those that the weights have when loaded, which differ from those on disk and between versions of the
    library; so they are loaded.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError(package="transformers", extra="lm") from error
    loader: Any = transformers
    loader.logging.disable_progress_bar()
    network = loader.GPTNeoXForCausalLM.from_pretrained(folder, use_safetensors=True)
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
