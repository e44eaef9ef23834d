package workspace_test

// In this folder, because all of the folder fetch is copied into the projects of authors.

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"epicenter.dev/workspace"
	"epicenter.dev/workspace/fetch"
	"epicenter.dev/workspace/internal/contract"
)

// other is a host that notes what it is to send.
type other struct {
	contract.Host
	sent   contract.HTTPRequest
	answer contract.HTTPResponse
}

func (o *other) Send(request contract.HTTPRequest) (*contract.HTTPResponse, error) {
	if o.sent = request; strings.Contains(request.URL, "denied") {
		return nil, &workspace.Error{Kind: contract.Denied, Message: "not there"}
	}
	return &o.answer, nil
}

func answering(t *testing.T, status uint16, body string, headers ...contract.HTTPHeader) *other {
	t.Helper()
	host := &other{answer: contract.HTTPResponse{Status: status, Headers: headers, Body: []byte(body)}}
	before := contract.Current
	t.Cleanup(func() { contract.Current = before })
	contract.Current = host
	return host
}

func TestARequestIsSentAsItSays(t *testing.T) {
	host := answering(t, 200, "")
	for _, it := range []struct {
		what string
		send func() (fetch.Response, error)
		want string
	}{
		{"get", func() (fetch.Response, error) { return fetch.Get("u") }, "GET u"},
		{"post", func() (fetch.Response, error) { return fetch.Post("u", "text/plain", []byte("a")) },
			"POST u content-type=text/plain a"},
		{"nothing posted", func() (fetch.Response, error) { return fetch.Post("u", "text/plain", nil) },
			"POST u content-type=text/plain"},
		{"JSON", func() (fetch.Response, error) { return fetch.PostJSON("u", map[string]int{"a": 1}) },
			`POST u content-type=application/json {"a":1}`},
		{"JSON that is null", func() (fetch.Response, error) { return fetch.PostJSON("u", nil) },
			`POST u content-type=application/json null`},
		{"a type of its own", func() (fetch.Response, error) {
			return fetch.Send(fetch.Request{Method: "PUT", URL: "u", JSON: 1, Header: fetch.Header{
				"X-B": {"1", "2"}, "Content-Type": {"text/x"},
			}})
		}, "PUT u Content-Type=text/x X-B=1 X-B=2 1"},
		{"a body without a method", func() (fetch.Response, error) {
			return fetch.Send(fetch.Request{URL: "u", Body: []byte("a")})
		}, "POST u a"},
	} {
		if _, err := it.send(); err != nil {
			t.Errorf("%s: %v", it.what, err)
		}
		words := []string{host.sent.Method, host.sent.URL}
		for _, header := range host.sent.Headers {
			words = append(words, header.Name+"="+header.Value)
		}
		if len(host.sent.Body) > 0 {
			words = append(words, string(host.sent.Body))
		}
		if got := strings.Join(words, " "); got != it.want {
			t.Errorf("%s: got %s\nwant %s", it.what, got, it.want)
		}
	}
	if _, err := fetch.PostJSON("u", func() {}); err == nil || !strings.HasPrefix(err.Error(), "the body: ") {
		t.Errorf("got %v", err)
	}
	if _, err := fetch.Get("denied"); !errors.Is(err, workspace.ErrDenied) {
		t.Errorf("got %v", err)
	}
}

func TestAnAnswerIsRead(t *testing.T) {
	answering(t, 201, "\ufeff{\"a\":12345678901234567890}\n",
		contract.HTTPHeader{Name: "x-seen", Value: "a"}, contract.HTTPHeader{Name: "X-Seen", Value: "b"})
	answer, err := fetch.Get("u")
	if err != nil || answer.Status != 201 || !answer.OK() {
		t.Errorf("got %v, %v", answer, err)
	}
	if answer.Header.Get("X-Seen") != "a" || answer.Header.Get("other") != "" {
		t.Errorf("got %v", answer.Header)
	}
	if got := answer.Header.Values("x-SEEN"); !reflect.DeepEqual(got, []string{"a", "b"}) {
		t.Errorf("got %v", got)
	}
	if got := answer.Text(); got != "{\"a\":12345678901234567890}\n" {
		t.Errorf("got %q", got)
	}
	var value any
	if err := answer.JSON(&value); err != nil || value.(map[string]any)["a"] != json.Number("12345678901234567890") {
		t.Errorf("got %v, %v", value, err)
	}
}

func TestWhatCannotBeReadIsMendedOrAnError(t *testing.T) {
	broken := fetch.Response{Status: 404, Body: []byte("a\xff\xe2\x82b")}
	if got := broken.Text(); got != "a\ufffd\ufffd\ufffdb" || broken.OK() {
		t.Errorf("got %q", got)
	}
	for body, want := range map[string]string{
		"":         "the answer (200) cannot be read: unexpected EOF",
		"[1] [2]":  "the answer (200) cannot be read: there is more than one value",
		"<html>":   "the answer (200) cannot be read: invalid character '<'",
		`["a"]`:    "the answer (200) cannot be read: json: cannot unmarshal string into",
		"[1] oops": "the answer (200) cannot be read: there is more than one value",
	} {
		var numbers []int
		err := fetch.Response{Status: 200, Body: []byte(body)}.JSON(&numbers)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v", body, err)
		}
	}
	var numbers []int
	if err := (fetch.Response{Status: 200, Body: []byte(" [1, 2]\n")}).JSON(&numbers); err != nil || len(numbers) != 2 {
		t.Errorf("got %v, %v", numbers, err)
	}
}
