package workspace

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	"epicenter.dev/workspace/internal/contract"
)

// Issue is one thing that is wrong with a value: where in it (Path, empty for the value as a whole), and
// what (Message).
type Issue = contract.Issue

// Error is an error that says how the host is to answer: what [NotFound], [Invalid], [Denied] and [Failed]
// make, and what the host gives. errors.Is tells the kinds apart, errors.As gets at the issues.
type Error = contract.Error

// The kinds of errors, for errors.Is.
var (
	// ErrNotFound is that a row, key or whatever was asked for does not exist.
	ErrNotFound error = contract.NotFound
	// ErrInvalid is that a value was refused, for what its issues say.
	ErrInvalid error = contract.Invalid
	// ErrDenied is that the caller may not do this.
	ErrDenied error = contract.Denied
	// ErrFailed is anything else.
	ErrFailed error = contract.Failed
)

// NotFound is that what was asked for does not exist. REST answers 404.
func NotFound(format string, args ...any) error {
	return made(contract.NotFound, format, args)
}

// Invalid is that a value is wrong at a member: "title", "authors/0/name", or "" for the value itself. REST
// answers 422. Several are told together by errors.Join.
func Invalid(at, format string, args ...any) error {
	issue := Issue{Message: fmt.Sprintf(format, args...)}
	if at != "" {
		issue.Path = strings.Split(at, "/")
	}
	return &Error{Kind: contract.Invalid, Issues: []Issue{issue}}
}

// Denied is that the caller may not do this. REST answers 403.
func Denied(format string, args ...any) error {
	return made(contract.Denied, format, args)
}

// Failed is anything else. REST answers 500 with the text, and the host's log names the line that called
// this. Like fmt.Errorf it wraps an error that is formatted with %w.
func Failed(format string, args ...any) error {
	err := made(contract.Failed, format, args)
	if _, file, line, ok := runtime.Caller(1); ok {
		return &failedAt{err, fmt.Sprintf("%s:%d", shortened(file), line)}
	}
	return err
}

func made(kind contract.Kind, format string, args []any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Message: err.Error(), Cause: errors.Unwrap(err)}
}

// failedAt is an error together with the line where it was made.
type failedAt struct {
	err  *Error
	line string
}

func (f *failedAt) Error() string { return f.err.Error() }

func (f *failedAt) Unwrap() error { return f.err }

// shortened is a path as the log shows it: the file and its folder are enough to find it.
func shortened(file string) string {
	return filepath.Join(filepath.Base(filepath.Dir(file)), filepath.Base(file))
}

// issuesIn finds the issues of an error, also of several that are joined, if it is that something is
// invalid.
func issuesIn(err error) []Issue {
	switch err := err.(type) {
	case *Error:
		if err.Kind == contract.Invalid {
			return err.Issues
		}
	case interface{ Unwrap() []error }:
		var issues []Issue
		for _, one := range err.Unwrap() {
			of := issuesIn(one)
			if of == nil {
				return nil
			}
			issues = append(issues, of...)
		}
		return issues
	case interface{ Unwrap() error }:
		return issuesIn(err.Unwrap())
	}
	return nil
}

// refusal is what the caller is told of an error. What the author did not mean to happen is written to
// the log first, with its place: the line of the error where that is known, or else `place`.
func refusal(err error, place string) *Error {
	if issues := issuesIn(err); issues != nil {
		return &Error{Kind: contract.Invalid, Issues: issues}
	}
	if failed := (*failedAt)(nil); errors.As(err, &failed) {
		contract.Current.Log(contract.Fault, failed.line+": "+err.Error())
		return &Error{Kind: contract.Failed, Message: err.Error()}
	}
	if known := (*Error)(nil); errors.As(err, &known) {
		if known.Kind == contract.Invalid {
			return &Error{Kind: contract.Invalid, Issues: known.Issues}
		}
		return &Error{Kind: known.Kind, Message: err.Error()}
	}
	if place != "" {
		contract.Current.Log(contract.Fault, place+": "+err.Error())
	}
	return &Error{Kind: contract.Failed, Message: err.Error()}
}

// recovered is the error of a panic. The lines of the source that led to it are written to the log, but
// for those of this package and of Go's own runtime, which help nobody. It must be called by the deferred
// function itself.
func recovered(panicked any) *Error {
	err, ok := panicked.(error)
	if !ok {
		err = fmt.Errorf("%v", panicked)
	}
	lines := []string{"panic: " + err.Error()}
	callers := make([]uintptr, 64)
	frames := runtime.CallersFrames(callers[:runtime.Callers(2, callers)])
	for more := true; more && len(lines) <= linesOfPanic; {
		var frame runtime.Frame
		frame, more = frames.Next()
		if !isOurs(frame.Function) {
			name := frame.Function[strings.LastIndexByte(frame.Function, '/')+1:]
			lines = append(lines, fmt.Sprintf("  %s:%d in %s", shortened(frame.File), frame.Line, name))
		}
	}
	contract.Current.Log(contract.Fault, strings.Join(lines, "\n"))
	if known := (*Error)(nil); errors.As(err, &known) {
		return refusal(err, "")
	}
	return &Error{Kind: contract.Failed, Message: err.Error()}
}

// broken says what cannot be in the author's definition, and where that stands.
func broken(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	callers := make([]uintptr, 16)
	frames := runtime.CallersFrames(callers[:runtime.Callers(2, callers)])
	for more := true; more; {
		var frame runtime.Frame
		if frame, more = frames.Next(); !isOurs(frame.Function) {
			text = fmt.Sprintf("%s:%d: %s", shortened(frame.File), frame.Line, text)
			break
		}
	}
	contract.Broken(text)
}

// How many lines of a panic are written: those nearest to it say where it was.
const linesOfPanic = 16

func isOurs(function string) bool {
	return function == "" || strings.HasPrefix(function, "runtime.") || strings.HasPrefix(function, "reflect.") ||
		strings.HasPrefix(function, "epicenter.dev/workspace.") || strings.HasPrefix(function, "epicenter.dev/workspace/")
}
