"""How a value of any version becomes a valid value of the current one.

A row of a table with several versions carries the member `_v`, the number of the version that wrote
it, counted from 1; the SDK adds and removes it. A row with `_v` is read as that version and no other.
A row without it is read as the newest version that it fits and that has all of its members (members
that a type lacks are passed over, so that a slip in a current row would otherwise turn it into an old
one); when there is none, as the current one, whose issues are then reported. A row with a higher `_v`
than there are versions was written by a newer plugin: it is invalid rather than guessed at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from .errors import Invalid, Issue
from .shapes import Shape, plain, shape_of

T = TypeVar("T")


class Versions(Generic[T]):
    """All versions of a value, and the rules that the current one fulfils."""

    def __init__(self, current: type[T]):
        self.current = shape_of(current)
        self.previous: list[tuple[Shape, Callable[[Any], T]]] = []
        self.rules: list[Callable[[T], Issue | None]] = []

    def schemas(self) -> list[dict[str, Any]]:
        """One JSON Schema for each version, oldest first."""
        return [shape.schema for shape, _ in self.previous] + [self.current.schema]

    def row_schemas(self) -> list[dict[str, Any]]:
        """The same for rows, which say which version they are of."""
        schemas = self.schemas()
        if len(schemas) == 1:
            return schemas
        return [
            schema | {"properties": schema["properties"] | {"_v": {"const": number}}}
            for number, schema in enumerate(schemas, start=1)
        ]

    def parse_row(self, row: Any) -> dict[str, Any]:
        """The current row for a row of any version; raises `Invalid`."""
        if not isinstance(row, dict):
            raise Invalid((), "a row must be an object")
        members = {name: value for name, value in row.items() if name != "_v"}
        result = plain(self._checked(self._read(members, self._version(row))))
        if result["id"] != members.get("id"):
            raise Invalid("id", "the plugin must keep the id that it was given")
        return result | {"_v": len(self.previous) + 1} if self.previous else result

    def parse_value(self, value: Any) -> Any:
        """The same for the value of a key, which carries no version."""
        return plain(self._checked(self._read(value, None)))

    def _version(self, row: dict[str, Any]) -> int | None:
        version, count = row.get("_v"), len(self.previous) + 1
        if "_v" not in row:
            return None
        if not isinstance(version, (int, float)) or isinstance(version, bool) or version < 1 or version % 1:
            raise Invalid("_v", f"must be a whole number from 1 to {count}, not {version}")
        if version > count:
            raise Invalid(
                "_v",
                f"was written by version {version}, but the plugin knows versions up to {count}; load a "
                "newer plugin",
            )
        return int(version)

    def _read(self, value: Any, version: int | None) -> T:
        versions = [*self.previous, (self.current, lambda value: value)]
        if version is None and self.previous:
            for shape, migrate in reversed(versions):
                if shape.members is None or not isinstance(value, dict) or value.keys() <= shape.members:
                    try:
                        return migrate(shape.read(value))
                    except Invalid:
                        continue
        shape, migrate = versions[(version or 0) - 1]
        return migrate(shape.read(value))

    def _checked(self, value: T) -> T:
        issues = [issue for rule in self.rules if (issue := rule(value))]
        if issues:
            raise Invalid(issues=issues)
        return value
