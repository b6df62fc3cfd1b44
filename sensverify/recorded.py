"""What ``cfg.json`` says of how directions were found, for whoever scores them in the same way."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any, cast, get_args

from sensverify.claims import Weights
from sensverify.errors import InputError
from sensverify.options import ReadoutName, ReferenceName, ScoreName


def recorded_number(config: Mapping[str, Any], name: str, given: int | None) -> int:
    """The option given, or else what ``cfg.json`` recorded.

    Raises :class:`~sensverify.errors.InputError` where there is neither.
    """
    value = config.get(name) if given is None else given
    if not isinstance(value, int):
        raise InputError(
            expected=f"{name!r} in cfg.json or on the command line", got="neither", remedy=f"pass --{name}"
        )
    return value


def recorded_readout(config: Mapping[str, Any]) -> ReadoutName:
    """What was measured; the residual stream if ``cfg.json`` does not say.

    Raises :class:`~sensverify.errors.InputError` for what is none.
    """
    return cast(ReadoutName, _name(config.get("readout", "residual"), "readout", get_args(ReadoutName)))


def recorded_reference(config: Mapping[str, Any]) -> ReferenceName:
    """What the search in ``cfg.json`` compared interventions with; clean if it does not say.

    Raises :class:`~sensverify.errors.InputError` for what is none.
    """
    probe = _search(config).get("probe")
    found = probe.get("reference", "clean") if isinstance(probe, dict) else "clean"
    return cast(ReferenceName, _name(found, "reference", get_args(ReferenceName)))


def recorded_score(config: Mapping[str, Any]) -> ScoreName:
    """What the search in ``cfg.json`` maximised; plain sensitivity if it does not say.

    Raises :class:`~sensverify.errors.InputError` for what is none.
    """
    return cast(ScoreName, _name(_search(config).get("score", "plain"), "score", get_args(ScoreName)))


def recorded_weights(config: Mapping[str, Any]) -> Weights:
    """Whether the weights were raw or folded; raw if ``cfg.json`` does not say.

    Raises :class:`~sensverify.errors.InputError` for what is neither.
    """
    return cast(Weights, _name(config.get("weight_processing", "raw"), "weights", get_args(Weights)))


def _search(config: Mapping[str, Any]) -> Mapping[str, Any]:
    search = config.get("search")
    return search if isinstance(search, dict) else {}


def _name(found: object, option: str, names: tuple[str, ...]) -> str:
    if found not in names:
        raise InputError(
            expected=f"a {option} out of {', '.join(names)} in cfg.json",
            got=reprlib.repr(found),
            remedy=f"pass --{option}",
        )
    return str(found)
