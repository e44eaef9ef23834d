"""Key-values: single values of the workspace, under keys that it declares."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from . import host
from .errors import Issue
from .table import to_json
from .versions import Versions

T = TypeVar("T")


class Kv(Generic[T]):
    """The value under a key; made by `Workspace.kv`."""

    def __init__(self, key: str, type_: type[T]):
        self.key = key
        self.versions: Versions[T] = Versions(type_)

    def rule(self, message: str) -> Callable[[Callable[[T], bool]], Callable[[T], bool]]:
        """Decorates what must be true of the value."""

        def add(holds: Callable[[T], bool]) -> Callable[[T], bool]:
            self.versions.rules.append(lambda value: None if holds(value) else Issue((), message))
            return holds

        return add

    def get(self) -> T | None:
        """The value; nothing when it was never set."""
        value: Any = host.ask(host.kv.get, self.key)
        return None if value is None else self.versions.current.read(json.loads(value))

    def set(self, value: T) -> None:
        """Sets the value; raises `Invalid`."""
        host.ask(host.kv.set, self.key, to_json(value))

    def delete(self) -> bool:
        """Forgets the value; false when there was none."""
        return host.ask(host.kv.delete, self.key)
