package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/api/client"
)

// server starts a node that answers as told.
func server(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// gone is the address of a node that has ended.
func gone(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	return s.URL
}

func newClient(t *testing.T, addrs ...string) *client.Client {
	t.Helper()
	c, err := client.New(addrs, client.Options{Patience: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"127.0.0.1:9776":         "http://127.0.0.1:9776",
		" http://a:1/ ":          "http://a:1",
		"https://a.example":      "https://a.example",
		"ftp://a":                "",
		"":                       "",
		"http://":                "",
		"http://a b":             "",
		"[::1]:9776":             "http://[::1]:9776",
		"http://node1:9776/base": "http://node1:9776/base",
	} {
		c, err := client.New([]string{addr}, client.Options{})
		if (err == nil) != (want != "") {
			t.Errorf("%q: got error %v", addr, err)
			continue
		}
		if err == nil && c.Address() != want {
			t.Errorf("%q: got %q, want %q", addr, c.Address(), want)
		}
	}
}

func TestAsksTheNextNodeAndRemembersIt(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	up := server(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		answer(w, http.StatusOK, client.Status{Node: "node2"})
	})
	c := newClient(t, gone(t), up)
	for range 3 {
		s, err := c.Status(t.Context())
		if err != nil || s.Node != "node2" {
			t.Fatalf("got %+v, %v", s, err)
		}
		if c.Address() != up {
			t.Fatalf("prefers %s, want %s", c.Address(), up)
		}
	}
	if asked.Load() != 3 {
		t.Errorf("asked %d times, want 3", asked.Load())
	}
}

// A node that takes a request and never answers is not waited for for ever.
func TestANodeThatHangsIsLeft(t *testing.T) {
	t.Parallel()
	hangs := server(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	up := server(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, client.Status{Node: "node2"}) })
	c, err := client.New([]string{hangs, up}, client.Options{Attempt: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := c.Status(t.Context()); err != nil || s.Node != "node2" || c.Address() != up {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	_, err := newClient(t, gone(t), gone(t)).Status(t.Context())
	if _, ok := errors.AsType[*client.UnreachableError](err); !ok {
		t.Errorf("got %T: %v", err, err)
	}
}

func TestRepeatsWhileNobodyLeadsWithTheSameKey(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var keys []string
	node := server(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		keys = append(keys, r.Header.Get("Idempotency-Key"))
		if len(keys) < 3 {
			w.Header().Set("Retry-After", "0")
			answer(w, http.StatusServiceUnavailable, map[string]any{"code": "no_leader", "detail": "nobody leads"})
			return
		}
		answer(w, http.StatusAccepted, client.Failover{ID: "f1"})
	})
	f, err := newClient(t, node).RequestFailover(t.Context(), client.FailoverRequest{Cluster: "c@b"}, "")
	if err != nil || f.ID != "f1" {
		t.Fatalf("got %+v, %v", f, err)
	}
	if len(keys) != 3 || keys[0] == "" || len(slices.Compact(keys)) != 1 {
		t.Errorf("keys %q, want one key three times", keys)
	}
}

func TestRetryAfterBeyondThePatienceEndsAtOnce(t *testing.T) {
	t.Parallel()
	node := server(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		answer(w, http.StatusServiceUnavailable, map[string]any{"code": "no_leader", "detail": "nobody leads"})
	})
	_, err := newClient(t, node).Status(t.Context())
	refused, ok := errors.AsType[*client.Error](err)
	if !ok || refused.Code != client.CodeNoLeader || !refused.Temporary() || refused.RetryAfter != time.Hour {
		t.Errorf("got %#v", err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		status int
		body   string
		want   client.Error
		text   string
	}{
		"problem": {
			http.StatusBadRequest,
			`{"title":"Bad Request","status":400,"detail":"backend_id \"x\" is not a site","code":"invalid","field":"backend_id","value":"x","allowed":["default","site-b"]}`,
			client.Error{Code: "invalid", Field: "backend_id", Value: "x", Message: `backend_id "x" is not a site`},
			`backend_id "x" is not a site; allowed: default, site-b`,
		},
		"cinder": {
			http.StatusNotFound, `{"itemNotFound":{"code":404,"message":"Volume v could not be found."}}`,
			client.Error{Code: "not_found", Message: "Volume v could not be found."},
			"Volume v could not be found.",
		},
		"plain text": {http.StatusConflict, "busy\n", client.Error{Code: "conflict", Message: "busy"}, "busy"},
		"empty":      {http.StatusForbidden, "", client.Error{Code: "forbidden"}, "GET /v1/failovers/f: 403 Forbidden"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			node := server(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			})
			_, err := newClient(t, node, gone(t)).Failover(t.Context(), "f")
			got, ok := errors.AsType[*client.Error](err)
			if !ok {
				t.Fatalf("got %T: %v", err, err)
			}
			if got.Status != tc.status || got.Code != tc.want.Code || got.Field != tc.want.Field ||
				got.Value != tc.want.Value || got.Message != tc.want.Message || got.Error() != tc.text {
				t.Errorf("got %+v, %q", got, got.Error())
			}
		})
	}
}

