package api_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-storage/lockstep/api"
	"github.com/lockstep-storage/lockstep/fsm"
)

func TestRequestFailover(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		body   any
		status int
		code   string
		field  string
		says   string
		allows string
	}{
		{name: "cluster", body: obj{"cluster": clusterAA, "backend_id": "site-b", "mode": "planned", "reason": "drill"}, status: 202},
		{name: "member", body: obj{"host": "vol1@aa", "backend_id": "site-c"}, status: 202},
		{name: "service outside clusters", body: obj{"host": "solo@bb"}, status: 202},
		{name: "node with one backend", body: obj{"host": "solo"}, status: 202},
		{name: "site in use", body: obj{"cluster": clusterAA, "backend_id": "default"}, status: 202},
		{name: "both", body: obj{"cluster": clusterAA, "host": "vol1@aa"}, status: 400, code: "invalid", field: "cluster", says: "exactly one", allows: "host"},
		{name: "neither", body: obj{"backend_id": "site-b"}, status: 400, code: "invalid", says: "exactly one"},
		{name: "unknown cluster", body: obj{"cluster": "nope@aa"}, status: 404, code: "not_found", field: "cluster", allows: clusterAA},
		{name: "unknown host", body: obj{"host": "nope@aa"}, status: 404, code: "not_found", field: "host"},
		{name: "unknown target", body: obj{"cluster": clusterAA, "backend_id": "nope"}, status: 400, code: "invalid", field: "backend_id", allows: "site-b"},
		{name: "target left open", body: obj{"cluster": clusterAA}, status: 400, code: "invalid", field: "backend_id", allows: "site-c"},
		{name: "unknown mode", body: obj{"cluster": clusterAA, "backend_id": "site-b", "mode": "fast"}, status: 400, code: "invalid", field: "mode", allows: "planned"},
		{name: "number for a cluster", body: obj{"cluster": 7}, status: 400, code: "invalid", field: "cluster", says: "7 is not of type"},
		{name: "unknown field", body: obj{"cluster": clusterAA, "force": true}, status: 400, code: "invalid", says: "'force' was unexpected", allows: "backend_id"},
		{name: "long reason", body: obj{"cluster": clusterAA, "reason": strings.Repeat("x", 256)}, status: 400, code: "invalid", field: "reason"},
		{name: "no JSON", body: "cluster=x", status: 400, code: "invalid", says: "Malformed"},
		{name: "empty", body: "", status: 400, code: "invalid"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			before := n.count()
			got := newClient(t, newServer(t, n)).do(http.MethodPost, "/v1/failovers", tt.body)
			wantStatus(t, got, tt.status)
			if tt.status == http.StatusAccepted {
				id, _ := got.at(t, "id").(string)
				if got.header.Get("Location") != "/v1/failovers/"+id || got.header.Get("X-Lockstep-Failover-Id") != id || id == "" {
					t.Errorf("id %q, headers %v", id, got.header)
				}
				return
			}
			if got.header.Get("Content-Type") != "application/problem+json" || got.at(t, "code") != tt.code || got.at(t, "status") != float64(tt.status) {
				t.Errorf("got %s", got.body)
			}
			if tt.field != "" && got.at(t, "field") != tt.field {
				t.Errorf("got field %v, want %q", got.at(t, "field"), tt.field)
			}
			if !strings.Contains(got.message(t), tt.says) {
				t.Errorf("got %q, want something with %q", got.message(t), tt.says)
			}
			if allowed, _ := got.at(t, "allowed").([]any); tt.allows != "" && !slices.Contains(allowed, any(tt.allows)) {
				t.Errorf("got allowed %v, want %q among them", allowed, tt.allows)
			}
			if _, ok := n.failover(); ok || tt.says != "" && n.count() != before {
				t.Error("something changed")
			}
		})
	}
}

