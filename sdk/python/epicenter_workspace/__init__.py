"""Write a workspace in Python and ship it as one `.wasm` file; `README.md` has a whole one."""

from . import ai, http
from .context import Caller, caller, environment, now, random_id, request_id, require_caller
from .errors import Conflict, Denied, Failed, Invalid, Issue, NotFound, WorkspaceError
from .kv import Kv
from .shapes import Limit
from .table import Change, Page, Table
from .workspace import Workspace

__all__ = [
    "Caller", "Change", "Conflict", "Denied", "Failed", "Invalid", "Issue", "Kv", "Limit", "NotFound", "Page",
    "Table", "Workspace", "WorkspaceError", "ai", "caller", "environment", "http", "now", "random_id",
    "request_id", "require_caller",
]
