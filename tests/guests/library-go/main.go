// A library, which uses of the SDK what the blog does not.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"time"

	"epicenter.dev/workspace"
	"epicenter.dev/workspace/ai"
	"epicenter.dev/workspace/fetch"
)

// BookV1 is what a book was before it could have several authors.
type BookV1 struct {
	ID     string `json:"id"`
	Author string `json:"author"`
}

type Author struct {
	Name string `json:"name"`
	Born *int   `json:"born,omitempty"`
}

type State string

type Book struct {
	ID      string           `json:"id"`
	Authors []Author         `json:"authors"`
	State   State            `json:"state" enum:"in,lent" default:"in"`
	Price   *float64         `json:"price,omitempty" minimum:"0" maximum:"99.5" doc:"In euros."`
	More    any              `json:"more,omitempty"`
	Text    string           `json:"text" default:""`
	Edited  int64            `json:"edited" default:"0"`
	Lent    *time.Time       `json:"lent,omitempty"`
	Copies  map[string]uint8 `json:"copies,omitempty"`
	Parts   []Book           `json:"parts,omitempty"`
}

var books = workspace.NewTable("books",
	workspace.Previous(func(old BookV1) Book {
		return Book{ID: old.ID, Authors: []Author{{Name: old.Author}}, State: "in"}
	}),
	workspace.Validate(func(book Book) error {
		if len(book.Authors) == 0 {
			return workspace.Invalid("authors", "must not be empty")
		}
		var problems []error
		for index, author := range book.Authors {
			if author.Name == "" {
				problems = append(problems, workspace.Invalid(fmt.Sprintf("authors/%d/name", index), "must not be empty"))
			}
		}
		return errors.Join(problems...)
	}),
	workspace.Check(func(change workspace.Change[Book]) error {
		if change.Operation == workspace.Delete && change.Old != nil && change.Old.State == "lent" {
			return workspace.Denied("%s is lent to somebody", change.ID)
		}
		switch change.ID {
		case "guarded":
			return workspace.Denied("%s is nobody's", change.ID)
		case "unwanted":
			return errors.Join(workspace.Invalid("authors/0", "is not liked"), workspace.Invalid("", "is not wanted"))
		case "missing":
			return workspace.NotFound("there is no shelf for %s", change.ID)
		case "failing":
			return errors.New("the check is broken")
		case "panicking":
			return errors.New(nobody.ID)
		}
		return nil
	}),
)

var text = books.Document("text", "text", "edited")

var seats = workspace.NewKey("seats",
	workspace.Rule("", "must be even", func(seats int) bool { return seats%2 == 0 }),
)

type Reading struct {
	Book string `json:"book"`
	Page uint   `json:"page"`
}

type ID struct {
	ID string `json:"id"`
}

type Selection struct {
	State State `json:"state" enum:"in,lent" default:"in"`
}

func count(in Selection) (uint64, error) { return books.Count(workspace.Eq("state", in.State)) }

// All ids, by pages of two.
func ids(workspace.None) ([]string, error) {
	var ids []string
	for book, err := range books.All(workspace.Sort("state", "-id"), workspace.Limit(2)) {
		if err != nil {
			return nil, err
		}
		ids = append(ids, book.ID)
	}
	return ids, nil
}

func some(workspace.None) ([]string, error) {
	found, err := books.List(
		workspace.In("id", "a", "b", "c"), workspace.Ne("id", "b"), workspace.Exists("price", false),
		workspace.Prefix("state", "le"), workspace.Contains("state", "en"),
	)
	var ids []string
	for _, book := range found {
		ids = append(ids, book.ID)
	}
	return ids, err
}

func find(in ID) (*Book, error) {
	book, found, err := books.Find(in.ID)
	if err != nil || !found {
		return nil, err
	}
	return &book, nil
}

func get(in ID) (Book, error) { return books.Get(in.ID) }

func erase(in ID) (bool, error) { return books.Delete(in.ID) }

func lend(in ID) (Book, error) {
	return books.Modify(in.ID, func(book *Book) {
		now := workspace.Now()
		book.State, book.Lent = "lent", &now
	})
}

type Typing struct {
	ID   string `json:"id"`
	Text string `json:"text"`
}

func typeIn(in Typing) (string, error) {
	if err := text.SetText(in.ID, in.Text); err != nil {
		return "", err
	}
	return text.Text(in.ID)
}

type Furniture struct {
	Seats int `json:"seats"`
}

