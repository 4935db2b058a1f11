package api_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-storage/lockstep/api"
	"github.com/lockstep-storage/lockstep/fsm"
)

// createVolume creates a volume and returns its id.
func createVolume(t *testing.T, c *client, fields obj) string {
	t.Helper()
	got := c.do(http.MethodPost, "/v3/volumes", obj{"volume": fields})
	wantStatus(t, got, http.StatusAccepted)
	id, _ := got.at(t, "volume", "id").(string)
	return id
}

func createReplicatedType(t *testing.T, c *client) {
	t.Helper()
	wantStatus(t, c.do(http.MethodPost, "/v3/types", obj{"volume_type": obj{
		"name": "replicated", "extra_specs": obj{"replication_enabled": "<is> True"},
	}}), http.StatusOK)
}

// TestFailoverActions is about what differs from Cinder on purpose; what does not
// is in TestContract.
func TestFailoverActions(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, version, action string
		body                  obj
		status                int
		says                  string
	}{
		{name: "cluster", version: "3.26", action: "failover", body: obj{"cluster": clusterAA, "backend_id": "site-b"}, status: 202},
		{name: "failover_host takes a cluster", version: "3.26", action: "failover_host", body: obj{"cluster": clusterAA, "backend_id": "site-b"}, status: 202},
		{name: "failover_host refuses both", version: "3.26", action: "failover_host", body: obj{"host": "vol1@aa", "cluster": clusterAA}, status: 400, says: "One and only one of cluster and host must be set."},
		{name: "failover_host refuses neither", version: "3.26", action: "failover_host", body: obj{"cluster": ""}, status: 400, says: "Host field is missing."},
		{name: "failover_host ignores a cluster below 3.26", version: "3.25", action: "failover_host", body: obj{"host": "vol1@aa", "cluster": "nope", "backend_id": "site-b"}, status: 202},
		{name: "node", version: "3.26", action: "failover", body: obj{"host": "vol1", "backend_id": "site-b"}, status: 202},
		{name: "service outside clusters has one target", version: "3.0", action: "failover_host", body: obj{"host": "solo@bb"}, status: 202},
		{name: "unknown target", version: "3.26", action: "failover", body: obj{"cluster": clusterAA, "backend_id": "nope"}, status: 400, says: `it has "default", "site-b", "site-c"`},
		{name: "target left open", version: "3.26", action: "failover", body: obj{"cluster": clusterAA}, status: 202},
		{name: "service outside clusters is no cluster", version: "3.26", action: "failover", body: obj{"cluster": "solo@bb"}, status: 400, says: "No service found with cluster=solo@bb"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			c := newClient(t, newServer(t, n)).with("OpenStack-API-Version", "volume "+tt.version)
			got := c.do(http.MethodPut, "/v3/os-services/"+tt.action, tt.body)
			wantStatus(t, got, tt.status)
			if tt.status == http.StatusAccepted {
				id := got.header.Get("X-Lockstep-Failover-Id")
				if len(got.body) != 0 || id == "" || got.header.Get("Location") != "/v1/failovers/"+id {
					t.Errorf("got %q, headers %v", got.body, got.header)
				}
				return
			}
			if !strings.Contains(got.message(t), tt.says) {
				t.Errorf("got %q, want %q", got.message(t), tt.says)
			}
			if _, ok := n.failover(); ok {
				t.Error("a failover was started")
			}
		})
	}
}

func TestSecondFailoverNamesTheFirst(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := newClient(t, newServer(t, n))
	first := c.do(http.MethodPut, "/v3/os-services/failover", obj{"cluster": clusterAA, "backend_id": "site-b"})
	wantStatus(t, first, http.StatusAccepted)
	second := c.do(http.MethodPut, "/v3/os-services/failover", obj{"host": "vol3@aa", "backend_id": "site-b"})
	wantStatus(t, second, http.StatusBadRequest)
	if !strings.Contains(second.message(t), first.header.Get("X-Lockstep-Failover-Id")) {
		t.Errorf("got %q", second.message(t))
	}
}

