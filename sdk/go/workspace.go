// Package workspace is for writing a workspace in Go and shipping it as one .wasm file.
//
// A workspace is a set of tables, keys and actions over one shared document. The host keeps the document,
// syncs it, and serves it as REST; a plugin says what it means: what a row is, when it is valid, how an old
// row becomes a current one, what an action does. This is a whole one:
//
//	package main
//
//	import "epicenter.dev/workspace"
//
//	type Book struct {
//		ID     string  `json:"id"`
//		Title  string  `json:"title"`
//		Pages  uint32  `json:"pages" default:"0"`
//		LentTo *string `json:"lentTo"`
//	}
//
//	var books = workspace.NewTable("books",
//		workspace.Rule("title", "must not be empty", func(book Book) bool { return book.Title != "" }),
//	)
//
//	type Lending struct {
//		ID string `json:"id"`
//		To string `json:"to"`
//	}
//
//	func lend(in Lending) (Book, error) {
//		return books.Update(in.ID, workspace.Fields{"lentTo": in.To})
//	}
//
//	func init() {
//		workspace.Serve(workspace.Workspace{
//			ID:      "library",
//			Tables:  []workspace.AnyTable{books},
//			Actions: []workspace.Action{workspace.Mutation("books/lend", "Notes who has a book.", lend)},
//		})
//	}
//
//	func main() {}
//
// An instance of the plugin serves one call at a time. Its variables may be gone at the next call: what is to
// stay belongs into a table or a key.
package workspace

import (
	"reflect"

	"epicenter.dev/workspace/internal/contract"
)

// Workspace is everything that a workspace has.
type Workspace struct {
	// ID names it in URLs, and names its room.
	ID string
	// Title is for people.
	Title string
	// Version is the plugin's own.
	Version   string
	Tables    []AnyTable
	Keys      []AnyKey
	Awareness []Field
	Actions   []Action
}

// Field is a field of the presence states that clients share: cursors, names, colours.
type Field struct {
	definition contract.Field
}

// Awareness makes a field of the presence states by the type of its value.
func Awareness[T any](name string) Field {
	shape := mustShapeOf(reflect.TypeFor[T](), "awareness field "+name)
	return Field{contract.Field{Name: name, Schema: shape.schema.text()}}
}

// Serve says what the plugin is. Call it in an init function of package main: the main function itself is not
// run, because a plugin is a library to its host.
func Serve(workspace Workspace) {
	contract.Serving = guestOf(workspace)
	logTo(contract.Current)
}

// guest is what the host calls, on top of the author's workspace.
type guest struct {
	workspace Workspace
	tables    map[string]AnyTable
	keys      map[string]AnyKey
	actions   map[string]Action
}

func guestOf(workspace Workspace) *guest {
	made := &guest{workspace, map[string]AnyTable{}, map[string]AnyKey{}, map[string]Action{}}
	for _, table := range workspace.Tables {
		add(made.tables, "tables", table.define().Name, table)
	}
	for _, key := range workspace.Keys {
		add(made.keys, "keys", key.define().Key, key)
	}
	for _, action := range workspace.Actions {
		add(made.actions, "actions", action.definition.Path, action)
	}
	return made
}

func add[T any](to map[string]T, what, name string, item T) {
	if _, there := to[name]; there {
		broken("the workspace has two %s %q", what, name)
	}
	to[name] = item
}

func (g *guest) Define() contract.Definition {
	definition := contract.Definition{ID: g.workspace.ID, Title: g.workspace.Title, Version: g.workspace.Version}
	for _, table := range g.workspace.Tables {
		definition.Tables = append(definition.Tables, table.define())
	}
	for _, key := range g.workspace.Keys {
		definition.Keys = append(definition.Keys, key.define())
	}
	for _, field := range g.workspace.Awareness {
		definition.Awareness = append(definition.Awareness, field.definition)
	}
	for _, action := range g.workspace.Actions {
		definition.Actions = append(definition.Actions, action.definition)
	}
	return definition
}

func (g *guest) ParseRows(table string, rows []string) []contract.Parsed {
	parsed := make([]contract.Parsed, len(rows))
	for index, row := range rows {
		parsed[index] = parsedBy(func() (string, error) {
			known := g.tables[table]
			if known == nil {
				return "", NotFound("the workspace has no table %s", table)
			}
			return known.parse(row)
		})
	}
	return parsed
}

func (g *guest) ParseKey(key, value string) contract.Parsed {
	return parsedBy(func() (string, error) {
		known := g.keys[key]
		if known == nil {
			return "", NotFound("the workspace has no key %s", key)
		}
		return known.parse(value)
	})
}

// parsedBy reads one value. One on which the author's code fails is invalid; its neighbours are not
// concerned.
func parsedBy(parse func() (string, error)) contract.Parsed {
	text, err := attempt(func() (string, string, error) {
		text, err := parse()
		return text, "", err
	})
	if err != nil {
		return contract.Parsed{Issues: issuesOf(err)}
	}
	return contract.Parsed{JSON: text}
}

func (g *guest) CheckChange(change contract.Change) *contract.Error {
	_, refused := attempt(func() (string, string, error) {
		table := g.tables[change.Table]
		if table == nil {
			return "", "", NotFound("the workspace has no table %s", change.Table)
		}
		place, err := table.checkChange(change)
		return "", place, err
	})
	return refused
}

func (g *guest) RunAction(path, input string) (string, *contract.Error) {
	return attempt(func() (string, string, error) {
		action, ok := g.actions[path]
		if !ok {
			return "", "", NotFound("the workspace has no action %s", path)
		}
		output, err := action.run(input)
		return output, action.place, err
	})
}

// attempt runs what the author wrote, and makes of whatever happens what the host is told. `run` says which
// place in the source an error is from that does not know it itself.
func attempt(run func() (text, place string, err error)) (text string, refused *contract.Error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			text, refused = "", recovered(panicked)
		}
	}()
	text, place, err := run()
	if err != nil {
		return "", refusal(err, place)
	}
	return text, nil
}

// issuesOf is an error where the contract has room for issues only.
func issuesOf(err *contract.Error) []contract.Issue {
	if len(err.Issues) > 0 {
		return err.Issues
	}
	return []contract.Issue{{Message: err.Error()}}
}
