"""Texts: where documents come from, one at a time, so that a collection need not fit in memory.

A ``.txt`` file is UTF-8, a line holding only a form feed separates documents. A ``.jsonl`` or ``.ndjson`` file has one
JSON object a line, a ``.parquet`` file one row a document; which field or column holds the text is an option.
``hf:NAME``, with ``@REVISION``, ``:CONFIG`` and ``:SPLIT`` behind it, is a data set on the hub, streamed from the
commit that the revision is at when it is opened. Parquet and the hub need packages of their own. Endings count in
either case, and a byte-order mark is no text.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pythia.embedded import HELD_OUT_PAGES
from pythia.hub import SECONDS, Answer, ask, first_words, forbid, forbidden, import_hub
from sensverify.claims import HUB_TEXT
from sensverify.errors import InputError, MissingExtraError

FORM_FEED = "\f"
JSON_LINES, ENCODING = (".jsonl", ".ndjson"), "utf-8-sig"
SPLITS = ("train", "validation", "test", "dev")
"""A single word behind a data set's name is its configuration, unless it is one of these."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text:
    """Documents in order, and what results call their source. ``endless``: there may be more than anybody wants.
    ``commit``: of a data set on the hub, None where it could not be asked."""

    name: str
    documents: Iterator[str]
    endless: bool = False
    commit: str | None = None


def open_text(text: Path | str | None, field: str = "text", *, offline: bool = False) -> Text:
    """The documents of ``text``, the shipped held-out pages if None; blank documents are left out.

    Raises :class:`~sensverify.errors.InputError`, here or at the first document concerned, for what is missing, cannot
    be read or has no words in it, and :class:`~sensverify.errors.MissingExtraError` for a missing optional package.
    """
    if text is None:
        return Text(name="held-out pages (shipped)", documents=_nonblank(_plain(HELD_OUT_PAGES), HELD_OUT_PAGES.name))
    if str(text).startswith(HUB_TEXT):
        source = hub_source(str(text))
        if offline:
            forbid()
        datasets = _import_datasets()
        offline = offline or forbidden()
        asked = Answer() if offline else _ask(source)
        commit = None if asked.value is None else asked.value.sha
        source = dataclasses.replace(source, revision=commit or source.revision)
        cached = "--offline or HF_HUB_OFFLINE" if offline else asked.unreachable
        documents = _streamed(datasets, source, field, str(text), cached)
        return Text(name=str(text), documents=_nonblank(documents, str(text)), endless=True, commit=commit)
    path = Path(text).expanduser()
    ending = path.suffix.lower()
    if ending == ".json":  # neither plain text nor one object a line, and it would be read as either without a word
        raise InputError(
            expected=f"a text file, {' or '.join(JSON_LINES)} with one JSON object a line, or .parquet",
            got=str(path),
            remedy="write one object a line and call the file .jsonl",
        )
    if ending in JSON_LINES:
        return Text(name=path.name, documents=_nonblank(_json_lines(path, field), str(path)), endless=True)
    if ending == ".parquet":
        return Text(name=path.name, documents=_nonblank(_parquet(path, field), str(path)), endless=True)
    return Text(name=path.name, documents=_nonblank(_plain(path), str(path)))


def _nonblank(documents: Iterator[str], name: str) -> Iterator[str]:
    found = False
    for document in documents:
        if document.strip():
            found = True
            yield document
    if not found:
        raise InputError(expected="a text with words in it", got=f"{name}, empty", remedy="check --text")


def _plain(path: Path) -> Iterator[str]:
    try:
        content = path.read_text(encoding=ENCODING)
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, "a readable UTF-8 text file", error) from error
    yield from content.split(FORM_FEED)


def _json_lines(path: Path, field: str) -> Iterator[str]:
    try:
        with path.open(encoding=ENCODING) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _field(_object(line), field, f"line {number} of {path}")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, "a readable UTF-8 file of JSON lines", error) from error