func TestFailoverRecord(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := newClient(t, newServer(t, n))
	asked := c.do(http.MethodPost, "/v1/failovers", obj{"cluster": clusterAA, "backend_id": "site-b", "reason": "drill"})
	wantStatus(t, asked, http.StatusAccepted)
	for key, want := range map[string]any{
		"cluster": clusterAA, "target": "site-b", "from": "default", "mode": "forced", "phase": "draining",
		"reason": "drill", "requested_by": "admin", "finished_at": nil, "epoch": 0.0, "host": nil,
	} {
		if got := asked.at(t, key); got != want {
			t.Errorf("%s: got %v, want %v", key, got, want)
		}
	}
	if got := asked.at(t, "members", 0, "up"); got != true {
		t.Errorf("member's up: got %v", got)
	}
	second := c.do(http.MethodPost, "/v1/failovers", obj{"cluster": clusterAA, "backend_id": "site-c"})
	wantStatus(t, second, http.StatusConflict)
	id, _ := asked.at(t, "id").(string)
	if second.at(t, "code") != "failing_over" || !strings.Contains(second.message(t), id) {
		t.Errorf("second failover: got %s", second.body)
	}
	n.setUp("vol3@aa", false)
	n.finish(t)
	done := c.do(http.MethodGet, "/v1/failovers/"+id, nil)
	wantStatus(t, done, http.StatusOK)
	for _, want := range []struct {
		path []any
		want any
	}{
		{[]any{"phase"}, "done"},
		{[]any{"epoch"}, 2.0},
		{[]any{"attempt"}, 1.0},
		{[]any{"executor"}, "vol1@aa"},
		{[]any{"members", 0, "state"}, "switched"},
		{[]any{"members", 0, "active_backend_id"}, "site-b"},
		{[]any{"members", 2, "up"}, false},
		{[]any{"results", "staged"}, 0.0},
	} {
		if got := done.at(t, want.path...); got != want.want {
			t.Errorf("%v: got %v, want %v", want.path, got, want.want)
		}
	}
	if done.header.Get("X-Lockstep-Index") == "" || done.at(t, "finished_at") == nil {
		t.Errorf("headers %v, body %s", done.header, done.body)
	}
	wantStatus(t, c.do(http.MethodPost, "/v1/failovers/"+id+"/abort", nil), http.StatusConflict)
	wantStatus(t, c.do(http.MethodGet, "/v1/failovers/nope", nil), http.StatusNotFound)
}

func TestFailoverOutsideClusters(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := newClient(t, newServer(t, n))
	got := c.do(http.MethodPost, "/v1/failovers", obj{"host": "solo@bb", "backend_id": "site-b"})
	wantStatus(t, got, http.StatusAccepted)
	if got.at(t, "host") != "solo@bb" || got.at(t, "cluster") != nil {
		t.Errorf("got %s", got.body)
	}
}

func TestHostOfSeveralClusters(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.do(t, fsm.RegisterService{Host: "vol1@zz", Node: "vol1", Cluster: "other@zz", Targets: []string{"site-b"}})
	c := newClient(t, newServer(t, n))
	got := c.do(http.MethodPost, "/v1/failovers", obj{"host": "vol1", "backend_id": "site-b"})
	wantStatus(t, got, http.StatusBadRequest)
	if got.at(t, "allowed", 1) != "other@zz" {
		t.Errorf("got %s", got.body)
	}
	// Cinder's API fails over all of them.
	got = c.do(http.MethodPut, "/v3/os-services/failover_host", obj{"host": "vol1", "backend_id": "site-b"})
	wantStatus(t, got, http.StatusAccepted)
	if ids := got.header.Values("X-Lockstep-Failover-Id"); len(ids) != 2 || ids[0] == ids[1] {
		t.Errorf("got failovers %v, want two", ids)
	}
}

