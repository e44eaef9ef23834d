package workspace

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
)

// How a value of any version becomes a valid value of the current one.
//
// A row of a table with several versions carries the member `_v`, the number of the version that wrote
// it, counted from 1; the SDK adds and removes it. A row with `_v` is read as that version and no other.
// A row without it is read as the newest version that it fits and that has all of its members (members
// that a type lacks are passed over, so that a slip in a current row would otherwise turn it into an old
// one); when there is none, as the current one, whose issues are then reported. A row with a higher `_v`
// than there are versions was written by a newer plugin: it is invalid rather than guessed at.
type versions struct {
	current  *shape
	previous []version
	rules    []func(reflect.Value) error
}

// version is a type that values had once.
type version struct {
	shape   *shape
	migrate func(reflect.Value) reflect.Value
}

// schemas gives one JSON Schema for each version, oldest first. Those of rows say which version they are.
func (v *versions) schemas(ofRows bool) []string {
	schemas := make([]string, 0, len(v.previous)+1)
	for index, shape := range append(v.shapes(), v.current) {
		schema := shape.schema
		if ofRows && len(v.previous) > 0 {
			schema = schema.withProperty("_v", object{{"const", index + 1}})
		}
		schemas = append(schemas, schema.text())
	}
	return schemas
}

func (v *versions) shapes() []*shape {
	shapes := make([]*shape, len(v.previous))
	for index, version := range v.previous {
		shapes[index] = version.shape
	}
	return shapes
}

// parseRow gives the current row for a row of any version.
func (v *versions) parseRow(text string) (string, error) {
	value, err := parse(text)
	if err != nil {
		return "", err
	}
	members, ok := value.(map[string]any)
	if !ok {
		return "", Invalid("", "a row must be an object")
	}
	number, err := v.version(members)
	if err != nil {
		return "", err
	}
	delete(members, "_v")
	row, err := v.read(members, number)
	if err != nil {
		return "", err
	}
	if id := v.current.member("id").of(row).String(); id != members["id"] {
		return "", Invalid("id", "the plugin must keep the id that it was given")
	}
	written, err := v.current.write(nil, row)
	if err != nil {
		return "", err
	}
	if len(v.previous) > 0 {
		// Rows are objects with a member at least: their id.
		written = append(written[:len(written)-1], `,"_v":`...)
		written = append(strconv.AppendInt(written, int64(len(v.previous)+1), 10), '}')
	}
	return string(written), nil
}

// parseValue is the same for the value of a key, which carries no version.
func (v *versions) parseValue(text string) (string, error) {
	value, err := parse(text)
	if err != nil {
		return "", err
	}
	read, err := v.read(value, 0)
	if err != nil {
		return "", err
	}
	written, err := v.current.write(nil, read)
	return string(written), err
}

// version gives what a row says of its version; 0 when it says nothing.
func (v *versions) version(members map[string]any) (int, error) {
	named, ok := members["_v"]
	if !ok {
		return 0, nil
	}
	newest := len(v.previous) + 1
	number := math.NaN()
	if text, ok := named.(json.Number); ok {
		number, _ = text.Float64()
	}
	if !(number >= 1) || number != math.Trunc(number) {
		return 0, Invalid("_v", "must be a whole number from 1 to %d, not %s", newest, nameOf(named))
	}
	if number > float64(newest) {
		return 0, Invalid(
			"_v", "was written by version %v, but the plugin knows versions up to %d; load a newer plugin", named, newest,
		)
	}
	return int(number), nil
}

func (v *versions) read(value any, number int) (reflect.Value, error) {
	newest := len(v.previous) + 1
	if number == 0 && newest > 1 {
		for candidate := newest; candidate > 0; candidate-- {
			if members, ok := value.(map[string]any); ok && !v.shapeOf(candidate).hasAll(members) {
				continue
			}
			read, err := v.shapeOf(candidate).read(value)
			if err != nil {
				continue
			}
			return v.checked(v.migrated(candidate, read))
		}
	}
	if number == 0 {
		number = newest
	}
	read, err := v.shapeOf(number).read(value)
	if err != nil {
		return reflect.Value{}, err
	}
	return v.checked(v.migrated(number, read))
}

