"""Every exception that a user can meet. Each message says what was expected, what came, and the remedy.

The command line turns an :class:`InputError` into one line on stderr and exit code 2, and an
:class:`Interrupted` into exit code 3. Anything else that escapes is a defect of ours.
"""

from __future__ import annotations

import functools
from collections.abc import Callable


class SensverifyError(Exception):
    """Base of all errors raised on purpose by this package."""


class InputError(SensverifyError):
    """Something given by the user cannot be used.

    >>> str(InputError(expected="a layer from 0 to 4", got="7", remedy="pass --layer 0..4"))
    'expected a layer from 0 to 4, got 7; remedy: pass --layer 0..4'
    """

    def __init__(self, *, expected: str, got: str, remedy: str) -> None:
        # What came may hold line breaks (a library's message, a pasted value); the report is one line.
        self.expected, self.got, self.remedy = (" ".join(part.split()) for part in (expected, got, remedy))
        super().__init__(f"expected {self.expected}, got {self.got}; remedy: {self.remedy}")

    def __reduce__(self) -> tuple[Callable[[], InputError], tuple[()]]:
        # An exception is pickled by its positional arguments, of which there are none.
        return functools.partial(type(self), expected=self.expected, got=self.got, remedy=self.remedy), ()


class UsageError(InputError):
    """A command, suite, claim or option that does not exist or does not fit."""


class SuiteError(InputError):
    """A suite that cannot be imported or that breaks the rules of suites (duplicate IDs, wrong type)."""


class MissingExtraError(SensverifyError):
    """An optional dependency is absent; the claims that need it are SKIPPED with the line that mends it."""

    def __init__(self, *, package: str, extra: str) -> None:
        self.package, self.extra = package, extra
        self.remedy = f"pip install 'sensverify[{extra}]'"
        super().__init__(f"expected the optional package {package}, got none; remedy: {self.remedy}")

    def __reduce__(self) -> tuple[Callable[[], MissingExtraError], tuple[()]]:
        return functools.partial(type(self), package=self.package, extra=self.extra), ()


class Interrupted(SensverifyError):
    """The user stopped a long run; what was finished is on disk."""
