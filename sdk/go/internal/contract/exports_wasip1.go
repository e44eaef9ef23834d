package contract

import (
	"os"
	"unsafe"
)

// What the host calls. A result that takes more than a register is written to memory, and its address
// returned; the function of the same name with `cabi_post_` before it is called when the host has read it.

// serve runs the author's code, and gives the address of its result, which is held until the host has read
// it.
func serve[Result, Raw any](run func(guest Guest) Result, lower func(result Result) Raw) unsafe.Pointer {
	if Serving == nil {
		Broken("the plugin does not say what it is: call workspace.Serve in an init function")
	}
	if broken != "" {
		Current.Log(Fault, broken)
		os.Exit(2)
	}
	collectorOn()
	result := run(Serving)
	asking.Lock()
	place := new(Raw)
	*place = lower(result)
	held = append(held, unsafe.Pointer(place))
	collectorOff()
	asking.Unlock()
	return unsafe.Pointer(place)
}

// Broken says that the author's definition cannot be. It is told when the host first asks for it: a panic
// before that would be a trace of the stack, at the end of which the reason is out of sight.
func Broken(text string) {
	if broken == "" {
		broken = text
	}
}

var broken string

// finish forgets what the call held: its arguments, which the host had allocated here, and its result.
func finish() { release(0) }

type definition struct {
	id, title, version               span
	tables, keys, awareness, actions span
}

type table struct {
	name, versions, documents span
	checksChanges             bool
}

type document struct {
	name, guidColumn, updatedAtColumn span
}

type key struct {
	key, versions span
}

type field struct {
	name, schema span
}

type action struct {
	path          span
	kind          ActionKind
	description   span
	input, output option
}

//go:wasmexport epicenter:workspace/guest@0.1.0#define
func exportDefine() unsafe.Pointer {
	return serve(Guest.Define, loweredDefinition)
}

func loweredDefinition(it Definition) definition {
	return definition{
		lowered(it.ID), lowered(it.Title), lowered(it.Version),
		loweredList(it.Tables, func(it Table) table {
			documents := loweredList(it.Documents, func(it Document) document {
				return document{lowered(it.Name), lowered(it.GUIDColumn), lowered(it.UpdatedAtColumn)}
			})
			return table{lowered(it.Name), loweredList(it.Versions, lowered), documents, it.ChecksChanges}
		}),
		loweredList(it.Keys, func(it Key) key { return key{lowered(it.Key), loweredList(it.Versions, lowered)} }),
		loweredList(it.Awareness, func(it Field) field { return field{lowered(it.Name), lowered(it.Schema)} }),
		loweredList(it.Actions, func(it Action) action {
			return action{
				lowered(it.Path), it.Kind, lowered(it.Description), loweredOption(it.Input), loweredOption(it.Output),
			}
		}),
	}
}

//go:wasmexport cabi_post_epicenter:workspace/guest@0.1.0#define
func finishDefine(unsafe.Pointer) { finish() }

type parsed struct {
	refused bool
	value   span
}

func loweredParsed(it Parsed) parsed {
	if len(it.Issues) > 0 {
		return parsed{true, loweredIssues(it.Issues)}
	}
	return parsed{false, lowered(it.JSON)}
}

//go:wasmexport epicenter:workspace/guest@0.1.0#parse-rows
func exportParseRows(table, tableLength, rows, rowsLength uint32) unsafe.Pointer {
	return serve(func(guest Guest) []Parsed {
		texts := liftedList(span{rows, rowsLength}, func(raw *span) string { return raw.lifted() })
		return guest.ParseRows(span{table, tableLength}.lifted(), texts)
	}, func(all []Parsed) span { return loweredList(all, loweredParsed) })
}

//go:wasmexport cabi_post_epicenter:workspace/guest@0.1.0#parse-rows
func finishParseRows(unsafe.Pointer) { finish() }

//go:wasmexport epicenter:workspace/guest@0.1.0#parse-kv
func exportParseKV(key, keyLength, value, valueLength uint32) unsafe.Pointer {
	return serve(func(guest Guest) Parsed {
		return guest.ParseKey(span{key, keyLength}.lifted(), span{value, valueLength}.lifted())
	}, loweredParsed)
}

//go:wasmexport cabi_post_epicenter:workspace/guest@0.1.0#parse-kv
func finishParseKV(unsafe.Pointer) { finish() }

type change struct {
	table     span
	operation Operation
	id        span
	old, new  option
	caller    optionalAccount
}

// The change takes more registers than there are for arguments, and so comes in memory.
//
//go:wasmexport epicenter:workspace/guest@0.1.0#check-change
func exportCheckChange(argument unsafe.Pointer) unsafe.Pointer {
	return serve(func(guest Guest) *Error {
		it := (*change)(argument)
		return guest.CheckChange(Change{
			it.table.lifted(), it.operation, it.id.lifted(), it.old.lifted(), it.new.lifted(), it.caller.lifted(),
		})
	}, func(refused *Error) outcome {
		if refused != nil {
			return loweredRefusal(refused)
		}
		return outcome{}
	})
}

//go:wasmexport cabi_post_epicenter:workspace/guest@0.1.0#check-change
func finishCheckChange(unsafe.Pointer) { finish() }

//go:wasmexport epicenter:workspace/guest@0.1.0#run-action
func exportRunAction(path, pathLength, input, inputLength uint32) unsafe.Pointer {
	var refused *Error
	return serve(func(guest Guest) (output string) {
		output, refused = guest.RunAction(span{path, pathLength}.lifted(), span{input, inputLength}.lifted())
		return output
	}, func(output string) outcome {
		if refused != nil {
			return loweredRefusal(refused)
		}
		it := lowered(output)
		return outcome{false, [3]uint32{it.start, it.length}}
	})
}

// The output of an action, and nothing of a check, or an error in its place: spelled out, because Go copies
// no bytes between members.
type outcome struct {
	failed bool
	words  [3]uint32
}

func loweredRefusal(refused *Error) outcome {
	it := loweredError(refused)
	return outcome{true, [3]uint32{uint32(it.kind), it.value.start, it.value.length}}
}

//go:wasmexport cabi_post_epicenter:workspace/guest@0.1.0#run-action
func finishRunAction(unsafe.Pointer) { finish() }
