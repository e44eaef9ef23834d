"""Why an action could not do what was asked.

Raised by a handler, each becomes one HTTP status; what else a handler raises is a `Failed` with the
error's message, and its traceback goes to the log.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Issue:
    """One thing that is wrong with a value, and where in it."""

    path: tuple[str, ...]
    """From the outermost member to the faulty one; empty when the whole value is at fault."""
    message: str
    """What is wrong and what would mend it, for the person who wrote the value."""

    def __str__(self) -> str:
        return ": ".join([*self.path, self.message])


class WorkspaceError(Exception):
    """An error that says how the host is to answer."""


class NotFound(WorkspaceError):
    """The row, key or whatever was asked for does not exist; the text, if there is one, says what. REST answers 404."""


class Invalid(WorkspaceError):
    """A value was refused. REST answers 422 with the issues.

    `Invalid("title", "must not be empty")`, or with all that is wrong: `Invalid(issues=[…])`.
    """

    def __init__(self, at: str | Iterable[str] = (), message: str = "", *, issues: Iterable[Issue] = ()):
        path = (at,) if isinstance(at, str) else tuple(at)
        self.issues = list(issues) or [Issue(path, message)]
        super().__init__("; ".join(map(str, self.issues)))


class Conflict(WorkspaceError):
    """The value does not go with what is there: it is taken, refers to a row that does not exist, or others refer
    to the row. REST answers 409 with the issues."""

    def __init__(self, issues: Iterable[Issue]):
        self.issues = list(issues)
        super().__init__("; ".join(map(str, self.issues)))


class Denied(WorkspaceError):
    """The caller may not do this; the text says what. REST answers 403."""


class Failed(WorkspaceError):
    """Anything else; the text is shown to the caller. REST answers 500."""
