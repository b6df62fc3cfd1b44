"""Explains directions of a language model by rules, without another language model.

The rules themselves, their complexity and their null are in :mod:`sensverify.rules`; here a model's token ids get the
strings that rules speak about. A token's string is what it stands for in running text, the space before it included,
which some tokenizers leave out when they decode one token alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pythia.loading import LanguageModel
from sensverify.rule_features import Contexts
from sensverify.rules import Explanation, Explanations, RuleOptions, explain_presence

SPACE_MARKS = ("▁", "Ġ")
"""How tokenizers write the space before a word inside their vocabulary."""
UNDECODABLE = "\ufffd"
ONE = RuleOptions(shuffles=99)
"""For one direction there is time for a finer null."""


def explain(
    model: LanguageModel,
    windows: Tensor,
    presence: Tensor,
    *,
    first_position: int = 0,
    counted: Tensor | None = None,
    options: RuleOptions = ONE,
    seed: int = 0,
) -> Explanation:
    """The rule that best says where one direction is strongly present, and how well it does on held-out windows.

    ``presence [N, L']`` is that of the direction at the positions of ``windows [N, L]`` from ``first_position`` on;
    only those that are ``counted [N, L']``, by default all, are asked about.
    Raises ``ValueError`` for shapes that do not fit and presences that are not finite.
    """
    return explain_all(
        model, windows, presence[None], first_position=first_position, counted=counted, options=options, seed=seed
    ).each[0]  # fmt: skip


def explain_all(
    model: LanguageModel,
    windows: Tensor,
    presence: Tensor,
    *,
    first_position: int = 0,
    counted: Tensor | None = None,
    options: RuleOptions | None = None,
    seed: int = 0,
) -> Explanations:
    """As :func:`explain` for many directions at once, ``presence [K, N, L']``, all on the same halves of the windows.

    Every call with this seed and as many windows makes the same halves, so that groups of directions can be compared.
    """
    generator = torch.Generator().manual_seed(seed)
    return explain_presence(contexts_of(model, windows, first_position, counted), presence, generator, options)


def contexts_of(
    model: LanguageModel, windows: Tensor, first_position: int = 0, counted: Tensor | None = None
) -> Contexts:
    """``windows [N, L]`` with the string of every token in them, and which positions are ``counted [N, L']``."""
    strings = {token: token_string(model, token) for token in torch.unique(windows).tolist()}
    return Contexts(
        tokens=windows.cpu().numpy(), strings=strings, first_position=first_position,
        counted=None if counted is None else counted.cpu().numpy(),
    )  # fmt: skip


def token_string(model: LanguageModel, token: int) -> str:
    """What ``token`` stands for in running text; its raw name if that is no text of its own (part of a character)."""
    raw = str(model.tokenizer.convert_ids_to_tokens(token))
    text = str(model.tokenizer.decode([token], clean_up_tokenization_spaces=False))
    if UNDECODABLE in text or not text:
        return raw
    if raw.startswith(SPACE_MARKS) and not text[0].isspace():
        return " " + text
    return text
