package workspace

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"epicenter.dev/workspace/internal/contract"
)

// fake is a host in memory, of one table and one key, that parses as the real one does.
type fake struct {
	contract.Host
	guest contract.Guest
	rows  map[string]string
	keys  map[string]string
	lines []string
	asked contract.Selection
}

func (f *fake) Get(_, id string) (*string, error) {
	if row, ok := f.rows[id]; ok {
		return &row, nil
	}
	return nil, nil
}

func (f *fake) List(_ string, selection contract.Selection) ([]string, string, error) {
	f.asked = selection
	ids := sortedNames(f.rows)
	if selection.Cursor != "" {
		for len(ids) > 0 && ids[0] <= selection.Cursor {
			ids = ids[1:]
		}
	}
	next := ""
	if limit := int(selection.Limit); limit > 0 && len(ids) > limit {
		ids, next = ids[:limit], ids[limit-1]
	}
	var rows []string
	for _, id := range ids {
		rows = append(rows, f.rows[id])
	}
	return rows, next, nil
}

func (f *fake) Put(table, row string) (string, error) {
	parsed := f.guest.ParseRows(table, []string{row})[0]
	if parsed.Issues != nil {
		return "", &Error{Kind: contract.Invalid, Issues: parsed.Issues}
	}
	var it struct{ ID string }
	_ = json.Unmarshal([]byte(parsed.JSON), &it)
	f.rows[it.ID] = parsed.JSON
	return parsed.JSON, nil
}

func (f *fake) Update(table, id, fields string) (string, error) {
	row, ok := f.rows[id]
	if !ok {
		return "", &Error{Kind: contract.NotFound}
	}
	merged := map[string]any{}
	_ = json.Unmarshal([]byte(row), &merged)
	_ = json.Unmarshal([]byte(fields), &merged)
	text, _ := json.Marshal(merged)
	return f.Put(table, string(text))
}

func (f *fake) KeyGet(key string) (*string, error) {
	if value, ok := f.keys[key]; ok {
		return &value, nil
	}
	return nil, nil
}

func (f *fake) KeySet(key, value string) error {
	f.keys[key] = value
	return nil
}

func (f *fake) Log(level contract.Level, message string) {
	f.lines = append(f.lines, fmt.Sprint(level, " ", message))
}

func (f *fake) Caller() *Account { return nil }

func (f *fake) Environment(name string) (*string, error) {
	if name == "SECRET_KEY" {
		return nil, &Error{Kind: contract.Denied}
	}
	return f.KeyGet(name)
}

type postV1 struct {
	ID    string `json:"id"`
	Title string `json:"title"`
}

type post struct {
	ID        string `json:"id"`
	Title     string `json:"title"`
	Content   string `json:"content" default:""`
	Views     uint32 `json:"views" default:"0"`
	Published bool   `json:"published" default:"false"`
}

var (
	posts = NewTable("posts",
		Previous(func(old postV1) post { return post{ID: old.ID, Title: old.Title} }),
		Rule("title", "must not be empty", func(post post) bool { return post.Title != "" }),
		Rule("content", "is a secret", func(post post) bool {
			if post.Content == "panic" {
				panic("at a rule")
			}
			return post.Content != "secret"
		}),
		Check(func(change Change[post]) error {
			if change.Operation == Delete {
				return Denied("%q stays", change.Old.Title)
			}
			if fail := fails[change.ID]; fail != nil {
				return fail()
			}
			return nil
		}),
	)
	theme = NewKey("theme", Rule("", "must be short", func(theme string) bool { return len(theme) < 6 }))
)

type publishing struct {
	ID string `json:"id"`
}

