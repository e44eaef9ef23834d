"""What the host calls (`wit/workspace.wit`, interface `guest`), on top of the author's workspace."""

from __future__ import annotations

import io
import json
import random
import re
import sys
import traceback
from typing import Any

from componentize_py_types import Err, Ok
from wit_world.exports import guest as wit

from . import host
from .context import Caller
from .errors import Failed, Invalid, Issue, NotFound, WorkspaceError
from .table import Change, to_json
from .workspace import Workspace


def guest_of(workspace: Workspace) -> type:
    """The class that exports the workspace. It runs while the plugin is built, so that what is wrong
    with the definition comes to light there."""
    definition = _definition(workspace)

    class Guest:
        def define(self) -> wit.WorkspaceDefinition:
            return definition

        def parse_rows(self, table: str, rows: list[str]) -> list[Any]:
            _begin()
            return [_result(workspace.tables[table].versions.parse_row, row) for row in rows]

        def parse_kv(self, key: str, value: str) -> str:
            _begin()
            result = _result(workspace.keys[key].versions.parse_value, value)
            if isinstance(result, Err):
                raise result
            return result.value

        def check_change(self, change: Any) -> None:
            _begin()
            table = workspace.tables[change.table]
            read = lambda row: None if row is None else table.versions.current.read(json.loads(row))
            try:
                if table.checker:
                    table.checker(
                        Change(
                            change.operation.name.lower(),
                            change.id,
                            read(change.old),
                            read(change.new),
                            Caller.of(change.caller),
                            change.source.name.lower(),
                        )
                    )
            except Exception as error:
                raise Err(host.to_host(_refusal(error))) from None

        def run_action(self, path: str, input: str) -> str:
            _begin()
            try:
                action = workspace.actions.get(path)
                if action is None:
                    raise NotFound(f"no action {path}")
                arguments = action.input.read(json.loads(input)) if action.input else {}
                return to_json(action.run(**arguments))
            except Exception as error:
                raise Err(host.to_host(_refusal(error))) from None

    return Guest


def _definition(workspace: Workspace) -> wit.WorkspaceDefinition:
    return wit.WorkspaceDefinition(
        workspace.id,
        workspace.title,
        workspace.version,
        [
            wit.TableDefinition(
                name,
                [to_json(schema) for schema in table.versions.row_schemas()],
                [wit.DocumentDefinition(*columns) for columns in table.documents],
                table.checker is not None,
                table.unique_fields,
                [
                    wit.Reference(field, to, wit.OnDelete[on_delete.replace("-", "_").upper()])
                    for field, to, on_delete in table.referring
                ],
                table.enforced,
            )
            for name, table in workspace.tables.items()
        ],
        [
            wit.KvDefinition(key, [to_json(schema) for schema in kv.versions.schemas()])
            for key, kv in workspace.keys.items()
        ],
        [wit.AwarenessField(name, to_json(shape.schema)) for name, shape in workspace.presence.items()],
        [
            wit.ActionDefinition(
                path,
                wit.ActionKind[action.kind.upper()],
                action.description,
                to_json(action.input.schema) if action.input else None,
                to_json(action.output.schema) if action.output else None,
            )
            for path, action in workspace.actions.items()
        ],
    )


def _result(parse: Any, text: str) -> Any:
    """A row on which the author's code fails is invalid; its neighbours are not concerned."""
    try:
        return Ok(to_json(parse(json.loads(text))))
    except Exception as error:
        return Err(_issues(_refusal(error)))


def _issues(error: WorkspaceError) -> list[Any]:
    """The same as issues, where the contract has room for nothing else."""
    return host.issues_to_host(error.issues if isinstance(error, Invalid) else [Issue((), str(error))])


def _refusal(error: Exception) -> WorkspaceError:
    """What the caller is told. What the author did not mean to raise is written to the log first."""
    if isinstance(error, WorkspaceError):
        return error
    # The folders that a plugin is built from are `/0`, `/1` and so on; the frames of the SDK and of the
    # standard library help nobody.
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if re.match(r"/\d+/(?!epicenter_)", frame.filename)]
    lines = [f"  {frame.filename.split('/', 2)[2]}:{frame.lineno} in {frame.name}" for frame in own]
    what = "".join(traceback.format_exception_only(error)).strip()
    host.log.write(host.log.Level.ERROR, "\n".join([what, *lines]))
    return Failed(str(error) or type(error).__name__)


class _Lines(io.TextIOBase):
    """What is printed, as lines of the host's log."""

    def __init__(self, level: Any):
        self.level = level
        self.line = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self.line = (self.line + text).split("\n")
        for line in lines:
            host.log.write(self.level, line)
        return len(text)

    def flush(self) -> None:
        pass


_serving = False


def _begin() -> None:
    """At the first call of an instance: what the build left behind is the same in all of them."""
    global _serving
    if not _serving:
        _serving = True
        random.seed(host.context.random_u64())
        sys.stdout = _Lines(host.log.Level.INFO)
        sys.stderr = _Lines(host.log.Level.ERROR)
