package workspace

import (
	"iter"
	"reflect"

	"epicenter.dev/workspace/internal/contract"
)

// Table is a table whose rows are of type R: a struct with a member `id`, a string. It is the handle by which
// actions and checks read and write the rows; writing is for mutations.
//
// R is a Go struct with the tags of encoding/json, and some more: see the README.
type Table[R any] struct {
	name      string
	settings  settings[R]
	documents []contract.Document
}

// NewTable makes a table by the type of its rows. What is wrong with the type is told when the plugin
// is loaded, and is a panic in its tests.
func NewTable[R any](name string, options ...Option[R]) *Table[R] {
	table := &Table[R]{name: name, settings: configured("rows of "+name, options)}
	for _, shape := range append(table.settings.shapes(), table.settings.current) {
		if id := shape.member("id"); id == nil || id.shape.typ.Kind() != reflect.String {
			broken("rows of %s: %v has no member ID string `json:\"id\"`", name, shape.typ)
		}
	}
	return table
}

// Change is one change to a table, about to happen.
type Change[R any] struct {
	Operation Operation
	ID        string
	// Old is the row before; nil when there was none, or an invalid one.
	Old *R
	// New is the row to be; nil when it is deleted.
	New *R
	// Caller is who asks; nil while the host runs without accounts.
	Caller *Account
}

// Operation is what happens to a row.
type Operation = contract.Operation

// What happens to a row.
const (
	Create = contract.Create
	Update = contract.Update
	Delete = contract.Delete
)

// Fields are members of a row, by their names in JSON.
type Fields map[string]any

// Get gives the row with this id: [ErrNotFound] when there is none, [ErrInvalid] when the row in the document
// is not valid.
func (t *Table[R]) Get(id string) (R, error) {
	row, found, err := t.Find(id)
	if err == nil && !found {
		err = NotFound("%s has no row %s", t.name, id)
	}
	return row, err
}

// Find gives the row with this id, if there is one.
func (t *Table[R]) Find(id string) (row R, found bool, err error) {
	text, err := contract.Current.Get(t.name, id)
	if err != nil || text == nil {
		return row, false, err
	}
	row, err = t.read(*text, nil)
	return row, err == nil, err
}

// List gives the valid rows that fulfil all conditions, by id unless sorted: at most 1,000 unless limited,
// and 10,000 is the most.
//
//	posts.List(workspace.Eq("published", true), workspace.Gte("views", 10), workspace.Sort("-views"))
func (t *Table[R]) List(options ...ListOption) ([]R, error) {
	page, err := t.Page(options...)
	return page.Rows, err
}

// Page is a part of the rows that a selection stands for.
type Page[R any] struct {
	Rows []R
	// Next is the cursor of the next page, for [After]; empty on the last.
	Next string
}

// Page is List, with where the rows go on.
func (t *Table[R]) Page(options ...ListOption) (Page[R], error) {
	selection, err := selectionOf(options)
	if err != nil {
		return Page[R]{}, err
	}
	rows, next, err := contract.Current.List(t.name, selection)
	if err != nil {
		return Page[R]{}, err
	}
	page := Page[R]{Rows: make([]R, len(rows)), Next: next}
	for index, text := range rows {
		if page.Rows[index], err = t.read(text, nil); err != nil {
			return Page[R]{}, err
		}
	}
	return page, nil
}

// All goes through all rows that the options select, however many there are, page by page.
//
//	for post, err := range posts.All() { … }
func (t *Table[R]) All(options ...ListOption) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		for cursor := ""; ; {
			page, err := t.Page(append(options[:len(options):len(options)], After(cursor))...)
			if err != nil {
				var none R
				yield(none, err)
				return
			}
			for _, row := range page.Rows {
				if !yield(row, nil) {
					return
				}
			}
			if cursor = page.Next; cursor == "" {
				return
			}
		}
	}
}