func served(t *testing.T) *fake {
	t.Helper()
	host := &fake{rows: map[string]string{}, keys: map[string]string{}}
	before := contract.Current
	t.Cleanup(func() { contract.Current = before })
	contract.Current = host
	host.guest = guestOf(Workspace{
		ID:     "blog",
		Tables: []AnyTable{posts},
		Keys:   []AnyKey{theme},
		Actions: []Action{
			Mutation("posts/publish", "Publishes a post.", func(in publishing) (post, error) {
				return posts.Update(in.ID, Fields{"published": true})
			}),
			Query("posts/titles", "", func(None) (titles []string, err error) {
				for post, err := range posts.All(Limit(2)) {
					if err != nil {
						return nil, err
					}
					titles = append(titles, post.Title)
				}
				return titles, nil
			}),
			Query("fail", "", func(in publishing) (None, error) { return None{}, fails[in.ID]() }),
		},
	})
	return host
}

// The ways in which an action or a check fails. A table's check refers to them, and one of them to the table.
var fails map[string]func() error

func init() {
	fails = map[string]func() error{
		"plain":  func() error { return errors.New("broken") },
		"failed": func() error { return Failed("broken: %w", errors.New("inside")) },
		"panic":  func() error { panic("on fire") },
		"nil":    func() error { return errors.New((*post)(nil).Title) },
		"denied": func() error { return fmt.Errorf("wrapped: %w", Denied("not you")) },
		"none":   func() error { _, err := posts.Get("nobody"); return err },
		"two":    func() error { return errors.Join(Invalid("a/0", "is %d", 1), Invalid("", "is wrong")) },
		"signin": func() error { _, err := RequireCaller(); return err },
	}
}

func issues(of []Issue) string {
	var texts []string
	for _, issue := range of {
		texts = append(texts, strings.Join(issue.Path, "/")+": "+issue.Message)
	}
	return strings.Join(texts, "\n")
}

func TestARowIsReadAsTheVersionThatItIs(t *testing.T) {
	host := served(t)
	current := `{"id":"1","title":"a","content":"","views":0,"published":false,"_v":2}`
	for _, it := range []struct{ what, row, want string }{
		{"a first one", `{"id":"1","title":"a","_v":1}`, current},
		{"without a version", `{"id":"1","title":"a"}`, current},
		{"one that fits both", `{"id":"1","title":"a","_v":2}`, current},
		{"a whole number with a fraction", `{"id":"1","title":"a","views":3.0,"_v":2.0}`,
			`{"id":"1","title":"a","content":"","views":3,"published":false,"_v":2}`},
		{"the largest number", `{"id":"1","title":"a","views":4294967295}`,
			`{"id":"1","title":"a","content":"","views":4294967295,"published":false,"_v":2}`},
		{"what it does not know", `{"id":"1","title":"a","colour":"red","_v":2}`, current},
		{"no object", `[]`, ": a row must be an object"},
		{"no JSON", `{`, ": not JSON: the name of a member is expected at byte 1"},
		{"no id", `{"title":"a"}`, "id: is required"},
		{"a number for an id", `{"id":7,"title":"a"}`, "id: must be a string, not 7"},
		{"an empty title", `{"id":"1","title":""}`, "title: must not be empty"},
		{"two broken rules", `{"id":"1","title":"","content":"secret"}`,
			"title: must not be empty\ncontent: is a secret"},
		{"many wrong members", `{"id":"1","title":null,"views":"x","published":[]}`,
			"title: must be a string, not null\nviews: must be a whole number, not \"x\"\n" +
				"published: must be true or false, not a list"},
		{"a fraction", `{"id":"1","title":"a","views":1.5}`, "views: must be a whole number, not 1.5"},
		{"less than none", `{"id":"1","title":"a","views":-1}`, "views: must be at least 0"},
		{"too many", `{"id":"1","title":"a","views":4294967296}`, "views: must be at most 4294967295"},
		{"far too many", `{"id":"1","title":"a","views":1e300}`, "views: must be at most 4294967295"},
		{"from the future", `{"id":"1","title":"a","_v":9}`,
			"_v: was written by version 9, but the plugin knows versions up to 2; load a newer plugin"},
		{"no version", `{"id":"1","title":"a","_v":"1"}`, `_v: must be a whole number from 1 to 2, not "1"`},
		{"half a version", `{"id":"1","title":"a","_v":1.5}`, "_v: must be a whole number from 1 to 2, not 1.5"},
		{"a rule that panics", `{"id":"1","title":"a","content":"panic"}`, ": at a rule"},
	} {
		parsed := host.guest.ParseRows("posts", []string{it.row, current})
		got := parsed[0].JSON
		if parsed[0].Issues != nil {
			got = issues(parsed[0].Issues)
		}
		if got != it.want {
			t.Errorf("%s: got %s\nwant %s", it.what, got, it.want)
		}
		if parsed[1].JSON != current {
			t.Errorf("%s: its neighbour is %v", it.what, parsed[1])
		}
	}
}

