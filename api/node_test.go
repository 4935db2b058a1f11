package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/api"
	"github.com/lockstep-storage/lockstep/fsm"
)

const (
	deployment = "test"
	project    = "5f1e0c0d3a4b4c6d8e9fa0b1c2d3e4f5"
	clusterAA  = "mycluster@aa"
)

// fakeNode is a deployment of one: it applies commands to a real state at once.
type fakeNode struct {
	mu         sync.Mutex
	state      *fsm.State
	changed    chan struct{}
	index      uint64
	proposed   int
	up         map[string]api.Presence
	leaderless bool // nobody leads: everything that needs a leader waits in vain
	answer     func(method string, body []byte) ([]byte, error)
	removed    []string
	watch      chan struct{} // closed at the next View
}

// newNode returns a node whose deployment has three services in one cluster, and
// one outside clusters.
func newNode(t *testing.T) *fakeNode {
	t.Helper()
	n := &fakeNode{state: fsm.NewState(), changed: make(chan struct{}), up: map[string]api.Presence{}}
	for i := range 3 {
		host := fmt.Sprintf("vol%d@aa", i+1)
		n.do(t, fsm.RegisterService{Host: host, Node: host[:4], Cluster: clusterAA, Targets: []string{"site-b", "site-c"}})
	}
	n.do(t, fsm.RegisterService{Host: "solo@bb", Node: "solo", Targets: []string{"site-b"}})
	return n
}

// do commits a command that must not be refused.
func (n *fakeNode) do(t *testing.T, cmds ...fsm.Command) {
	t.Helper()
	for _, cmd := range cmds {
		if _, err := n.Propose(t.Context(), "", cmd); err != nil {
			t.Fatalf("commit %T: %v", cmd, err)
		}
		if c, ok := cmd.(fsm.RegisterService); ok {
			n.setUp(c.Host, true)
			n.do(t, fsm.MemberSwitched{Host: c.Host, Epoch: 1, ActiveBackendID: fsm.DefaultBackendID})
		}
	}
}

// seen says when a service last asked for its lease.
func (n *fakeNode) seen(host string, at time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.up[host] = api.Presence{Up: n.up[host].Up, LastSeen: fsm.TimeOf(at)}
}

func (n *fakeNode) setUp(host string, up bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.up[host] = api.Presence{Up: up, LastSeen: fsm.TimeOf(time.Now())}
}

func (n *fakeNode) setLeaderless(gone bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leaderless = gone
}

// count returns how many commands were applied.
func (n *fakeNode) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proposed
}

func (n *fakeNode) View(fn func(*fsm.State)) <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	fn(n.state)
	if n.watch != nil {
		close(n.watch)
		n.watch = nil
	}
	return n.changed
}

// nextView returns a channel that is closed when somebody looks at the state.
func (n *fakeNode) nextView() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.watch = make(chan struct{})
	return n.watch
}

func (n *fakeNode) Clone() *fsm.State {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state.Clone()
}

func (n *fakeNode) led(ctx context.Context) error {
	n.mu.Lock()
	gone := n.leaderless
	n.mu.Unlock()
	if !gone {
		return nil
	}
	<-ctx.Done()
	return fmt.Errorf("%w: %w", fsm.ErrNoLeader, ctx.Err())
}

func (n *fakeNode) Linearize(ctx context.Context) error { return n.led(ctx) }

func (n *fakeNode) Propose(ctx context.Context, request string, cmd fsm.Command) (uint64, error) {
	if err := n.led(ctx); err != nil {
		return 0, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.index++
	n.proposed++
	err := n.state.Apply(fsm.Meta{Index: n.index, Term: 1, Request: request, At: fsm.TimeOf(time.Now())}, cmd)
	close(n.changed)
	n.changed = make(chan struct{})
	return n.index, err
}

func (n *fakeNode) Status() api.Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	return api.Status{
		Node: "vol1", Deployment: deployment, Leader: "vol1", Term: 1, AppliedIndex: n.index, CommitIndex: n.index,
		Ready: true, LastContact: time.Now().Add(-time.Second),
	}
}

func (n *fakeNode) Peers(context.Context) ([]api.Peer, error) {
	return []api.Peer{{ID: "vol1", Voter: true, Leader: true, Alive: true, Release: "v1", Format: 1}, {ID: "vol2"}}, nil
}

func (n *fakeNode) RemovePeer(_ context.Context, id string) error {
	if id == "vol1" {
		return &fsm.Refusal{Code: fsm.ErrConflict, Message: "node \"vol1\" still has services", Field: "node", Value: id}
	}
	n.removed = append(n.removed, id)
	return nil
}

func (n *fakeNode) Presence(ctx context.Context) (map[string]api.Presence, error) {
	if err := n.led(ctx); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.up), nil
}

func (n *fakeNode) Answer(_ context.Context, _, method string, body []byte) ([]byte, error) {
	if n.answer == nil {
		return nil, fsm.ErrNotFound
	}
	return n.answer(method, body)
}

// failover returns the failover of the cluster that has not ended.
func (n *fakeNode) failover() (f fsm.Failover, ok bool) {
	n.View(func(s *fsm.State) { f, ok = s.Unfinished(clusterAA) })
	return f, ok
}

