package workspace

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"epicenter.dev/workspace/internal/contract"
)

// How values of a Go type are read from JSON, written as JSON, and described as JSON Schema (draft
// 2020-12).
//
// encoding/json reads what it can and stops at the first thing that it cannot; a person who wrote a row
// wants all that is wrong with it, each with its place. And it writes a nil slice as null, which is no
// list. Its tags are understood, so that a struct means here what it means to every Go programmer:
//
//   - a member is required, unless its type is a pointer, or its tag says omitempty or omitzero, or
//     there is a default;
//   - a pointer may be null;
//   - members that a struct does not have are passed over.
//
// Beside json there are the tags default, enum (choices joined by commas), minimum, maximum, minLength,
// maxLength, minItems, maxItems, and doc, a description. JSON has one kind of number: 3.0 is the integer
// 3. In a value of type any, numbers are json.Number, so that nothing is lost when it is written again.
//
// What a type cannot be is found out when the plugin starts, or its tests do.
type shape struct {
	// into reads a value into a place of the type, and notes what is wrong with it.
	into func(r *reader, value any, place reflect.Value)
	// write appends a value as JSON.
	write func(to []byte, value reflect.Value) ([]byte, error)
	// describe gives the JSON Schema.
	describe func(d *describer) object
	// typ is the type.
	typ reflect.Type
	// members are those of a struct.
	members []*member
	// schema is what describe gave, where the shape is the outermost.
	schema object
}

// member is one of a struct.
type member struct {
	name      string
	index     []int
	shape     *shape
	required  bool
	fallback  reflect.Value
	omitEmpty bool
	omitZero  bool
	extra     object
}

// of is the member of a struct.
func (m *member) of(value reflect.Value) reflect.Value { return value.FieldByIndex(m.index) }

func (s *shape) member(name string) *member {
	for _, member := range s.members {
		if member.name == name {
			return member
		}
	}
	return nil
}

// hasAll tells whether the type has all members of an object. One that is no struct may have any.
func (s *shape) hasAll(members map[string]any) bool {
	if s.members == nil {
		return true
	}
	for name := range members {
		if s.member(name) == nil {
			return false
		}
	}
	return true
}

// read gives a value of the type, or everything that is wrong.
func (s *shape) read(value any) (reflect.Value, error) {
	var r reader
	place := reflect.New(s.typ).Elem()
	s.into(&r, value, place)
	if len(r.issues) > 0 {
		return place, &Error{Kind: contract.Invalid, Issues: r.issues}
	}
	return place, nil
}

// reader notes what is wrong on the way.
type reader struct {
	path   []string
	issues []Issue
}

func (r *reader) wrong(format string, args ...any) {
	path := append([]string{}, r.path...)
	r.issues = append(r.issues, Issue{Path: path, Message: fmt.Sprintf(format, args...)})
}

func (r *reader) at(name string, read func()) {
	r.path = append(r.path, name)
	read()
	r.path = r.path[:len(r.path)-1]
}

// shapes are those that were made, by their types: each is made once, and may contain itself.
var shapes = map[reflect.Type]*shape{}

// mustShapeOf is the shape of a type, for which the author answers.
func mustShapeOf(typ reflect.Type, what string) *shape {
	shape, err := shapeOf(typ)
	if err != nil {
		broken("%s: %v", what, err)
		shape, _ = shapeOf(reflect.TypeFor[any]())
	}
	if shape.schema == nil {
		shape.schema = described(shape)
	}
	return shape
}

var (
	timeType        = reflect.TypeFor[time.Time]()
	unmarshalerType = reflect.TypeFor[json.Unmarshaler]()
	textReaderType  = reflect.TypeFor[encoding.TextUnmarshaler]()
	bytesType       = reflect.TypeFor[[]byte]()
	numberType      = reflect.TypeFor[json.Number]()
)

func shapeOf(typ reflect.Type) (*shape, error) {
	if known := shapes[typ]; known != nil {
		return known, nil
	}
	made := &shape{typ: typ}
	shapes[typ] = made
	if err := made.build(); err != nil {
		delete(shapes, typ)
		return nil, err
	}
	return made, nil
}