type everything struct {
	ID       string            `json:"id"`
	Bytes    []byte            `json:"bytes,omitempty"`
	When     *time.Time        `json:"when,omitempty"`
	Any      any               `json:"any,omitempty"`
	Raw      json.RawMessage   `json:"raw,omitempty"`
	Tags     []string          `json:"tags" default:"[]" maxItems:"2"`
	State    string            `json:"state" enum:"in,out" default:"in"`
	Maybe    *string           `json:"maybe" enum:"a,b" doc:"Perhaps."`
	Price    float64           `json:"price,omitzero" minimum:"0" maximum:"99.5"`
	Name     string            `json:"name,omitempty" minLength:"2" maxLength:"3"`
	By       map[string][]int8 `json:"by,omitempty"`
	Children []everything      `json:"children,omitempty"`
	embedded
	hidden  int
	Skipped func() `json:"-"`
}

type embedded struct {
	Inner bool `json:"inner,omitempty"`
}

func TestAValueIsWrittenAsItWasRead(t *testing.T) {
	shape := mustShapeOf(reflect.TypeFor[everything](), "everything")
	for _, it := range []struct{ text, want string }{
		{`{"id":"1"}`, `{"id":"1","tags":[],"state":"in","maybe":null}`},
		{
			`{"id":"\u0001\n\"\\<é🍵","bytes":"aGk=","when":"2026-01-02T03:04:05Z","any":{"n":[1.50,12345678901234567890]},` +
				`"raw":[1,null],"tags":["x"],"state":"out","maybe":"a","price":1e-7,"name":"éé","by":{"z":[-128],"a":[]},` +
				`"children":[{"id":"2"}],"inner":true}`,
			`{"id":"\u0001\n\"\\<é🍵","bytes":"aGk=","when":"2026-01-02T03:04:05Z","any":{"n":[1.50,12345678901234567890]},` +
				`"raw":[1,null],"tags":["x"],"state":"out","maybe":"a","price":1e-07,"name":"éé","by":{"a":[],"z":[-128]},` +
				`"children":[{"id":"2","tags":[],"state":"in","maybe":null}],"inner":true}`,
		},
	} {
		value, err := parse(it.text)
		if err != nil {
			t.Fatal(err)
		}
		read, err := shape.read(value)
		if err != nil {
			t.Fatal(err)
		}
		written, err := shape.write(nil, read)
		if err != nil || string(written) != it.want {
			t.Errorf("got %s (%v)\nwant %s", written, err, it.want)
		}
	}
	if _, err := shape.write(nil, reflect.ValueOf(everything{Price: math.Inf(1)})); err == nil {
		t.Error("an infinite number is written")
	}
	nothing, _ := toJSON(map[string]any{"all": []any{everything{ID: "1"}, nil, json.Number("1.0"), 1e21}})
	if nothing != `{"all":[{"id":"1","tags":[],"state":"","maybe":null},null,1.0,1e+21]}` {
		t.Errorf("got %s", nothing)
	}
}

