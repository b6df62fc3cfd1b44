"""Where a search takes place: a model, opened at a point of intervention and a point of measurement.

The kernel knows no architecture. Whoever can open models registers an opener under the entry-point group
``sensverify.sites``; the command line opens models through it.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from sensverify.claims import Progress, Subject, silent
from sensverify.errors import MissingExtraError
from sensverify.readout import Readout

ENTRY_POINT_GROUP = "sensverify.sites"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SiteOptions:
    """``layer`` (a), ``target`` (b) and ``offset`` (t) of the read-out, and how much text is used.

    ``readout`` says what is measured there: the residual stream; or, if the target is the last block, the next-token
    distribution, whose read-out has a ``distance`` of its own, for :class:`sensverify.sensitivity.Probe`; or units of a
    privileged basis (:class:`sensverify.readout.PrivilegedReadout`): the neurons of the MLP that reads there, or, if
    the target is the last block, the logits.
    ``memory``: bytes that activations and tables may take, by default a safe share of what is free; ``cache``: where
    activations are kept that do not fit. Neither changes results.
    """

    layer: int
    target: int
    offset: int
    context: int = 64
    limit: int = 512
    seed: int = 0
    readout: Literal["residual", "next_token", "neurons", "logits"] = "residual"
    memory: int | None = None
    cache: Path | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Site:
    """Two read-outs of one model on contexts that share no page, and what identifies them.

    ``independent_contexts`` is how many held-out contexts can be drawn before two come from one window of text:
    beyond it, standard errors over contexts would be too small.
    """

    search: Readout
    held_out: Readout
    independent_contexts: int
    weights_sha256: str
    description: Mapping[str, Any]


class SiteOpener(Protocol):
    """Opens a model; raises InputError for bad input and MissingExtraError for a missing optional package."""

    def __call__(self, subject: Subject, options: SiteOptions, progress: Progress = silent) -> Site:
        """The opened site; ``progress`` hears of the clean pass over its text."""


def open_site(subject: Subject, options: SiteOptions, progress: Progress = silent) -> Site:
    """Open ``subject`` with the installed opener; ``progress`` hears of the clean pass over its text.

    Raises :class:`~sensverify.errors.MissingExtraError` when none is installed.
    """
    openers = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP, name="language_model")
    if not openers:
        raise MissingExtraError(package="a language-model opener", extra="lm")
    opener = cast(SiteOpener, next(iter(openers)).load())
    return opener(subject, options, progress)
