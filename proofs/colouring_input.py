"""Reading a symmetric colouring that a user brings: a table, a list of pairs, a witness, a function, Paley's graph.

Whatever comes is checked before it is used: a whole number for every pair, diagonal included, and ``F(a, b)`` the
same as ``F(b, a)``. Each complaint names the first place that does not fit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import operator
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proofs.colourings import Colouring, paley, three_classes
from sensverify.colouring import ColouringRequest
from sensverify.errors import InputError

MOST_POINTS = 3000  # a table of 72 MB; 0.8 GB were measured with a million different values
_MOST_PAIRS = 1500 * 1501 // 2  # lines of a list of pairs, which takes more memory
_MOST_BYTES = 150_000_000
_FORMATS = "a square table (rows of whole numbers, or of digits), lines 'i j value', or a witness with rows 'F'"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Given:
    """A symmetric table of indices into ``values``, the points' names, and in words where it came from."""

    table: Colouring
    values: Sequence[int]
    names: Sequence[int]
    source: str
    read_as: str


def read(request: ColouringRequest) -> Given:
    """The colouring that is asked about; raises :class:`~sensverify.errors.InputError` for anything else."""
    if (request.source is None) == (request.paley is None):
        both = request.source is not None
        raise InputError(
            expected="either FILE or --paley Q",
            got="both" if both else "neither",
            remedy="leave one of them out" if both else "pass a file, module:function with --points, or --paley 101",
        )
    if request.paley is not None:
        _no_points(request)
        return _paley(request.paley)
    source = request.source or ""
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", source) and not Path(source).exists():
        return _function(source, request.points)
    _no_points(request)
    return _file(Path(source))


def _no_points(request: ColouringRequest) -> None:
    if request.points is not None:
        raise InputError(
            expected="--points only with module:function",
            got=f"--points {request.points}",
            remedy="leave it out; the number of points is that of the table",
        )


def _finish(table: Any, names: Sequence[int], source: str, read_as: str) -> Given:
    """Symmetric, and the values numbered in increasing order."""
    cells = np.asarray(table, dtype=np.int64)
    differing = np.argwhere(np.triu(cells != cells.T))
    if len(differing):
        i, j = (int(n) for n in differing[0])
        raise InputError(
            expected=f"{source} to be symmetric",
            got=f"F({names[i]}, {names[j]}) = {cells[i, j]} but F({names[j]}, {names[i]}) = {cells[j, i]}",
            remedy="give both the same value",
        )
    values, indices = np.unique(cells, return_inverse=True)
    return Given(
        table=indices.reshape(cells.shape).astype(np.int64),
        values=[int(value) for value in values],
        names=list(names),
        source=source,
        read_as=read_as,
    )


def _check_count(count: int, source: str) -> None:
    if count < 1:
        raise InputError(expected=f"at least one point in {source}", got="none", remedy=f"give {_FORMATS}")
    if count > MOST_POINTS:
        raise InputError(
            expected=f"at most {MOST_POINTS:,} points, so that table and search fit into 1 GB of memory",
            got=f"{count:,} in {source}",
            remedy="give a part of the points",
        )


# --- Paley's graph and functions ------------------------------------------------------------------------


def _paley(q: int) -> Given:
    _check_count(3 * max(q, 1), f"three classes on Paley's graph of {q}")
    try:
        graph = paley(q)
    except ValueError:
        raise InputError(
            expected="--paley Q to be a prime that is 1 modulo 4",
            got=str(q),
            remedy="pass one such as 5, 13, 17, 29, 37, 101",
        ) from None
    source = f"three classes on Paley's graph of {q}"
    return _finish(three_classes(graph), range(3 * q), source, "construction")


def _function(source: str, points: int | None) -> Given:
    if points is None:
        raise InputError(
            expected=f"--points N with the function {source}", got="no --points", remedy="pass --points, for example 60"
        )
    _check_count(points, source)
    with contextlib.redirect_stdout(sys.stderr), _current_folder_importable():
        function = _imported(source)
        table = np.empty((points, points), dtype=np.int64)
        for a in range(points):
            for b in range(points):
                table[a, b] = _call(function, a, b, source)
    return _finish(table, range(points), source, "function")


