package api

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lockstep-storage/lockstep/fsm"
)

// maxBody is the size in bytes that a request may have.
const maxBody = 1 << 20

// read returns the body of the request, as often as it is asked.
func (x *exchange) read(limit int64, within time.Duration) ([]byte, error) {
	if x.content != nil {
		return x.content, nil
	}
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
		x.content = raw
	}
	x.sum = sha256.Sum256(raw)
	return raw, err
}

// object is the fields of a JSON object.
type object map[string]json.RawMessage

// body returns the JSON object in the body of the request.
func (x *exchange) body(limit time.Duration) (object, error) {
	raw, err := x.read(maxBody, limit)
	if err != nil {
		return nil, err
	}
	if len(raw) == 0 {
		return nil, newFault(http.StatusBadRequest, msgMalformed)
	}
	if err := x.checkType(); err != nil {
		return nil, err
	}
	if !utf8.Valid(raw) || !json.Valid(raw) {
		return nil, newFault(http.StatusBadRequest, "Malformed request body")
	}
	x.raw = bytes.TrimSpace(raw)
	if x.raw[0] != '{' {
		return nil, schemaFault("", x.raw, pyRepr(x.raw)+" is not of type 'object'")
	}
	obj := object{}
	if err := json.Unmarshal(x.raw, &obj); err != nil {
		return nil, newFault(http.StatusBadRequest, "Malformed request body")
	}
	return obj, nil
}

// typeVolume is another name that Cinder has for JSON.
const typeVolume = "application/vnd.openstack.volume+json"

// checkType refuses a body that is not said to be JSON. For Cinder a body that is
// said to be nothing is none.
func (x *exchange) checkType() error {
	given, ok := x.r.Header["Content-Type"]
	switch {
	case ok:
	case inCinder(x.r.URL.Path):
		return newFault(http.StatusBadRequest, msgMalformed)
	default:
		return nil
	}
	media, _, _ := strings.Cut(given[0], ";")
	if media = strings.TrimSpace(media); media != typeJSON && media != typeVolume {
		return &fault{status: http.StatusUnsupportedMediaType, Refusal: fsm.Refusal{
			Code: fsm.ErrInvalid, Message: "Unsupported Content-Type", Field: "Content-Type", Value: cut(given[0]), Allowed: []string{typeJSON},
		}}
	}
	return nil
}

// action returns the body of a request for an action, and which one it names. Like
// Cinder it looks at the name before it looks at anything else, and knows a body that
// is none for one that names nothing.
func (x *exchange) action(limit time.Duration) (name string, body object, err error) {
	raw, err := x.read(maxBody, limit)
	if err != nil {
		return "", nil, err
	}
	if _, said := x.r.Header["Content-Type"]; len(raw) == 0 || !said {
		return "", nil, noAction("None")
	}
	var list []json.RawMessage
	isList := json.Unmarshal(raw, &list) == nil && list != nil
	body, err = x.body(limit)
	switch {
	case err != nil && json.Valid(raw) && x.checkType() == nil && (!isList || len(list) > 0):
		return "", nil, newFault(http.StatusNotFound, msgNoResource)
	case err != nil && isList, err == nil && len(body) != 1:
		return "", nil, newFault(http.StatusBadRequest, "Malformed request body")
	}
	return body.only(), body, err
}

func noAction(name string) error {
	return badRequest("There is no such action: %s. Verify the request body and Content-Type header and try again.", cut(name))
}

// unexpected refuses an object that has other fields than those.
func (o object) unexpected(field string, raw json.RawMessage, allowed ...string) error {
	var extra []string
	for _, name := range slices.Sorted(maps.Keys(o)) {
		if !slices.Contains(allowed, name) {
			extra = append(extra, name)
		}
	}
	if extra == nil {
		return nil
	}
	return schemaFault(field, raw, additional(extra))
}

func schemaFault(field string, value json.RawMessage, message string) error {
	shown := pyStr(value)
	if field != "" {
		message = fmt.Sprintf("Invalid input for field/attribute %s. Value: %s. %s", field, shown, message)
	}
	return fieldFault(field, shown, message)
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
	switch strings.ToLower(value) {
	case "1", "t", "true", "on", "y", "yes":
		return true, nil
	case "0", "f", "false", "off", "n", "no":
		return false, nil
	}
	return false, fieldFault(name, value, fmt.Sprintf("Value '%s' for '%s' is not a boolean.", value, name), "true", "false")
}

// size returns a field that is a size in GiB, as a number or as digits.
func (o object) size(name string) (int64, error) {
	value := pyStr(o[name])
	size, err := strconv.ParseInt(value, 10, 64)
	switch {
	case err == nil && size < 1:
		return 0, schemaFault(name, o[name], fmt.Sprintf("%d is less than the minimum of 1", size))
	case value != "" && strings.Trim(value, "0123456789") == "" && (err != nil || size > maxSize):
		return 0, schemaFault(name, o[name], fmt.Sprintf("%s is greater than the maximum of %d", cmp.Or(strings.TrimLeft(value, "0"), "0"), maxSize))
	case err != nil:
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
