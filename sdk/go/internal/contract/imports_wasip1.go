package contract

import (
	"runtime"
	"unsafe"
)

// Current is the host.
var Current Host = imports{}

// The host, by the module's imports. What an action never asks for, the linker leaves out.
type imports struct{}

//go:wasmimport epicenter:workspace/tables@0.1.0 get
func tablesGet(table, tableLength, id, idLength uint32, into unsafe.Pointer)

func (imports) Get(table, id string) (*string, error) {
	return ask(func(into unsafe.Pointer) {
		table, id := lowered(table), lowered(id)
		tablesGet(table.start, table.length, id.start, id.length, into)
	}, optional)
}

func optional(raw *answer[option]) *string { return raw.value.lifted() }

//go:wasmimport epicenter:workspace/tables@0.1.0 list
func tablesList(table, tableLength, filters, filtersLength, sort, sortLength, limited, limit, goesOn, cursor, cursorLength uint32, into unsafe.Pointer)

type page struct {
	rows span
	next option
}

func (imports) List(table string, selection Selection) (rows []string, next string, err error) {
	_, err = ask(func(into unsafe.Pointer) {
		table, filters := lowered(table), loweredFilters(selection.Filters)
		sort := loweredList(selection.Sort, func(it Order) order { return order{lowered(it.Field), it.Descending} })
		cursor := loweredOption(selection.Cursor)
		tablesList(
			table.start, table.length, filters.start, filters.length, sort.start, sort.length,
			flag(selection.Limit > 0), selection.Limit,
			flag(cursor.some), cursor.value.start, cursor.value.length, into,
		)
	}, func(raw *page) struct{} {
		rows = liftedList(raw.rows, func(raw *span) string { return raw.lifted() })
		if raw.next.some {
			next = raw.next.value.lifted()
		}
		return struct{}{}
	})
	return rows, next, err
}

type order struct {
	field      span
	descending bool
}

type filter struct {
	field    span
	operator Operator
	value    span
}

func loweredFilters(filters []Filter) span {
	return loweredList(filters, func(it Filter) filter {
		return filter{lowered(it.Field), it.Operator, lowered(it.Value)}
	})
}

func flag(set bool) uint32 {
	if set {
		return 1
	}
	return 0
}

//go:wasmimport epicenter:workspace/tables@0.1.0 count
func tablesCount(table, tableLength, filters, filtersLength uint32, into unsafe.Pointer)

func (imports) Count(table string, filters []Filter) (uint64, error) {
	return ask(func(into unsafe.Pointer) {
		table, filters := lowered(table), loweredFilters(filters)
		tablesCount(table.start, table.length, filters.start, filters.length, into)
	}, value[uint64])
}

func value[T any](raw *answer[T]) T { return raw.value }

func text(raw *answer[span]) string { return raw.value.lifted() }

//go:wasmimport epicenter:workspace/tables@0.1.0 put
func tablesPut(table, tableLength, row, rowLength uint32, into unsafe.Pointer)

func (imports) Put(table, row string) (string, error) {
	return ask(func(into unsafe.Pointer) {
		table, row := lowered(table), lowered(row)
		tablesPut(table.start, table.length, row.start, row.length, into)
	}, text)
}

//go:wasmimport epicenter:workspace/tables@0.1.0 update
func tablesUpdate(table, tableLength, id, idLength, fields, fieldsLength uint32, into unsafe.Pointer)

func (imports) Update(table, id, fields string) (string, error) {
	return ask(func(into unsafe.Pointer) {
		table, id, fields := lowered(table), lowered(id), lowered(fields)
		tablesUpdate(table.start, table.length, id.start, id.length, fields.start, fields.length, into)
	}, text)
}

//go:wasmimport epicenter:workspace/tables@0.1.0 delete
func tablesDelete(table, tableLength, id, idLength uint32, into unsafe.Pointer)

func (imports) Delete(table, id string) (bool, error) {
	return ask(func(into unsafe.Pointer) {
		table, id := lowered(table), lowered(id)
		tablesDelete(table.start, table.length, id.start, id.length, into)
	}, value[bool])
}

//go:wasmimport epicenter:workspace/documents@0.1.0 get-text
func documentsGetText(table, tableLength, id, idLength, document, documentLength uint32, into unsafe.Pointer)

func (imports) Text(table, id, document string) (string, error) {
	return ask(func(into unsafe.Pointer) {
		table, id, document := lowered(table), lowered(id), lowered(document)
		documentsGetText(table.start, table.length, id.start, id.length, document.start, document.length, into)
	}, text)
}

//go:wasmimport epicenter:workspace/documents@0.1.0 set-text
func documentsSetText(table, tableLength, id, idLength, document, documentLength, text, textLength uint32, into unsafe.Pointer)