func TestWhatIsWrongIsSaidWhereItIs(t *testing.T) {
	shape := mustShapeOf(reflect.TypeFor[everything](), "everything")
	for _, it := range []struct{ member, want string }{
		{`"bytes":"!"`, "bytes: must be base64"},
		{`"when":"tomorrow"`, `when: must be a time such as 2006-01-02T15:04:05Z, not "tomorrow"`},
		{`"tags":["a",1]`, "tags/1: must be a string, not 1"},
		{`"tags":["a","b","c"]`, "tags: must have at most 2 items"},
		{`"tags":{}`, "tags: must be a list, not an object"},
		{`"state":"lost"`, "state: must be one of in, out"},
		{`"state":null`, "state: must be a string, not null"},
		{`"maybe":"c"`, "maybe: must be one of a, b"},
		{`"price":100`, "price: must be at most 99.5"},
		{`"price":1e999`, "price: must be a number that float64 holds, not 1e999"},
		{`"name":"a"`, "name: must have at least 2 characters"},
		{`"by":{"a":[1,128]}`, "by/a/1: must be at most 127"},
		{`"by":{"a":[-129]}`, "by/a/0: must be at least -128"},
		{`"children":[{"id":"2","children":[{}]}]`, "children/0/children/0/id: is required"},
		{`"children":[[]]`, "children/0: must be an object, not a list"},
	} {
		value, err := parse(`{"id":"1",` + it.member + `}`)
		if err != nil {
			t.Fatal(err)
		}
		_, err = shape.read(value)
		if got := issues(issuesIn(err)); got != it.want {
			t.Errorf("%s: got %s, want %s", it.member, got, it.want)
		}
	}
}

func TestATypeIsDescribed(t *testing.T) {
	for _, it := range []struct {
		typ  reflect.Type
		want string
	}{
		{reflect.TypeFor[string](), `{"type":"string"}`},
		{reflect.TypeFor[any](), `{}`},
		{reflect.TypeFor[[]*int](), `{"type":"array","items":{"type":["integer","null"]}}`},
		{reflect.TypeFor[map[string]uint8](),
			`{"type":"object","additionalProperties":{"type":"integer","minimum":0,"maximum":255}}`},
	} {
		got := described(mustShapeOf(it.typ, "it")).text()
		if got != it.want {
			t.Errorf("%v: got %s", it.typ, got)
		}
	}
	schema := described(mustShapeOf(reflect.TypeFor[everything](), "it")).text()
	for _, part := range []string{
		`"maybe":{"type":["string","null"],"enum":[null,"a","b"],"description":"Perhaps."}`,
		`"state":{"type":"string","enum":["in","out"],"default":"in"}`,
		`"tags":{"type":"array","items":{"type":"string"},"maxItems":2,"default":[]}`,
		`"children":{"type":"array","items":{"$ref":"#/$defs/everything"}}`,
		`"inner":{"type":"boolean"}`,
		`"required":["id"]`,
		`"$defs":{"everything":{"type":"object"`,
	} {
		if !strings.Contains(schema, part) {
			t.Errorf("the schema lacks %s: %s", part, schema)
		}
	}
	table := posts.define()
	if want := `{"type":"object","properties":{"id":{"type":"string"},"title":{"type":"string"},"_v":{"const":1}},` +
		`"required":["id","title"]}`; table.Versions[0] != want {
		t.Errorf("got %s", table.Versions[0])
	}
	if !strings.Contains(table.Versions[1], `"_v":{"const":2}`) || !table.ChecksChanges {
		t.Errorf("got %v", table)
	}
}

