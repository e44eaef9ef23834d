"""A workspace: what its author says it has."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from .kv import Kv
from .shapes import Shape, shape_of, shape_of_parameters
from .table import Table

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Action:
    """Something that callers can ask the workspace to do."""

    kind: Literal["query", "mutation"]
    description: str
    input: Shape | None
    output: Shape | None
    run: Callable[..., Any]


class Workspace:
    """Everything that a workspace has. The module that is built names one `workspace`."""

    def __init__(self, id: str, *, title: str = "", version: str = ""):
        """The id names it in URLs and names its room."""
        self.id = id
        self.title = title
        self.version = version
        self.tables: dict[str, Table[Any]] = {}
        self.keys: dict[str, Kv[Any]] = {}
        self.presence: dict[str, Shape] = {}
        self.actions: dict[str, Action] = {}

    def table(self, name: str, row: type[T]) -> Table[T]:
        """Adds a table whose rows are instances of a dataclass."""
        table = self.tables[name] = Table(name, row)
        return table

    def kv(self, key: str, type_: type[T]) -> Kv[T]:
        """Adds a value under a key."""
        kv = self.keys[key] = Kv(key, type_)
        return kv

    def awareness(self, name: str, type_: Any) -> None:
        """Adds a field of the presence states that clients share: cursors, names, colours."""
        self.presence[name] = shape_of(type_)

    def query(self, path: str) -> Callable[[F], F]:
        """Decorates an action that reads: `GET …/actions/{path}`, with the input in the query string.

        The function's parameters are the input, checked before it is called; what it returns is the
        result; its docstring is the description.
        """
        return self._action("query", path)

    def mutation(self, path: str) -> Callable[[F], F]:
        """Decorates an action that may write: `POST …/actions/{path}`, with the input as JSON body.

        All of its writes happen, or none: none when it raises or runs out of time. Reads in it see its
        own writes. The host may run it again, from the start, when another writer was faster.
        """
        return self._action("mutation", path)

    def _action(self, kind: Literal["query", "mutation"], path: str) -> Callable[[F], F]:
        def add(run: F) -> F:
            returns = typing.get_type_hints(run, include_extras=True).get("return")
            self.actions[path] = Action(
                kind,
                inspect.cleandoc(run.__doc__ or ""),
                shape_of_parameters(run),
                None if returns in (None, type(None)) else shape_of(returns),
                run,
            )
            return run

        return add