func TestFailbackIsPlanned(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := newClient(t, newServer(t, n))
	for _, step := range []struct {
		site string
		mode fsm.Mode
	}{{"site-b", fsm.Forced}, {"default", fsm.Planned}} {
		wantStatus(t, c.do(http.MethodPut, "/v3/os-services/failover", obj{"cluster": clusterAA, "backend_id": step.site}), http.StatusAccepted)
		f, _ := n.failover()
		if f.Mode != step.mode {
			t.Errorf("to %s: got mode %q, want %q", step.site, f.Mode, step.mode)
		}
		n.finish(t)
	}
}

// TestFreezeIsOneChange is D5: no row stays behind.
func TestFreezeIsOneChange(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := newClient(t, newServer(t, n))
	for _, step := range []struct {
		action, status string
		frozen         bool
	}{{"freeze", "disabled", true}, {"thaw", "enabled", false}} {
		wantStatus(t, c.do(http.MethodPut, "/v3/os-services/"+step.action, obj{"host": "vol1@aa"}), http.StatusOK)
		rows := c.do(http.MethodGet, "/v3/os-services", nil)
		for i := 1; i <= 3; i++ { // after solo@bb
			if rows.at(t, "services", i, "frozen") != step.frozen || rows.at(t, "services", i, "status") != step.status {
				t.Errorf("%s: row %d of %s", step.action, i, rows.body)
			}
		}
		hit := c.do(http.MethodGet, fmt.Sprintf("/v3/clusters?frozen=%t", step.frozen), nil)
		if hit.at(t, "clusters", 0, "name") != clusterAA {
			t.Errorf("%s: the filter finds %s", step.action, hit.body)
		}
	}
}

func TestClustersShowMembersDown(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := newClient(t, newServer(t, n))
	n.setUp("vol1@aa", false)
	row := c.do(http.MethodGet, "/v3/clusters/"+clusterAA, nil)
	if row.at(t, "cluster", "num_hosts") != 3.0 || row.at(t, "cluster", "num_down_hosts") != 1.0 || row.at(t, "cluster", "state") != "up" {
		t.Errorf("got %s", row.body)
	}
	n.setUp("vol2@aa", false)
	n.setUp("vol3@aa", false)
	if row := c.do(http.MethodGet, "/v3/clusters?is_up=false", nil); row.at(t, "clusters", 0, "state") != "down" {
		t.Errorf("got %s", row.body)
	}
	if rows := c.do(http.MethodGet, "/v3/os-services?host=vol1", nil); rows.at(t, "services", 0, "state") != "down" || rows.at(t, "services", 1) != nil {
		t.Errorf("got %s", rows.body)
	}
}

func TestVolumesFollowAFailover(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := newClient(t, newServer(t, n))
	createReplicatedType(t, c)
	replicated := createVolume(t, c, obj{"size": 2, "volume_type": "replicated", "name": " r ", "metadata": obj{"k": "v"}})
	plain := createVolume(t, c, obj{"size": "1"})
	n.work(t)
	show := func(id string) answer { return c.do(http.MethodGet, "/v3/volumes/"+id, nil) }
	if got := show(replicated); got.at(t, "volume", "replication_status") != "enabled" || got.at(t, "volume", "name") != "r" ||
		got.at(t, "volume", "cluster_name") != clusterAA+"#aa" || got.at(t, "volume", "os-vol-host-attr:host") != "vol2@aa#aa" {
		t.Errorf("got %s", got.body)
	}
	wantStatus(t, c.do(http.MethodPut, "/v3/os-services/failover", obj{"cluster": clusterAA, "backend_id": "site-b"}), http.StatusAccepted)
	n.finish(t)
	if got := show(replicated); got.at(t, "volume", "replication_status") != "failed-over" || got.at(t, "volume", "status") != "available" {
		t.Errorf("replicated: got %s", got.body)
	}
	if got := show(plain); got.at(t, "volume", "replication_status") != "not-capable" || got.at(t, "volume", "status") != "error" {
		t.Errorf("plain: got %s", got.body)
	}
	if got := c.do(http.MethodGet, "/v3/volumes?replication_status=failed-over", nil); got.at(t, "volumes", 0, "id") != replicated || got.at(t, "volumes", 1) != nil {
		t.Errorf("filter: got %s", got.body)
	}
	wantStatus(t, c.do(http.MethodPut, "/v3/clusters/enable", obj{"name": clusterAA}), http.StatusOK)
	createVolume(t, c, obj{"size": 1, "volume_type": "replicated"}) // on the new site
	wantStatus(t, c.do(http.MethodPost, "/v3/volumes/"+replicated+"/action", obj{"os-extend": obj{"new_size": 3}}), http.StatusAccepted)
}