func TestATypeThatCannotBeIsFoundOutAtOnce(t *testing.T) {
	type noID struct{ Title string }
	type channel struct{ ID chan int }
	type bounds struct {
		ID string `json:"id" minimum:"3"`
	}
	type fallback struct {
		ID    string `json:"id"`
		Views int    `json:"views" default:"many"`
	}
	for _, it := range []struct {
		make func()
		want string
	}{
		{func() { NewTable[noID]("t") }, "has no member ID string `json:\"id\"`"},
		{func() { NewTable[string]("t") }, "has no member ID string"},
		{func() { NewTable[channel]("t") }, "channel.ID: chan int has no JSON"},
		{func() { NewTable[bounds]("t") }, `its tag minimum:"3" does not fit string`},
		{func() { NewTable[fallback]("t") }, `its default "many"`},
		{func() { NewKey("k", Check(func(Change[string]) error { return nil })) }, "those of keys cannot"},
		{func() { posts.Document("body", "body", "views") }, `a row has no member "body"`},
		{func() { guestOf(Workspace{Keys: []AnyKey{theme, theme}}) }, `two keys "theme"`},
	} {
		func() {
			defer func() {
				if said := fmt.Sprint(recover()); !strings.Contains(said, it.want) {
					t.Errorf("got %s, want %s", said, it.want)
				}
			}()
			it.make()
		}()
	}
}

