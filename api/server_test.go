package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-storage/lockstep/api"
	"github.com/lockstep-storage/lockstep/fsm"
)

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	shared := prometheus.NewRegistry()
	if _, err := api.New(api.Config{Node: n, Deployment: "d", Metrics: shared}); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]api.Config{
		"no node":          {Deployment: "d"},
		"no deployment":    {Node: n},
		"negative timeout": {Node: n, Deployment: "d", RequestTimeout: -1},
		"taken registry":   {Node: n, Deployment: "d", Metrics: shared},
	} {
		if _, err := api.New(cfg); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

// listen starts a server and returns its address and what stops it.
func listen(t *testing.T, s *api.Server) (url string, stop func() error) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	stop = func() error {
		cancel()
		err := <-ended
		ended <- err
		return err
	}
	t.Cleanup(func() { _ = stop() })
	return "http://" + l.Addr().String(), stop
}

// get sends a request and returns the status and what is left to read.
func get(t *testing.T, url string) (status int, body io.Reader) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp.StatusCode, resp.Body
}

// TestShutdown has a blocking read and an event stream open when the server stops:
// neither may hold it up.
func TestShutdown(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	s := newServer(t, n)
	url, stop := listen(t, s)
	id, _ := newClient(t, s).do(http.MethodPost, "/v1/failovers", obj{"cluster": clusterAA, "backend_id": "site-b"}).at(t, "id").(string)

	_, events := get(t, url+"/v1/events")
	reads := make(chan int, 1)
	looked := n.nextView()
	go func() {
		status, _ := get(t, url+"/v1/failovers/"+id+"?wait=5m&index=9999999")
		reads <- status
	}()
	<-looked
	start := time.Now()
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the shutdown took %s", took)
	}
	if status := <-reads; status != http.StatusOK {
		t.Errorf("the blocking read was answered with %d", status)
	}
	if _, err := io.ReadAll(events); err != nil {
		t.Errorf("the stream ended with %v", err)
	}
}

func TestServeFails(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if err := newServer(t, newNode(t)).Serve(t.Context(), l); err == nil {
		t.Error("serving a closed listener gave no error")
	}
}

func TestLargeBody(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	url, _ := listen(t, newServer(t, n))
	before := n.count()
	for path, body := range map[string]io.Reader{
		"/v3/volumes":   strings.NewReader(`{"volume": {"size": 1, "name": "` + strings.Repeat("x", 10<<20) + `"}}`),
		"/v1/failovers": io.MultiReader(strings.NewReader(`{"cluster": "`), strings.NewReader(strings.Repeat("x", 10<<20))), // of a length not known
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+path, body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Auth-Token", "admin:"+project)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(string(text), "at most 1048576 bytes") {
			t.Errorf("%s: got %d %s (%v)", path, resp.StatusCode, text, err)
		}
	}
	if n.count() != before {
		t.Error("something changed")
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	var reason error
	c := newClient(t, newServer(t, n, func(cfg *api.Config) { cfg.Ready = func() error { return reason } }))
	wantStatus(t, c.do(http.MethodGet, "/livez", nil), http.StatusOK)
	wantStatus(t, c.do(http.MethodGet, "/readyz", nil), http.StatusOK)
	reason = errors.New("vol1@aa was not told the committed site")
	got := c.do(http.MethodGet, "/readyz", nil)
	wantStatus(t, got, http.StatusServiceUnavailable)
	if !strings.Contains(got.message(t), reason.Error()) {
		t.Errorf("got %s", got.body)
	}
	if why := c.do(http.MethodGet, "/v1/status", nil).at(t, "not_ready"); why != reason.Error() {
		t.Errorf("/v1/status says %q, want %q", why, reason)
	}
	wantStatus(t, c.do(http.MethodGet, "/livez", nil), http.StatusOK)
	wantStatus(t, newClient(t, newServer(t, n)).do(http.MethodGet, "/readyz", nil), http.StatusOK)
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := newClient(t, newServer(t, n))
	c.do(http.MethodGet, "/v3/"+project+"/volumes/x", nil)
	c.do("BREW", "/nowhere", nil)
	c.do(http.MethodPost, "/v1/failovers", obj{"cluster": clusterAA, "backend_id": "site-b"})
	got := c.do(http.MethodGet, "/metrics", nil)
	wantStatus(t, got, http.StatusOK)
	for _, want := range []string{
		`lockstep_http_request_duration_seconds_count{code="404",method="GET",route="/v3/volumes/:id"} 1`,
		`lockstep_http_request_duration_seconds_count{code="404",method="other",route=""} 1`,
		`lockstep_cluster_epoch{cluster="mycluster@aa"} 1`,
		`lockstep_cluster_members{cluster="mycluster@aa",state="current"} 3`,
		`lockstep_failovers{phase="draining"} 1`,
		`lockstep_build_info{version="v1"} 1`,
		`lockstep_raft_leading 1`,
		`lockstep_ready 1`,
	} {
		if !strings.Contains(string(got.body), want) {
			t.Errorf("no %s in\n%s", want, got.body)
		}
	}
}

