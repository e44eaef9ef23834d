// Package contract is the contract between a plugin and its host (wit/workspace.wit), in Go's types.
//
// What the host asks of a plugin is [Guest], what a plugin may ask of the host is [Host]. Inside of a
// plugin both are tied to the module's exports and imports, by hand, in the files for wasip1; the files
// say how. On the author's own machine, where tests run, there is no host, and each question to it is
// answered with an error that says so.
package contract

import "strings"

// Issue is one thing that is wrong with a value, and where in it.
type Issue struct {
	// Path leads from the outermost member to the faulty one, with positions in lists as decimal text.
	// It is empty when the whole value is at fault.
	Path []string
	// Message says what is wrong and what would mend it, for the person who wrote the value.
	Message string
}

func (i Issue) String() string {
	return strings.Join(append(append([]string(nil), i.Path...), i.Message), ": ")
}

// Kind says why a call could not do what was asked. It is an error itself, so that errors.Is finds it.
type Kind uint8

// The kinds, with the numbers that the contract gives them.
const (
	NotFound Kind = iota
	Invalid
	Denied
	Failed
)

func (k Kind) Error() string {
	switch k {
	case NotFound:
		return "not found"
	case Invalid:
		return "invalid"
	case Denied:
		return "denied"
	default:
		return "failed"
	}
}

// Error is an error that says how the host is to answer.
type Error struct {
	Kind Kind
	// Message is what the caller is told; of what is invalid, the issues are.
	Message string
	// Issues are what is wrong with a value that is invalid.
	Issues []Issue
	// Cause is what this error was made of, if anything.
	Cause error
}

func (e *Error) Error() string {
	if len(e.Issues) == 0 {
		if e.Message == "" {
			return e.Kind.Error()
		}
		return e.Message
	}
	texts := make([]string, len(e.Issues))
	for index, issue := range e.Issues {
		texts[index] = issue.String()
	}
	return strings.Join(texts, "; ")
}

// Unwrap gives the kind, and the cause where there is one.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Cause}
}

// Account is the account on whose behalf the host calls.
type Account struct {
	// ID is stable for the life of the account.
	ID string
	// Email is empty when it is not known.
	Email string
	// Name is empty when it is not known.
	Name string
}

// Definition is everything that the host must know before it serves the workspace.
type Definition struct {
	ID, Title, Version string
	Tables             []Table
	Keys               []Key
	Awareness          []Field
	Actions            []Action
}

// Table is rows of one shape. Versions are JSON Schemas, oldest first.
type Table struct {
	Name          string
	Versions      []string
	Documents     []Document
	ChecksChanges bool
}

// Document is a Yjs document that is attached to each row of a table.
type Document struct {
	Name, GUIDColumn, UpdatedAtColumn string
}

// Key is a single value under a key.
type Key struct {
	Key      string
	Versions []string
}

// Field is a field of the presence states that clients share.
type Field struct {
	Name, Schema string
}

// ActionKind is how an action is called.
type ActionKind uint8

// The kinds of actions, with the numbers that the contract gives them.
const (
	Query ActionKind = iota
	Mutation
)

// Action is something that callers can ask the workspace to do. An absent schema is empty.
type Action struct {
	Path, Description string
	Kind              ActionKind
	Input, Output     string
}

// Operation is what happens to a row.
type Operation uint8

// The operations, with the numbers that the contract gives them.
const (
	Create Operation = iota
	Update
	Delete
)

// Change is one change to a table, about to happen. What is absent is nil.
type Change struct {
	Table     string
	Operation Operation
	ID        string
	Old, New  *string
	Caller    *Account
}

// Parsed is a row of the current version, or what is wrong with it.
type Parsed struct {
	JSON   string
	Issues []Issue
}

// Guest is what the host asks of a plugin. None of it may panic: what does ends the instance.
type Guest interface {
	Define() Definition
	ParseRows(table string, rows []string) []Parsed
	ParseKey(key, value string) Parsed
	CheckChange(Change) *Error
	RunAction(path, input string) (string, *Error)
}