func TestAbortFailover(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := newClient(t, newServer(t, n))
	id, _ := c.do(http.MethodPost, "/v1/failovers", obj{"cluster": clusterAA, "backend_id": "site-b"}).at(t, "id").(string)
	got := c.do(http.MethodPost, "/v1/failovers/"+id+"/abort", nil)
	wantStatus(t, got, http.StatusAccepted)
	if got.at(t, "phase") != "aborted" {
		t.Errorf("got %s", got.body)
	}
	wantStatus(t, c.do(http.MethodPost, "/v1/failovers/nope/abort", nil), http.StatusNotFound)
	// From the claim on something may be promoted.
	id, _ = c.do(http.MethodPost, "/v1/failovers", obj{"cluster": clusterAA, "backend_id": "site-b"}).at(t, "id").(string)
	n.claim(t)
	wantStatus(t, c.do(http.MethodPost, "/v1/failovers/"+id+"/abort", nil), http.StatusConflict)
}

func TestListFailovers(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := newClient(t, newServer(t, n))
	var ids []string
	for _, site := range []string{"site-b", "site-c", "site-b"} {
		id, _ := c.do(http.MethodPost, "/v1/failovers", obj{"cluster": clusterAA, "backend_id": site}).at(t, "id").(string)
		ids = append(ids, id)
		n.finish(t)
	}
	wantStatus(t, c.do(http.MethodPost, "/v1/failovers", obj{"host": "solo@bb", "backend_id": "site-b"}), http.StatusAccepted)
	first := c.do(http.MethodGet, "/v1/failovers?limit=2&cluster="+clusterAA, nil)
	if first.at(t, "failovers", 0, "id") != ids[2] || first.at(t, "failovers", 1, "id") != ids[1] || first.at(t, "next") != ids[1] {
		t.Errorf("first page: %s", first.body)
	}
	second := c.do(http.MethodGet, "/v1/failovers?limit=2&cluster="+clusterAA+"&marker="+ids[1], nil)
	if second.at(t, "failovers", 0, "id") != ids[0] || second.at(t, "failovers", 1) != nil || second.at(t, "next") != "" {
		t.Errorf("second page: %s", second.body)
	}
	for _, query := range []string{"limit=x", "limit=-1", "marker=nope"} {
		if got := c.do(http.MethodGet, "/v1/failovers?"+query, nil); got.status < 400 || got.status > 404 {
			t.Errorf("%s: got status %d", query, got.status)
		}
	}
	if got := c.do(http.MethodGet, "/v1/failovers?limit=0", nil); got.at(t, "failovers", 0) != nil {
		t.Errorf("limit=0: got %s", got.body)
	}
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := newClient(t, newServer(t, n)).with("Idempotency-Key", "one")
	body := obj{"cluster": clusterAA, "backend_id": "site-b"}
	first := c.do(http.MethodPost, "/v1/failovers", body)
	wantStatus(t, first, http.StatusAccepted)
	again := c.do(http.MethodPost, "/v1/failovers", body)
	wantStatus(t, again, http.StatusAccepted)
	if first.at(t, "id") != again.at(t, "id") {
		t.Errorf("got another failover: %v, then %v", first.at(t, "id"), again.at(t, "id"))
	}
	n.finish(t)
	late := c.do(http.MethodPost, "/v1/failovers", body)
	if late.at(t, "id") != first.at(t, "id") || late.at(t, "phase") != "done" {
		t.Errorf("after the end: got %s", late.body)
	}
	wantStatus(t, c.do(http.MethodPost, "/v1/failovers", obj{"cluster": clusterAA, "backend_id": "site-c"}), http.StatusConflict)
	if other := c.with("Idempotency-Key", "two").do(http.MethodPost, "/v1/failovers", obj{"cluster": clusterAA, "backend_id": "site-c"}); other.at(t, "id") == first.at(t, "id") {
		t.Error("another key gave the same failover")
	}
	wantStatus(t, c.with("Idempotency-Key", strings.Repeat("k", 300)).do(http.MethodPost, "/v1/failovers", body), http.StatusBadRequest)
}