def _object(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _field(record: Any, field: str, where: str) -> str:
    value = record.get(field) if isinstance(record, dict) else None
    if isinstance(value, str):
        return value
    if not isinstance(record, dict):
        got = "no JSON object"
    elif value is not None:
        got = f"a {type(value).__name__} there"
    else:
        got = f"an object with {', '.join(map(repr, list(record)[:8])) or 'nothing in it'}"
    raise InputError(
        expected=f"a JSON object with text under {field!r} in {where}",
        got=got,
        remedy="check the file and --text-field",
    )


def _parquet(path: Path, column: str) -> Iterator[str]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingExtraError(package="pyarrow", extra="parquet") from error
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if column not in names:
                raise InputError(
                    expected=f"a column {column!r} in {path}",
                    got=f"columns {', '.join(map(repr, names[:8]))}",
                    remedy="pass --text-field COLUMN",
                )
            row = 0
            for batch in file.iter_batches(batch_size=256, columns=[column]):
                for value in batch.column(0).to_pylist():
                    row += 1
                    if value is not None:  # a missing text is no document
                        yield _field({column: value}, column, f"row {row} of {path}")
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these kinds
        raise _unreadable(path, "a readable Parquet file", error) from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubSource:
    """A split of a data set on the hub."""

    name: str
    revision: str | None
    configuration: str | None
    split: str


def hub_source(text: str) -> HubSource:
    """What ``hf:NAME[@REVISION][:CONFIG][:SPLIT]`` names; the split is ``train`` if none is given.

    >>> hub_source("hf:allenai/c4@1588ec4:en:validation")
    HubSource(name='allenai/c4', revision='1588ec4', configuration='en', split='validation')
    >>> hub_source("hf:roneneldan/TinyStories:validation")
    HubSource(name='roneneldan/TinyStories', revision=None, configuration=None, split='validation')
    """
    name, *rest = text.removeprefix(HUB_TEXT).split(":")
    name, at, revision = name.partition("@")
    if not name or (at and not revision) or len(rest) > 2:
        raise InputError(expected=f"{HUB_TEXT}NAME[@REVISION][:CONFIG][:SPLIT]", got=repr(text), remedy="check --text")
    if len(rest) == 1 and rest[0] in SPLITS:
        rest = ["", rest[0]]
    configuration, split = [*rest, "", ""][:2]
    return HubSource(
        name=name, revision=revision or None, configuration=configuration or None, split=split or SPLITS[0]
    )


def _ask(source: HubSource) -> Answer:
    """The hub's answer on the data set, at the commit that the revision is at. Where there is none, what is wrong is
    told when the data set is opened."""
    hub = import_hub()
    return ask(lambda: hub.HfApi().dataset_info(source.name, revision=source.revision, timeout=SECONDS))


def _import_datasets() -> Any:
    os.environ.setdefault("HF_DATASETS_TRUST_REMOTE_CODE", "0")
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError(package="datasets", extra="datasets") from error
    for library in ("huggingface_hub", "datasets", "fsspec"):  # their retries are told once, by our own error
        logging.getLogger(library).setLevel(logging.ERROR)
    return datasets


def _streamed(datasets: Any, source: HubSource, field: str, text: str, cached: str | None) -> Iterator[str]:
    """The documents of the data set, one after another. ``cached``: why only the local cache is to be looked into."""
    try:
        with _offline(datasets) if cached else contextlib.nullcontext():
            records = datasets.load_dataset(
                source.name, source.configuration, split=source.split, streaming=True, revision=source.revision
            )
        for number, record in enumerate(records, 1):
            yield _field(record, field, f"record {number} of {text}")
    except InputError:
        raise
    except Exception as error:  # of a dozen libraries below
        reason = f"{type(error).__name__}: {first_words(error)}"
        if cached and any(kind.__name__ == "ConnectionError" for kind in type(error).__mro__):
            reason = f"{cached}, and nothing of it in the cache"
        raise InputError(
            expected=f"the split {source.split!r} of {source.name!r} from the hub or its local cache",
            got=reason,
            remedy="check name, revision, configuration, split and network; or pass a file with --text",
        ) from error


@contextlib.contextmanager
def _offline(datasets: Any) -> Iterator[None]:
    """Have the library look into its cache at once; it reads the environment only when it is imported."""
    config = datasets.config
    before, config.HF_HUB_OFFLINE = config.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE = before


def _unreadable(path: Path, expected: str, error: Exception) -> InputError:
    return InputError(expected=expected, got=f"{path}: {type(error).__name__}", remedy="check --text")
