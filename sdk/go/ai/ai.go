// Package ai asks language models, in actions of plugins whose manifest says `ai = true`.
//
//	answer, err := ai.Chat(ai.Request{
//		Provider: "anthropic",
//		Model:    "claude-haiku-4-5",
//		System:   "Be brief.",
//		Messages: []ai.Message{ai.User("Hi")},
//	})
//	answer.Message.Text
//
// An action has five seconds, which a model may take for itself: let the manifest say more, as
// `action = "2m"` under [limits]. A mutation may be run again, and then asks again.
package ai

import (
	"encoding/json"
	"fmt"
	"iter"

	"epicenter.dev/workspace/internal/contract"
)

// Message is what someone said: a [User], an [Assistant] or a [ToolResult].
type Message interface {
	message() contract.ChatMessage
}

// User is what the person said.
type User string

// Assistant is what a model said; from an [Answer], it is sent back as it is when the conversation goes on.
type Assistant struct {
	Text     string
	Calls    []ToolCall
	Thinking []Thought
}

// Thought is what a model thought, and the provider's proof that it did; empty when there is none.
type Thought struct {
	Text      string
	Signature string
}

// ToolCall is a call that a model made. The arguments are JSON as it wrote them, and may break the schema.
type ToolCall struct {
	ID        string
	Name      string
	Arguments string
	Signature string
}

// ToolResult is what came of a call, mostly JSON. Each call of a message wants one, in their order.
type ToolResult struct {
	Call    ToolCall
	Content string
}

// Tool is something that a model may call. It is the plugin that runs a call and sends the result back.
type Tool struct {
	// Name has 1 to 64 characters from [A-Za-z0-9_-].
	Name        string
	Description string
	// Parameters is the JSON Schema of its input, an object.
	Parameters map[string]any
}

// Request is what a model is asked.
type Request struct {
	// Provider is anthropic, gemini, grok, openai, or what the operator has added.
	Provider string
	Model    string
	// System is what the model is told before anyone speaks.
	System string
	// Messages are what was said, oldest first.
	Messages []Message
	Tools    []Tool
	// Options are in the provider's own words: temperature, thinking and so on.
	Options map[string]any
}

// Answer is all that a model said.
type Answer struct {
	// Model is the one that answered, by its own name.
	Model   string
	Message Assistant
	Reason  Reason
	Usage   Usage
}

// Reason is why an answer is complete.
type Reason string

// Why an answer is complete.
const (
	// Stop is that the model has said all.
	Stop Reason = "stop"
	// ToolCalls is that it waits for what it called.
	ToolCalls Reason = "tool-calls"
	// Length is that the answer is as long as it may be.
	Length Reason = "length"
	// ContentFilter is that the provider did not like the rest.
	ContentFilter Reason = "content-filter"
)

// Usage is what an answer took, in tokens, as the provider counts. Some count more into the total.
type Usage struct {
	Input, Output, Total uint64
}

// Chat asks, and waits for the whole answer. An error that is workspace.ErrFailed has the provider's words.
func Chat(request Request) (Answer, error) {
	lowered, err := lower(request)
	if err != nil {
		return Answer{}, err
	}
	answer, err := contract.Current.Chat(lowered)
	if err != nil {
		return Answer{}, err
	}
	return answerOf(answer), nil
}

// Event is what happens while a model answers: a [Thinking], a [Text], a [ToolCall], and at the end an
// [Answer] that repeats all of it.
type Event interface{ event() }

// Thinking is a piece of a model's thoughts.
type Thinking string

// Text is a piece of a model's words.
type Text string

func (Thinking) event() {}
func (Text) event()     {}
func (ToolCall) event() {}
func (Answer) event()   {}

// ChatStream asks, and gives the answer as it comes. Whoever stops listening ends the request.
//
//	for event, err := range ai.ChatStream(request) {
//		if err != nil {
//			return err
//		}
//		if text, ok := event.(ai.Text); ok {
//			words += string(text)
//		}
//	}
func ChatStream(request Request) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		lowered, err := lower(request)
		if err != nil {
			yield(nil, err)
			return
		}
		stream, err := contract.Current.ChatStream(lowered)
		if err != nil {
			yield(nil, err)
			return
		}
		defer stream.Close()
		for {
			event, err := stream.Next()
			if err != nil {
				yield(nil, err)
				return
			}
			if event == nil || !yield(eventOf(event), nil) {
				return
			}
		}
	}
}

func eventOf(event *contract.ChatEvent) Event {
	switch {
	case event.Thinking != nil:
		return Thinking(*event.Thinking)
	case event.Text != nil:
		return Text(*event.Text)
	case event.Call != nil:
		return ToolCall(*event.Call)
	default:
		return answerOf(event.End)
	}
}

func (u User) message() contract.ChatMessage { return contract.ChatMessage{User: string(u)} }

func (a Assistant) message() contract.ChatMessage {
	assistant := contract.ChatAssistant{Text: a.Text}
	for _, thought := range a.Thinking {
		assistant.Thinking = append(assistant.Thinking, contract.ChatThought(thought))
	}
	for _, call := range a.Calls {
		assistant.Calls = append(assistant.Calls, contract.ChatToolCall(call))
	}
	return contract.ChatMessage{Assistant: &assistant}
}

func (r ToolResult) message() contract.ChatMessage {
	return contract.ChatMessage{Result: &contract.ChatToolResult{ID: r.Call.ID, Name: r.Call.Name, Content: r.Content}}
}

func lower(request Request) (contract.ChatRequest, error) {
	lowered := contract.ChatRequest{Provider: request.Provider, Model: request.Model, System: request.System}
	for _, message := range request.Messages {
		lowered.Messages = append(lowered.Messages, message.message())
	}
	for _, tool := range request.Tools {
		parameters, err := json.Marshal(tool.Parameters)
		if err != nil {
			return lowered, fmt.Errorf("the parameters of %s: %w", tool.Name, err)
		}
		lowered.Tools = append(lowered.Tools, contract.ChatTool{
			Name: tool.Name, Description: tool.Description, Parameters: string(parameters),
		})
	}
	if request.Options != nil {
		options, err := json.Marshal(request.Options)
		if err != nil {
			return lowered, fmt.Errorf("the options: %w", err)
		}
		lowered.Options = string(options)
	}
	return lowered, nil
}

// The reasons, as the contract numbers them.
var reasons = []Reason{Stop, ToolCalls, Length, ContentFilter}

func answerOf(answer *contract.ChatAnswer) Answer {
	said := Assistant{Text: answer.Message.Text}
	for _, thought := range answer.Message.Thinking {
		said.Thinking = append(said.Thinking, Thought(thought))
	}
	for _, call := range answer.Message.Calls {
		said.Calls = append(said.Calls, ToolCall(call))
	}
	return Answer{answer.Model, said, reasons[answer.Reason], Usage{answer.Input, answer.Output, answer.Total}}
}
