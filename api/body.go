package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/lockstep-storage/lockstep/fsm"
)

// maxBody is the size in bytes that a request may have.
const maxBody = 1 << 20

// read returns the body of the request.
func (x *exchange) read(limit int64, within time.Duration) ([]byte, error) {
	rc := http.NewResponseController(x.ResponseWriter)
	_ = rc.SetReadDeadline(time.Now().Add(within))
	if x.r.ContentLength > limit {
		return nil, &http.MaxBytesError{Limit: limit}
	}
	raw, err := io.ReadAll(http.MaxBytesReader(x.ResponseWriter, x.r.Body, limit))
	if _, tooBig := errors.AsType[*http.MaxBytesError](err); err != nil && !tooBig {
		return nil, newFault(http.StatusBadRequest, "The request body could not be read: %v", err)
	}
	if err == nil {
		// Nothing is to come: from here on the deadline would only end a request
		// that waits for something.
		_ = rc.SetReadDeadline(time.Time{})
	}
	x.sum = sha256.Sum256(raw)
	return raw, err
}

// object is the fields of a JSON object.
type object map[string]json.RawMessage

// body returns the JSON object in the body of the request, checked against what
// its fields may be.
func (x *exchange) body(limit time.Duration, extra extras, fields ...field) (object, error) {
	raw, err := x.read(maxBody, limit)
	if err != nil {
		return nil, err
	}
	if len(raw) == 0 {
		return nil, newFault(http.StatusBadRequest, msgMalformed)
	}
	if ct := x.r.Header.Get("Content-Type"); ct != "" {
		if media, _, err := mime.ParseMediaType(ct); err != nil || media != typeJSON {
			return nil, &fault{status: http.StatusUnsupportedMediaType, Refusal: fsm.Refusal{
				Code: fsm.ErrInvalid, Message: "Unsupported Content-Type", Field: "Content-Type", Value: cut(ct), Allowed: []string{typeJSON},
			}}
		}
	}
	if !utf8.Valid(raw) || !json.Valid(raw) {
		return nil, newFault(http.StatusBadRequest, "Malformed request body")
	}
	x.raw = bytes.TrimSpace(raw)
	return checkObject("", x.raw, extra, fields)
}

// extras says what becomes of fields that a body should not have.
type extras int

const (
	refuseExtras extras = iota
	ignoreExtras
)

// field is what one field of a body may be.
type field struct {
	name     string
	types    []string // JSON types; none means any
	required bool
	min      int                 // length in characters
	max      int                 // length in characters; 0 for no limit
	check    func(string) string // says what is wrong with a string, given how it reads
}

// checkObject returns the fields of an object. Its messages are those of Cinder,
// which come from Python's jsonschema; scripts match them.
func checkObject(path string, raw json.RawMessage, extra extras, fields []field) (object, error) {
	if raw[0] != '{' {
		return nil, schemaFault(path, raw, pyRepr(raw)+" is not of type 'object'")
	}
	obj := object{}
	if err := json.Unmarshal(raw, &obj); err != nil {
		return nil, newFault(http.StatusBadRequest, "Malformed request body")
	}
	var required error
	for _, f := range fields {
		value, ok := obj[f.name]
		switch {
		case ok:
			if err := f.verify(value); err != nil {
				return nil, err
			}
		case f.required && required == nil:
			required = schemaFault(path, raw, fmt.Sprintf("'%s' is a required property", f.name))
		}
	}
	if required != nil {
		return nil, required
	}
	if extra == refuseExtras {
		return obj, checkExtras(path, raw, obj, fields)
	}
	return obj, nil
}