// TestNothingCanServe is about creates that Cinder accepts and then puts in error.
func TestNothingCanServe(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		spoil func(t *testing.T, n *fakeNode, c *client)
		says  string
	}{
		"frozen": {func(t *testing.T, n *fakeNode, _ *client) {
			t.Helper()
			n.do(t, fsm.SetFrozen{Cluster: clusterAA, Frozen: true})
		}, clusterAA + " is frozen"},
		"disabled": {func(t *testing.T, n *fakeNode, _ *client) {
			t.Helper()
			n.do(t, fsm.SetClusterDisabled{Cluster: clusterAA, Disabled: true, Reason: "repair"})
		}, "is disabled: repair"},
		"failing over": {func(t *testing.T, _ *fakeNode, c *client) {
			t.Helper()
			c.do(http.MethodPut, "/v3/os-services/failover", obj{"cluster": clusterAA, "backend_id": "site-b"})
		}, "is failing over: failover "},
		"failed over": {func(t *testing.T, n *fakeNode, c *client) {
			t.Helper()
			c.do(http.MethodPut, "/v3/os-services/failover", obj{"cluster": clusterAA, "backend_id": "site-b"})
			n.finish(t)
		}, "is disabled: failed-over"},
		"down": {func(t *testing.T, n *fakeNode, _ *client) {
			t.Helper()
			for _, host := range []string{"vol1@aa", "vol2@aa", "vol3@aa"} {
				n.setUp(host, false)
			}
		}, "has no service that is up and enabled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			c := newClient(t, newServer(t, n))
			wantStatus(t, c.do(http.MethodPost, "/v3/types", obj{"volume_type": obj{
				"name": "t", "extra_specs": obj{"replication_enabled": "<is> True", "volume_backend_name": "aa"},
			}}), http.StatusOK)
			tt.spoil(t, n, c)
			before := n.count()
			got := c.do(http.MethodPost, "/v3/volumes", obj{"volume": obj{"size": 1, "volume_type": "t"}})
			wantStatus(t, got, http.StatusBadRequest)
			if !strings.Contains(got.message(t), tt.says) || !strings.Contains(got.message(t), `solo@bb is not of backend "aa"`) {
				t.Errorf("got %q, want %q", got.message(t), tt.says)
			}
			if n.count() != before {
				t.Error("something changed")
			}
		})
	}
}

func TestPlacement(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		spoil func(n *fakeNode)
		specs obj
		want  string
	}{
		{name: "this node serves", specs: obj{}, want: "vol2@aa#aa"},
		{name: "this node's service is down", specs: obj{}, spoil: func(n *fakeNode) { n.setUp("vol2@aa", false) }, want: "vol1@aa#aa"},
		{name: "another backend", specs: obj{"volume_backend_name": "bb"}, want: "solo@bb#bb"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			c := newClient(t, newServer(t, n))
			wantStatus(t, c.do(http.MethodPost, "/v3/types", obj{"volume_type": obj{"name": "t", "extra_specs": tt.specs}}), http.StatusOK)
			if tt.spoil != nil {
				tt.spoil(n)
			}
			id := createVolume(t, c, obj{"size": 1, "volume_type": "t"})
			if got := c.do(http.MethodGet, "/v3/volumes/"+id, nil); got.at(t, "volume", "os-vol-host-attr:host") != tt.want {
				t.Errorf("got %s, want host %s", got.body, tt.want)
			}
		})
	}
}