func TestContextEndsACall(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stopped := make(chan struct{})
	node := server(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
		close(stopped)
	})
	if _, err := newClient(t, node).Status(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-stopped
}

func TestFollowsAFailoverToItsEnd(t *testing.T) {
	t.Parallel()
	history := []client.Failover{
		{ID: "f", Phase: client.PhaseDraining, Index: 5},
		{ID: "f", Phase: client.PhasePromoting, Index: 7},
		{ID: "f", Phase: client.PhasePromoting, Index: 7}, // the wait was over
		{ID: "f", Phase: client.PhaseDone, Index: 9},
	}
	var mu sync.Mutex
	var queries []string
	node := server(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		queries = append(queries, r.URL.RawQuery)
		answer(w, http.StatusOK, history[min(len(queries), len(history))-1])
	})
	var phases []string
	for f, err := range newClient(t, node).FollowFailover(t.Context(), "f") {
		if err != nil {
			t.Fatal(err)
		}
		phases = append(phases, f.Phase)
	}
	if want := []string{"draining", "promoting", "done"}; !slices.Equal(phases, want) {
		t.Errorf("got %q, want %q", phases, want)
	}
	want := []string{"", "index=5&wait=10000ms", "index=7&wait=10000ms", "index=7&wait=10000ms"}
	if !slices.Equal(queries, want) {
		t.Errorf("asked %q, want %q", queries, want)
	}
}

func TestPartial(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		f    client.Failover
		want bool
	}{
		"all followed":    {client.Failover{Phase: "done", Members: []client.FailoverMember{{State: "switched", Up: new(true)}}}, false},
		"one is down":     {client.Failover{Phase: "done", Members: []client.FailoverMember{{State: "drained", Up: new(false)}}}, false},
		"one refuses":     {client.Failover{Phase: "done", Members: []client.FailoverMember{{State: "error", Up: new(true)}}}, true},
		"a volume failed": {client.Failover{Phase: "done", Results: client.FailoverResults{Failed: 1}}, true},
		"not done":        {client.Failover{Phase: "failed", Members: []client.FailoverMember{{State: "error"}}}, false},
	} {
		if got := tc.f.Partial(); got != tc.want {
			t.Errorf("%s: got %v, want %v", name, got, tc.want)
		}
	}
}

func TestListsPage(t *testing.T) {
	t.Parallel()
	node := server(t, func(w http.ResponseWriter, r *http.Request) {
		marker := r.URL.Query().Get("marker")
		switch {
		case r.URL.Path == "/v1/failovers" && marker == "":
			answer(w, http.StatusOK, map[string]any{"failovers": []client.Failover{{ID: "3"}, {ID: "2"}}, "next": "2"})
		case r.URL.Path == "/v1/failovers" && marker == "2":
			answer(w, http.StatusOK, map[string]any{"failovers": []client.Failover{{ID: "1"}}, "next": ""})
		case strings.HasSuffix(r.URL.Path, "/volumes/detail") && marker == "":
			answer(w, http.StatusOK, map[string]any{
				"volumes":       []client.Volume{{ID: "b"}},
				"volumes_links": []map[string]string{{"rel": "next", "href": "..."}},
			})
		case strings.HasSuffix(r.URL.Path, "/volumes/detail") && marker == "b":
			answer(w, http.StatusOK, map[string]any{"volumes": []client.Volume{{ID: "a"}}})
		default:
			http.Error(w, "unexpected "+r.URL.String(), http.StatusBadRequest)
		}
	})
	c := newClient(t, node)
	var ids []string
	for f, err := range c.Failovers(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, f.ID)
	}
	for v, err := range c.Volumes(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, v.ID)
	}
	if want := []string{"3", "2", "1", "b", "a"}; !slices.Equal(ids, want) {
		t.Errorf("got %q, want %q", ids, want)
	}
}

