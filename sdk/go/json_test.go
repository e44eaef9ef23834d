package workspace

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// Held against encoding/json, which is right.
func TestJSONIsReadAsEncodingJSONReadsIt(t *testing.T) {
	texts := []string{
		"", " ", "null", "nul", "true ", "tru", "false", "falsey", "0", "-0", "00", "01", "-", "1.", ".5", "1.5", "1e", "1e+", "1E-7",
		"1e999", "+1", "12345678901234567890", `""`, `"`, `"a`, `"\"\\\/\b\f\n\r\t"`, `"\u00e9\ud83c\udf75"`, `"\ud83c"`,
		`"\ud83cx"`, `"\ud83c\u0041"`, `"\udf75\ud83c"`, `"\ud83c\ud83c\udf75"`, `"\u12"`, `"\u+123"`, `"\x"`, `"\`, "\"\n\"", "\"\x7f\"", `"Tee 茶 🍵"`, "[]",
		"[1", "[1,", "[1,]", "[,1]", "[1 2]", ` [ 1 , [ ] , { } ] `, "{}", "{", `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`,
		`{a:1}`, `{"a" : 1 , "b":[{"c":null}]}`, `{"a":1,"a":2}`, `{"a":1}}`, "1 2", "[1]x", "\v1", "'a'", "NaN",
		strings.Repeat("[", 500) + strings.Repeat("]", 500), strings.Repeat("[", 100),
	}
	seeds := []string{`{"a":[1.5e3,"x\u00e9\n",true,null,{"b":-0.0}],"":{}}`}
	for _, seed := range seeds {
		for index := range seed {
			texts = append(texts, seed[:index], seed[:index]+seed[index+1:], seed[:index]+"\""+seed[index:], seed[:index]+"1"+seed[index:])
		}
	}
	for _, text := range texts {
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.UseNumber()
		var want any
		failed := !json.Valid([]byte(text))
		if !failed {
			if err := decoder.Decode(&want); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
		}
		got, err := parse(text)
		if failed != (err != nil) || !failed && !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %#v (%v), want %#v", text, got, err, want)
		}
	}
	if _, err := parse(strings.Repeat("[", 1e6)); err == nil || !strings.Contains(err.Error(), "too deeply") {
		t.Errorf("got %v", err)
	}
}
