"""Dataclasses to plain JSON and back, checked field by field.

What is written for a later reader must come back as it was, and nothing else may pass for it: a file that was edited
into nonsense is refused by the name of the first field that does not fit. Only the few annotations that exhibits and
judged predictions are declared with are known.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any


def decode(value: Any, hint: Any, where: str) -> Any:
    """``value`` as an instance of the annotation ``hint``; sequences come back as tuples.

    Raises ``ValueError`` that names the first field, below ``where``, that does not fit.
    """
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return _decode_dataclass(value, typing.cast(type, hint), where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:  # the only union in use is "or None"
        return None if value is None else decode(value, arguments[0], where)
    if origin is typing.Literal and isinstance(value, str) and value in arguments:
        return value
    if origin is Mapping and isinstance(value, Mapping):
        return {key: decode(item, arguments[1], f"{where}[{key!r}]") for key, item in value.items()}
    if origin in (Sequence, tuple) and isinstance(value, list | tuple):
        hints = arguments if origin is tuple else arguments * len(value)
        if len(hints) == len(value):
            pairs = enumerate(zip(value, hints, strict=True))
            return tuple(decode(item, inner, f"{where}[{i}]") for i, (item, inner) in pairs)
    if hint is float and not isinstance(value, bool):
        if isinstance(value, int | float):
            return float(value)
        if value in ("nan", "inf", "-inf"):  # how strict JSON carries them, see to_plain
            return float(value)
    if hint in (str, bool) and isinstance(value, hint):
        return value
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    expected = hint.__name__ if isinstance(hint, type) and origin is None else str(hint)
    raise ValueError(f"expected {expected} at {where}, got {value!r}"[:300])


def _decode_dataclass(value: Any, kind: type, where: str) -> Any:
    """``value`` as a dataclass: no field unknown, none missing that has no default."""
    if not isinstance(value, Mapping):
        raise ValueError(f"expected the fields of {kind.__name__} at {where}, got {value!r}"[:300])
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    if unknown := set(value) - set(names):
        raise ValueError(f"expected the fields {', '.join(names)} at {where}, got also {sorted(unknown)}")
    decoded = {key: decode(item, hints[key], f"{where}.{key}") for key, item in value.items()}
    try:
        return kind(**decoded)
    except TypeError as error:  # a field is missing
        raise ValueError(f"expected the fields {', '.join(names)} at {where}, got {sorted(value)}") from error


def as_data(value: Any) -> Any:
    """Nested dataclasses as dictionaries, arrays and tensors as lists, everything else unchanged."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_data(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: as_data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_data(item) for item in value]
    if hasattr(value, "tolist"):
        return value.tolist()
    return value
