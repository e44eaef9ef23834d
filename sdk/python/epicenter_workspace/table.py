"""Tables: what their rows are, and how actions read and write them."""

from __future__ import annotations

import json
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from . import host
from .context import Caller
from .errors import Issue, NotFound
from .shapes import plain, shape_of
from .versions import Versions

R = TypeVar("R")
OnDelete = Literal["restrict", "cascade", "set-null"]


@dataclass(frozen=True)
class Change(Generic[R]):
    """One change to a table, about to happen."""

    operation: Literal["create", "update", "delete"]
    id: str
    old: R | None
    """The row before; absent when there was none, or an invalid one."""
    new: R | None
    """The row to be; absent when it is deleted."""
    caller: Caller | None
    source: Literal["rest", "action", "sync"] = "rest"
    """How it came: by a REST request for the row, from an action, or from a client that syncs."""


@dataclass(frozen=True)
class Page(Generic[R]):
    """A part of the rows that a selection stands for."""

    rows: list[R]
    next: str | None
    """The cursor of the next page."""


Where = Mapping[str, Any]
"""Conditions on fields: a value that the field equals (`{"published": True}`), or comparisons
(`{"views": {"gte": 10}}`: `eq`, `ne`, `gt`, `gte`, `lt`, `lte`, `in`, `contains`, `prefix`, `exists`).
All must hold."""


class Table(Generic[R]):
    """A table; made by `Workspace.table`. Its rows are instances of a dataclass."""

    def __init__(self, name: str, row: type[R]):
        self.name = name
        self.row = row
        self.versions: Versions[R] = Versions(row)
        self.documents: list[tuple[str, str, str]] = []
        self.checker: Callable[[Change[R]], None] | None = None
        self.unique_fields: list[list[str]] = []
        self.referring: list[tuple[str, str, OnDelete]] = []
        self.enforced = False
        members = shape_of(row).members
        if members is None or "id" not in members:
            raise TypeError(f"rows of {name} must be a dataclass with a member `id: str`")

    # What its rows are.

    def previous(self, migrate: Callable[[Any], R]) -> Callable[[Any], R]:
        """Decorates what makes a current row of one of an older type: `def _(old: PostV1) -> Post`.

        Several are named oldest first, and each migrates straight to the current type. Rows in the
        document stay as they are until they are rewritten; every read migrates them. Never take one
        out again: the numbers of those after it would change.
        """
        hints = typing.get_type_hints(migrate)
        hints.pop("return", None)
        if len(hints) != 1:
            raise TypeError("a migration takes the old row, and says its type: `def _(old: PostV1) -> Post`")
        self.versions.previous.append((shape_of(*hints.values()), migrate))
        return migrate

    def rule(self, at: str, message: str) -> Callable[[Callable[[R], bool]], Callable[[R], bool]]:
        """Decorates what must be true of every row; `message` is said at `at` where it is not. It must
        depend on nothing but the row."""

        def add(holds: Callable[[R], bool]) -> Callable[[R], bool]:
            self.versions.rules.append(lambda row: None if holds(row) else Issue((at,), message))
            return holds

        return add

    def check(self, check: Callable[[Change[R]], None]) -> Callable[[Change[R]], None]:
        """Decorates what is asked before each change that REST or an action makes, and raises to refuse
        it, with what the caller is answered: `Invalid` for a row that is not good, `Denied` for who may
        not. Unlike a rule it sees the row before, may read other rows, and knows who asks. Changes that
        arrive by sync are asked about in tables that `enforce` their rules."""
        self.checker = check
        return check

    def unique(self, *fields: str) -> None:
        """No two rows may have the same value in this field; of several fields, all together. `None` is no value."""
        self.unique_fields.append([self._member(field) for field in fields])

    def references(self, field: str, table: Table[Any], *, on_delete: OnDelete = "restrict") -> None:
        """A field holds ids of rows of a table. `on_delete` says what becomes of a row when the one that it
        refers to is deleted: it keeps that from happening, goes as well, or refers to nothing."""
        self.referring.append((self._member(field), table.name, on_delete))

    def enforce(self) -> None:
        """Makes all of the table's rules, its check included, hold for sync as well: what a client wrote offline is
        checked when it arrives, and what is refused is undone and kept for whoever wrote it."""
        self.enforced = True

    def _member(self, field: str) -> str:
        if field not in (shape_of(self.row).members or ()):
            raise TypeError(f"rows of {self.name} have no member {field}")
        return field

    def document(self, name: str, *, guid: str, updated_at: str) -> None:
        """Attaches a Yjs document to each row: `guid` is the column with the id of the document's room,
        `updated_at` the one that the host sets to the time (in ms) of the last local edit."""
        self.documents.append((name, guid, updated_at))

    # Reading and writing them, in actions and checks. Writing is for mutations.

    def get(self, id: str) -> R:
        """The row with this id; raises `NotFound` when there is none, `Invalid` when it is."""
        row = self.find(id)
        if row is None:
            raise NotFound(f"{self.name} has no row {id}")
        return row

    def find(self, id: str) -> R | None:
        """The row with this id, if there is one."""
        row = host.ask(host.tables.get, self.name, id)
        return None if row is None else self._read(row)

    def list(self, where: Where = {}, *, sort: str | Iterable[str] = (), limit: int | None = None) -> list[R]:
        """The valid rows that fulfil the conditions, by id unless sorted: `sort="-views"` is largest
        first. At most 1,000 unless said; 10,000 is the most."""
        return self.page(where, sort=sort, limit=limit).rows

    def page(
        self,
        where: Where = {},
        *,
        sort: str | Iterable[str] = (),
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[R]:
        """The same, with where they go on."""
        orders = [
            host.tables.Order(field.removeprefix("-"), field.startswith("-"))
            for field in ([sort] if isinstance(sort, str) else sort)
        ]
        query = host.tables.Query(_filters(where), orders, limit, cursor)
        page = host.ask(host.tables.list, self.name, query)
        return Page([self._read(row) for row in page.rows], page.next)

    def count(self, where: Where = {}) -> int:
        """How many valid rows fulfil the conditions."""
        return host.ask(host.tables.count, self.name, _filters(where))

    def put(self, row: R) -> R:
        """Creates the row or replaces it whole. Returns it as it is stored; raises `Invalid`."""
        return self._read(host.ask(host.tables.put, self.name, to_json(row)))

    def update(self, id: str, **fields: Any) -> R:
        """Sets the given members of a row and leaves the others. Returns the row as it is stored."""
        return self._read(host.ask(host.tables.update, self.name, id, to_json(fields)))

    def delete(self, id: str) -> bool:
        """Deletes a row; false when there was none."""
        return host.ask(host.tables.delete, self.name, id)

    def text(self, id: str, document: str) -> str:
        """The text of a document that is attached to a row; empty when it was never written."""
        return host.ask(host.documents.get_text, self.name, id, document)

    def set_text(self, id: str, document: str, text: str) -> None:
        """Replaces the text of a document that is attached to a row. What old and new text have in common
        stays, so that clients who edit it at the same time are not in the way."""
        host.ask(host.documents.set_text, self.name, id, document, text)

    def _read(self, row: str) -> R:
        return self.versions.current.read(json.loads(row))


def to_json(value: Any) -> str:
    """A value as JSON text."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False)


def _filters(where: Where) -> list[Any]:
    return [
        host.tables.Filter(field, host.tables.Operator[operator.upper()], to_json(value))
        for field, condition in where.items()
        for operator, value in (condition if isinstance(condition, Mapping) else {"eq": condition}).items()
    ]
