"""The host's side of the contract (`wit/workspace.wit`).

It exists inside of a plugin only: on the author's own machine, where tests run, asking for any of it
raises an error that says so. Neither may anything be asked of it while the plugin is built.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import errors

try:
    from componentize_py_types import Err
    from wit_world.imports import ai, context, documents, environment, http, kv, log, tables, types
except ImportError:

    class _Absent:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("the host (tables, keys, clock, log, models, requests) is there inside of a plugin only")

    ai = context = documents = environment = http = kv = log = tables = types = _Absent()  # type: ignore[assignment]

    class Err(Exception):  # type: ignore[no-redef]
        value: Any


def ask(call: Callable[..., Any], *arguments: Any) -> Any:
    """Calls the host, and raises its errors as ours."""
    try:
        return call(*arguments)
    except Err as error:
        raise from_host(error.value) from None


def from_host(error: Any) -> errors.WorkspaceError:
    """From the contract's error."""
    if isinstance(error, types.Error_NotFound):
        return errors.NotFound(error.value or "not found")
    if isinstance(error, types.Error_Invalid):
        return errors.Invalid(issues=_issues_of(error.value))
    if isinstance(error, types.Error_Conflict):
        return errors.Conflict(_issues_of(error.value))
    kind = errors.Denied if isinstance(error, types.Error_Denied) else errors.Failed
    return kind(error.value)


def to_host(error: errors.WorkspaceError) -> Any:
    """To the contract's error."""
    match error:
        case errors.NotFound():
            return types.Error_NotFound(str(error))
        case errors.Invalid():
            return types.Error_Invalid(issues_to_host(error.issues))
        case errors.Conflict():
            return types.Error_Conflict(issues_to_host(error.issues))
        case errors.Denied():
            return types.Error_Denied(str(error))
        case _:
            return types.Error_Failed(str(error))


def _issues_of(issues: Any) -> list[errors.Issue]:
    return [errors.Issue(tuple(issue.path), issue.message) for issue in issues]


def issues_to_host(issues: list[errors.Issue]) -> list[Any]:
    return [types.Issue(list(issue.path), issue.message) for issue in issues]
