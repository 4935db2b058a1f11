package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/lockstep-storage/lockstep/fsm"
)

const (
	typeJSON    = "application/json"
	typeProblem = "application/problem+json"
	typeHTML    = "text/html; charset=UTF-8"

	msgMalformed   = "The server could not comply with the request since it is either malformed or otherwise incorrect."
	msgNoResource  = "The resource could not be found."
	msgInternal    = "The server has either erred or is incapable of performing the requested operation."
	msgNoLeader    = "No leader could be reached in time. Whether anything has changed is not known: look, or repeat the request with the same Idempotency-Key."
	prefixInvalid  = "Invalid input received: "
	retryAfterSecs = "1"
)

// fault is a refusal made in this package. Its message is shown as it is; that of
// a [*fsm.Refusal] gets Cinder's prefix in Cinder's API.
type fault struct {
	status int
	fsm.Refusal
}

// newFault returns a refusal about the request as a whole.
func newFault(status int, format string, args ...any) error {
	return &fault{status: status, Refusal: fsm.Refusal{Code: codeOfStatus(status), Message: fmt.Sprintf(format, args...)}}
}

// fieldFault returns a refusal of one field.
func fieldFault(field, value, message string, allowed ...string) error {
	return &fault{status: http.StatusBadRequest, Refusal: fsm.Refusal{
		Code: fsm.ErrInvalid, Message: message, Field: field, Value: value, Allowed: allowed,
	}}
}

func codeOfStatus(status int) fsm.Code {
	switch status {
	case http.StatusNotFound:
		return fsm.ErrNotFound
	case http.StatusConflict:
		return fsm.ErrConflict
	case http.StatusRequestEntityTooLarge:
		return fsm.ErrTooLarge
	case http.StatusServiceUnavailable:
		return fsm.ErrNoLeader
	case http.StatusInternalServerError:
		return fsm.ErrInternal
	default:
		return fsm.ErrInvalid
	}
}

// statusOf is the one table of what a code becomes: the status in Cinder's API
// and the status in /v1.
func statusOf(code fsm.Code) (cinder, v1 int) {
	switch code {
	case fsm.ErrInvalid:
		return http.StatusBadRequest, http.StatusBadRequest
	case fsm.ErrNotFound:
		return http.StatusNotFound, http.StatusNotFound
	case fsm.ErrExists, fsm.ErrStale:
		return http.StatusConflict, http.StatusConflict
	case fsm.ErrConflict, fsm.ErrFailingOver, fsm.ErrFrozen, fsm.ErrDisabled, fsm.ErrHeld, fsm.ErrBehind:
		return http.StatusBadRequest, http.StatusConflict
	case fsm.ErrNotLeader, fsm.ErrNoLeader:
		return http.StatusServiceUnavailable, http.StatusServiceUnavailable
	case fsm.ErrTooLarge, fsm.ErrOverQuota:
		return http.StatusRequestEntityTooLarge, http.StatusRequestEntityTooLarge
	case fsm.ErrNoSpace:
		return http.StatusServiceUnavailable, http.StatusInsufficientStorage
	case fsm.ErrInternal:
		return http.StatusInternalServerError, http.StatusInternalServerError
	}
	return http.StatusInternalServerError, http.StatusInternalServerError
}

// cinderName is the name of a fault in Cinder's API.
func cinderName(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "badRequest"
	case http.StatusForbidden:
		return "forbidden"
	case http.StatusNotFound:
		return "itemNotFound"
	case http.StatusConflict:
		return "conflictingRequest"
	case http.StatusRequestEntityTooLarge:
		return "overLimit"
	case http.StatusUnsupportedMediaType:
		return "badMediaType"
	case http.StatusServiceUnavailable:
		return "serviceUnavailable"
	default:
		return "computeFault"
	}
}

// refusalOf returns what an error says to a client, and the status of a fault.
func refusalOf(err error) (refusal fsm.Refusal, status int) {
	if f, ok := errors.AsType[*fault](err); ok {
		return f.Refusal, f.status
	}
	if tooBig, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fsm.Refusal{
			Code: fsm.ErrTooLarge, Message: fmt.Sprintf("The request body is too large: at most %d bytes are allowed.", tooBig.Limit),
		}, http.StatusRequestEntityTooLarge
	}
	if r, ok := errors.AsType[*fsm.Refusal](err); ok {
		return *r, 0
	}
	code := fsm.CodeOf(err)
	if code == fsm.ErrInternal && errors.Is(err, context.DeadlineExceeded) {
		code = fsm.ErrNoLeader
	}
	message := err.Error()
	if code == fsm.ErrNoLeader || code == fsm.ErrNotLeader {
		message = msgNoLeader
	}
	if code == fsm.ErrInternal {
		message = msgInternal
	}
	return fsm.Refusal{Code: code, Message: message}, 0
}

// refuse answers with an error, in the form of the surface that was asked.
func (s *Server) refuse(x *exchange, err error) {
	refusal, status := refusalOf(err)
	if status == 0 && errors.Is(x.r.Context().Err(), context.Canceled) {
		x.WriteHeader(statusClientGone) // should somebody be there, it must not look like success
		return
	}
	cinder, v1 := statusOf(refusal.Code)
	path := x.r.URL.Path
	inCinder := path == "/" || path == "/v3" || strings.HasPrefix(path, "/v3/")
	if status == 0 {
		status = v1
		if inCinder {
			status = cinder
		}
		if status == http.StatusBadRequest && inCinder {
			refusal.Message = prefixInvalid + refusal.Message
		}
	}
	if status >= http.StatusInternalServerError && path != "/readyz" { // whose no is an answer, not a failure
		s.log.Warn("request failed", "method", x.r.Method, "path", path, "status", status, "request", x.id, "error", err)
	}
	if status == http.StatusServiceUnavailable {
		x.Header().Set("Retry-After", retryAfterSecs)
	}
	if inCinder {
		x.refuseInCinder(status, refusal)
		return
	}
	x.json(status, typeProblem, problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: refusal.Message,
		Code: refusal.Code, Field: refusal.Field, Value: refusal.Value, Allowed: refusal.Allowed,
	})
}

// refuseInCinder answers as Cinder does, and as keystonemiddleware does before it.
func (x *exchange) refuseInCinder(status int, refusal fsm.Refusal) {
	if status == http.StatusUnauthorized {
		x.bytes(status, typeHTML, []byte(refusal.Message))
		return
	}
	body := map[string]any{"code": status, "message": refusal.Message}
	if refusal.Code == fsm.ErrOverQuota { // Cinder says that trying again is no use
		x.Header().Set("Retry-After", "0")
		body["retryAfter"] = "0"
	}
	x.json(status, typeJSON, map[string]any{cinderName(status): body})
}

// statusClientGone is counted for a request whose client has gone away.
const statusClientGone = 499

// problem is an error of /v1, as RFC 9457 has it.
type problem struct {
	Type    string   `json:"type"`
	Title   string   `json:"title"`
	Status  int      `json:"status"`
	Detail  string   `json:"detail"`
	Code    fsm.Code `json:"code"`
	Field   string   `json:"field,omitempty"`
	Value   string   `json:"value,omitempty"`
	Allowed []string `json:"allowed,omitempty"`
}