func TestVolumeRefusals(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := newClient(t, newServer(t, n))
	id := createVolume(t, c, obj{"size": 2})
	path := "/v3/volumes/" + id
	extend := func(size any) answer {
		return c.do(http.MethodPost, path+"/action", obj{"os-extend": obj{"new_size": size}})
	}
	says := func(got answer, status int, want string) {
		t.Helper()
		wantStatus(t, got, status)
		if !strings.Contains(got.message(t), want) {
			t.Errorf("got %q, want %q", got.message(t), want)
		}
	}
	says(extend(3), 400, "Invalid volume: Volume "+id+" status must be '{'status': 'available'}' to extend, currently creating.")
	says(c.do(http.MethodDelete, path, nil), 400, "Invalid volume: Volume status must be available or error")
	n.work(t)
	says(extend(2), 400, "Invalid input received: New size for extend must be greater than current size. (current: 2, extended: 2).")
	says(extend(0), 400, "0 is less than the minimum of 1")
	says(extend("99999999999"), 400, "is greater than the maximum of 2147483647")
	says(extend(1.5), 400, "1.5 is not of type 'integer', 'string'")
	says(c.do(http.MethodPost, path+"/action", obj{"os-zzz": obj{}}), 400, "There is no such action: os-zzz.")
	says(c.do(http.MethodPost, "/v3/volumes/nope/action", obj{"os-extend": obj{"new_size": 3}}), 404, "Volume nope could not be found.")
	wantStatus(t, c.do(http.MethodPost, "/v3/snapshots", obj{"snapshot": obj{"volume_id": id}}), http.StatusAccepted)
	n.work(t)
	says(c.do(http.MethodDelete, path, nil), 400, "have snapshots")
	says(c.do(http.MethodPost, "/v3/volumes", obj{"volume": obj{"source_volid": id, "size": 1}}), 400, "cannot be smaller than original volume size  2GB")
	says(c.do(http.MethodPost, "/v3/volumes", obj{"volume": obj{"size": 1001}}), 413, "Requested 1001G, quota is 1000G")
	says(c.do(http.MethodPost, "/v3/volumes", obj{"volume": obj{"size": 1, "volume_type": "nope"}}), 404, "Volume type with name nope could not be found.")
	types := c.do(http.MethodGet, "/v3/types/default", nil)
	says(c.do(http.MethodDelete, fmt.Sprint("/v3/types/", types.at(t, "volume_type", "id")), nil), 400, "is a default volume type")
	createReplicatedType(t, c)
	createVolume(t, c, obj{"size": 1, "volume_type": "replicated"})
	all := c.do(http.MethodGet, "/v3/types", nil)
	says(c.do(http.MethodDelete, fmt.Sprint("/v3/types/", all.at(t, "volume_types", 0, "id")), nil), 400, "still in use")
}

func TestVolumePages(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := newClient(t, newServer(t, n))
	var ids []string
	for i := range 5 {
		ids = append(ids, createVolume(t, c, obj{"size": 1, "name": fmt.Sprintf("v%d", i%2)}))
	}
	slices.Reverse(ids)
	createVolume(t, c.with("X-Auth-Token", "bob:other"), obj{"size": 1})
	var seen []string
	for next := "/v3/" + project + "/volumes?limit=2&status=creating"; next != ""; {
		got := c.do(http.MethodGet, next, nil)
		wantStatus(t, got, http.StatusOK)
		rows, _ := got.at(t, "volumes").([]any)
		for i := range rows {
			id, _ := got.at(t, "volumes", i, "id").(string)
			seen = append(seen, id)
		}
		next = ""
		if href, ok := got.at(t, "volumes_links", 0, "href").(string); ok {
			u, err := url.Parse(href)
			if err != nil || u.Query().Get("status") != "creating" {
				t.Fatalf("next page %q (%v)", href, err)
			}
			next = u.RequestURI()
		}
	}
	if !slices.Equal(seen, ids) {
		t.Errorf("got %v, want %v", seen, ids)
	}
	for query, want := range map[string]int{
		"all_tenants=1": 6, "all_tenants=0": 5, "name=v1": 2, "limit=0": 0, "offset=4": 1, "zzz=1": 0, "host=vol2@aa": 5,
		"host=vol2": 5, "cluster_name=" + clusterAA: 5, "project_id=other": 1, "sort=created_at:desc": 5, "limit=99999": 5, "status=error": 0,
	} {
		got := c.do(http.MethodGet, "/v3/volumes/detail?"+query, nil)
		if rows, _ := got.at(t, "volumes").([]any); len(rows) != want {
			t.Errorf("%s: got %d rows, want %d", query, len(rows), want)
		}
	}
	if got := c.do(http.MethodGet, "/v3/volumes?limit=1&with_count=true&name=v0", nil); got.at(t, "count") != 3.0 {
		t.Errorf("count: got %s", got.body)
	}
	for _, query := range []string{"limit=x", "limit=-1", "offset=-1", "all_tenants=maybe", "with_count=maybe", "sort=zzz:asc", "sort_key=metadata", "sort=name:up", "sort=created_at&sort_dir=desc"} {
		wantStatus(t, c.do(http.MethodGet, "/v3/volumes?"+query, nil), http.StatusBadRequest)
	}
	if got := c.do(http.MethodGet, "/v3/limits", nil); got.at(t, "limits", "absolute", "totalVolumesUsed") != 5.0 {
		t.Errorf("limits: got %s", got.body)
	}
}