func TestIdempotentVolume(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	local := "vol2@aa"
	s := newServer(t, n, func(cfg *api.Config) { cfg.Local = func(string) string { return local } })
	c := newClient(t, s).with("Idempotency-Key", "one")
	first := c.do(http.MethodPost, "/v3/volumes", obj{"volume": obj{"size": 1}})
	local = "vol3@aa" // another node would place it elsewhere
	again := c.do(http.MethodPost, "/v3/volumes", obj{"volume": obj{"size": 1}})
	wantStatus(t, again, http.StatusAccepted)
	if first.at(t, "volume", "id") != again.at(t, "volume", "id") {
		t.Errorf("got volumes %v and %v", first.at(t, "volume", "id"), again.at(t, "volume", "id"))
	}
	wantStatus(t, c.do(http.MethodPost, "/v3/volumes", obj{"volume": obj{"size": 2}}), http.StatusConflict)
}

func TestBlockingRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		c := newClient(t, newServer(t, n))
		asked := c.do(http.MethodPost, "/v1/failovers", obj{"cluster": clusterAA, "backend_id": "site-b"})
		id, _ := asked.at(t, "id").(string)
		path := "/v1/failovers/" + id + "?wait=1m&index=" + asked.header.Get("X-Lockstep-Index")

		answers := make(chan answer, 1)
		go func() { answers <- c.do(http.MethodGet, path, nil) }()
		synctest.Wait()
		n.do(t, fsm.SetServiceDisabled{Host: "solo@bb", Disabled: true}) // nothing to do with it
		synctest.Wait()
		select {
		case got := <-answers:
			t.Fatalf("answered without a change: %s", got.body)
		default:
		}
		n.do(t, fsm.MemberDrained{Failover: id, Host: "vol1@aa"})
		if got := <-answers; got.at(t, "members", 0, "state") != "drained" {
			t.Errorf("got %s", got.body)
		}

		start := time.Now()
		stale := c.do(http.MethodGet, "/v1/failovers/"+id+"?wait=30s&index=9999999", nil)
		wantStatus(t, stale, http.StatusOK)
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("without a change it took %s, want 30s", took)
		}
		n.finish(t)
		start = time.Now()
		if got := c.do(http.MethodGet, "/v1/failovers/"+id+"?wait=30s&index=9999999", nil); got.at(t, "phase") != "done" || time.Since(start) != 0 {
			t.Errorf("one that has ended: took %s, got %s", time.Since(start), got.body)
		}
		for _, query := range []string{"wait=x", "wait=-1s", "wait=1h", "index=-1", "index=x"} {
			wantStatus(t, c.do(http.MethodGet, "/v1/failovers/"+id+"?"+query, nil), http.StatusBadRequest)
		}
	})
}

func TestClusterTruth(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := newClient(t, newServer(t, n))
	c.do(http.MethodPost, "/v1/failovers", obj{"cluster": clusterAA, "backend_id": "site-b"})
	f, _ := n.failover()
	n.claim(t)
	n.do(t, fsm.FailoverCompleted{Failover: f.ID, Attempt: 1, ClaimIndex: n.index})
	n.switched(t, "vol1@aa", "")
	n.switched(t, "vol2@aa", "no route to the array")
	got := c.do(http.MethodGet, "/v1/clusters/"+clusterAA, nil)
	wantStatus(t, got, http.StatusOK)
	for i, want := range []string{"current", "error", "behind"} {
		if state := got.at(t, "members", i, "state"); state != want {
			t.Errorf("member %d: got state %v, want %s", i, state, want)
		}
	}
	if got.at(t, "failover") != f.ID || got.at(t, "epoch") != 2.0 || got.at(t, "targets", 0) != "site-b" ||
		got.at(t, "members", 1, "reported", "error") != "no route to the array" || got.at(t, "members", 2, "committed", "active_backend_id") != "site-b" ||
		got.at(t, "members", 2, "reported", "epoch") != 1.0 || got.at(t, "members", 0, "age") == "" {
		t.Errorf("got %s", got.body)
	}
	n.setUp("vol3@aa", false)
	if got := c.do(http.MethodGet, "/v1/clusters/"+clusterAA, nil); got.at(t, "members", 2, "state") != "down" {
		t.Errorf("a member without a lease: got %s", got.body)
	}
	if got := c.do(http.MethodGet, "/v1/clusters/solo@bb", nil); got.at(t, "single") != true {
		t.Errorf("a service outside clusters: got %s", got.body)
	}
	if got := c.do(http.MethodGet, "/v1/clusters", nil); got.at(t, "clusters", 1, "name") != "solo@bb" {
		t.Errorf("list: got %s", got.body)
	}
	wantStatus(t, c.do(http.MethodGet, "/v1/clusters/nope", nil), http.StatusNotFound)
	// Cinder's API shows the member whose driver refuses.
	rows := c.do(http.MethodGet, "/v3/os-services?host=vol2@aa", nil)
	if rows.at(t, "services", 0, "replication_status") != "error" || rows.at(t, "services", 0, "status") != "disabled" ||
		rows.at(t, "services", 0, "disabled_reason") != "no route to the array" {
		t.Errorf("got %s", rows.body)
	}
}