// finish does what the members and the leader owe an unfinished failover of the
// cluster.
func (n *fakeNode) finish(t *testing.T) {
	t.Helper()
	f, ok := n.failover()
	if !ok {
		return
	}
	n.claim(t)
	n.View(func(s *fsm.State) { f, _ = s.Failover(f.ID) })
	n.do(t, fsm.FailoverCompleted{Failover: f.ID, Attempt: f.Attempt, ClaimIndex: f.ClaimIndex})
	for _, m := range f.Members {
		n.switched(t, m.Host, "")
	}
	n.do(t, fsm.FinishFailover{Failover: f.ID, Attempt: f.Attempt, Term: 1})
}

// claim lets an unfinished failover come as far as a claimed promotion.
func (n *fakeNode) claim(t *testing.T) {
	t.Helper()
	f, _ := n.failover()
	for _, m := range f.Members {
		if m.State == fsm.MemberStateWaiting {
			n.do(t, fsm.MemberDrained{Failover: f.ID, Attempt: f.Attempt, Host: m.Host})
		}
	}
	n.do(t, fsm.Assign{Failover: f.ID, Attempt: f.Attempt, ClaimIndex: f.ClaimIndex, Executor: f.Members[0].Host, Term: 1})
	n.do(t, fsm.Claim{Failover: f.ID, Attempt: f.Attempt + 1, Host: f.Members[0].Host})
}

// switched reports how a member's driver took the committed site.
func (n *fakeNode) switched(t *testing.T, host, problem string) {
	t.Helper()
	var cl fsm.Cluster
	n.View(func(s *fsm.State) { cl, _ = s.Cluster(clusterAA) })
	n.do(t, fsm.MemberSwitched{Host: host, Epoch: cl.Epoch, ActiveBackendID: cl.ActiveBackendID, Error: problem})
}

// work ends every operation that the services owe.
func (n *fakeNode) work(t *testing.T) {
	t.Helper()
	var ends []fsm.Command
	n.View(func(s *fsm.State) {
		for svc := range s.Services() {
			cl, _ := s.Cluster(svc.Group())
			for _, op := range s.Owed(svc.Host, 1000) {
				ends = append(ends, fsm.EndOperation{Operation: op.ID, Host: svc.Host, Epoch: cl.Epoch, Size: 3})
			}
		}
	})
	n.do(t, ends...)
}

// newServer returns a server over a node. Change the configuration with opts.
func newServer(t *testing.T, n *fakeNode, opts ...func(*api.Config)) *api.Server {
	t.Helper()
	cfg := api.Config{
		Node: n, Deployment: deployment, Version: "v1", RequestTimeout: 10 * time.Second,
		Local: func(cluster string) string {
			if cluster == clusterAA {
				return "vol2@aa"
			}
			return ""
		},
	}
	for _, opt := range opts {
		opt(&cfg)
	}
	s, err := api.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// at returns what is at a path of keys and indices in the JSON of the body.
func (a answer) at(t *testing.T, path ...any) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("body %q: %v", a.body, err)
	}
	for _, step := range path {
		switch key := step.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[key]
		case int:
			l, _ := v.([]any)
			if key >= len(l) {
				return nil
			}
			v = l[key]
		}
	}
	return v
}

// message returns what a fault or a problem says.
func (a answer) message(t *testing.T) string {
	t.Helper()
	if detail, ok := a.at(t, "detail").(string); ok {
		return detail
	}
	faults, _ := a.at(t).(map[string]any)
	for _, fault := range faults {
		if m, ok := fault.(map[string]any); ok {
			text, _ := m["message"].(string)
			return text
		}
	}
	return ""
}

// client sends requests straight to a handler.
type client struct {
	t       *testing.T
	h       http.Handler
	headers map[string]string
}

func newClient(t *testing.T, s *api.Server) *client {
	t.Helper()
	return &client{t: t, h: checked(t, s.Handler()), headers: map[string]string{
		"X-Auth-Token": "admin:" + project, "OpenStack-API-Version": "volume 3.70",
	}}
}

// with returns a client that sends another header.
func (c *client) with(name, value string) *client {
	next := &client{t: c.t, h: c.h, headers: map[string]string{name: value}}
	for k, v := range c.headers {
		if k != name {
			next.headers[k] = v
		}
	}
	return next
}

// do sends a request; a body is text, or is sent as JSON.
func (c *client) do(method, path string, body any) answer {
	c.t.Helper()
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			c.t.Fatal(err)
		}
		reader = bytes.NewReader(raw)
	}
	r := httptest.NewRequestWithContext(c.t.Context(), method, path, reader)
	for k, v := range c.headers {
		r.Header.Set(k, v)
	}
	if body != nil && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	c.h.ServeHTTP(w, r)
	return answer{status: w.Code, header: w.Result().Header, body: w.Body.Bytes()}
}

// bare sends a request that says nothing of its body.
func (c *client) bare(method, path, body string) answer {
	c.t.Helper()
	r := httptest.NewRequestWithContext(c.t.Context(), method, path, strings.NewReader(body))
	for k, v := range c.headers {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	c.h.ServeHTTP(w, r)
	return answer{status: w.Code, header: w.Result().Header, body: w.Body.Bytes()}
}

// wantStatus fails the test unless an answer has a status.
func wantStatus(t *testing.T, a answer, want int) {
	t.Helper()
	if a.status != want {
		t.Fatalf("got status %d, want %d; body %s", a.status, want, a.body)
	}
}

type obj = map[string]any