@contextlib.contextmanager
def _current_folder_importable() -> Iterator[None]:
    """A module that lies in the current folder is found, as ``python -m`` finds it."""
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before


def _imported(source: str) -> Callable[[int, int], Any]:
    module_name, _, name = source.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise InputError(
            expected=f"a module {module_name!r} that can be imported, or a file {source!r}",
            got=f"{type(error).__name__}: {error}",
            remedy="run where the module lies, or install it",
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise InputError(
            expected=f"a function {name!r} in the module {module_name!r}",
            got="no such name" if function is None else type(function).__name__,
            remedy="name a function of two points",
        )
    return function  # type: ignore[no-any-return]


def _call(function: Callable[[int, int], Any], a: int, b: int, source: str) -> int:
    try:
        value = function(a, b)
    except (Exception, SystemExit) as error:
        raise InputError(
            expected=f"{source} to give a value for every pair of points",
            got=f"{type(error).__name__} at ({a}, {b}): {error}",
            remedy="mend the function, or pass fewer --points",
        ) from error
    try:
        return _in_range(operator.index(value))
    except (TypeError, ValueError):
        raise InputError(
            expected=f"{source} to give whole numbers of at most 18 digits",
            got=f"{_short(value)} at ({a}, {b})",
            remedy="return an int",
        ) from None


# --- Files ----------------------------------------------------------------------------------------------


def _file(path: Path) -> Given:
    name = path.name or str(path)
    try:
        with path.open("rb") as file:  # a pipe will do
            data = file.read(_MOST_BYTES + 1)
        text = data.decode("utf-8-sig") if len(data) <= _MOST_BYTES else ""
    except FileNotFoundError:
        remedy = "check the name; a function is named as module:function"
        raise InputError(expected=f"a file with {_FORMATS}", got=f"no file {path}", remedy=remedy) from None
    except (OSError, ValueError) as error:
        got = (
            "no UTF-8 text" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", None) or str(error)
        )
        raise InputError(expected=f"a file with {_FORMATS}", got=f"{path}: {got}", remedy="pass another file") from None
    if len(data) > _MOST_BYTES:
        raise InputError(
            expected=f"a file of at most {_MOST_BYTES // 10**6} MB, enough for {MOST_POINTS:,} points",
            got=f"more in {path}",
            remedy="give a part of the points",
        )
    if text.lstrip()[:1] in ("{", "["):
        return _json(text, name)
    lines = [(n, line.split("#")[0].strip()) for n, line in enumerate(text.splitlines(), 1)]
    return _lines([(n, line) for n, line in lines if line], name)


def _json(text: str, name: str) -> Given:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(expected=f"{name} to be JSON", got=str(error), remedy="mend the file") from None
    rows = document.get("F") if isinstance(document, Mapping) else document
    if not isinstance(rows, list) or not all(isinstance(row, str | list) for row in rows):
        raise InputError(
            expected=f"{name} to hold rows, or an object with rows 'F' as our witnesses have",
            got=_short(rows) if rows is not None else f"an object without 'F': {_short(document)}",
            remedy=f"give {_FORMATS}",
        )
    _check_count(len(rows), name)
    cells = [
        _digits(row, n, name) if isinstance(row, str) else [_whole(cell, n, name) for cell in row]
        for n, row in enumerate(rows, 1)
    ]
    return _square(cells, [f"row {n}" for n in range(1, len(rows) + 1)], name, "JSON rows")


def _lines(lines: Sequence[tuple[int, str]], name: str) -> Given:
    _check_count(len(lines) and 1, name)
    widths = {len(_split(line)) for _, line in lines}
    if widths == {1} and all(len(line) == len(lines) for _, line in lines):
        _check_count(len(lines), name)
        rows = [_digits(line, n, name) for n, line in lines]
        return _square(rows, [f"line {n}" for n, _ in lines], name, "rows of digits")
    if widths == {3} and len(lines) != 3:
        return _pairs(lines, name)
    _check_count(len(lines), name)
    cells = [_numbers(line, n, name) for n, line in lines]
    if widths == {3} and any(cells[i][j] != cells[j][i] for i in range(3) for j in range(i)):
        with contextlib.suppress(InputError):  # three lines of three are a list of pairs too, of two points
            return _pairs(lines, name)
    return _square(cells, [f"line {n}" for n, _ in lines], name, "table")


def _split(line: str) -> list[str]:
    """The cells of a line: between commas or semicolons, or else between blanks; one at the end is no cell."""
    line = re.sub(r"\s*[,;]\s*$", "", line)
    return [cell.strip() for cell in re.split("[,;]", line)] if re.search("[,;]", line) else line.split()


def _numbers(line: str, place: int, name: str) -> NDArray[np.int64]:
    cells = _split(line)
    if re.fullmatch(r"[+-]?[0-9]{1,18}( [+-]?[0-9]{1,18})*", " ".join(cells)):  # one look at a whole row is faster
        return np.array(list(map(int, cells)), dtype=np.int64)
    return np.array([_whole(cell, place, name) for cell in cells], dtype=np.int64)


def _square(
    cells: Sequence[Sequence[int] | NDArray[np.int64]], places: Sequence[str], name: str, read_as: str
) -> Given:
    for place, row in zip(places, cells, strict=True):
        if len(row) != len(cells):
            raise InputError(
                expected=f"{name} to be a square table, {len(cells)} values in each of its {len(cells)} rows",
                got=f"{len(row)} in {place}",
                remedy=f"give {_FORMATS}",
            )
    return _finish(cells, range(len(cells)), name, read_as)


def _pairs(lines: Sequence[tuple[int, str]], name: str) -> Given:
    if len(lines) > _MOST_PAIRS:
        raise InputError(
            expected=f"at most {_MOST_PAIRS:,} lines in a list of pairs, enough for 1,500 points in 1 GB of memory",
            got=f"{len(lines):,} in {name}",
            remedy="give a square table, which may have more points",
        )
    value_of: dict[tuple[int, int], int] = {}
    for n, line in lines:
        a, b, value = _numbers(line, n, name).tolist()
        if value_of.setdefault((min(a, b), max(a, b)), value) != value:
            raise InputError(
                expected=f"{name} to give each pair one value, F(a, b) = F(b, a)",
                got=f"{value} on line {n} for ({a}, {b}), which had {value_of[min(a, b), max(a, b)]}",
                remedy="leave one of the lines out",
            )
    names = sorted({point for pair in value_of for point in pair})
    _check_count(len(names), name)
    table = np.empty((len(names), len(names)), dtype=np.int64)
    for i, a in enumerate(names):
        for j, b in enumerate(names[i:], i):
            if (a, b) not in value_of:
                raise InputError(
                    expected=f"{name} to have a line for every pair of its {len(names)} points, a = b included",
                    got=f"none for ({a}, {b})",
                    remedy=f"add a line '{a} {b} value'",
                )
            table[i, j] = table[j, i] = value_of[a, b]
    return _finish(table, names, name, "list of pairs")


def _digits(row: str, place: int, name: str) -> list[int]:
    if re.fullmatch(r"[0-9]*", row):
        return [int(digit) for digit in row]
    odd = next(character for character in row if character not in "0123456789")
    raise InputError(
        expected=f"only digits in row {place} of {name}", got=repr(odd), remedy="separate longer values by spaces"
    )


def _whole(cell: Any, place: int, name: str) -> int:
    """A cell as an integer: text as people write it, or a JSON number."""
    if isinstance(cell, str) and re.fullmatch(r"[+-]?[0-9]{1,18}", cell.strip()):
        return int(cell)
    if isinstance(cell, int) and not isinstance(cell, bool):
        with contextlib.suppress(ValueError):
            return _in_range(cell)
    raise InputError(
        expected=f"whole numbers of at most 18 digits in {name}",
        got=f"{_short(cell)} on line {place}",
        remedy="give every value as a whole number, without a header",
    )


def _in_range(value: int) -> int:
    if abs(value) >= 10**18:
        raise ValueError("more than 18 digits")
    return value


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        text = type(value).__name__
    return text if len(text) <= 60 else f"{text[:57]}…"
