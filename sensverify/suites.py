"""Suites are found by entry point, so that anyone can ship one.

A suite registers a :class:`~sensverify.claims.Suite`, or any iterable of claims, or a function that returns
one, under the entry-point group ``sensverify.suites``. Two claims with one ID, or a suite that does not
import, stop every command: a ledger with a hole in it is not a ledger.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sensverify.claims import Claim, Suite
from sensverify.errors import SuiteError, UsageError

ENTRY_POINT_GROUP = "sensverify.suites"


def load_suites() -> dict[str, Suite]:
    """Every installed suite by name, in a fixed order (ours first, in reading order; then by name).

    Raises :class:`~sensverify.errors.SuiteError` naming the file of a suite that fails to import, of one
    that registers something else than claims, and of two claims that share an ID.
    """
    reading_order = {"proofs": 0, "toy_models": 1, "pythia": 2}
    entries = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    suites: dict[str, Suite] = {}
    for entry in sorted(entries, key=lambda e: (reading_order.get(e.name, len(reading_order)), e.name)):
        if entry.name in suites:
            raise SuiteError(
                expected="one suite per name",
                got=f"two distributions that register {entry.name!r}",
                remedy="uninstall one of them",
            )
        suites[entry.name] = _load(entry)
    check_unique_ids(suites)
    return suites


def _load(entry: importlib.metadata.EntryPoint) -> Suite:
    try:
        loaded = entry.load()
    except Exception as error:
        raise SuiteError(
            expected=f"suite {entry.name!r} to import from {_file_of(entry.module)}",
            got=f"{type(error).__name__}: {error}",
            remedy="mend that file, or uninstall the suite",
        ) from error
    if callable(loaded) and not isinstance(loaded, Suite):
        loaded = loaded()
    if isinstance(loaded, Suite):
        return loaded
    claims = tuple(loaded) if isinstance(loaded, Iterable) else ()
    if not claims or not all(isinstance(claim, Claim) for claim in claims):
        raise SuiteError(
            expected=f"suite {entry.name!r} in {_file_of(entry.module)} to be a Suite or an iterable of Claims",
            got=type(loaded).__name__,
            remedy="register a sensverify.claims.Suite",
        )
    return Suite(claims=claims)


def _file_of(module: str) -> str:
    """The module's source file, without importing more than its parent package."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    return spec.origin if spec is not None and spec.origin else module


def check_unique_ids(suites: Mapping[str, Iterable[Claim]]) -> None:
    """Raise :class:`~sensverify.errors.SuiteError` if two claims, in any suites, share an ID."""
    owner: dict[str, str] = {}
    for name, suite in suites.items():
        for claim in suite:
            if claim.id in owner:
                raise SuiteError(
                    expected="claim IDs to be unique",
                    got=f"{claim.id!r} in both {owner[claim.id]!r} and {name!r}",
                    remedy="rename one of the claims",
                )
            owner[claim.id] = name


def select(
    suites: Mapping[str, Suite], *, names: Sequence[str] = (), ids: Sequence[str] = ()
) -> list[tuple[str, Claim]]:
    """The claims of the suites called ``names`` (all when empty), restricted to ``ids`` when given.

    Raises :class:`~sensverify.errors.UsageError` for a name or an ID that does not exist there.
    """
    for name in names:
        if name not in suites:
            raise UsageError(
                expected=f"a suite out of {', '.join(suites)}", got=repr(name), remedy="see `sensverify list`"
            )
    chosen = [(name, claim) for name in suites if not names or name in names for claim in suites[name]]
    known = {claim.id.upper(): claim.id for _, claim in chosen}
    for claim_id in ids:
        if claim_id.upper() not in known:
            where = f" of {', '.join(names)}" if names else ""
            raise UsageError(
                expected=f"a claim{where} out of {', '.join(known.values())}",
                got=repr(claim_id),
                remedy="see `sensverify list`",
            )
    wanted = {claim_id.upper() for claim_id in ids}
    return [(name, claim) for name, claim in chosen if not wanted or claim.id.upper() in wanted]


def line_of(suite: str, claim: Claim) -> str:
    """What ``list`` prints of one claim."""
    full = "" if claim.expected_full is None else f" ({claim.expected_full.value} in the full profile)"
    return f"{claim.id:<14} {suite:<11} {claim.expected.value:<12} {claim.statement}{full}"


def listing(chosen: Iterable[tuple[str, Claim]]) -> dict[str, Any]:
    """What ``list --json`` prints: suite and claim of each of ``chosen``."""
    rows = [
        {
            "id": claim.id,
            "suite": name,
            "statement": claim.statement,
            "source": claim.source,
            "expected": claim.expected.value,
        }
        for name, claim in chosen
    ]
    return {"schema": 1, "claims": rows}
