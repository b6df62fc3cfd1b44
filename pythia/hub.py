"""The hub of Hugging Face: whether a connection to it can be made, and its library's words without a token in them.

The hub's library tries a failed connection again for half a minute. That is right where the network is slow or the hub
busy, and a long wait for nothing on a machine without network. So the hub is asked one small question first, twice at
most. If not even a connection was made, what the local cache has is used, or the request refused, at once. An answer
of any kind, and a time-out too, leave the rest to the library and its patience.
"""

from __future__ import annotations

import dataclasses
import os
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from sensverify.errors import MissingExtraError

SECONDS = 10.0
"""The hub is given so long to answer the first question."""
ATTEMPTS = 2
PAUSE = 1.0
"""Between attempts to connect, in seconds."""

_UNCONNECTED = {"ConnectError", "ConnectionError", "ConnectionRefusedError"}
_LATE = {"TimeoutException", "Timeout", "TimeoutError", "ConnectionResetError", "ConnectionAbortedError"}
"""Names of errors, which the hub library's versions take from different packages."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What the hub said; None if it refused or took too long. ``unreachable``: why no connection was made, if none."""

    value: Any = None
    unreachable: str | None = None


def import_hub() -> Any:
    """The hub's library, kept quiet: its retries are told once, by our own error.

    Raises :class:`~sensverify.errors.MissingExtraError` where it is not installed.
    """
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError as error:
        raise MissingExtraError(package="huggingface_hub", extra="lm") from error
    huggingface_hub.logging.set_verbosity_error()
    return huggingface_hub


def forbid() -> None:
    """Have every library ask the hub for nothing: for good, and before any of them is imported, which reads it once."""
    os.environ["HF_HUB_OFFLINE"] = "1"


def forbidden() -> bool:
    """Whether the environment forbids to ask the hub: HF_HUB_OFFLINE, read when its library was imported."""
    return bool(import_hub().constants.HF_HUB_OFFLINE)


def ask(question: Callable[[], Any]) -> Answer:
    """Put one question to the hub, and once more if no connection was made."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return Answer(value=question())
        except Exception as error:  # a dozen kinds, most of which mean that there is a hub and that it says no
            if not _is_unconnected(error):
                break
            if attempt == ATTEMPTS:
                return Answer(unreachable=f"no connection to {host()} ({first_words(error)})")
        time.sleep(PAUSE)
    return Answer()


def _is_unconnected(error: BaseException) -> bool:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(kinds & _UNCONNECTED) and not kinds & _LATE


def host() -> str:
    """The machine that is asked, without the user and password that its address may hold."""
    return urlsplit(import_hub().constants.ENDPOINT).hostname or "the hub"


def first_words(error: BaseException) -> str:
    """The first line of an error's words, or all of them if that line only introduces the rest; without tokens."""
    text = without_tokens(str(error).strip())  # before anything is cut: half a token is one still
    line = text.partition("\n")[0].rstrip()
    if line.endswith((":", ",")):
        line = " ".join(text.split())
        line = line if len(line) <= 400 else f"{line[:400]}…"
    return line or type(error).__name__


def without_tokens(text: str) -> str:
    """``text`` with any access token of this user's blotted out, and what stands before the ``@`` of an address."""
    names = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN")
    tokens = {os.environ.get(name, "").strip() for name in names} | {import_hub().get_token() or ""}
    for token in filter(None, tokens):
        text = text.replace(token, "***")
    text = re.sub(r"(://)[^/@\s]+@", r"\1***@", text)
    return re.sub(r"hf_[A-Za-z0-9]{8,}", "***", text)
