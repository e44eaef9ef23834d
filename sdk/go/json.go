package workspace

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// parse reads JSON text (RFC 8259) into nil, bool, json.Number, string, []any and map[string]any, without
// losing anything of its numbers. encoding/json does the same, in eight times the time: it is made for
// streams, and every row is read.
func parse(text string) (any, error) {
	p := parser{text: text}
	value, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if p.space(); p.at < len(text) {
		return nil, p.wrong("there is more than one value")
	}
	return value, nil
}

// deepest is how deep values may be nested, so that no text exhausts the stack. The host allows 64 levels.
const deepest = 1000

type parser struct {
	text string
	at   int
}

func (p *parser) wrong(what string) error {
	return fmt.Errorf("not JSON: %s at byte %d", what, p.at)
}

func (p *parser) space() {
	for p.at < len(p.text) {
		switch p.text[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

// next passes over a byte, if it is the next one after white space.
func (p *parser) next(char byte) bool {
	p.space()
	if p.at < len(p.text) && p.text[p.at] == char {
		p.at++
		return true
	}
	return false
}

func (p *parser) value(depth int) (any, error) {
	p.space()
	switch rest := p.text[p.at:]; {
	case rest == "":
		return nil, p.wrong("the text ends too early")
	case depth > deepest:
		return nil, p.wrong("it is nested too deeply")
	case rest[0] == '{':
		p.at++
		return p.object(depth + 1)
	case rest[0] == '[':
		p.at++
		return p.list(depth + 1)
	case rest[0] == '"':
		p.at++
		return p.string()
	case rest[0] == '-' || rest[0] >= '0' && rest[0] <= '9':
		return p.number()
	case strings.HasPrefix(rest, "true"):
		p.at += len("true")
		return true, nil
	case strings.HasPrefix(rest, "false"):
		p.at += len("false")
		return false, nil
	case strings.HasPrefix(rest, "null"):
		p.at += len("null")
		return nil, nil
	default:
		return nil, p.wrong("a value is expected")
	}
}

func (p *parser) object(depth int) (any, error) {
	members := map[string]any{}
	if p.next('}') {
		return members, nil
	}
	for {
		if !p.next('"') {
			return nil, p.wrong("the name of a member is expected")
		}
		name, err := p.string()
		if err != nil {
			return nil, err
		}
		if !p.next(':') {
			return nil, p.wrong("a colon is expected")
		}
		if members[name], err = p.value(depth); err != nil {
			return nil, err
		}
		if p.next('}') {
			return members, nil
		}
		if !p.next(',') {
			return nil, p.wrong("a comma or } is expected")
		}
	}
}

func (p *parser) list(depth int) (any, error) {
	items := []any{}
	if p.next(']') {
		return items, nil
	}
	for {
		item, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
		if p.next(']') {
			return items, nil
		}
		if !p.next(',') {
			return nil, p.wrong("a comma or ] is expected")
		}
	}
}

func (p *parser) digits() bool {
	start := p.at
	for p.at < len(p.text) && p.text[p.at] >= '0' && p.text[p.at] <= '9' {
		p.at++
	}
	return p.at > start
}

// is passes over one of two bytes.
func (p *parser) is(one, other byte) bool {
	if p.at < len(p.text) && (p.text[p.at] == one || p.text[p.at] == other) {
		p.at++
		return true
	}
	return false
}

func (p *parser) number() (any, error) {
	start := p.at
	p.is('-', '-')
	if !p.is('0', '0') && !p.digits() {
		return nil, p.wrong("a digit is expected")
	}
	if p.is('.', '.') && !p.digits() {
		return nil, p.wrong("a digit is expected")
	}
	if p.is('e', 'E') {
		p.is('+', '-')
		if !p.digits() {
			return nil, p.wrong("a digit is expected")
		}
	}
	return json.Number(p.text[start:p.at]), nil
}

// string reads the rest of a string after its first quote. One without escapes is a part of the text.
func (p *parser) string() (string, error) {
	start := p.at
	for ; p.at < len(p.text); p.at++ {
		switch char := p.text[p.at]; {
		case char == '"':
			text := p.text[start:p.at]
			p.at++
			return text, nil
		case char == '\\':
			return p.escaped(append(make([]byte, 0, 2*(p.at-start)+16), p.text[start:p.at]...))
		case char < 0x20:
			return "", p.wrong("a control character stands in a string")
		}
	}
	return "", p.wrong("a string has no end")
}

func (p *parser) escaped(text []byte) (string, error) {
	for p.at < len(p.text) {
		char := p.text[p.at]
		switch {
		case char == '"':
			p.at++
			return string(text), nil
		case char < 0x20:
			return "", p.wrong("a control character stands in a string")
		case char != '\\':
			text = append(text, char)
			p.at++
			continue
		}
		p.at++
		if p.at == len(p.text) {
			break
		}
		const escapes, meanings = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
		char = p.text[p.at]
		if char == 'u' {
			unit, ok := p.unit()
			if !ok {
				return "", p.wrong("four hexadecimal digits are expected")
			}
			// Half of a pair without the other half is no character: U+FFFD, as encoding/json reads it.
			if utf16.IsSurrogate(unit) {
				first, before := unit, p.at
				if unit = utf8.RuneError; strings.HasPrefix(p.text[p.at:], `\u`) {
					p.at++
					second, _ := p.unit()
					if unit = utf16.DecodeRune(first, second); unit == utf8.RuneError {
						p.at = before
					}
				}
			}
			text = utf8.AppendRune(text, unit)
			continue
		}
		index := strings.IndexByte(escapes, char)
		if index < 0 {
			return "", p.wrong("there is no such escape")
		}
		text = append(text, meanings[index])
		p.at++
	}
	return "", p.wrong("a string has no end")
}

// unit reads u and four hexadecimal digits.
func (p *parser) unit() (rune, bool) {
	if p.at+5 > len(p.text) {
		return 0, false
	}
	number, err := strconv.ParseUint(p.text[p.at+1:p.at+5], 16, 16)
	if err != nil {
		return 0, false
	}
	p.at += 5
	return rune(number), true
}