func (s *shape) build() error {
	pointer := reflect.PointerTo(s.typ)
	switch {
	case s.typ == timeType:
		s.foreign("a time such as 2006-01-02T15:04:05Z", object{{"type", "string"}, {"format", "date-time"}})
		return nil
	case pointer.Implements(unmarshalerType):
		s.foreign("something else", object{})
		return nil
	case pointer.Implements(textReaderType):
		s.foreign("something else", object{{"type", "string"}})
		return nil
	case s.typ == bytesType:
		s.bytes()
		return nil
	case s.typ == numberType:
		s.exact()
		return nil
	}
	switch s.typ.Kind() {
	case reflect.String:
		s.string()
	case reflect.Bool:
		s.boolean()
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		s.integer()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		s.unsigned()
	case reflect.Float32, reflect.Float64:
		s.number()
	case reflect.Interface:
		if s.typ.NumMethod() > 0 {
			return fmt.Errorf("%v has no JSON: of interfaces, any has", s.typ)
		}
		s.any()
	case reflect.Pointer:
		return s.nullable()
	case reflect.Slice:
		return s.list()
	case reflect.Map:
		return s.dictionary()
	case reflect.Struct:
		return s.structure()
	default:
		return fmt.Errorf("%v has no JSON", s.typ)
	}
	return nil
}

func (s *shape) string() {
	s.describe = constant(object{{"type", "string"}})
	s.into = func(r *reader, value any, place reflect.Value) {
		if text, ok := value.(string); ok {
			place.SetString(text)
		} else {
			r.wrong("must be a string, not %s", nameOf(value))
		}
	}
	s.write = func(to []byte, value reflect.Value) ([]byte, error) {
		return appendString(to, value.String()), nil
	}
}

func (s *shape) boolean() {
	s.describe = constant(object{{"type", "boolean"}})
	s.into = func(r *reader, value any, place reflect.Value) {
		if set, ok := value.(bool); ok {
			place.SetBool(set)
		} else {
			r.wrong("must be true or false, not %s", nameOf(value))
		}
	}
	s.write = func(to []byte, value reflect.Value) ([]byte, error) {
		return strconv.AppendBool(to, value.Bool()), nil
	}
}

func (s *shape) integer() {
	schema := object{{"type", "integer"}}
	bits := s.typ.Bits()
	least, most := int64(math.MinInt64)>>(64-bits), int64(math.MaxInt64)>>(64-bits)
	if bits < 64 {
		schema = append(schema, property{"minimum", least}, property{"maximum", most})
	}
	s.describe = constant(schema)
	s.into = func(r *reader, value any, place reflect.Value) {
		text, ok := wholeNumber(r, value)
		if !ok {
			return
		}
		switch number, err := strconv.ParseInt(text, 10, bits); {
		case err == nil:
			place.SetInt(number)
		case number < 0:
			r.wrong("must be at least %d", least)
		default:
			r.wrong("must be at most %d", most)
		}
	}
	s.write = func(to []byte, value reflect.Value) ([]byte, error) {
		return strconv.AppendInt(to, value.Int(), 10), nil
	}
}

func (s *shape) unsigned() {
	schema := object{{"type", "integer"}, {"minimum", 0}}
	bits := s.typ.Bits()
	most := uint64(math.MaxUint64) >> (64 - bits)
	if bits < 64 {
		schema = append(schema, property{"maximum", most})
	}
	s.describe = constant(schema)
	s.into = func(r *reader, value any, place reflect.Value) {
		text, ok := wholeNumber(r, value)
		if !ok {
			return
		}
		if number, err := strconv.ParseUint(text, 10, bits); err == nil {
			place.SetUint(number)
		} else if strings.HasPrefix(text, "-") {
			r.wrong("must be at least 0")
		} else {
			r.wrong("must be at most %d", most)
		}
	}
	s.write = func(to []byte, value reflect.Value) ([]byte, error) {
		return strconv.AppendUint(to, value.Uint(), 10), nil
	}
}

