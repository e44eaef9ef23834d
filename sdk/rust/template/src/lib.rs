use epicenter_workspace::*;

const NOTES: Table<Note> = Table::new("notes");

#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Note {
    id: String,
    text: String,
    done: bool,
}

fn finish(tx: &Transaction, Id { id }: Id) -> Result<Note> {
    NOTES.modify(tx, &id, |note| note.done = true)
}

fn workspace() -> Workspace {
    Workspace::new("my-workspace")
        .table(NOTES.define().rule("text", "must not be empty", |note| !note.text.is_empty()))
        .mutation("notes/finish", "Marks a note as done.", finish)
}

export!(workspace);