func (imports) SetText(table, id, document, text string) error {
	_, err := ask(func(into unsafe.Pointer) {
		table, id, document, text := lowered(table), lowered(id), lowered(document), lowered(text)
		documentsSetText(
			table.start, table.length, id.start, id.length,
			document.start, document.length, text.start, text.length, into,
		)
	}, value[struct{}])
	return err
}

//go:wasmimport epicenter:workspace/kv@0.1.0 get
func kvGet(key, keyLength uint32, into unsafe.Pointer)

func (imports) KeyGet(key string) (*string, error) {
	return ask(func(into unsafe.Pointer) {
		key := lowered(key)
		kvGet(key.start, key.length, into)
	}, optional)
}

//go:wasmimport epicenter:workspace/kv@0.1.0 set
func kvSet(key, keyLength, value, valueLength uint32, into unsafe.Pointer)

func (imports) KeySet(key, json string) error {
	_, err := ask(func(into unsafe.Pointer) {
		key, json := lowered(key), lowered(json)
		kvSet(key.start, key.length, json.start, json.length, into)
	}, value[struct{}])
	return err
}

//go:wasmimport epicenter:workspace/kv@0.1.0 delete
func kvDelete(key, keyLength uint32, into unsafe.Pointer)

func (imports) KeyDelete(key string) (bool, error) {
	return ask(func(into unsafe.Pointer) {
		key := lowered(key)
		kvDelete(key.start, key.length, into)
	}, value[bool])
}

//go:wasmimport epicenter:workspace/log@0.1.0 write
func logWrite(level, message, messageLength uint32)

func (imports) Log(level Level, message string) {
	before := len(held)
	text := lowered(message)
	logWrite(uint32(level), text.start, text.length)
	release(before)
}

//go:wasmimport epicenter:workspace/context@0.1.0 caller
func contextCaller(into unsafe.Pointer)

func (imports) Caller() *Account {
	return told(contextCaller, (*optionalAccount).lifted)
}

//go:wasmimport epicenter:workspace/context@0.1.0 now
func contextNow() uint64

func (imports) Now() uint64 { return contextNow() }

//go:wasmimport epicenter:workspace/context@0.1.0 random-id
func contextRandomID(into unsafe.Pointer)

func (imports) RandomID() string {
	return told(contextRandomID, func(raw *span) string { return raw.lifted() })
}

//go:wasmimport epicenter:workspace/context@0.1.0 random-u64
func contextRandomU64() uint64

func (imports) RandomUint64() uint64 { return contextRandomU64() }

//go:wasmimport epicenter:workspace/context@0.1.0 request-id
func contextRequestID(into unsafe.Pointer)

func (imports) RequestID() string {
	return told(contextRequestID, func(raw *span) string { return raw.lifted() })
}

// told is `ask` where there is no error.
func told[T, Value any](call func(into unsafe.Pointer), lift func(*T) Value) Value {
	asking.Lock()
	defer asking.Unlock()
	before := len(held)
	into := new(T)
	collectorOff()
	call(unsafe.Pointer(into))
	collectorOn()
	value := lift(into)
	runtime.KeepAlive(into)
	release(before)
	return value
}

//go:wasmimport epicenter:workspace/ai@0.1.0 chat
func aiChat(provider, providerLength, model, modelLength, system, systemLength, messages, messagesLength, tools, toolsLength, hasOptions, options, optionsLength uint32, into unsafe.Pointer)

func (imports) Chat(request ChatRequest) (*ChatAnswer, error) {
	return ask(func(into unsafe.Pointer) {
		it := loweredRequest(request)
		aiChat(
			it.provider.start, it.provider.length, it.model.start, it.model.length,
			it.system.start, it.system.length, it.messages.start, it.messages.length,
			it.tools.start, it.tools.length, flag(it.options.some), it.options.value.start, it.options.value.length, into,
		)
	}, (*chatAnswer).lifted)
}

//go:wasmimport epicenter:workspace/ai@0.1.0 chat-stream
func aiChatStream(provider, providerLength, model, modelLength, system, systemLength, messages, messagesLength, tools, toolsLength, hasOptions, options, optionsLength uint32, into unsafe.Pointer)

func (imports) ChatStream(request ChatRequest) (ChatStream, error) {
	handle, err := ask(func(into unsafe.Pointer) {
		it := loweredRequest(request)
		aiChatStream(
			it.provider.start, it.provider.length, it.model.start, it.model.length,
			it.system.start, it.system.length, it.messages.start, it.messages.length,
			it.tools.start, it.tools.length, flag(it.options.some), it.options.value.start, it.options.value.length, into,
		)
	}, value[uint32])
	if err != nil {
		return nil, err
	}
	return stream(handle), nil
}

type stream uint32

//go:wasmimport epicenter:workspace/ai@0.1.0 [method]answer-stream.next
func answerStreamNext(stream uint32, into unsafe.Pointer)

func (s stream) Next() (*ChatEvent, error) {
	return ask(func(into unsafe.Pointer) { answerStreamNext(uint32(s), into) }, (*chatEvent).lifted)
}

