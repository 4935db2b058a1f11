package client

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The codes of [Error] that callers tell apart. There are more.
const (
	CodeInvalid     = "invalid"
	CodeNotFound    = "not_found"
	CodeExists      = "exists"
	CodeConflict    = "conflict"
	CodeFailingOver = "failing_over"
	CodeNoLeader    = "no_leader"

	CodeUnauthorized = "unauthorized"         // the token is not known
	CodeForbidden    = "forbidden"            // a policy does not allow it
	CodeIdentity     = "identity_unavailable" // Keystone does not answer the node
)

// Error is a refusal by a node.
type Error struct {
	Request    string        // method and path
	Status     int           // of HTTP
	Code       string        // why, for programs; empty if the node gave none
	Field      string        // the field at fault, if one is
	Value      string        // what it was
	Allowed    []string      // what it may be
	Message    string        // why, for people
	RetryAfter time.Duration // when to ask again; 0 if the node did not say
}

// Error implements error.
func (e *Error) Error() string {
	text := e.Message
	if text == "" || text == http.StatusText(e.Status) {
		text = fmt.Sprintf("%s: %d %s", e.Request, e.Status, http.StatusText(e.Status))
	}
	if len(e.Allowed) > 0 && !strings.Contains(text, e.Allowed[0]) {
		text += "; allowed: " + strings.Join(e.Allowed, ", ")
	}
	return text
}

// Temporary reports whether asking again may help: nobody led, or the node was
// not ready. It does not soon where who asks cannot be found out.
func (e *Error) Temporary() bool {
	return e.Status == http.StatusServiceUnavailable && e.Code != CodeIdentity
}

// UnreachableError says that no node answered at all.
type UnreachableError struct{ Err error }

// Error implements error.
func (e *UnreachableError) Error() string { return fmt.Sprintf("no node answers: %v", e.Err) }

// Unwrap gives access to what the network said.
func (e *UnreachableError) Unwrap() error { return e.Err }

// maxText bounds a refusal in plain text, in bytes.
const maxText = 1000

// problem is the body of a refusal by /v1 (RFC 9457).
type problem struct {
	Title   string   `json:"title"`
	Detail  string   `json:"detail"`
	Code    string   `json:"code"`
	Field   string   `json:"field"`
	Value   any      `json:"value"`
	Allowed []string `json:"allowed"`
}

// newError reads a refusal in the shape of /v1 or, where it has none of that, in
// Cinder's: one key such as badRequest with code and message.
func newError(resp *http.Response, body []byte) *Error {
	e := &Error{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header)}
	if resp.Request != nil {
		e.Request = resp.Request.Method + " " + resp.Request.URL.Path
	}
	var p problem
	if json.Unmarshal(body, &p) == nil && (p.Code != "" || p.Detail != "" || p.Title != "") {
		e.Code, e.Field, e.Allowed, e.Message = p.Code, p.Field, p.Allowed, p.Detail
		if p.Value != nil {
			e.Value = fmt.Sprint(p.Value)
		}
		defaultTo(&e.Message, p.Title)
		return e
	}
	var fault map[string]struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &fault) == nil {
		for _, name := range slices.Sorted(maps.Keys(fault)) {
			e.Message = fault[name].Message
		}
	} else if text := strings.TrimSpace(string(body)); len(text) < maxText {
		e.Message = text
	}
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		e.Code = CodeUnauthorized
	case http.StatusForbidden:
		e.Code = CodeForbidden
	case http.StatusNotFound:
		e.Code = CodeNotFound
	case http.StatusConflict:
		e.Code = CodeConflict
	case http.StatusBadRequest:
		e.Code = CodeInvalid
	case http.StatusServiceUnavailable:
		e.Code = CodeNoLeader
	}
	return e
}
