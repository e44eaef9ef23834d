from dataclasses import dataclass

from epicenter_workspace import Workspace

workspace = Workspace("my-workspace", version="0.1.0")


@dataclass
class Note:
    id: str
    text: str
    done: bool = False


notes = workspace.table("notes", Note)


@notes.rule("text", "must not be empty")
def has_text(note: Note) -> bool:
    return note.text != ""


@workspace.mutation("notes/finish")
def finish(id: str) -> Note:
    """Marks a note as done."""
    return notes.update(id, done=True)