func TestActionsReadAndWrite(t *testing.T) {
	host := served(t)
	for _, id := range []string{"a", "b", "c"} {
		if _, err := posts.Put(post{ID: id, Title: strings.ToUpper(id)}); err != nil {
			t.Fatal(err)
		}
	}
	output, err := host.guest.RunAction("posts/publish", `{"id":"b"}`)
	want := `{"id":"b","title":"B","content":"","views":0,"published":true}`
	if output != want || err != nil {
		t.Errorf("got %s, %v", output, err)
	}
	if output, _ := host.guest.RunAction("posts/titles", "null"); output != `["A","B","C"]` {
		t.Errorf("got %s", output)
	}
	changed, failed := posts.Modify("a", func(post *post) { post.Views++ })
	if changed.Views != 1 || failed != nil {
		t.Errorf("got %v, %v", changed, failed)
	}
	if _, err := posts.Put(post{ID: "d"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v", err)
	}
	if _, err := posts.Update("z", Fields{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	_, err2 := posts.List(Eq("title", "A"), In("views", 1, 2), Sort("-views", "title"), Limit(3), After("a"))
	wanted := contract.Selection{
		Filters: []contract.Filter{{Field: "title", Operator: contract.Eq, Value: `"A"`}, {Field: "views", Operator: contract.In, Value: "[1,2]"}},
		Sort:    []contract.Order{{Field: "views", Descending: true}, {Field: "title"}},
		Limit:   3, Cursor: "a",
	}
	if err2 != nil || !reflect.DeepEqual(host.asked, wanted) {
		t.Errorf("got %v, %v", host.asked, err2)
	}
}

func TestAKeyHasATypeAndARule(t *testing.T) {
	host := served(t)
	if parsed := host.guest.ParseKey("theme", `"dark"`); parsed.JSON != `"dark"` {
		t.Errorf("got %v", parsed)
	}
	for value, want := range map[string]string{`7`: ": must be a string, not 7", `"too long"`: ": must be short"} {
		if got := issues(host.guest.ParseKey("theme", value).Issues); got != want {
			t.Errorf("%s: got %s", value, got)
		}
	}
	if value, err := theme.GetOr("light"); value != "light" || err != nil {
		t.Errorf("got %s, %v", value, err)
	}
	_ = theme.Set("dark")
	if value, found, err := theme.Get(); value != "dark" || !found || err != nil {
		t.Errorf("got %s, %v, %v", value, found, err)
	}
}

func TestAVariableIsThereOrNotOrDenied(t *testing.T) {
	served(t).keys["GRANTED_KEY"] = ""
	if value, found, err := Environment("GRANTED_KEY"); value != "" || !found || err != nil {
		t.Errorf("got %q, %v, %v", value, found, err)
	}
	if value, found, err := Environment("NOT_SET"); value != "" || found || err != nil {
		t.Errorf("got %q, %v, %v", value, found, err)
	}
	if _, found, err := Environment("SECRET_KEY"); found || !errors.Is(err, ErrDenied) {
		t.Errorf("got %v, %v", found, err)
	}
}

func TestACheckRefusesAChange(t *testing.T) {
	host := served(t)
	row := `{"id":"1","title":"a","_v":2}`
	change := contract.Change{Table: "posts", Operation: contract.Delete, ID: "1", Old: &row}
	if got := host.guest.CheckChange(change); got == nil || got.Kind != contract.Denied || got.Message != `"a" stays` {
		t.Errorf("got %v", got)
	}
	if got := host.guest.CheckChange(contract.Change{Table: "posts", ID: "1", New: &row}); got != nil {
		t.Errorf("got %v", got)
	}
	if got := host.guest.CheckChange(contract.Change{Table: "nothing"}); got == nil || got.Kind != contract.NotFound {
		t.Errorf("got %v", got)
	}
}

func TestAnErrorIsToldToTheCallerAndItsPlaceToTheLog(t *testing.T) {
	host := served(t)
	for _, it := range []struct {
		how    string
		kind   contract.Kind
		want   string
		logged string
	}{
		{"plain", contract.Failed, "broken", "go/workspace_test.go:"},
		{"failed", contract.Failed, "broken: inside", "go/workspace_test.go:"},
		{"panic", contract.Failed, "on fire", "panic: on fire"},
		{"nil", contract.Failed, "runtime error: invalid memory address or nil pointer dereference", "panic: "},
		{"denied", contract.Denied, "wrapped: not you", ""},
		{"none", contract.NotFound, "posts has no row nobody", ""},
		{"two", contract.Invalid, "a: 0: is 1; is wrong", ""},
		{"signin", contract.Denied, "sign in to do this", ""},
	} {
		for what, run := range map[string]func() *Error{
			"action": func() *Error {
				_, err := host.guest.RunAction("fail", `{"id":"`+it.how+`"}`)
				return err
			},
			"check": func() *Error {
				return host.guest.CheckChange(contract.Change{Table: "posts", ID: it.how})
			},
		} {
			host.lines = nil
			err := run()
			if err == nil || err.Kind != it.kind || err.Error() != it.want {
				t.Errorf("%s, %s: got %v", what, it.how, err)
			}
			logged := strings.Join(host.lines, "\n")
			if !strings.Contains(logged, it.logged) || (it.logged == "") != (logged == "") {
				t.Errorf("%s, %s: logged %q", what, it.how, logged)
			}
		}
	}
	if _, err := host.guest.RunAction("nothing", "null"); err.Kind != contract.NotFound {
		t.Errorf("got %v", err)
	}
	if _, err := host.guest.RunAction("fail", `{"id":7}`); issues(err.Issues) != "id: must be a string, not 7" {
		t.Errorf("got %v", err)
	}
}

func TestTheStandardLoggersWriteToTheHost(t *testing.T) {
	host := served(t)
	before, output := slog.Default(), log.Writer()
	defer func() { slog.SetDefault(before); log.SetOutput(output); log.SetFlags(log.LstdFlags) }()
	logTo(host)
	log.Printf("publishing %d", 1)
	slog.With("a", 1).WithGroup("g").Warn("careful", "b", "two words")
	slog.Debug("quiet")
	slog.Error("loud")
	if got := strings.Join(host.lines, "|"); got != `1 publishing 1|2 careful a=1 g.b="two words"|0 quiet|3 loud` {
		t.Errorf("got %s", got)
	}
}

func TestOutsideOfAPluginThereIsNoHost(t *testing.T) {
	if _, err := posts.Get("1"); err == nil || !bytes.Contains([]byte(err.Error()), []byte("inside of a plugin only")) {
		t.Errorf("got %v", err)
	}
}
