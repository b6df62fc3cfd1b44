"""Writing so that nothing is ever half-written: to a temporary file beside the target, then renamed over it."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from sensverify.errors import InputError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write ``content`` to ``path``; a reader sees the old file or the new one, never part of one.

    Raises :class:`~sensverify.errors.InputError` when the folder cannot be written or the disk is full.
    """
    data = content.encode() if isinstance(content, str) else content
    # Named before it is made, so that an interrupt at any moment knows what to remove.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        _remove_quietly(temporary)
        raise InputError(
            expected=f"to be able to write {path}",
            got=error.strerror or type(error).__name__,
            remedy="check the folder's permissions and the free space",
        ) from error
    except BaseException:
        _remove_quietly(temporary)
        raise


def _remove_quietly(temporary: Path) -> None:
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)


def check_writable(directory: Path) -> None:
    """Raise :class:`~sensverify.errors.InputError` unless ``directory`` is, or can be made, a writable folder.

    Makes nothing: the nearest existing ancestor is asked.
    """
    ancestor = directory.absolute()
    while not ancestor.exists() and ancestor != ancestor.parent:
        ancestor = ancestor.parent
    if not ancestor.is_dir() or not os.access(ancestor, os.W_OK | os.X_OK):
        raise InputError(
            expected="--out to be a folder that can be written",
            got=f"{directory} ({ancestor} is {'not writable' if ancestor.is_dir() else 'a file'})",
            remedy="pass another --out",
        )


def make_directory(directory: Path) -> None:
    """Make ``directory`` and its parents; raises :class:`~sensverify.errors.InputError` when that fails."""
    check_writable(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            expected="--out to be a folder that can be made",
            got=f"{directory}: {error.strerror or type(error).__name__}",
            remedy="pass another --out",
        ) from error