// wholeNumber gives the digits of a number without a fraction, however it is written.
func wholeNumber(r *reader, value any) (string, bool) {
	number, ok := value.(json.Number)
	if !ok {
		r.wrong("must be a whole number, not %s", nameOf(value))
		return "", false
	}
	text := number.String()
	if !strings.ContainsAny(text, ".eE") {
		if text == "-0" {
			return "0", true
		}
		return text, true
	}
	float, err := number.Float64()
	if err != nil || float != math.Trunc(float) {
		r.wrong("must be a whole number, not %s", text)
		return "", false
	}
	if float == 0 {
		return "0", true
	}
	return strconv.FormatFloat(float, 'f', -1, 64), true
}

func (s *shape) number() {
	s.describe = constant(object{{"type", "number"}})
	s.into = func(r *reader, value any, place reflect.Value) {
		number, ok := value.(json.Number)
		if !ok {
			r.wrong("must be a number, not %s", nameOf(value))
			return
		}
		float, err := number.Float64()
		if err != nil || place.OverflowFloat(float) {
			r.wrong("must be a number that %v holds, not %s", s.typ, number)
			return
		}
		place.SetFloat(float)
	}
	s.write = func(to []byte, value reflect.Value) ([]byte, error) {
		float := value.Float()
		if math.IsInf(float, 0) || math.IsNaN(float) {
			return to, fmt.Errorf("%v is no JSON", float)
		}
		// As encoding/json and JavaScript do, so that a number is written alike by all.
		format := byte('f')
		if size := math.Abs(float); size != 0 && (size < 1e-6 || size >= 1e21) {
			format = 'e'
		}
		return strconv.AppendFloat(to, float, format, -1, s.typ.Bits()), nil
	}
}

func (s *shape) any() {
	s.describe = constant(object{})
	s.into = func(_ *reader, value any, place reflect.Value) {
		if value != nil {
			place.Set(reflect.ValueOf(value))
		}
	}
	s.write = func(to []byte, value reflect.Value) ([]byte, error) {
		if value.IsNil() {
			return append(to, "null"...), nil
		}
		inner, err := shapeOf(value.Elem().Type())
		if err != nil {
			return appendJSON(to, value.Interface())
		}
		return inner.write(to, value.Elem())
	}
}

// exact is a number as it is written.
func (s *shape) exact() {
	s.describe = constant(object{{"type", "number"}})
	s.into = func(r *reader, value any, place reflect.Value) {
		if number, ok := value.(json.Number); ok {
			place.SetString(number.String())
		} else {
			r.wrong("must be a number, not %s", nameOf(value))
		}
	}
	s.write = func(to []byte, value reflect.Value) ([]byte, error) {
		return appendJSON(to, value.Interface())
	}
}

// foreign is a type that has its own JSON.
func (s *shape) foreign(what string, schema object) {
	s.describe = constant(schema)
	s.into = func(r *reader, value any, place reflect.Value) {
		text, err := appendJSON(nil, value)
		if err == nil {
			err = json.Unmarshal(text, place.Addr().Interface())
		}
		if err != nil && s.typ == timeType {
			r.wrong("must be %s, not %s", what, nameOf(value))
		} else if err != nil {
			r.wrong("must be %s: %v", what, err)
		}
	}
	s.write = func(to []byte, value reflect.Value) ([]byte, error) {
		return appendJSON(to, value.Interface())
	}
}

func (s *shape) bytes() {
	s.describe = constant(object{{"type", "string"}, {"contentEncoding", "base64"}})
	s.into = func(r *reader, value any, place reflect.Value) {
		text, ok := value.(string)
		if !ok {
			r.wrong("must be a string, not %s", nameOf(value))
			return
		}
		bytes, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			r.wrong("must be base64")
			return
		}
		place.SetBytes(bytes)
	}
	s.write = func(to []byte, value reflect.Value) ([]byte, error) {
		return appendString(to, base64.StdEncoding.EncodeToString(value.Bytes())), nil
	}
}