// Count gives how many valid rows fulfil all conditions.
func (t *Table[R]) Count(conditions ...Filter) (uint64, error) {
	filters, err := filtersOf(conditions)
	if err != nil {
		return 0, err
	}
	return contract.Current.Count(t.name, filters)
}

// Put creates the row or replaces it whole. It gives the row as it is stored.
func (t *Table[R]) Put(row R) (R, error) {
	text, err := t.settings.current.write(nil, valueOf(row))
	if err != nil {
		return row, err
	}
	return t.read(contract.Current.Put(t.name, string(text)))
}

// Update sets the given members of a row and leaves the others. It gives the row as it is stored.
//
//	posts.Update(id, workspace.Fields{"published": true})
func (t *Table[R]) Update(id string, fields Fields) (R, error) {
	text, err := toJSON(map[string]any(fields))
	if err != nil {
		var none R
		return none, err
	}
	return t.read(contract.Current.Update(t.name, id, text))
}

// Modify reads a row, lets it be changed, and puts it back.
func (t *Table[R]) Modify(id string, change func(row *R)) (R, error) {
	row, err := t.Get(id)
	if err != nil {
		return row, err
	}
	change(&row)
	return t.Put(row)
}

// Delete deletes a row; false when there was none.
func (t *Table[R]) Delete(id string) (bool, error) {
	return contract.Current.Delete(t.name, id)
}

// Document is a Yjs document that is attached to each row of a table; [Table.Document] makes it.
type Document struct {
	table, name string
}

// Document attaches a Yjs document to each row. The columns are members of the row: guid has the id of the
// document's room, and the host sets updatedAt to the time (in ms) of the last local edit. Say it where
// the table is made:
//
//	var body = posts.Document("body", "bodyDocument", "bodyUpdatedAt")
func (t *Table[R]) Document(name, guid, updatedAt string) Document {
	for _, column := range []string{guid, updatedAt} {
		if t.settings.current.member(column) == nil {
			broken("document %s of %s: a row has no member %q", name, t.name, column)
		}
	}
	t.documents = append(t.documents, contract.Document{Name: name, GUIDColumn: guid, UpdatedAtColumn: updatedAt})
	return Document{t.name, name}
}

// Text gives the text of a row's document; empty when it was never written.
func (d Document) Text(id string) (string, error) {
	return contract.Current.Text(d.table, id, d.name)
}

// SetText replaces the text of a row's document. What old and new text have in common stays, so that clients
// who edit it at the same time are not in the way.
func (d Document) SetText(id, text string) error {
	return contract.Current.SetText(d.table, id, d.name, text)
}

// read takes a row from the host.
func (t *Table[R]) read(text string, err error) (R, error) {
	if err != nil {
		var none R
		return none, err
	}
	return readAs[R](t.settings.current, text)
}

// AnyTable is a table of whatever rows.
type AnyTable interface {
	define() contract.Table
	parse(row string) (string, error)
	checkChange(change contract.Change) (place string, err error)
}

func (t *Table[R]) define() contract.Table {
	return contract.Table{
		Name:          t.name,
		Versions:      t.settings.schemas(true),
		Documents:     t.documents,
		ChecksChanges: t.settings.check != nil,
	}
}

func (t *Table[R]) parse(row string) (string, error) { return t.settings.parseRow(row) }

func (t *Table[R]) checkChange(change contract.Change) (string, error) {
	if t.settings.check == nil {
		return "", nil
	}
	typed := Change[R]{Operation: change.Operation, ID: change.ID, Caller: change.Caller}
	for _, one := range []struct {
		text *string
		into **R
	}{{change.Old, &typed.Old}, {change.New, &typed.New}} {
		if one.text != nil {
			row, err := t.read(*one.text, nil)
			if err != nil {
				return t.settings.checkLine, err
			}
			*one.into = &row
		}
	}
	return t.settings.checkLine, t.settings.check(typed)
}
