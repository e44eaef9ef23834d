package workspace

import (
	"fmt"
	"reflect"
	"runtime"

	"epicenter.dev/workspace/internal/contract"
)

// None is the input of an action that takes none, and the output of one that gives none.
type None = struct{}

// Action is something that callers can ask the workspace to do; [Query] and [Mutation] make it.
type Action struct {
	definition contract.Action
	// place is where the handler stands in the author's source.
	place string
	run   func(input string) (string, error)
}

// Query is an action that reads: GET …/actions/{path}, with the input in the query string. Input and output
// are described by their types; [None] stands for neither. What the handler gives as an error becomes the
// answer's status: see [NotFound], [Invalid], [Denied] and [Failed]. Any other error, and a panic, is
// answered with 500, and is in the host's log with a line of the source.
func Query[In, Out any](path, description string, handler func(In) (Out, error)) Action {
	return actionOf(contract.Query, path, description, handler)
}

// Mutation is an action that may write: POST …/actions/{path}, with the input as JSON body. All of its writes
// happen, or none: none when it gives an error, panics, or runs out of time. Reads in it see its own writes.
// The host may run it again, from the start, when another writer was faster.
func Mutation[In, Out any](path, description string, handler func(In) (Out, error)) Action {
	return actionOf(contract.Mutation, path, description, handler)
}

func actionOf[In, Out any](kind contract.ActionKind, path, description string, handler func(In) (Out, error)) Action {
	input := mustShapeOf(reflect.TypeFor[In](), "input of "+path)
	output := mustShapeOf(reflect.TypeFor[Out](), "output of "+path)
	definition := contract.Action{Path: path, Description: description, Kind: kind}
	takes := input.typ != reflect.TypeFor[None]()
	gives := output.typ != reflect.TypeFor[None]()
	if takes {
		definition.Input = input.schema.text()
	}
	if gives {
		definition.Output = output.schema.text()
	}
	run := func(text string) (string, error) {
		var in In
		if takes {
			value, err := parse(text)
			if err != nil {
				return "", err
			}
			read, err := input.read(value)
			if err != nil {
				return "", err
			}
			in = as[In](read)
		}
		out, err := handler(in)
		if err != nil || !gives {
			return "null", err
		}
		written, err := output.write(nil, valueOf(out))
		return string(written), err
	}
	return Action{definition, lineOf(handler), run}
}

// lineOf is where a function begins in the source: `blog/main.go:51 in main.publish`.
func lineOf(function any) string {
	of := runtime.FuncForPC(reflect.ValueOf(function).Pointer())
	if of == nil {
		return ""
	}
	file, line := of.FileLine(of.Entry())
	return fmt.Sprintf("%s:%d in %s", shortened(file), line, of.Name())
}