//go:wasmimport epicenter:workspace/ai@0.1.0 [resource-drop]answer-stream
func answerStreamDrop(stream uint32)

func (s stream) Close() { answerStreamDrop(uint32(s)) }

//go:wasmimport epicenter:workspace/http@0.1.0 send
func httpSend(method, methodLength, url, urlLength, headers, headersLength, body, bodyLength uint32, into unsafe.Pointer)

type header struct {
	name, value span
}

type response struct {
	status        uint16
	headers, body span
}

func (imports) Send(request HTTPRequest) (*HTTPResponse, error) {
	return ask(func(into unsafe.Pointer) {
		method, url, body := lowered(request.Method), lowered(request.URL), loweredBytes(request.Body)
		headers := loweredList(request.Headers, func(it HTTPHeader) header {
			return header{lowered(it.Name), lowered(it.Value)}
		})
		httpSend(
			method.start, method.length, url.start, url.length,
			headers.start, headers.length, body.start, body.length, into,
		)
	}, func(raw *response) *HTTPResponse {
		headers := liftedList(raw.headers, func(raw *header) HTTPHeader {
			return HTTPHeader{raw.name.lifted(), raw.value.lifted()}
		})
		return &HTTPResponse{raw.status, headers, raw.body.liftedBytes()}
	})
}

//go:wasmimport epicenter:workspace/environment@0.1.0 get
func environmentGet(name, nameLength uint32, into unsafe.Pointer)

func (imports) Environment(name string) (*string, error) {
	return ask(func(into unsafe.Pointer) {
		name := lowered(name)
		environmentGet(name.start, name.length, into)
	}, optional)
}

type chatRequest struct {
	provider, model, system, messages, tools span
	options                                  option
}

func loweredRequest(request ChatRequest) chatRequest {
	return chatRequest{
		lowered(request.Provider), lowered(request.Model), lowered(request.System),
		loweredList(request.Messages, loweredMessage),
		loweredList(request.Tools, func(it ChatTool) chatTool {
			return chatTool{lowered(it.Name), lowered(it.Description), lowered(it.Parameters)}
		}),
		loweredOption(request.Options),
	}
}

type chatTool struct {
	name, description, parameters span
}

// A message: who speaks, and what stands for each. A user's text and a tool's result are shorter.
type chatMessage struct {
	who   uint8
	parts [3]span
}

func loweredMessage(message ChatMessage) chatMessage {
	switch {
	case message.Assistant != nil:
		it := message.Assistant
		thinking := loweredList(it.Thinking, func(it ChatThought) chatThought {
			return chatThought{lowered(it.Text), lowered(it.Signature)}
		})
		calls := loweredList(it.Calls, func(it ChatToolCall) chatToolCall {
			return chatToolCall{lowered(it.ID), lowered(it.Name), lowered(it.Arguments), lowered(it.Signature)}
		})
		return chatMessage{1, [3]span{thinking, lowered(it.Text), calls}}
	case message.Result != nil:
		it := message.Result
		return chatMessage{2, [3]span{lowered(it.ID), lowered(it.Name), lowered(it.Content)}}
	default:
		return chatMessage{0, [3]span{lowered(message.User)}}
	}
}

type chatThought struct {
	text, signature span
}

type chatToolCall struct {
	id, name, arguments, signature span
}

func (c *chatToolCall) lifted() ChatToolCall {
	return ChatToolCall{c.id.lifted(), c.name.lifted(), c.arguments.lifted(), c.signature.lifted()}
}

type chatAnswer struct {
	model                 span
	thinking, text, calls span
	reason                uint8
	input, output, total  uint64
}

func (a *chatAnswer) lifted() *ChatAnswer {
	return &ChatAnswer{
		Model: a.model.lifted(),
		Message: ChatAssistant{
			Thinking: liftedList(a.thinking, func(raw *chatThought) ChatThought {
				return ChatThought{raw.text.lifted(), raw.signature.lifted()}
			}),
			Text:  a.text.lifted(),
			Calls: liftedList(a.calls, (*chatToolCall).lifted),
		},
		Reason: a.reason,
		Input:  a.input, Output: a.output, Total: a.total,
	}
}

// An event or none: its tag, and in the place of the largest, which is the whole answer, what it tells.
type chatEvent struct {
	some  bool
	event struct {
		what  uint8
		value chatAnswer
	}
}

func (e *chatEvent) lifted() *ChatEvent {
	if !e.some {
		return nil
	}
	value := unsafe.Pointer(&e.event.value)
	switch e.event.what {
	case 0:
		text := (*span)(value).lifted()
		return &ChatEvent{Thinking: &text}
	case 1:
		text := (*span)(value).lifted()
		return &ChatEvent{Text: &text}
	case 2:
		call := (*chatToolCall)(value).lifted()
		return &ChatEvent{Call: &call}
	default:
		return &ChatEvent{End: e.event.value.lifted()}
	}
}