func TestCinderCalls(t *testing.T) {
	t.Parallel()
	type seen struct{ method, path, body string }
	var mu sync.Mutex
	var last seen
	var header http.Header
	node := server(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		last, header = seen{r.Method, r.URL.EscapedPath(), string(body)}, r.Header
		answer(w, http.StatusOK, map[string]any{})
	})
	c, err := client.New([]string{node}, client.Options{Project: "p", User: "u"})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for _, tc := range []struct {
		call func() error
		want seen
	}{
		{func() error { return c.EnableService(ctx, "n@b") }, seen{"PUT", "/v3/os-services/enable", `{"binary":"cinder-volume","host":"n@b"}`}},
		{func() error { return c.DisableService(ctx, "n@b", "") }, seen{"PUT", "/v3/os-services/disable", `{"binary":"cinder-volume","host":"n@b"}`}},
		{func() error { return c.DisableService(ctx, "n@b", "why") }, seen{"PUT", "/v3/os-services/disable-log-reason", `{"binary":"cinder-volume","disabled_reason":"why","host":"n@b"}`}},
		{func() error { return c.EnableCluster(ctx, "c@b") }, seen{"PUT", "/v3/clusters/enable", `{"binary":"cinder-volume","name":"c@b"}`}},
		{func() error { return c.DisableCluster(ctx, "c@b", "why") }, seen{"PUT", "/v3/clusters/disable", `{"binary":"cinder-volume","disabled_reason":"why","name":"c@b"}`}},
		{func() error { return c.Freeze(ctx, client.Subject{Cluster: "c@b"}) }, seen{"PUT", "/v3/os-services/freeze", `{"cluster":"c@b"}`}},
		{func() error { return c.Thaw(ctx, client.Subject{Host: "n@b"}) }, seen{"PUT", "/v3/os-services/thaw", `{"host":"n@b"}`}},
		{func() error { return c.EnsureVolumeType(ctx, "r", map[string]string{"k": "v"}) }, seen{"POST", "/v3/types", `{"volume_type":{"extra_specs":{"k":"v"},"name":"r"}}`}},
		{func() error { _, err := c.CreateVolume(ctx, client.VolumeRequest{Size: 2}); return err }, seen{"POST", "/v3/volumes", `{"volume":{"size":2}}`}},
		{func() error { return c.SetDefaultQuota(ctx, map[string]int64{"volumes": -1}) }, seen{"PUT", "/v3/os-quota-class-sets/default", `{"quota_class_set":{"volumes":-1}}`}},
		{func() error { return c.ExtendVolume(ctx, "v", 3) }, seen{"POST", "/v3/volumes/v/action", `{"os-extend":{"new_size":3}}`}},
		{func() error { return c.DeleteVolume(ctx, "a/b") }, seen{"DELETE", "/v3/volumes/a%2Fb", ""}},
		{func() error { _, err := c.CreateSnapshot(ctx, "v", "s"); return err }, seen{"POST", "/v3/snapshots", `{"snapshot":{"name":"s","volume_id":"v"}}`}},
		{func() error { return c.DeleteSnapshot(ctx, "s") }, seen{"DELETE", "/v3/snapshots/s", ""}},
		{func() error { return c.RemovePeer(ctx, "n") }, seen{"DELETE", "/v1/peers/n", ""}},
	} {
		if err := tc.call(); err != nil {
			t.Errorf("%s %s: %v", tc.want.method, tc.want.path, err)
			continue
		}
		if last != tc.want {
			t.Errorf("got %+v, want %+v", last, tc.want)
		}
		if header.Get("X-Auth-Token") != "u:p" || header.Get("Idempotency-Key") == "" || !strings.HasPrefix(header.Get("OpenStack-API-Version"), "volume 3.") {
			t.Errorf("%s %s: headers %v", tc.want.method, tc.want.path, header)
		}
	}
}

func TestAVolumeTypeThatExistsIsFine(t *testing.T) {
	t.Parallel()
	node := server(t, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusConflict, map[string]any{"conflictingRequest": map[string]any{"message": "exists"}})
	})
	if err := newClient(t, node).EnsureVolumeType(t.Context(), "r", nil); err != nil {
		t.Error(err)
	}
}

// A stream that breaks is taken up where it ended, at another node.
func TestEventsResume(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var asked []string
	node := func(events ...string) string {
		return server(t, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			asked = append(asked, r.Header.Get("Last-Event-ID"))
			mu.Unlock()
			w.Header().Set("Content-Type", "text/event-stream")
			for _, e := range events {
				_, _ = io.WriteString(w, e)
			}
		})
	}
	c := newClient(t,
		node("id: 4\nevent: failover\ndata: {\"id\":\"f\"}\n\n", ": comment\n\nid: 5\nevent: cluster\ndata: {\ndata: }\n\nid: 6\nevent: cut"),
		node("id: 6\nevent: service\ndata: 1\n\n"))
	var got []string
	for e, err := range c.Events(t.Context(), 3) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%d %s %s", e.Index, e.Type, e.Data))
		if len(got) == 3 {
			break
		}
	}
	if want := []string{`4 failover {"id":"f"}`, "5 cluster {}", "6 service 1"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if want := []string{"3", "5"}; !slices.Equal(asked, want) {
		t.Errorf("asked after %q, want %q", asked, want)
	}
}

func TestEventsEndWithARefusal(t *testing.T) {
	t.Parallel()
	node := server(t, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusBadRequest, map[string]any{"code": "invalid", "detail": "index is too old"})
	})
	var last error
	for _, err := range newClient(t, node).Events(t.Context(), 1) {
		last = err
	}
	if refused, ok := errors.AsType[*client.Error](last); !ok || refused.Code != "invalid" {
		t.Errorf("got %v", last)
	}
}