func furnish(in Furniture) ([]*int, error) {
	before, found, err := seats.Get()
	if err != nil {
		return nil, err
	}
	if err := seats.Set(in.Seats); err != nil {
		return nil, err
	}
	after, err := seats.GetOr(0)
	if !found {
		return []*int{nil, &after}, err
	}
	return []*int{&before, &after}, err
}

func clearSeats(workspace.None) (bool, error) { return seats.Delete() }

// Asks from many goroutines at once.
func together(workspace.None) (int, error) {
	found := make(chan int)
	for range 50 {
		go func() {
			all, _ := ids(workspace.None{})
			found <- len(all)
		}()
	}
	sum := 0
	for range 50 {
		sum += <-found
	}
	return sum, nil
}

type Text struct {
	JSON string `json:"json"`
}

// Reads a text, and gives it back.
func echo(in Text) (any, error) {
	var value any
	if err := json.Unmarshal([]byte(in.JSON), &value); err != nil {
		return nil, workspace.Failed("not JSON: %w", err)
	}
	return value, nil
}

type Context struct {
	Caller  *string `json:"caller"`
	Now     int64   `json:"now"`
	Clock   int64   `json:"clock"`
	ID      string  `json:"id"`
	Differs bool    `json:"differs"`
	Random  uint32  `json:"random"`
	Request string  `json:"request"`
	Slept   bool    `json:"slept"`
	None    []int   `json:"none"`
	Files   string  `json:"files"`
}

func context(workspace.None) (Context, error) {
	slog.Warn("about to tell", "what", "the context")
	slog.With("of", "a library").Debug("quietly")
	fmt.Println("printed")
	println("cried")
	var name *string
	if caller := workspace.Caller(); caller != nil {
		name = &caller.Name
	}
	before := time.Now()
	done := make(chan bool)
	go func() {
		time.Sleep(20 * time.Millisecond)
		done <- true
	}()
	<-done
	_, err := os.ReadFile("/etc/passwd")
	return Context{
		Caller:  name,
		Now:     workspace.Now().UnixMilli(),
		Clock:   time.Now().UnixMilli(),
		ID:      workspace.RandomID(),
		Differs: workspace.RandomUint64() != workspace.RandomUint64(),
		Random:  rand.Uint32(),
		Request: workspace.RequestID(),
		Slept:   time.Since(before) >= 15*time.Millisecond,
		Files:   fmt.Sprint(err),
	}, nil
}

type Asking struct {
	Model    string `json:"model"`
	Question string `json:"question"`
}

type Said struct {
	Text   string   `json:"text"`
	Pieces []string `json:"pieces"`
	Called []string `json:"called"`
	Tokens uint64   `json:"tokens"`
}

func request(in Asking) ai.Request {
	return ai.Request{
		Provider: "anthropic",
		Model:    in.Model,
		System:   "Be brief.",
		Messages: []ai.Message{ai.User(in.Question)},
		Tools: []ai.Tool{{
			Name:        "sum",
			Description: "Counts the books.",
			Parameters:  map[string]any{"type": "object", "properties": map[string]any{}},
		}},
	}
}

func ask(in Asking) (Said, error) {
	var said Said
	for request := request(in); ; {
		answer, err := ai.Chat(request)
		if err != nil || answer.Reason != ai.ToolCalls {
			said.Text, said.Tokens = answer.Message.Text, answer.Usage.Total
			return said, err
		}
		request.Messages = append(request.Messages, answer.Message)
		for _, call := range answer.Message.Calls {
			said.Called = append(said.Called, call.Name)
			request.Messages = append(request.Messages, ai.ToolResult{Call: call, Content: "7"})
		}
	}
}

func askInPieces(in Asking) (Said, error) {
	var said Said
	for event, err := range ai.ChatStream(request(in)) {
		if err != nil {
			return said, err
		}
		switch event := event.(type) {
		case ai.Text:
			said.Pieces = append(said.Pieces, string(event))
		case ai.ToolCall:
			said.Called = append(said.Called, event.Name)
		case ai.Answer:
			said.Text, said.Tokens = event.Message.Text, event.Usage.Total
		}
	}
	return said, nil
}

type Page struct {
	URL  string  `json:"url"`
	Text *string `json:"text"`
}

type Answer struct {
	Status int     `json:"status"`
	Seen   *string `json:"seen"`
	Body   string  `json:"body"`
}