func TestSnapshots(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := newClient(t, newServer(t, n))
	volume := createVolume(t, c, obj{"size": 1})
	n.work(t)
	created := c.do(http.MethodPost, "/v3/snapshots", obj{"snapshot": obj{"volume_id": volume, "name": "s"}})
	wantStatus(t, created, http.StatusAccepted)
	path := fmt.Sprint("/v3/snapshots/", created.at(t, "snapshot", "id"))
	if got := c.do(http.MethodDelete, path, nil); got.status != http.StatusBadRequest || !strings.Contains(got.message(t), "Invalid snapshot:") {
		t.Errorf("delete while creating: got %d %s", got.status, got.body)
	}
	n.work(t)
	if got := c.do(http.MethodGet, path, nil); got.at(t, "snapshot", "status") != "available" {
		t.Errorf("got %s", got.body)
	}
	if got := c.do(http.MethodGet, "/v3/snapshots/detail?volume_id="+volume, nil); got.at(t, "snapshots", 0, "name") != "s" {
		t.Errorf("got %s", got.body)
	}
	wantStatus(t, c.do(http.MethodDelete, path, nil), http.StatusAccepted)
	n.work(t)
	wantStatus(t, c.do(http.MethodGet, path, nil), http.StatusNotFound)
}

func TestDeleteVolume(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := newClient(t, newServer(t, n))
	path := "/v3/volumes/" + createVolume(t, c, obj{"size": 1})
	n.work(t)
	got := c.do(http.MethodDelete, path, nil)
	wantStatus(t, got, http.StatusAccepted)
	if len(got.body) != 0 {
		t.Errorf("got %s", got.body)
	}
	n.work(t)
	wantStatus(t, c.do(http.MethodGet, path, nil), http.StatusNotFound)
	wantStatus(t, c.do(http.MethodDelete, path, nil), http.StatusNotFound)
}

// TestNoServices is a deployment that is still empty.
func TestNoServices(t *testing.T) {
	t.Parallel()
	n := &fakeNode{state: fsm.NewState(), changed: make(chan struct{}), up: map[string]api.Presence{}}
	c := newClient(t, newServer(t, n))
	got := c.do(http.MethodPost, "/v3/volumes", obj{"volume": obj{"size": 1}})
	wantStatus(t, got, http.StatusBadRequest)
	if !strings.Contains(got.message(t), "there are no services") {
		t.Errorf("got %q", got.message(t))
	}
	for _, path := range []string{"/v3/os-services", "/v3/clusters", "/v3/volumes", "/v3/snapshots/detail", "/v3/types", "/v1/clusters", "/v1/failovers", "/v1/status", "/metrics"} {
		wantStatus(t, c.do(http.MethodGet, path, nil), http.StatusOK)
	}
}
