package main

import "epicenter.dev/workspace"

type Note struct {
	ID   string `json:"id"`
	Text string `json:"text"`
	Done bool   `json:"done" default:"false"`
}

var notes = workspace.NewTable("notes",
	workspace.Rule("text", "must not be empty", func(note Note) bool { return note.Text != "" }),
)

type Finish struct {
	ID string `json:"id"`
}

func finish(in Finish) (Note, error) {
	return notes.Update(in.ID, workspace.Fields{"done": true})
}

func init() {
	workspace.Serve(workspace.Workspace{
		ID:      "my-workspace",
		Version: "0.1.0",
		Tables:  []workspace.AnyTable{notes},
		Actions: []workspace.Action{
			workspace.Mutation("notes/finish", "Marks a note as done.", finish),
		},
	})
}

// Not called: a plugin is a library.
func main() {}