func (s *shape) nullable() error {
	inner, err := shapeOf(s.typ.Elem())
	if err != nil {
		return err
	}
	s.describe = func(d *describer) object { return inner.describe(d).orNull() }
	s.into = func(r *reader, value any, place reflect.Value) {
		if value == nil {
			place.SetZero()
			return
		}
		to := reflect.New(s.typ.Elem())
		inner.into(r, value, to.Elem())
		place.Set(to)
	}
	s.write = func(to []byte, value reflect.Value) ([]byte, error) {
		if value.IsNil() {
			return append(to, "null"...), nil
		}
		return inner.write(to, value.Elem())
	}
	return nil
}

func (s *shape) list() error {
	items, err := shapeOf(s.typ.Elem())
	if err != nil {
		return err
	}
	s.describe = func(d *describer) object { return object{{"type", "array"}, {"items", items.describe(d)}} }
	s.into = func(r *reader, value any, place reflect.Value) {
		values, ok := value.([]any)
		if !ok {
			r.wrong("must be a list, not %s", nameOf(value))
			return
		}
		list := reflect.MakeSlice(s.typ, len(values), len(values))
		for index, value := range values {
			r.at(strconv.Itoa(index), func() { items.into(r, value, list.Index(index)) })
		}
		place.Set(list)
	}
	s.write = func(to []byte, value reflect.Value) ([]byte, error) {
		to = append(to, '[')
		for index := range value.Len() {
			if index > 0 {
				to = append(to, ',')
			}
			var err error
			if to, err = items.write(to, value.Index(index)); err != nil {
				return to, err
			}
		}
		return append(to, ']'), nil
	}
	return nil
}

func (s *shape) dictionary() error {
	if s.typ.Key().Kind() != reflect.String {
		return fmt.Errorf("%v has no JSON: the keys of a map must be strings", s.typ)
	}
	values, err := shapeOf(s.typ.Elem())
	if err != nil {
		return err
	}
	s.describe = func(d *describer) object {
		return object{{"type", "object"}, {"additionalProperties", values.describe(d)}}
	}
	s.into = func(r *reader, value any, place reflect.Value) {
		members, ok := value.(map[string]any)
		if !ok {
			r.wrong("must be an object, not %s", nameOf(value))
			return
		}
		all := reflect.MakeMapWithSize(s.typ, len(members))
		for _, name := range sortedNames(members) {
			item := reflect.New(s.typ.Elem()).Elem()
			r.at(name, func() { values.into(r, members[name], item) })
			all.SetMapIndex(reflect.ValueOf(name).Convert(s.typ.Key()), item)
		}
		place.Set(all)
	}
	s.write = func(to []byte, value reflect.Value) ([]byte, error) {
		members := make(map[string]reflect.Value, value.Len())
		for _, key := range value.MapKeys() {
			members[key.String()] = value.MapIndex(key)
		}
		to = append(to, '{')
		for index, name := range sortedNames(members) {
			if index > 0 {
				to = append(to, ',')
			}
			to = append(appendString(to, name), ':')
			var err error
			if to, err = values.write(to, members[name]); err != nil {
				return to, err
			}
		}
		return append(to, '}'), nil
	}
	return nil
}

