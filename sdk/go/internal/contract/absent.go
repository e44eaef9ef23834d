//go:build !wasip1

package contract

import "errors"

// Current is the host. There is none outside of a plugin; tests of the SDK put one of their own here.
var Current Host = absent{}

var errAbsent = errors.New("the host (tables, keys, clock, models, requests) can be used inside of a plugin only")

// Broken says that the author's definition cannot be, which is a panic where its tests run.
func Broken(text string) { panic(text) }

type absent struct{}

func (absent) Get(string, string) (*string, error)              { return nil, errAbsent }
func (absent) List(string, Selection) ([]string, string, error) { return nil, "", errAbsent }
func (absent) Count(string, []Filter) (uint64, error)           { return 0, errAbsent }
func (absent) Put(string, string) (string, error)               { return "", errAbsent }
func (absent) Update(string, string, string) (string, error)    { return "", errAbsent }
func (absent) Delete(string, string) (bool, error)              { return false, errAbsent }
func (absent) Text(string, string, string) (string, error)      { return "", errAbsent }
func (absent) SetText(string, string, string, string) error     { return errAbsent }
func (absent) KeyGet(string) (*string, error)                   { return nil, errAbsent }
func (absent) KeySet(string, string) error                      { return errAbsent }
func (absent) KeyDelete(string) (bool, error)                   { return false, errAbsent }
func (absent) Log(_ Level, message string)                      { println(message) }
func (absent) Caller() *Account                                 { panic(errAbsent) }
func (absent) Now() uint64                                      { panic(errAbsent) }
func (absent) RandomID() string                                 { panic(errAbsent) }
func (absent) RandomUint64() uint64                             { panic(errAbsent) }
func (absent) RequestID() string                                { panic(errAbsent) }
func (absent) Chat(ChatRequest) (*ChatAnswer, error)            { return nil, errAbsent }
func (absent) ChatStream(ChatRequest) (ChatStream, error)       { return nil, errAbsent }
func (absent) Send(HTTPRequest) (*HTTPResponse, error)          { return nil, errAbsent }
func (absent) Environment(string) (*string, error)              { return nil, errAbsent }