// Serving is the plugin's workspace, once it has said what it is.
var Serving Guest

// Operator is how a field is compared.
type Operator uint8

// The operators, with the numbers that the contract gives them.
const (
	Eq Operator = iota
	Ne
	Gt
	Gte
	Lt
	Lte
	In
	Contains
	Prefix
	Exists
)

// Filter is one condition on a row.
type Filter struct {
	Field    string
	Operator Operator
	Value    string
}

// Order is one key of the sort order.
type Order struct {
	Field      string
	Descending bool
}

// Selection says which rows, in which order. A limit of 0 and an empty cursor are absent.
type Selection struct {
	Filters []Filter
	Sort    []Order
	Limit   uint32
	Cursor  string
}

// Level is how important a line of the log is.
type Level uint8

// The levels, with the numbers that the contract gives them.
const (
	Debug Level = iota
	Info
	Warn
	Fault
)

// Host is what a plugin may ask of the host. Values are JSON; an absent one is nil.
type Host interface {
	Get(table, id string) (*string, error)
	List(table string, selection Selection) (rows []string, next string, err error)
	Count(table string, filters []Filter) (uint64, error)
	Put(table, row string) (string, error)
	Update(table, id, fields string) (string, error)
	Delete(table, id string) (bool, error)

	Text(table, id, document string) (string, error)
	SetText(table, id, document, text string) error

	KeyGet(key string) (*string, error)
	KeySet(key, value string) error
	KeyDelete(key string) (bool, error)

	Log(level Level, message string)

	Caller() *Account
	Now() uint64
	RandomID() string
	RandomUint64() uint64
	RequestID() string

	Chat(ChatRequest) (*ChatAnswer, error)
	ChatStream(ChatRequest) (ChatStream, error)

	Send(HTTPRequest) (*HTTPResponse, error)

	Environment(name string) (*string, error)
}

// HTTPHeader is one field of a head.
type HTTPHeader struct {
	Name, Value string
}

// HTTPRequest is what is sent to another server.
type HTTPRequest struct {
	Method, URL string
	Headers     []HTTPHeader
	Body        []byte
}

// HTTPResponse is what came back.
type HTTPResponse struct {
	Status  uint16
	Headers []HTTPHeader
	Body    []byte
}

// ChatRequest is what a model is asked.
type ChatRequest struct {
	Provider, Model, System string
	Messages                []ChatMessage
	Tools                   []ChatTool
	// Options is JSON; empty when there are none.
	Options string
}

// ChatMessage is what someone said: the model, a tool, or where neither is set the person.
type ChatMessage struct {
	User      string
	Assistant *ChatAssistant
	Result    *ChatToolResult
}

// ChatAssistant is what a model said.
type ChatAssistant struct {
	Thinking []ChatThought
	Text     string
	Calls    []ChatToolCall
}

// ChatThought is what a model thought, and the provider's proof that it did.
type ChatThought struct {
	Text, Signature string
}

// ChatTool is something that a model may call.
type ChatTool struct {
	Name, Description, Parameters string
}

// ChatToolCall is a call that a model made.
type ChatToolCall struct {
	ID, Name, Arguments, Signature string
}

// ChatToolResult is what came of a call.
type ChatToolResult struct {
	ID, Name, Content string
}

// ChatAnswer is all that a model said.
type ChatAnswer struct {
	Model                string
	Message              ChatAssistant
	Reason               uint8
	Input, Output, Total uint64
}

// ChatEvent is what happens while a model answers; one of them is set.
type ChatEvent struct {
	Thinking, Text *string
	Call           *ChatToolCall
	End            *ChatAnswer
}

// ChatStream is an answer that is under way.
type ChatStream interface {
	// Next is nil after the end.
	Next() (*ChatEvent, error)
	// Close ends the request. It must be called, once.
	Close()
}