func TestPanicIsCaught(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	var log strings.Builder
	s := newServer(t, n, func(cfg *api.Config) {
		cfg.Local = func(string) string { panic("boom") }
		cfg.Logger = hclog.New(&hclog.LoggerOptions{Output: &log})
	})
	got := newClient(t, s).do(http.MethodPut, "/v3/os-services/freeze", obj{"cluster": clusterAA})
	wantStatus(t, got, http.StatusInternalServerError)
	if got.at(t, "computeFault", "code") != 500.0 || !strings.Contains(log.String(), "boom") || strings.Contains(string(got.body), "boom") {
		t.Errorf("got %s, log %s", got.body, log.String())
	}
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	c := newClient(t, newServer(t, newNode(t)))
	for _, tt := range []struct {
		method, path string
		status       int
		contentType  string
	}{
		{"GET", "/v1/nothing", 404, "application/problem+json"},
		{"PUT", "/v1/failovers", 405, "application/problem+json"},
		{"GET", "/internal/v1/propose", 405, "application/problem+json"},
		{"GET", "/nothing", 404, "application/json"},
		{"GET", "/v3/volumes/", 404, "application/json"},
		{"PUT", "/v3/volumes", 404, "application/json"},
		{"OPTIONS", "/v3/volumes", 200, ""},
		{"GET", "/v3/" + project, 404, "application/json"},
		{"GET", "/v3/" + project + "/volumes", 200, "application/json"},
		{"GET", "/v3/5f1e0c0d-3a4b-4c6d-8e9f-a0b1c2d3e4f5/volumes", 400, "application/json"},
	} {
		got := c.do(tt.method, tt.path, nil)
		if got.status != tt.status || got.header.Get("Content-Type") != tt.contentType {
			t.Errorf("%s %s: got %d %s, want %d %s", tt.method, tt.path, got.status, got.header.Get("Content-Type"), tt.status, tt.contentType)
		}
	}
}

func TestPeers(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	refusal := &fsm.Refusal{Code: fsm.ErrFailingOver, Message: "busy", Field: "cluster", Value: "c", Allowed: []string{"x"}}
	n.answer = func(method string, body []byte) ([]byte, error) {
		switch method {
		case "echo":
			return body, nil
		case "refuse":
			return nil, fmt.Errorf("propose: %w", refusal)
		case "elsewhere":
			return nil, fsm.ErrNotLeader
		default:
			return nil, errors.New("disk full")
		}
	}
	url, stop := listen(t, newServer(t, n))
	address := strings.TrimPrefix(url, "http://")
	client := api.NewPeerClient(deployment, nil)
	if got, err := client.Ask(t.Context(), "node1", address, "echo", []byte{0, 1, 2}); err != nil || string(got) != "\x00\x01\x02" {
		t.Errorf("echo: got %v, %v", got, err)
	}
	_, err := client.Ask(t.Context(), "node1", address, "refuse", nil)
	if r, ok := errors.AsType[*fsm.Refusal](err); !ok || !errors.Is(err, fsm.ErrFailingOver) || r.Field != "cluster" || r.Allowed[0] != "x" || r.Message != "busy" {
		t.Errorf("refuse: got %v", err)
	}
	for method, want := range map[string]error{"elsewhere": fsm.ErrNotLeader, "break": fsm.ErrInternal} {
		if _, err := client.Ask(t.Context(), "node1", address, method, nil); !errors.Is(err, want) || errors.Is(err, api.ErrUnreachable) {
			t.Errorf("%s: got %v, want %v", method, err, want)
		}
	}
	if _, err := client.Ask(t.Context(), "node1", address, "echo", make([]byte, 3<<20)); !errors.Is(err, fsm.ErrTooLarge) {
		t.Errorf("3 MiB: got %v", err)
	}
	_, err = api.NewPeerClient("other", nil).Ask(t.Context(), "node1", address, "echo", nil)
	if !errors.Is(err, fsm.ErrInvalid) || !strings.Contains(err.Error(), `"other"`) || !strings.Contains(err.Error(), `"`+deployment+`"`) {
		t.Errorf("another deployment: got %v", err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Ask(t.Context(), "node1", address, "echo", nil); !errors.Is(err, api.ErrUnreachable) {
		t.Errorf("nobody there: got %v", err)
	}
}
