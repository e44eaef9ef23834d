"""Actions that reach out of the workspace, and a table whose check denies."""

from dataclasses import dataclass

from epicenter_workspace import Change, Denied, Workspace, environment, http

workspace = Workspace("reach-python", version="0.1.0")


@dataclass
class Thing:
    id: str


@dataclass
class Answer:
    status: int
    seen: str | None
    body: str


things = workspace.table("things", Thing)


@things.check
def is_nobodys(change: Change[Thing]) -> None:
    if change.id == "guarded":
        raise Denied(f"{change.id} is nobody's")


@workspace.query("fetch")
def fetch(url: str, text: str | None = None) -> Answer:
    """Sends a request, with a text as JSON where there is one."""
    answer = http.get(url) if text is None else http.post(url, json={"text": text})
    return Answer(answer.status, answer.headers.get("x-seen"), answer.text)


@workspace.query("part")
def part(url: str) -> list[int]:
    """Sends a part of some bytes, and gives back the bytes of the answer."""
    return list(http.post(url, body=bytes([0, 1, 128, 254, 255])[1:4]).body)


@workspace.query("variable")
def variable(name: str) -> str | None:
    """Reads a variable."""
    return environment(name)
