package api_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-storage/lockstep/api"
	"github.com/lockstep-storage/lockstep/api/auth"
	"github.com/lockstep-storage/lockstep/fsm"
)

// gatekeeper knows one caller until told otherwise.
type gatekeeper struct {
	mu     sync.Mutex
	caller auth.Caller
	err    error
}

func (g *gatekeeper) Authenticate(context.Context, string) (auth.Caller, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if until := g.caller.Until; !until.IsZero() && !time.Now().Before(until) {
		return auth.Caller{}, auth.ErrUnauthorized
	}
	return g.caller, g.err
}

func (*gatekeeper) Challenge() string { return "Bearer" }

func (g *gatekeeper) now(caller auth.Caller, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.caller, g.err = caller, err
}

// Who may no longer look is cut off, at the end of the token or soon after it was
// revoked, whether a stream is open or an answer is waited for.
func TestWhatWaitsEndsWithTheToken(t *testing.T) {
	t.Parallel()
	reader := auth.Caller{User: "r", Project: "p", Roles: []string{auth.RoleReader}}
	member := auth.Caller{User: "r", Project: "p", Roles: []string{auth.RoleMember}}
	for name, tt := range map[string]struct {
		change        func(*gatekeeper, *atomic.Pointer[auth.Policies])
		after, before time.Duration // when the request ends
		status        int           // of the answer that was waited for
	}{
		"the token ends": {func(*gatekeeper, *atomic.Pointer[auth.Policies]) {}, 12 * time.Second, 12*time.Second + time.Millisecond, 401},
		"the token is revoked": {func(g *gatekeeper, _ *atomic.Pointer[auth.Policies]) {
			g.now(auth.Caller{}, auth.ErrUnauthorized)
		}, 0, 6 * time.Second, 401},
		"the role is taken away": {func(g *gatekeeper, _ *atomic.Pointer[auth.Policies]) { g.now(member, nil) }, 0, 6 * time.Second, 403},
		"the policy changes": {func(_ *gatekeeper, p *atomic.Pointer[auth.Policies]) {
			stricter, err := auth.ParsePolicies("f", []byte("lockstep:events: [admin]\nlockstep:failovers:get: [admin]\n"))
			if err != nil {
				t.Error(err)
			}
			p.Store(stricter)
		}, 0, 6 * time.Second, 403},
		"nobody can say":      {func(g *gatekeeper, _ *atomic.Pointer[auth.Policies]) { g.now(auth.Caller{}, auth.ErrUnavailable) }, 0, 6 * time.Second, 503},
		"nothing has changed": {func(*gatekeeper, *atomic.Pointer[auth.Policies]) {}, 50 * time.Second, 70 * time.Second, 200},
	} {
		for _, kind := range []string{"stream", "answer"} {
			t.Run(name+", "+kind, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					guard := &gatekeeper{caller: reader}
					if name == "the token ends" {
						guard.caller.Until = time.Now().Add(12 * time.Second)
					}
					var policies atomic.Pointer[auth.Policies]
					policies.Store(auth.DefaultPolicies())
					n := newNode(t)
					s := newServer(t, n, func(c *api.Config) { c.Authenticator, c.Policies = guard, policies.Load })
					n.do(t, fsm.RequestFailover{ID: "f1", Cluster: clusterAA, Target: "site-b", Mode: fsm.Forced})
					took, w := ask(t, s, kind, func() { tt.change(guard, &policies) })
					if took < tt.after || took > tt.before {
						t.Errorf("it ended after %v, want %v to %v", took, tt.after, tt.before)
					}
					if kind == "answer" && (w.Code != tt.status || (tt.status != 200) == strings.Contains(w.Body.String(), "site-b")) {
						t.Errorf("answer %d %s, want %d", w.Code, w.Body, tt.status)
					}
				})
			})
		}
	}
}

// ask opens a stream, or asks for an answer that is waited for, for a minute. It
// returns how long it went on after a change.
func ask(t *testing.T, s *api.Server, kind string, change func()) (time.Duration, *httptest.ResponseRecorder) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	path := "/v1/events"
	if kind == "answer" {
		path = "/v1/failovers/f1?wait=60s&index=999999"
	}
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	r.Header.Set("X-Auth-Token", "reader")
	w := httptest.NewRecorder()
	ended := make(chan time.Time)
	begin := time.Now()
	go func() {
		s.Handler().ServeHTTP(w, r)
		ended <- time.Now()
	}()
	synctest.Wait()
	change()
	return (<-ended).Sub(begin), w
}