func checkExtras(path string, raw json.RawMessage, obj object, fields []field) error {
	var names, allowed []string
	for _, f := range fields {
		allowed = append(allowed, f.name)
	}
	for name := range obj {
		if !slices.Contains(allowed, name) {
			names = append(names, pyQuote(name))
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	verb := "was"
	if len(names) > 1 {
		verb = "were"
	}
	err := schemaFault(path, raw, fmt.Sprintf("Additional properties are not allowed (%s %s unexpected)", strings.Join(names, ", "), verb))
	if f, ok := errors.AsType[*fault](err); ok {
		f.Allowed = allowed
	}
	return err
}

// verify checks the value of a field.
func (f field) verify(value json.RawMessage) error {
	kind := jsonType(value)
	if len(f.types) > 0 && !slices.Contains(f.types, kind) {
		quoted := make([]string, len(f.types))
		for i, t := range f.types {
			quoted[i] = "'" + t + "'"
		}
		return schemaFault(f.name, value, fmt.Sprintf("%s is not of type %s", pyRepr(value), strings.Join(quoted, ", ")))
	}
	if kind != "string" {
		return nil
	}
	var text string
	if err := json.Unmarshal(value, &text); err != nil {
		return newFault(http.StatusBadRequest, "Malformed request body")
	}
	length := utf8.RuneCountInString(text)
	switch {
	case length < f.min:
		return schemaFault(f.name, value, pyRepr(value)+" is too short")
	case f.max > 0 && length > f.max:
		return schemaFault(f.name, value, pyRepr(value)+" is too long")
	case f.check != nil:
		if problem := f.check(text); problem != "" {
			return schemaFault(f.name, value, pyRepr(value)+problem)
		}
	}
	return nil
}

func schemaFault(field string, value json.RawMessage, message string) error {
	shown := pyStr(value)
	if field != "" {
		message = fmt.Sprintf("Invalid input for field/attribute %s. Value: %s. %s", field, shown, message)
	}
	return fieldFault(field, shown, message)
}

func jsonType(raw json.RawMessage) string {
	switch raw[0] {
	case '{':
		return "object"
	case '[':
		return "array"
	case '"':
		return "string"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	}
	if bytes.ContainsAny(raw, ".eE") {
		return "number"
	}
	return "integer"
}

// has reports whether a field is there and not null.
func (o object) has(name string) bool {
	value, ok := o[name]
	return ok && value[0] != 'n'
}

// text returns a field that is a string; what is no string is "".
func (o object) text(name string) string {
	var v string
	if value, ok := o[name]; !ok || json.Unmarshal(value, &v) != nil {
		return ""
	}
	return v
}

// flag returns a field that is a boolean, in any of the forms that Cinder takes,
// or def without one.
func (o object) flag(name, def string) (bool, error) {
	value := def
	if o.has(name) {
		value = pyStr(o[name])
	}
	return parseBool(name, value)
}

// parseBool takes the strings that oslo's strict bool takes.
func parseBool(name, value string) (bool, error) {
	switch strings.ToLower(strings.TrimSpace(value)) {
	case "1", "t", "true", "on", "y", "yes":
		return true, nil
	case "0", "f", "false", "off", "n", "no":
		return false, nil
	}
	return false, fieldFault(name, value, fmt.Sprintf("Value '%s' for '%s' is not a boolean.", value, name), "true", "false")
}

// The fields that several bodies have.

func hostField() field {
	return field{name: "host", types: []string{"string", "null"}, min: 1, max: 255, check: func(v string) string {
		bad := func(r rune) bool {
			alnum := r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
			return !alnum && !strings.ContainsRune("-._#@:/+[]", r)
		}
		if strings.ContainsFunc(v, bad) {
			return ` does not match '^[a-zA-Z0-9-._#@:/+\\[\\]]*$'`
		}
		return ""
	}}
}

func nullableField(name string) field {
	return field{name: name, types: []string{"string", "null"}, max: 255}
}

func nameField(name string) field {
	return field{name: name, types: []string{"string"}, min: 1, max: 255}
}

func sizeField(name string, types ...string) field {
	return field{name: name, types: types, min: 1, max: 20, check: func(v string) string {
		if strings.Trim(v, "0123456789") != "" {
			return " does not match '^[0-9]+$'"
		}
		return ""
	}}
}

func uuidField(name string, types ...string) field {
	return field{name: name, types: types, check: func(v string) string {
		if uuid.Validate(v) != nil {
			return " is not a 'uuid'"
		}
		return ""
	}}
}

func reasonField(types ...string) field {
	return field{name: "disabled_reason", types: types, check: func(v string) string {
		if v != "" && strings.TrimSpace(v) == "" || utf8.RuneCountInString(v) > 255 {
			return " is not a 'disabled_reason'"
		}
		return ""
	}}
}

// size returns a field that is a size in GiB, as a number or as digits.
func (o object) size(name string) (int64, error) {
	value := pyStr(o[name])
	size, err := strconv.ParseInt(value, 10, 64)
	switch {
	case err == nil && size < 1 && o[name][0] != '"':
		return 0, schemaFault(name, o[name], value+" is less than the minimum of 1")
	case err != nil || size < 1 || size > maxSize:
		return 0, fieldFault(name, value, fmt.Sprintf("%s%s '%s' must be an integer from 1 to %d", prefixInvalid, name, value, maxSize))
	}
	return size, nil
}

// maxSize is the size in GiB that a volume may have, as in Cinder's database.
const maxSize = 1<<31 - 1

// raw returns the object as JSON again, for messages about all of it.
func (o object) raw() json.RawMessage {
	raw, err := json.Marshal(o)
	if err != nil {
		return json.RawMessage("{}")
	}
	return raw
}
