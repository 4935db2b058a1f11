package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
)

// maxShown bounds what an error message repeats of a value, in bytes.
const maxShown = 2048

// pyStr returns a JSON value as Python's str shows it.
func pyStr(raw json.RawMessage) string {
	var text string
	if len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &text) == nil {
		return cut(text)
	}
	return pyRepr(raw)
}

// pyRepr returns a JSON value as Python's repr shows it, which is how Cinder's
// messages show values.
func pyRepr(raw json.RawMessage) string {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	p := &pyPrinter{dec: dec}
	p.value()
	return cut(p.out.String())
}

func cut(text string) string {
	if len(text) <= maxShown {
		return text
	}
	return strings.ToValidUTF8(text[:maxShown], "") + "..."
}

// pyPrinter prints the tokens of a JSON value. Keys keep their order.
type pyPrinter struct {
	dec *json.Decoder
	out strings.Builder
}

// value prints the next value. It stops early once there is enough to show; the
// depth of a value is bounded by the decoder that accepted it.
func (p *pyPrinter) value() {
	if p.out.Len() > maxShown {
		return
	}
	token, err := p.dec.Token()
	if err != nil {
		return
	}
	switch t := token.(type) {
	case json.Delim:
		p.compound(t)
	case string:
		p.out.WriteString(pyQuote(t))
	case bool:
		p.out.WriteString(map[bool]string{true: "True", false: "False"}[t])
	case nil:
		p.out.WriteString("None")
	default:
		fmt.Fprint(&p.out, t)
	}
}

func (p *pyPrinter) compound(open json.Delim) {
	p.out.WriteRune(rune(open))
	for first := true; p.dec.More() && p.out.Len() <= maxShown; first = false {
		if !first {
			p.out.WriteString(", ")
		}
		if open == '{' {
			p.value()
			p.out.WriteString(": ")
		}
		p.value()
	}
	if _, err := p.dec.Token(); err != nil {
		return
	}
	p.out.WriteByte(map[json.Delim]byte{'{': '}', '[': ']'}[open])
}

// pyQuote quotes a string as Python's repr does.
func pyQuote(text string) string {
	quote := '\''
	if strings.ContainsRune(text, '\'') && !strings.ContainsRune(text, '"') {
		quote = '"'
	}
	var b strings.Builder
	b.WriteRune(quote)
	for _, r := range text {
		switch {
		case r == quote || r == '\\':
			b.WriteRune('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteRune(quote)
	return b.String()
}

// pyDict reads a Python dictionary of strings, as clients write filters.
func pyDict(text string) (map[string]string, bool) {
	var m map[string]string
	if json.Unmarshal([]byte(text), &m) == nil {
		return m, true
	}
	var b strings.Builder
	var quote rune
	for _, r := range text {
		switch {
		case quote == 0 && (r == '\'' || r == '"'):
			quote = r
			b.WriteByte('"')
		case r == quote:
			quote = 0
			b.WriteByte('"')
		case r == '"':
			b.WriteString(`\"`)
		default:
			b.WriteRune(r)
		}
	}
	return m, json.Unmarshal([]byte(b.String()), &m) == nil
}
