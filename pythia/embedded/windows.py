"""Windows of tokens: drawn afresh every epoch for training, cut once and for all for evaluation.

A window is ``context`` tokens preceded by the end-of-text token (id 0). Nothing before a window is visible to
whatever predicts it: this reset is the rule for the network and for the baselines alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sensverify.errors import InputError

Ids = NDArray[np.int64]


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Ids]:
    """Token ids of each text, [tokens], with no special token added."""
    encodings = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    return [np.asarray(encoding.ids, dtype=np.int64) for encoding in encodings]


def batches_per_epoch(documents: Sequence[Ids], *, context: int, batch: int) -> int:
    """How many batches every epoch can fill, whatever offsets it draws.

    Raises:
        InputError: the text is too short for one batch.
    """
    windows = sum(max(0, (len(ids) - context + 1) // context) for ids in documents)
    if windows < batch:
        raise InputError(
            expected=f"text for at least {batch} windows of {context} tokens",
            got=f"text for {windows}",
            remedy="give more text, or lower --batch or --context",
        )
    return windows // batch


def epoch_batches(documents: Sequence[Ids], *, context: int, batch: int, seed: int, epoch: int) -> Iterator[Ids]:
    """One epoch's batches, [batch, context + 1], drawn from (seed, epoch) alone.

    Each document is cut into consecutive windows from an offset of its own, new every epoch, so that a token
    is met at another distance from the window's start each time. The order of all windows is shuffled.
    """
    generator = np.random.default_rng((seed, epoch))
    windows = []
    for ids in documents:
        offset = int(generator.integers(context))
        usable = max(0, (len(ids) - offset) // context) * context
        windows.append(ids[offset : offset + usable].reshape(-1, context))
    pool = np.concatenate(windows)
    order = generator.permutation(len(pool))
    for step in range(batches_per_epoch(documents, context=context, batch=batch)):
        yield _open(pool[order[step * batch : (step + 1) * batch]])


def _open(windows: Ids) -> Ids:
    """Put the end-of-text token in front of each window."""
    return np.pad(windows, ((0, 0), (1, 0)), constant_values=0)


@dataclass(frozen=True)
class EvaluationWindows:
    """Consecutive windows that cover every token of some documents exactly once.

    Attributes:
        ids: int64 [windows, context + 1]; column 0 is the end-of-text token; the tail of a document's last
            window is filled with 0.
        valid: bool [windows, context]; whether column ``i + 1`` of ``ids`` is a token to predict.
        characters: int64 [windows]; characters that the window's tokens complete; in all, the text's length.
        document: int64 [windows]; the document that the window is cut from.
    """

    ids: Ids
    valid: NDArray[np.bool_]
    characters: Ids
    document: Ids

    @property
    def tokens(self) -> Ids:
        """Tokens to predict in each window, int64 [windows]."""
        return self.valid.sum(axis=1, dtype=np.int64)

    def take(self, chosen: slice | NDArray[np.bool_]) -> EvaluationWindows:
        """The chosen windows only."""
        return EvaluationWindows(self.ids[chosen], self.valid[chosen], self.characters[chosen], self.document[chosen])


def evaluation_windows(tokenizer: Tokenizer, texts: Sequence[str], *, context: int) -> EvaluationWindows:
    """Cut each text into consecutive windows of ``context`` tokens; the last one may be shorter.

    Raises:
        InputError: there is no text at all.
    """
    rows, valid, characters, document = [], [], [], []
    for number, encoding in enumerate(tokenizer.encode_batch(list(texts), add_special_tokens=False)):
        tokens = encoding.ids
        ends = np.asarray([end for _, end in encoding.offsets], dtype=np.int64)
        for start in range(0, len(ends), context):
            ids = tokens[start : start + context]
            rows.append([0, *ids, *[0] * (context - len(ids))])
            valid.append(np.arange(context) < len(ids))
            characters.append(ends[start + len(ids) - 1] - (ends[start - 1] if start else 0))
            document.append(number)
    if not rows:
        raise InputError(expected="some text to evaluate on", got="none", remedy="give a text that is not empty")
    return EvaluationWindows(
        np.asarray(rows, dtype=np.int64),
        np.asarray(valid),
        np.asarray(characters, dtype=np.int64),
        np.asarray(document, dtype=np.int64),
    )