func TestStatusAndPeers(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := newClient(t, newServer(t, n))
	st := c.do(http.MethodGet, "/v1/status", nil)
	for key, want := range map[string]any{
		"node": "vol1", "deployment": deployment, "version": "v1", "leader": "vol1", "leading": true, "ready": true, "not_ready": "",
		"clusters": 1.0, "services": 4.0, "volumes": 0.0,
	} {
		if got := st.at(t, key); got != want {
			t.Errorf("%s: got %v, want %v", key, got, want)
		}
	}
	peers := c.do(http.MethodGet, "/v1/peers", nil)
	if peers.at(t, "peers", 0, "suffrage") != "voter" || peers.at(t, "peers", 1, "suffrage") != "nonvoter" {
		t.Errorf("got %s", peers.body)
	}
	wantStatus(t, c.do(http.MethodDelete, "/v1/peers/vol2", nil), http.StatusNoContent)
	wantStatus(t, c.do(http.MethodDelete, "/v1/peers/vol1", nil), http.StatusConflict)
	if !slices.Equal(n.removed, []string{"vol2"}) {
		t.Errorf("removed %v", n.removed)
	}
}

func TestConsistency(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		c := newClient(t, newServer(t, n))
		n.setLeaderless(true)
		for _, path := range []string{"/v1/clusters", "/v1/clusters/" + clusterAA, "/v1/failovers", "/v3/os-services", "/v3/clusters/detail", "/v3/volumes", "/v3/snapshots", "/v3/types"} {
			start := time.Now()
			got := c.do(http.MethodGet, path, nil)
			wantStatus(t, got, http.StatusServiceUnavailable)
			if took := time.Since(start); took != 10*time.Second || got.header.Get("Retry-After") == "" {
				t.Errorf("%s: took %s, headers %v", path, took, got.header)
			}
			got = c.do(http.MethodGet, path+"?consistency=stale", nil)
			wantStatus(t, got, http.StatusOK)
			if got.header.Get("X-Lockstep-Applied-Index") == "" || got.header.Get("X-Lockstep-Last-Contact") != "1s" {
				t.Errorf("%s: a stale read does not say how stale: %v", path, got.header)
			}
			wantStatus(t, c.do(http.MethodGet, path+"?consistency=strong", nil), http.StatusBadRequest)
		}
		if got := c.do(http.MethodGet, "/v1/clusters/"+clusterAA+"?consistency=stale", nil); got.at(t, "members", 0, "up") != nil {
			t.Errorf("nobody can say who is up: got %s", got.body)
		}
	})
}

func TestNoLeader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		c := newClient(t, newServer(t, n))
		n.setLeaderless(true)
		body := obj{"cluster": clusterAA, "backend_id": "site-b"}
		got := c.do(http.MethodPost, "/v1/failovers", body)
		wantStatus(t, got, http.StatusServiceUnavailable)
		if got.at(t, "code") != "no_leader" || got.header.Get("Retry-After") != "1" {
			t.Errorf("got %s", got.body)
		}
		got = c.do(http.MethodPut, "/v3/os-services/failover", body)
		wantStatus(t, got, http.StatusServiceUnavailable)
		if got.at(t, "serviceUnavailable", "code") != 503.0 {
			t.Errorf("got %s", got.body)
		}
	})
}
