package workspace

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// object is a JSON object whose members keep their order: a schema names members as the struct does.
type object []property

type property struct {
	name  string
	value any
}

func (o object) MarshalJSON() ([]byte, error) {
	to := []byte{'{'}
	for index, property := range o {
		if index > 0 {
			to = append(to, ',')
		}
		to = append(appendString(to, property.name), ':')
		var err error
		if to, err = appendJSON(to, property.value); err != nil {
			return nil, err
		}
	}
	return append(to, '}'), nil
}

// text is the object as JSON.
func (o object) text() string {
	text, err := json.Marshal(o)
	if err != nil {
		panic(fmt.Sprintf("a schema is JSON: %v", err))
	}
	return string(text)
}

func (o object) get(name string) any {
	for _, property := range o {
		if property.name == name {
			return property.value
		}
	}
	return nil
}

// with is the object with a member in place of the one of that name.
func (o object) with(name string, value any) object {
	changed := slices.Clone(o)
	for index := range changed {
		if changed[index].name == name {
			changed[index].value = value
			return changed
		}
	}
	return append(changed, property{name, value})
}

// withProperty is the schema of an object with one more property.
func (o object) withProperty(name string, schema object) object {
	properties, _ := o.get("properties").(object)
	return o.with("properties", properties.with(name, schema))
}

// orNull is the schema of what may be null, too.
func (o object) orNull() object {
	if len(o) == 0 {
		return o
	}
	if name, ok := o.get("type").(string); ok && o.get("enum") == nil {
		return o.with("type", []string{name, "null"})
	}
	return object{{"anyOf", []object{o, {{"type", "null"}}}}}
}

// describer makes the schema of one type. A struct that contains itself is named, and referred to.
type describer struct {
	under map[*shape]bool
	named map[*shape]string
	defs  map[string]object
}

// described is the schema of a type by itself.
func described(s *shape) object {
	d := describer{map[*shape]bool{}, map[*shape]string{}, map[string]object{}}
	schema := s.describe(&d)
	if len(d.defs) == 0 {
		// Not nil, which is a schema that was not made yet.
		return append(object{}, schema...)
	}
	var defs object
	for _, name := range sortedNames(d.defs) {
		defs = append(defs, property{name, d.defs[name]})
	}
	return schema.with("$defs", defs)
}

// describe is the schema of a struct.
func (d *describer) describe(s *shape) object {
	if d.under[s] {
		name, ok := d.named[s]
		if !ok {
			name = s.typ.Name()
			for number := 2; slices.Contains(slices.Collect(maps.Values(d.named)), name); number++ {
				name = fmt.Sprintf("%s%d", s.typ.Name(), number)
			}
			d.named[s] = name
		}
		return object{{"$ref", "#/$defs/" + name}}
	}
	d.under[s] = true
	properties, required := object{}, []string{}
	for _, member := range s.members {
		schema := member.shape.describe(d)
		for _, extra := range member.extra {
			schema = constrained(schema, extra)
		}
		properties = append(properties, property{member.name, schema})
		if member.required {
			required = append(required, member.name)
		}
	}
	d.under[s] = false
	schema := object{{"type", "object"}, {"properties", properties}, {"required", required}}
	if name, ok := d.named[s]; ok {
		d.defs[name] = schema
	}
	return schema
}

// constrained is a schema with what a tag adds. Choices of what may be null have null among them.
func constrained(schema object, extra property) object {
	choices, ok := extra.value.([]string)
	if _, nullable := schema.get("type").([]string); !ok || !nullable {
		return schema.with(extra.name, extra.value)
	}
	with := []any{nil}
	for _, choice := range choices {
		with = append(with, choice)
	}
	return schema.with(extra.name, with)
}

func constant(schema object) func(*describer) object {
	return func(*describer) object { return schema }
}

func sortedNames[T any](members map[string]T) []string {
	return slices.Sorted(maps.Keys(members))
}
