// Package fetch sends requests to other servers, in actions of plugins whose manifest names them under [http].
//
//	answer, err := fetch.Send(fetch.Request{
//		URL:    "https://api.example.com/weather?" + url.Values{"city": {city}}.Encode(),
//		Header: fetch.Header{"Authorization": {"Bearer " + key}},
//	})
//	if err != nil {
//		return weather, err
//	}
//	if !answer.OK() {
//		return weather, workspace.Failed("the weather is not known: %d", answer.Status)
//	}
//	err = answer.JSON(&weather)
//
// It stands for net/http, which wants sockets, and those are not there. An action has five seconds, which the
// other server may take for itself: let the manifest say more, as `action = "30s"` under [limits]. A mutation
// may be run again, and then sends again.
package fetch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"epicenter.dev/workspace/internal/contract"
)

// Header is the fields of a head, by their names. Whether names are written in capitals makes no difference.
type Header map[string][]string

// Get gives the first value of that name, or "" when there is none.
func (h Header) Get(name string) string {
	if values := h.Values(name); len(values) > 0 {
		return values[0]
	}
	return ""
}

// Values gives all values of that name.
func (h Header) Values(name string) []string {
	var values []string
	for _, written := range h.names() {
		if strings.EqualFold(written, name) {
			values = append(values, h[written]...)
		}
	}
	return values
}

// names are sorted, so that the same header is always sent in the same way.
func (h Header) names() []string {
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Request is what is sent.
type Request struct {
	// Method is GET unless it is said, or POST where there is something to send.
	Method string
	// URL is an absolute one, of https or http.
	URL    string
	Header Header
	// Body has 8 MiB at most.
	Body []byte
	// JSON is sent as JSON where it is not nil, instead of a body; the content type is
	// application/json unless the header has one.
	JSON any
}

// Response is what came back, whatever its status says.
type Response struct {
	// Status is 200 and so on.
	Status int
	// Header has the names in lower case.
	Header Header
	Body   []byte
}

// Get asks for what is there.
func Get(url string) (Response, error) { return Send(Request{URL: url}) }

// Post sends something, of a type such as "text/plain".
func Post(url, contentType string, body []byte) (Response, error) {
	return Send(Request{Method: "POST", URL: url, Header: Header{"content-type": {contentType}}, Body: body})
}

// PostJSON sends a value as JSON.
func PostJSON(url string, value any) (Response, error) {
	if value == nil {
		value = json.RawMessage("null")
	}
	return Send(Request{Method: "POST", URL: url, JSON: value})
}

// Send sends a request, and waits for the whole answer. A redirect is an answer, and not followed. An error is
// workspace.ErrDenied for a host that was not granted, workspace.ErrInvalid for what is no request, and
// workspace.ErrFailed when there is no answer.
func Send(request Request) (Response, error) {
	lowered, err := lower(request)
	if err != nil {
		return Response{}, err
	}
	answer, err := contract.Current.Send(lowered)
	if err != nil {
		return Response{}, err
	}
	response := Response{Status: int(answer.Status), Header: Header{}, Body: answer.Body}
	for _, field := range answer.Headers {
		name := strings.ToLower(field.Name)
		response.Header[name] = append(response.Header[name], field.Value)
	}
	return response, nil
}

func lower(request Request) (contract.HTTPRequest, error) {
	lowered := contract.HTTPRequest{Method: request.Method, URL: request.URL, Body: request.Body}
	for _, name := range request.Header.names() {
		for _, value := range request.Header[name] {
			lowered.Headers = append(lowered.Headers, contract.HTTPHeader{Name: name, Value: value})
		}
	}
	if request.JSON != nil {
		body, err := json.Marshal(request.JSON)
		if err != nil {
			return lowered, fmt.Errorf("the body: %w", err)
		}
		lowered.Body = body
		if len(request.Header.Values("content-type")) == 0 {
			lowered.Headers = append(lowered.Headers, contract.HTTPHeader{Name: "content-type", Value: "application/json"})
		}
	}
	if lowered.Method == "" {
		lowered.Method = "GET"
		if len(lowered.Body) > 0 {
			lowered.Method = "POST"
		}
	}
	return lowered, nil
}

// OK is whether the status is of the two hundreds.
func (r Response) OK() bool { return r.Status >= 200 && r.Status < 300 }

// Text is the body as a string in UTF-8. What is none becomes U+FFFD, byte by byte: a string that is not UTF-8
// could be given to nobody.
func (r Response) Text() string {
	body := bytes.TrimPrefix(r.Body, byteOrderMark)
	if utf8.Valid(body) {
		return string(body)
	}
	return string([]rune(string(body)))
}

// Some servers begin a text with it, and nobody wants it in one.
var byteOrderMark = []byte("\ufeff")

// JSON reads the body into what a pointer leads to, as encoding/json does. In an `any`, numbers are
// json.Number, so that none is changed.
func (r Response) JSON(into any) error {
	decoder := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(r.Body, byteOrderMark)))
	decoder.UseNumber()
	err := decoder.Decode(into)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		if _, more := decoder.Token(); more != io.EOF {
			err = fmt.Errorf("there is more than one value")
		}
	}
	if err != nil {
		return fmt.Errorf("the answer (%d) cannot be read: %w", r.Status, err)
	}
	return nil
}
