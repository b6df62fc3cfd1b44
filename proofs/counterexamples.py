"""Refuted statements keep their witnesses: plain JSON that anyone can check without this package.

Witnesses are written to ``witnesses/<claim>.json`` in the run's folder; :mod:`proofs.recheck` reads them back
with the standard library and networkx alone.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sensverify.claims import Run
from sensverify.verdicts import to_plain


def publish(run: Run, claim: str, witness: Mapping[str, Any]) -> Path:
    """Write the witness of ``claim`` and return its path; a reader sees the old file or the new one, never half."""
    folder = run.directory / "witnesses"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{claim}.json"
    text = json.dumps(to_plain(witness), ensure_ascii=False, indent=1, allow_nan=False)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=folder, prefix=f".{claim}-", delete=False) as file:
        file.write(text + "\n")
    os.replace(file.name, path)
    return path
