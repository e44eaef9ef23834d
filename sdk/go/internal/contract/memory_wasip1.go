package contract

// How values cross the border of the module, after the Component Model's canonical ABI
// (https://github.com/WebAssembly/component-model/blob/main/design/mvp/CanonicalABI.md).
//
// Records are laid out in memory as Go lays out a struct of the same members, so the structs below are
// all that describes them. A pointer in one is 32 bits wide and is nothing to Go's collector, which for
// that reason would free what it leads to: whatever is handed to the host, and whatever the host puts
// here, is held in `held` until the call that it belongs to is over. The collector moves nothing on the
// heap. It does move stacks, also while the host is being asked, because the host's answer is allocated
// by a call back into this module; so no pointer to a stack is ever given away.
//
// While the host allocates, and while it frees, the module may call nothing outside of itself: the
// canonical ABI ends an instance that tries ("cannot leave component instance"). Go's collector looks at
// the clock, and so it must not run then, and an allocation must neither start it nor help it. It is
// therefore on only while the author's code runs: off between two calls, when the host allocates
// arguments, and while the host is asked something, when it allocates the answer.
//
// What turns it on and off is the memory limit, and not GOGC: a collection that ends after GOGC was turned
// off leaves Go with the aim to give memory back at the next allocation, which looks at the clock as well.
// Setting GOGC to off when it is off already does nothing but wait for a collection that has begun.

import (
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"unsafe"
)

// Nothing of the author's is initialised before this package, and nothing is collected until the first
// call: what a plugin holds by then is small.
func init() { collectorOff() }

func collectorOff() {
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(math.MaxInt64)
}

// collectorOn lets there be as much garbage as there is that lives, and at least as much as makes
// collections rare for an ordinary plugin.
func collectorOn() {
	metrics.Read(living[:])
	debug.SetMemoryLimit(2*int64(living[0].Value.Uint64()) + leastMemory)
}

// living is what the last collection found to live, in bytes.
var living = [1]metrics.Sample{{Name: "/gc/heap/live:bytes"}}

// 16 MiB, which is an eighth of what an instance may have, and what Go itself needs several times.
const leastMemory = 16 << 20

// asking is locked while the host is asked, and while a result is made for it. To turn the collector off may
// let other goroutines of the author's run, which then wait with questions of their own.
var asking sync.Mutex

// held is what the host knows addresses of.
var held []unsafe.Pointer

// release forgets what was held since there were so many.
func release(before int) {
	clear(held[before:])
	held = held[:before]
	// After one call with a hundred thousand pieces, the list itself need not stay.
	if before == 0 && cap(held) > 1<<12 {
		held = nil
	}
}

//go:wasmexport cabi_realloc
func cabiRealloc(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	if size == 0 {
		// An address that is aligned, and that nobody reads.
		return unsafe.Pointer(&nothing)
	}
	memory := allocate(size)
	if oldSize > 0 {
		copy(unsafe.Slice((*byte)(memory), size), unsafe.Slice((*byte)(old), min(oldSize, size)))
	}
	return memory
}

var nothing uint64

// allocate gives memory that is held, aligned for everything that the contract has.
func allocate(size uint32) unsafe.Pointer {
	words := make([]uint64, (size+7)/8)
	memory := unsafe.Pointer(unsafe.SliceData(words))
	held = append(held, memory)
	return memory
}

// Standard output, clocks and random numbers reach the host through the adapter of WASI preview 1. It
// needs memory of this module, for a stack and for what it remembers, and asks for it the first time
// that it is called. That is while Go's runtime starts, before there is a heap or a goroutine, and Go
// code that allocates would crash. It takes the function of this name for that where a module has one,
// instead of `cabi_realloc`; this one gives away parts of a fixed piece of memory, and needs nothing of
// the runtime: no stack that could grow, no heap, no collector.
//
//go:wasmexport cabi_realloc_adapter
//go:nosplit
func cabiReallocAdapter(_ unsafe.Pointer, _, align, size uint32) unsafe.Pointer {
	start := (adapterUsed + align - 1) &^ (align - 1)
	if uintptr(start)+uintptr(size) > unsafe.Sizeof(adapterMemory) {
		// The adapter takes no for an answer by ending the instance.
		return nil
	}
	adapterUsed = start + size
	return unsafe.Add(unsafe.Pointer(&adapterMemory), start)
}

// Two pages, which is what the adapter asks for, and some for its alignment.
var (
	adapterMemory [2<<16 + 1<<10]byte
	adapterUsed   uint32
)

// at is where an address leads.
func at(address uint32) unsafe.Pointer {
	return unsafe.Add(unsafe.Pointer(nil), address)
}