func (s *shape) structure() error {
	// At least none, which differs from what may have any.
	s.members = []*member{}
	if err := s.collect(s.typ, nil); err != nil {
		return err
	}
	s.describe = func(d *describer) object { return d.describe(s) }
	s.into = func(r *reader, value any, place reflect.Value) {
		members, ok := value.(map[string]any)
		if !ok {
			r.wrong("must be an object, not %s", nameOf(value))
			return
		}
		for _, member := range s.members {
			value, present := members[member.name]
			switch to := member.of(place); {
			case present:
				r.at(member.name, func() { member.shape.into(r, value, to) })
			case member.required:
				r.at(member.name, func() { r.wrong("is required") })
			case member.fallback.IsValid():
				to.Set(member.fallback)
			}
		}
	}
	s.write = func(to []byte, value reflect.Value) ([]byte, error) {
		to = append(to, '{')
		for _, member := range s.members {
			value := member.of(value)
			if member.omitEmpty && isEmpty(value) || member.omitZero && value.IsZero() {
				continue
			}
			if to[len(to)-1] != '{' {
				to = append(to, ',')
			}
			to = append(appendString(to, member.name), ':')
			var err error
			if to, err = member.shape.write(to, value); err != nil {
				return to, fmt.Errorf("%s: %w", member.name, err)
			}
		}
		return append(to, '}'), nil
	}
	return nil
}

// collect finds the members of a struct, and of those that are embedded in it.
func (s *shape) collect(typ reflect.Type, index []int) error {
	for position := range typ.NumField() {
		field := typ.Field(position)
		place := append(append([]int{}, index...), position)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if field.Anonymous && name == "" && field.Type.Kind() == reflect.Struct {
			if err := s.collect(field.Type, place); err != nil {
				return err
			}
			continue
		}
		if !field.IsExported() || name == "-" && options == "" {
			continue
		}
		if name == "" {
			name = field.Name
		}
		made, err := memberOf(field, options)
		if err != nil {
			return fmt.Errorf("%v.%s: %w", typ, field.Name, err)
		}
		if s.member(name) != nil {
			return fmt.Errorf("%v.%s: there are two members %q", typ, field.Name, name)
		}
		made.name, made.index = name, place
		s.members = append(s.members, made)
	}
	return nil
}

func memberOf(field reflect.StructField, options string) (*member, error) {
	shape, err := shapeOf(field.Type)
	if err != nil {
		return nil, err
	}
	made := &member{shape: shape}
	for _, option := range strings.Split(options, ",") {
		switch option {
		case "omitempty":
			made.omitEmpty = true
		case "omitzero":
			made.omitZero = true
		case "string":
			return nil, errors.New("the option string of its json tag is not understood")
		}
	}
	if err := made.bound(field.Tag); err != nil {
		return nil, err
	}
	if text, ok := field.Tag.Lookup("doc"); ok {
		made.extra = append(made.extra, property{"description", text})
	}
	made.required = field.Type.Kind() != reflect.Pointer && !made.omitEmpty && !made.omitZero
	if text, ok := field.Tag.Lookup("default"); ok {
		made.required = false
		if made.fallback, err = fallbackOf(made.shape, text); err != nil {
			return nil, fmt.Errorf("its default %q: %w", text, err)
		}
		if made.fallback.Kind() != reflect.Pointer || !made.fallback.IsNil() {
			written, _ := made.shape.write(nil, made.fallback)
			made.extra = append(made.extra, property{"default", json.RawMessage(written)})
		}
	}
	return made, nil
}

// fallbackOf reads a default: JSON, or of a string the text as it is.
func fallbackOf(shape *shape, text string) (reflect.Value, error) {
	value, err := parse(text)
	if shape.typ.Kind() == reflect.String {
		value, err = text, nil
	}
	if err != nil {
		return reflect.Value{}, err
	}
	return shape.read(value)
}

