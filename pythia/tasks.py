"""Task sets: prompts with a right and a wrong next word, and how much more likely a model finds the right one.

Two formats are read, as they are published. *Pairs*: JSON lines with ``clean_prefix``, ``clean_answer`` and
``patch_answer``, as subject-verb agreement has them ("The fathers that the chefs" goes on with " do", not " does").
*Prompts*: a JSON list of objects with ``prompt`` and ``answer``, as indirect-object identification has them ("Eleanor
gave a watermelon to" goes on with the other name); the wrong answer is the name that occurs twice.

An item counts only if each answer is one token behind the prompt, else the two likelihoods are of different things. How
many are left out is counted and told: of a model that reads characters it is nearly all of them.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pythia.intervened import Pin, last_log_probabilities
from pythia.loading import LanguageModel
from sensverify.errors import InputError

ITEMS = 128
LOOKED_AT = 1024
"""So many items of a set are used at most, out of the first so many in an order fixed by the seed."""
_PAIR = ("clean_prefix", "clean_answer", "patch_answer")
_PROMPT = ("prompt", "answer")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskItem:
    """A prompt and its two answers, as text that follows it directly."""

    prompt: str
    right: str
    wrong: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskSet:
    """The items of one file."""

    name: str
    items: tuple[TaskItem, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenisedTask:
    """What a tokenizer makes of a set: prompts of ids, BOS in front if there is one, and answers ``[m, 2]``, the right
    one first. Of ``items`` that were looked at ``left_out`` have answers of more than one token, or unknown words."""

    name: str
    prompts: tuple[tuple[int, ...], ...]
    answers: Tensor
    items: int
    left_out: int


def read_tasks(folder: Path) -> tuple[TaskSet, ...]:
    """The sets in all ``*.json`` files below ``folder``, named by their paths.

    Raises :class:`~sensverify.errors.InputError` for a folder without any, and for a file that cannot be read.
    """
    files = sorted(folder.rglob("*.json")) if folder.is_dir() else [folder]
    sets = []
    for file in files:
        items = tuple(_items(_records(file)))
        if items:
            name = file.relative_to(folder).with_suffix("").as_posix() if folder.is_dir() else file.stem
            sets.append(TaskSet(name=name, items=items))
    if not sets:
        raise InputError(
            expected=f"task sets: JSON lines with {', '.join(_PAIR)}, or a JSON list with {', '.join(_PROMPT)}",
            got=f"none in {folder}",
            remedy="pass the folder that holds them as --tasks",
        )
    return tuple(sets)


def _records(file: Path) -> list[Any]:
    try:
        text = file.read_text(encoding="utf-8-sig")
        if text.lstrip().startswith("["):
            return list(json.loads(text))
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            expected="a readable file of JSON, or of JSON lines",
            got=f"{file}: {type(error).__name__}: {error}",
            remedy="check --tasks",
        ) from error


def _items(records: Iterable[Any]) -> Iterable[TaskItem]:
    for record in records:
        if not isinstance(record, dict):
            continue
        if all(isinstance(record.get(key), str) for key in _PAIR):
            yield TaskItem(prompt=record[_PAIR[0]], right=record[_PAIR[1]], wrong=record[_PAIR[2]])
        elif all(isinstance(record.get(key), str) for key in _PROMPT):
            prompt, right = record["prompt"], record["answer"].strip()
            names = collections.Counter(re.findall(r"\b[A-Z]\w+", prompt))
            twice = [name for name, count in names.items() if count > 1 and name != right]
            if len(twice) == 1:
                yield TaskItem(prompt=prompt.rstrip(), right=f" {right}", wrong=f" {twice[0]}")


def tokenise(model: LanguageModel, task: TaskSet, *, seed: int) -> TokenisedTask:
    """The set in the model's tokens, at most :data:`ITEMS` of what can be used."""
    order = torch.randperm(len(task.items), generator=torch.Generator().manual_seed(seed))[:LOOKED_AT].tolist()
    prompts, answers, left_out = [], [], 0
    longest = int(getattr(model.config, "max_position_embeddings", 2**31))
    for number in order:
        ids = _ids(model, task.items[number])
        if ids is None or len(ids[0]) > longest:
            left_out += 1
        elif len(prompts) < ITEMS:
            prompts.append(ids[0])
            answers.append(ids[1:])
    return TokenisedTask(
        name=task.name,
        prompts=tuple(prompts),
        answers=torch.tensor(answers, dtype=torch.long).view(-1, 2),
        items=len(order),
        left_out=left_out,
    )


def _ids(model: LanguageModel, item: TaskItem) -> tuple[tuple[int, ...], int, int] | None:
    """Prompt, right and wrong answer; None unless each answer is one more token, another one, and all is known.

    A special token in what is text stands for something that the tokenizer does not know, even where it is called BOS.
    """
    prompt = _encode(model, item.prompt)
    if not prompt:
        return None
    ends = []
    for answer in (item.right, item.wrong):
        # Tokenised behind the prompt: by itself a word may be given a mark of its own.
        whole = _encode(model, item.prompt + answer)
        if not whole or len(whole) != len(prompt) + 1 or whole[:-1] != prompt:
            return None
        ends.append(whole[-1])
    known = range(model.vocabulary)
    special = {*model.tokenizer.all_special_ids, model.tokenizer.unk_token_id}
    if ends[0] == ends[1] or any(token not in known or token in special for token in [*prompt, *ends]):
        return None
    prefix = [] if model.bos is None else [model.bos]
    return (*prefix, *prompt), ends[0], ends[1]


def _encode(model: LanguageModel, text: str) -> list[int] | None:
    """None for text that the tokenizer has no tokens for and says so by an error, which may be of any kind."""
    try:
        return list(model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    except Exception:
        return None


def log_odds(model: LanguageModel, task: TokenisedTask, pin: Pin | None = None) -> Tensor:
    """``log p(right) − log p(wrong)`` of each item, ``[m]``, in nats; prompts of like length are run together."""
    lengths: dict[int, list[int]] = collections.defaultdict(list)
    for number, prompt in enumerate(task.prompts):
        lengths[len(prompt)].append(number)
    odds = torch.zeros(len(task.prompts))
    for numbers in lengths.values():
        prompts = _table([task.prompts[number] for number in numbers], model)
        answers = task.answers[numbers].to(model.device)
        both = last_log_probabilities(model, prompts, answers, pin, first=0 if model.bos is None else 1)
        odds[numbers] = (both[:, 0] - both[:, 1]).cpu()
    return odds


def _table(rows: Sequence[Sequence[int]], model: LanguageModel) -> Tensor:
    return torch.tensor([list(row) for row in rows], device=model.device)