func (v *versions) shapeOf(number int) *shape {
	if number > len(v.previous) {
		return v.current
	}
	return v.previous[number-1].shape
}

// migrated makes a current value of one of an older version. It is read anew, because what a migration
// makes may break the bounds of the current type.
func (v *versions) migrated(number int, value reflect.Value) (reflect.Value, error) {
	if number > len(v.previous) {
		return value, nil
	}
	written, err := v.current.write(nil, v.previous[number-1].migrate(value))
	if err != nil {
		return value, err
	}
	parsed, err := parse(string(written))
	if err != nil {
		return value, err
	}
	return v.current.read(parsed)
}

// checked holds the value against all rules, so that everything that is wrong is told at once.
func (v *versions) checked(value reflect.Value, err error) (reflect.Value, error) {
	if err != nil {
		return value, err
	}
	var broken []error
	for _, rule := range v.rules {
		if err := rule(value); err != nil {
			broken = append(broken, err)
		}
	}
	if len(broken) == 1 {
		return value, broken[0]
	}
	return value, errors.Join(broken...)
}

// Option says more about a table or a key whose values are of type T.
type Option[T any] struct {
	apply func(*settings[T])
}

// settings are what options say.
type settings[T any] struct {
	versions
	check     func(Change[T]) error
	checkLine string
}

// Previous names an older type of a table's rows or a key's values, and what makes a current one of it.
// Several are named oldest first, and each migrates straight to the current type. What is in the document
// stays as it is until it is rewritten; every read migrates it. Never take one out again: the numbers of
// those after it would change.
func Previous[Old, T any](migrate func(old Old) T) Option[T] {
	return Option[T]{func(s *settings[T]) {
		s.previous = append(s.previous, version{
			mustShapeOf(reflect.TypeFor[Old](), "an older version"),
			func(old reflect.Value) reflect.Value { return valueOf(migrate(as[Old](old))) },
		})
	}}
}

// Rule is what must be true of every value; message is said at a member (as in [Invalid]) where it is not.
// It must depend on nothing but the value.
func Rule[T any](at, message string, holds func(value T) bool) Option[T] {
	return Validate(func(value T) error {
		if holds(value) {
			return nil
		}
		return Invalid(at, "%s", message)
	})
}

// Validate is a rule that finds the words itself: it gives what [Invalid] makes, or several of them by
// errors.Join.
func Validate[T any](validate func(value T) error) Option[T] {
	return Option[T]{func(s *settings[T]) {
		s.rules = append(s.rules, func(value reflect.Value) error { return validate(as[T](value)) })
	}}
}

// Check is asked before each change that REST or an action makes to a table, and gives an error to refuse
// it: one of [Denied] or [Invalid] and so on is what the caller is answered, and any other is answered and
// logged like one of an action. Unlike a rule it sees the row before, may read other rows, and knows who asks. Changes that arrive by
// sync have happened already and are not asked about.
//
// Go lets no variable depend on itself. The table of a check that reads the rows of that same table is made in
// an init function, before [Serve] is called.
func Check[T any](check func(change Change[T]) error) Option[T] {
	return Option[T]{func(s *settings[T]) { s.check, s.checkLine = check, lineOf(check) }}
}

func configured[T any](what string, options []Option[T]) settings[T] {
	settings := settings[T]{versions: versions{current: mustShapeOf(reflect.TypeFor[T](), what)}}
	for _, option := range options {
		option.apply(&settings)
	}
	return settings
}

func as[T any](value reflect.Value) T {
	typed, _ := value.Interface().(T)
	return typed
}

// valueOf is reflect.ValueOf that keeps the type of an interface.
func valueOf[T any](value T) reflect.Value { return reflect.ValueOf(&value).Elem() }

// readAs reads JSON text from the host into T.
func readAs[T any](shape *shape, text string) (T, error) {
	var zero T
	value, err := parse(text)
	if err != nil {
		return zero, err
	}
	read, err := shape.read(value)
	if err != nil {
		return zero, fmt.Errorf("what the host has does not fit %v: %w", reflect.TypeFor[T](), err)
	}
	return as[T](read), nil
}