// Sends a request, with a text as JSON where there is one.
func fetchPage(in Page) (answer Answer, err error) {
	var response fetch.Response
	if in.Text == nil {
		response, err = fetch.Get(in.URL)
	} else {
		response, err = fetch.PostJSON(in.URL, map[string]string{"text": *in.Text})
	}
	if err != nil {
		return answer, err
	}
	seen := response.Header.Get("X-Seen")
	return Answer{response.Status, &seen, response.Text()}, nil
}

// Sends a part of some bytes, and gives back the bytes of the answer.
func part(in Page) ([]int, error) {
	response, err := fetch.Post(in.URL, "application/octet-stream", []byte{0, 1, 128, 254, 255}[1:4])
	var numbers []int
	for _, one := range response.Body {
		numbers = append(numbers, int(one))
	}
	return numbers, err
}

type Variable struct {
	Name string `json:"name"`
}

func variable(in Variable) (*string, error) {
	value, found, err := workspace.Environment(in.Name)
	if !found {
		return nil, err
	}
	return &value, nil
}

// Sends a request of every part that there is, and reads the answer as JSON.
func exchange(in Page) (any, error) {
	response, err := fetch.Send(fetch.Request{
		Method: "PUT",
		URL:    in.URL,
		Header: fetch.Header{"Content-Type": {"text/x"}, "x-many": {"one", "two"}},
		JSON:   map[string]any{"text": in.Text},
	})
	if err != nil {
		return nil, err
	}
	var value any
	err = response.JSON(&value)
	return value, err
}

type Weighing struct {
	URL   string `json:"url"`
	Times int    `json:"times"`
}

// Asks for something large many times over, and says how many bytes came. Each answer is garbage by the next.
func weigh(in Weighing) (int, error) {
	sum := 0
	for range in.Times {
		response, err := fetch.Get(in.URL)
		if err != nil {
			return sum, err
		}
		sum += len(response.Body)
	}
	return sum, nil
}

type Failure struct {
	How string `json:"how"`
}

var nobody *Book

// Fails in one of the ways there are.
func fail(in Failure) (any, error) {
	switch in.How {
	case "denied":
		_, err := workspace.RequireCaller()
		return nil, err
	case "failed":
		return nil, workspace.Failed("the printer is out of %s", "paper")
	case "plain":
		return nil, errors.New("something broke")
	case "wrapped":
		_, err := books.Get("nobody")
		return nil, fmt.Errorf("while looking: %w", err)
	case "two":
		return nil, errors.Join(workspace.Invalid("one", "is wrong"), workspace.Invalid("a/b", "is wrong, too"))
	case "infinite":
		zero := 0.0
		return 1 / zero, nil
	case "panic":
		panic("the roof is on fire")
	case "nil":
		return nobody.Authors, nil
	case "index":
		return make([]int, 1)[len(in.How)], nil
	case "exit":
		os.Exit(3)
	case "deadlock":
		<-make(chan int)
	case "recursion":
		return descend(0), nil
	case "memory":
		var all [][]byte
		for {
			all = append(all, make([]byte, 1<<20))
		}
	case "loop":
		for counter := 0; ; counter++ {
			counter--
		}
	}
	return nil, nil
}

func descend(depth int) int { return descend(depth+1) + depth }

func init() {
	workspace.Serve(workspace.Workspace{
		ID:        "library-go",
		Tables:    []workspace.AnyTable{books},
		Keys:      []workspace.AnyKey{seats},
		Awareness: []workspace.Field{workspace.Awareness[Reading]("reading")},
		Actions: []workspace.Action{
			workspace.Query("books/count", "", count),
			workspace.Query("books/ids", "", ids),
			workspace.Query("books/some", "", some),
			workspace.Query("books/together", "", together),
			workspace.Query("books/find", "", find),
			workspace.Query("books/get", "", get),
			workspace.Mutation("books/erase", "", erase),
			workspace.Mutation("books/lend", "", lend),
			workspace.Mutation("books/type", "", typeIn),
			workspace.Mutation("furnish", "", furnish),
			workspace.Mutation("clear", "", clearSeats),
			workspace.Mutation("echo", "", echo),
			workspace.Query("context", "", context),
			workspace.Query("ask", "", ask),
			workspace.Query("ask-in-pieces", "", askInPieces),
			workspace.Query("fetch", "", fetchPage),
			workspace.Query("part", "", part),
			workspace.Query("variable", "", variable),
			workspace.Query("exchange", "", exchange),
			workspace.Query("weigh", "", weigh),
			workspace.Mutation("fail", "", fail),
		},
	})
}

func main() {}
