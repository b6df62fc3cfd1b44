"""From a folder of novels to training and held-out text: clean, then split.

The clean-up is the same for every part of every novel, and characters are always counted after it:

* lines are unwrapped: inside a paragraph, a line break becomes one space;
* runs of spaces and tabs become one space, and paragraphs are separated by exactly one blank line;
* a closing section headed ``A NOTE ON THE TEXT`` is cut: it is a modern editor's, not the author's.

The last 5 % of each novel, from the first paragraph that begins at or after the 95 % mark, is held out. It is
a contiguous stretch because paragraphs drawn at random would leave their neighbours, and so their names and
phrases, in the training part.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sensverify.errors import InputError

HELD_OUT_SHARE = 0.05
PARAGRAPH_BORDER = "\n\n"
DOCUMENT_BORDER = "\n\f\n"

_EDITORS_NOTE = re.compile(r"\n\s*A NOTE ON THE TEXT\s*\n.*\Z", re.DOTALL)
_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")
_SPACES = re.compile(r"[ \t\n]+")


@dataclass(frozen=True)
class Novel:
    """One cleaned document and its two parts, which do not overlap and together are the whole of it."""

    name: str
    training: str
    held_out: str


def clean(raw: str) -> str:
    r"""Unwrap hard-wrapped lines, squeeze blank space, and cut a modern editor's closing note.

    >>> clean("CHAPTER I\n\n\nIt is a truth\nuniversally  acknowledged,\n\n\n\nthat\n")
    'CHAPTER I\n\nIt is a truth universally acknowledged,\n\nthat'
    """
    text = _EDITORS_NOTE.sub("", raw.replace("\r\n", "\n").replace("\f", "\n"))
    paragraphs = (_SPACES.sub(" ", block).strip() for block in _BLANK_LINES.split(text))
    return PARAGRAPH_BORDER.join(paragraph for paragraph in paragraphs if paragraph)


def split(text: str, *, held_out_share: float = HELD_OUT_SHARE) -> tuple[str, str]:
    r"""Cut a cleaned text at the first paragraph border at or after the mark ``1 - held_out_share``.

    The border itself belongs to neither part. Where none follows the mark, the last one before it is used.

    >>> split("one\n\ntwo\n\nthree\n\nfour", held_out_share=0.4)
    ('one\n\ntwo\n\nthree', 'four')
    """
    mark = round(len(text) * (1 - held_out_share))
    border = text.find(PARAGRAPH_BORDER, mark)
    if border < 0:
        border = text.rfind(PARAGRAPH_BORDER)
    if border < 0:
        raise InputError(
            expected="a text of at least two paragraphs, separated by a blank line",
            got=f"one paragraph of {len(text)} characters",
            remedy="give a longer text; one part of it is held out",
        )
    return text[:border], text[border + len(PARAGRAPH_BORDER) :]


def read_novels(folder: Path) -> list[Novel]:
    """Read, clean and split every ``*.txt`` of ``folder``, in the order of their names.

    Raises:
        InputError: the folder is missing, holds no ``.txt`` file, or one of them is empty or not UTF-8.
    """
    if not folder.is_dir():
        raise InputError(
            expected="a folder of .txt files", got=str(folder), remedy="pass --text-dir an existing folder"
        )
    paths = sorted(folder.glob("*.txt"))
    if not paths:
        raise InputError(
            expected=f"at least one .txt file in {folder}",
            got="none",
            remedy="put the training text there, one document a file",
        )
    return [_read_novel(path) for path in paths]


def _read_novel(path: Path) -> Novel:
    try:
        text = clean(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(
            expected="text in UTF-8",
            got=f"{path.name}, undecodable at byte {error.start}",
            remedy="convert the file to UTF-8",
        ) from error
    if not text:
        raise InputError(expected="some text", got=f"{path.name}, which is empty", remedy="remove the file or fill it")
    training, held_out = split(text)
    return Novel(name=path.stem, training=training, held_out=held_out)


def fingerprint(novels: Sequence[Novel]) -> str:
    """SHA-256 of names and cleaned parts: two corpora with the same value give the same training run."""
    digest = hashlib.sha256()
    for novel in novels:
        for part in (novel.name, novel.training, novel.held_out):
            digest.update(part.encode() + b"\0")
    return digest.hexdigest()


def held_out_pages(novels: Sequence[Novel], *, characters_each: int) -> str:
    """Return the opening pages of each held-out part: whole paragraphs, about ``characters_each`` characters.

    Documents are separated by a line that holds one form feed, which cannot occur in cleaned text.
    """
    pages = []
    for novel in novels:
        end = novel.held_out.find(PARAGRAPH_BORDER, characters_each)
        pages.append(novel.held_out if end < 0 else novel.held_out[:end])
    return DOCUMENT_BORDER.join(pages) + "\n"


def split_pages(pages: str) -> list[str]:
    """Undo :func:`held_out_pages`: one string per document."""
    return pages.removesuffix("\n").split(DOCUMENT_BORDER)
