package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/julienschmidt/httprouter"

	"github.com/lockstep-storage/lockstep/api/auth"
	"github.com/lockstep-storage/lockstep/fsm"
)

// exchange is one request and its answer on their way through a handler. It is
// the [http.ResponseWriter] that the router passes on.
type exchange struct {
	http.ResponseWriter
	r       *http.Request
	params  httprouter.Params
	query   url.Values
	path    string            // as it was asked
	route   string            // pattern of the route; empty if none matches
	status  int               // of the answer; 0 while there is none
	id      string            // of the request, for logs and for OpenStack's headers
	sum     [sha256.Size]byte // of the body, once it is read
	content []byte            // the body, once it is read; nil before
	raw     json.RawMessage   // the body, once it is known to be JSON
	admin   bool              // may do everything, and sees what others do not

	segment string         // project in the path of a request of Cinder's API
	user    string         // from the token
	project string         // from the token
	known   bool           // an authenticator has said who asks
	token   string         // that it knew them by
	until   time.Time      // when that ends; zero: it does not
	roles   []string       // that they have
	rules   *auth.Policies // that say what they may do; nil: everything
	version microversion   // of Cinder's API
}

// serve answers one request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	x := &exchange{ResponseWriter: w, r: r, path: r.URL.Path, query: r.URL.Query(), id: uuid.NewString()}
	start := time.Now()
	defer func() {
		if p := recover(); p != nil {
			s.panicked(x, p)
		}
		s.metrics.observe(x, time.Since(start))
		s.log.Debug("answered", "method", r.Method, "path", r.URL.Path, "status", x.status, "request", x.id, "took", time.Since(start))
	}()
	if r.ContentLength != 0 {
		// A body that comes slowly, or not at all, holds neither a handler nor the
		// connection for ever, whether somebody reads it or not.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.cfg.RequestTimeout))
	}
	if s.cfg.Authenticator == nil {
		x.user, x.project, _ = strings.Cut(r.Header.Get("X-Auth-Token"), ":")
	}
	s.router.ServeHTTP(x, x.strip(r.Context()))
}

// strip takes the project out of the path of a request of Cinder's API, which
// serves every route with and without one. Like Cinder it takes a first segment
// of hexadecimal digits and dashes for a project.
func (x *exchange) strip(ctx context.Context) *http.Request {
	rest, ok := strings.CutPrefix(x.r.URL.Path, "/v3/")
	if !ok {
		return x.r
	}
	segment, rest, ok := strings.Cut(rest, "/")
	if !ok || segment == "" || rest == "" || strings.Trim(segment, "0123456789abcdef-") != "" {
		return x.r
	}
	x.segment = segment
	stripped := x.r.Clone(ctx)
	stripped.URL.Path = "/v3/" + rest
	return stripped
}

// panicked answers a request whose handler panicked.
func (s *Server) panicked(x *exchange, p any) {
	if p == http.ErrAbortHandler { //nolint:errorlint // a panic value is not an error chain
		panic(p)
	}
	s.log.Error("a handler panicked", "method", x.r.Method, "path", x.r.URL.Path, "request", x.id,
		"panic", p, "stack", string(debug.Stack()))
	if x.status == 0 {
		s.refuse(x, newFault(http.StatusInternalServerError, msgInternal))
	}
}

// WriteHeader implements [http.ResponseWriter].
func (x *exchange) WriteHeader(status int) {
	if x.status == 0 {
		x.status = status
	}
	x.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (x *exchange) Write(p []byte) (int, error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	return x.ResponseWriter.Write(p)
}

// limitWrite gives the next writes of the answer a deadline. A writer that has
// none, as in a test, has no slow reader either.
func (x *exchange) limitWrite() {
	_ = http.NewResponseController(x.ResponseWriter).SetWriteDeadline(time.Now().Add(writeTimeout))
}

// json answers with a body.
func (x *exchange) json(status int, contentType string, body any) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(body); err != nil {
		panic(err) // a view that cannot be encoded is a bug; the caller recovers
	}
	x.bytes(status, contentType, buf.Bytes())
}

// bytes answers with a body. Nobody is left to tell when it cannot be written.
func (x *exchange) bytes(status int, contentType string, body []byte) {
	x.Header().Set("Content-Type", contentType)
	x.limitWrite()
	x.WriteHeader(status)
	_, _ = x.Write(body)
}

// empty answers without a body. Like Cinder it leaves out one of the two headers
// with the request's id where the answer is not JSON.
func (x *exchange) empty(status int, contentType string) {
	if contentType != typeJSON {
		x.Header().Del(headerComputeID)
	}
	x.bytes(status, contentType, nil)
}

// sees reports whether the user sees records of a project.
func (x *exchange) sees(project string) bool { return x.admin || project == x.project }

// allowed refuses what the policies do not allow, naming the first that does not.
// Where there are none everyone may do everything.
func (x *exchange) allowed(policies ...string) error {
	if x.rules == nil {
		return nil
	}
	return permitted(x.rules, x.roles, policies)
}

// permitted refuses roles what one of the policies does not allow.
func permitted(rules *auth.Policies, roles, policies []string) error {
	for _, policy := range policies {
		if !rules.Allows(policy, roles) {
			return forbidden(policy)
		}
	}
	return nil
}

func forbidden(policy string) error {
	return &fault{status: http.StatusForbidden, Refusal: fsm.Refusal{
		Code: codeForbidden, Message: fmt.Sprintf("Policy doesn't allow %s to be performed.", policy),
	}}
}