// address is what the host calls a place in memory, which has to be held.
func address(pointer unsafe.Pointer) uint32 {
	return uint32(uintptr(pointer))
}

// The contract's string, and any list, whose length counts items.
type span struct {
	start, length uint32
}

// lowered hands a string to the host.
func lowered(text string) span {
	if text == "" {
		return span{address(unsafe.Pointer(&nothing)), 0}
	}
	data := unsafe.Pointer(unsafe.StringData(text))
	held = append(held, data)
	return span{address(data), uint32(len(text))}
}

// loweredBytes hands bytes to the host.
func loweredBytes(bytes []byte) span {
	return lowered(unsafe.String(unsafe.SliceData(bytes), len(bytes)))
}

// loweredList hands a list to the host, each item as `lower` writes it.
func loweredList[T, Raw any](items []T, lower func(T) Raw) span {
	if len(items) == 0 {
		return span{address(unsafe.Pointer(&nothing)), 0}
	}
	raw := make([]Raw, len(items))
	for index, item := range items {
		raw[index] = lower(item)
	}
	data := unsafe.Pointer(unsafe.SliceData(raw))
	held = append(held, data)
	return span{address(data), uint32(len(raw))}
}

// lifted takes a string from the host. It is not copied: the memory is Go's, and stays for as long as the
// string does.
func (s span) lifted() string {
	return unsafe.String((*byte)(at(s.start)), s.length)
}

// liftedBytes takes bytes from the host, without a copy like a string.
func (s span) liftedBytes() []byte {
	return unsafe.Slice((*byte)(at(s.start)), s.length)
}

// liftedList takes a list from the host, each item as `lift` reads it.
func liftedList[T, Raw any](s span, lift func(*Raw) T) []T {
	items := make([]T, s.length)
	raw := unsafe.Slice((*Raw)(at(s.start)), s.length)
	for index := range items {
		items[index] = lift(&raw[index])
	}
	return items
}

// An option of a string or a list. The tag has a byte, and what it tells comes aligned after it.
type option struct {
	some  bool
	value span
}

func loweredOption(text string) option {
	if text == "" {
		return option{}
	}
	return option{true, lowered(text)}
}

func (o option) lifted() *string {
	if !o.some {
		return nil
	}
	text := o.value.lifted()
	return &text
}

type issue struct {
	path    span
	message span
}

func loweredIssues(issues []Issue) span {
	return loweredList(issues, func(it Issue) issue {
		return issue{loweredList(it.Path, lowered), lowered(it.Message)}
	})
}

// The contract's error: a tag, and a text or issues.
type failure struct {
	kind  Kind
	value span
}

func loweredError(err *Error) failure {
	switch err.Kind {
	case NotFound:
		return failure{kind: NotFound}
	case Invalid:
		return failure{Invalid, loweredIssues(err.Issues)}
	default:
		return failure{err.Kind, lowered(err.Error())}
	}
}

func (f *failure) lifted() error {
	switch f.kind {
	case NotFound:
		return &Error{Kind: NotFound}
	case Invalid:
		return &Error{Kind: Invalid, Issues: liftedList(f.value, func(raw *issue) Issue {
			return Issue{liftedList(raw.path, func(raw *span) string { return raw.lifted() }), raw.message.lifted()}
		})}
	default:
		return &Error{Kind: f.kind, Message: f.value.lifted()}
	}
}

type account struct {
	id, email, name span
}

type optionalAccount struct {
	some  bool
	value account
}

func (a *optionalAccount) lifted() *Account {
	if !a.some {
		return nil
	}
	return &Account{a.value.id.lifted(), a.value.email.lifted(), a.value.name.lifted()}
}

// result is where the host writes what it answers: a tag, and what was asked for or an error in its
// place. It is on the heap for as long as `ask` needs it.
type result[T any] struct {
	failed bool
	value  T
}

// failure reads the error. It stands where the value would, and T is as large and as aligned as an error
// at least: those that are smaller are given as `answer`.
func (r *result[T]) failure() error {
	return (*failure)(unsafe.Pointer(&r.value)).lifted()
}

// answer makes room for an error beside a value that takes less.
type answer[T any] struct {
	value T
	_     [3]uint32
}

// ask calls the host with a place for its answer, and releases what the call held. What is lifted from
// the answer stays.
func ask[T, Value any](call func(into unsafe.Pointer), lift func(*T) Value) (Value, error) {
	asking.Lock()
	defer asking.Unlock()
	before := len(held)
	into := new(result[T])
	collectorOff()
	call(unsafe.Pointer(into))
	collectorOn()
	var value Value
	var err error
	if into.failed {
		err = into.failure()
	} else {
		value = lift(&into.value)
	}
	runtime.KeepAlive(into)
	release(before)
	return value, err
}