// bound gives the member's shape the bounds that its tags name.
func (m *member) bound(tags reflect.StructTag) error {
	kind := m.shape.typ.Kind()
	if kind == reflect.Pointer {
		kind = m.shape.typ.Elem().Kind()
	}
	for _, name := range []string{"minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "enum"} {
		text, ok := tags.Lookup(name)
		if !ok {
			continue
		}
		var check func(value reflect.Value) string
		keyword := property{name, json.RawMessage(text)}
		bound, err := strconv.ParseFloat(text, 64)
		if name == "enum" {
			choices := strings.Split(text, ",")
			keyword.value = choices
			err = nil
			check = func(value reflect.Value) string {
				for _, choice := range choices {
					if value.String() == choice {
						return ""
					}
				}
				return "must be one of " + strings.Join(choices, ", ")
			}
		} else {
			least := strings.HasPrefix(name, "min")
			check = func(value reflect.Value) string { return outside(value, bound, least, text) }
		}
		isNumber := kind >= reflect.Int && kind <= reflect.Float64 && kind != reflect.Uintptr
		fits := map[byte]bool{'m': isNumber, 'L': kind == reflect.String, 'I': kind == reflect.Slice}
		of := byte('m')
		switch {
		case strings.HasSuffix(name, "Length") || name == "enum":
			of = 'L'
		case strings.HasSuffix(name, "Items"):
			of = 'I'
		}
		if err != nil || !fits[of] {
			return fmt.Errorf("its tag %s:%q does not fit %v", name, text, m.shape.typ)
		}
		m.shape = m.shape.bounded(check)
		m.extra = append(m.extra, keyword)
	}
	return nil
}

// bounded is the same shape with one more thing that must be true of a value that is there.
func (s *shape) bounded(check func(value reflect.Value) string) *shape {
	with := *s
	with.into = func(r *reader, value any, place reflect.Value) {
		before := len(r.issues)
		s.into(r, value, place)
		if place.Kind() == reflect.Pointer {
			if place.IsNil() {
				return
			}
			place = place.Elem()
		}
		if len(r.issues) == before {
			if problem := check(place); problem != "" {
				r.wrong("%s", problem)
			}
		}
	}
	return &with
}

// outside says what is wrong with a number, or with how long something is.
func outside(value reflect.Value, bound float64, least bool, text string) string {
	size, unit := 0.0, ""
	switch {
	case value.CanInt():
		size = float64(value.Int())
	case value.CanUint():
		size = float64(value.Uint())
	case value.CanFloat():
		size = value.Float()
	case value.Kind() == reflect.String:
		size, unit = float64(utf8.RuneCountInString(value.String())), " characters"
	default:
		size, unit = float64(value.Len()), " items"
	}
	verb := "must be"
	if unit != "" {
		verb = "must have"
	}
	switch {
	case least && size < bound:
		return fmt.Sprintf("%s at least %s%s", verb, text, unit)
	case !least && size > bound:
		return fmt.Sprintf("%s at most %s%s", verb, text, unit)
	default:
		return ""
	}
}

// isEmpty is what omitempty asks for.
func isEmpty(value reflect.Value) bool {
	switch value.Kind() {
	case reflect.Slice, reflect.Map, reflect.String:
		return value.Len() == 0
	case reflect.Struct:
		return false
	default:
		return value.IsZero()
	}
}

// nameOf is how a person would call a JSON value.
func nameOf(value any) string {
	switch value := value.(type) {
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(value)
	case json.Number:
		return value.String()
	case string:
		if utf8.RuneCountInString(value) > 40 {
			return "a string"
		}
		return strconv.Quote(value)
	case []any:
		return "a list"
	default:
		return "an object"
	}
}

// toJSON writes any value.
func toJSON(value any) (string, error) {
	if value == nil {
		return "null", nil
	}
	of := reflect.ValueOf(value)
	if shape, err := shapeOf(of.Type()); err == nil {
		text, err := shape.write(nil, of)
		return string(text), err
	}
	text, err := appendJSON(nil, value)
	return string(text), err
}

func appendJSON(to []byte, value any) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return to, err
	}
	return append(to, bytes.TrimSuffix(buffer.Bytes(), []byte("\n"))...), nil
}

func appendString(to []byte, text string) []byte {
	const digits = "0123456789abcdef"
	to = append(to, '"')
	for _, char := range text {
		switch {
		case char == '"' || char == '\\':
			to = append(to, '\\', byte(char))
		case char == '\n':
			to = append(to, '\\', 'n')
		case char < 0x20:
			to = append(to, '\\', 'u', '0', '0', digits[char>>4], digits[char&15])
		default:
			// Bytes that are no UTF-8 come as U+FFFD.
			to = utf8.AppendRune(to, char)
		}
	}
	return append(to, '"')
}
