package api_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/lockstep-storage/lockstep/api"
	"github.com/lockstep-storage/lockstep/fsm"
)

// finds lets a driver find three files.
func finds(cfg *api.Config) {
	cfg.Manageable = func(_ context.Context, cluster string) ([]api.Existing, error) {
		if cluster != clusterAA {
			return nil, fsm.ErrNotFound
		}
		return []api.Existing{{Reference: "a", SizeGiB: 2}, {Reference: "b", SizeGiB: 1}, {Reference: "c", SizeGiB: 2, Unsafe: "it is empty"}}, nil
	}
}

// onlyAdmin knows one administrator.
func onlyAdmin(cfg *api.Config) { cfg.Admin = func(user string) bool { return user == "admin" } }

// The list is sorted, paged and refused as Cinder's is.
func TestManageableList(t *testing.T) {
	t.Parallel()
	c := newClient(t, newServer(t, newNode(t), finds, onlyAdmin))
	const path = "/v3/manageable_volumes"
	for _, tc := range []struct {
		version, path, user string
		status              int
		want                string // the references, or what the refusal says
	}{
		{"3.70", path + "?host=vol1@aa%23aa", "admin", 200, "c b a"},
		{"3.70", path + "?cluster=" + clusterAA, "admin", 200, "c b a"},
		{"3.8", path + "/detail?host=vol1@aa", "admin", 200, "c b a"},
		{"3.0", "/v3/os-volume-manage?host=vol1@aa", "admin", 200, "c b a"},
		{"3.70", path + "?host=vol1@aa&sort=size:asc,reference:desc", "admin", 200, "b c a"},
		{"3.70", path + "?host=vol1@aa&sort_key=size", "admin", 200, "a c b"},
		{"3.70", path + "?host=vol1@aa&sort_dir=asc", "admin", 200, "a b c"},
		{"3.70", path + "?host=vol1@aa&limit=1&offset=1", "admin", 200, "b"},
		{"3.70", path + "?host=vol1@aa&limit=0", "admin", 200, ""},
		{"3.70", path + "?host=vol1@aa&offset=9", "admin", 200, ""},
		{"3.70", path + "?host=vol1@aa&marker=" + url.QueryEscape(`{"source-name": "c"}`), "admin", 200, "b a"},
		{"3.70", path + "?host=vol1@aa&marker=c", "admin", 400, "Invalid input received: marker c can not be analysed, please use json like format"},
		{"3.70", path + "?host=vol1@aa&marker=" + url.QueryEscape(`{"source-name": "x"}`), "admin", 400, "Invalid input received: marker not found: {'source-name': 'x'}"},
		{"3.70", path + "?host=vol1@aa&sort=zzz", "admin", 400, "Invalid sort keys passed: zzz"},
		{"3.70", path + "?host=vol1@aa&sort=size:up", "admin", 400, "Invalid sort dirs passed: up"},
		{"3.70", path + "?host=vol1@aa&sort=size&sort_key=size", "admin", 400, "The 'sort_key' and 'sort_dir' parameters are deprecated"},
		{"3.70", path + "?host=vol1@aa&limit=-1", "admin", 400, "limit param must be positive"},
		{"3.70", path + "?host=vol1@aa&offset=-1", "admin", 400, "offset must be >= 0"},
		{"3.70", path + "?host=vol1@aa&offset=x", "admin", 400, "offset must be an integer"},
		{"3.70", path, "admin", 400, "Invalid input received: One and only one of cluster and host must be set."},
		{"3.70", path + "?host=vol1@aa&cluster=" + clusterAA, "admin", 400, "One and only one of cluster and host must be set."},
		{"3.16", path + "?cluster=" + clusterAA, "admin", 400, "Invalid input received: Host field is missing."},
		{"3.7", path + "?host=vol1@aa", "admin", 404, "The resource could not be found."},
		{"3.70", path + "?host=nope@aa", "admin", 404, "Service cinder-volume could not be found on host nope@aa."},
		{"3.70", path + "?cluster=nope", "admin", 404, "Service cinder-volume could not be found."},
		{"3.70", path + "?host=vol1@aa", "bob", 403, "Policy doesn't allow volume_extension:list_manageable to be performed."},
		{"3.70", "/v3/manageable_snapshots?host=vol1@aa", "bob", 403, "Policy doesn't allow snapshot_extension:list_manageable to be performed."},
	} {
		got := c.with("OpenStack-API-Version", "volume "+tc.version).with("X-Auth-Token", tc.user+":p").do(http.MethodGet, tc.path, nil)
		if got.status != tc.status {
			t.Errorf("%s %s: got %d %s", tc.version, tc.path, got.status, got.body)
			continue
		}
		if tc.status != 200 {
			if !strings.Contains(got.message(t), tc.want) {
				t.Errorf("%s %s: got %q, want %q", tc.version, tc.path, got.message(t), tc.want)
			}
			continue
		}
		var refs []string
		for i := 0; got.at(t, "manageable-volumes", i) != nil; i++ {
			refs = append(refs, fmt.Sprint(got.at(t, "manageable-volumes", i, "reference", "source-name")))
		}
		if strings.Join(refs, " ") != tc.want {
			t.Errorf("%s %s: got %v, want %s", tc.version, tc.path, refs, tc.want)
		}
	}
	none := c.do(http.MethodGet, "/v3/manageable_snapshots/detail?host=vol1@aa", nil)
	if string(none.body) != "{\"manageable-snapshots\":[]}\n" {
		t.Errorf("got %s", none.body)
	}
}

func TestManageIsRefused(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := newClient(t, newServer(t, n, finds, onlyAdmin))
	taken := createVolume(t, c, obj{"size": 1})
	ref := obj{"source-name": "a"}
	for _, tc := range []struct {
		version string
		volume  any
		status  int
		says    string
	}{
		{"3.70", obj{"host": "vol1@aa"}, 400, "'ref' is a required property"},
		{"3.70", obj{"host": "vol1@aa", "ref": 1}, 400, "Invalid input for field/attribute ref. Value: 1. 1 is not of type 'object', 'string'"},
		{"3.70", obj{"host": "vol1@aa", "ref": ref, "zzz": 1}, 400, "Additional properties are not allowed ('zzz' was unexpected)"},
		{"3.15", obj{"cluster": clusterAA, "ref": ref}, 400, "Additional properties are not allowed ('cluster' was unexpected)"},
		{"3.70", obj{"ref": ref}, 400, "Invalid input received: One and only one of cluster and host must be set."},
		{"3.15", obj{"ref": ref}, 400, "Invalid input received: Host field is missing."},
		{"3.70", obj{"host": "a b", "ref": ref}, 400, "does not match"},
		{"3.70", obj{"host": "", "ref": ref}, 400, "'' is too short"},
		{"3.70", obj{"host": "vol1@aa", "ref": ref, "bootable": "maybe"}, 400, "'maybe' is not one of"},
		{"3.70", obj{"host": "vol1@aa", "ref": ref, "name": strings.Repeat("x", 256)}, 400, "is too long"},
		{"3.70", obj{"host": "vol1@aa", "ref": ref, "volume_type": "zzz"}, 400, "Invalid volume type: Cannot find requested 'zzz' volume type"},
		{"3.70", obj{"host": "nope@aa#aa", "ref": ref}, 400, "Host 'nope@aa#aa' not found"},
		{"3.70", obj{"cluster": "nope@aa", "ref": ref}, 400, "Cluster 'nope@aa' not found"},
		{"3.70", obj{"host": "vol1@aa", "ref": obj{"source-name": "volume-" + taken}}, 400, "Invalid volume: Unable to manage existing volume. The volume is already managed"},
		{"3.70", obj{"host": "vol1@aa", "ref": strings.Repeat("x", 1025)}, 400, "1 to 1024 bytes"},
		{"3.7", obj{"host": "vol1@aa", "ref": ref}, 404, "The resource could not be found."},
	} {
		got := c.with("OpenStack-API-Version", "volume "+tc.version).do(http.MethodPost, "/v3/manageable_volumes", obj{"volume": tc.volume})
		if got.status != tc.status || !strings.Contains(got.message(t), tc.says) {
			t.Errorf("%v: got %d %s, want %d %q", tc.volume, got.status, got.body, tc.status, tc.says)
		}
	}
	bob := c.with("X-Auth-Token", "bob:p").do(http.MethodPost, "/v3/manageable_volumes", obj{"volume": obj{"host": "vol1@aa", "ref": ref}})
	if bob.status != 403 || !strings.Contains(bob.message(t), "volume_extension:volume_manage") {
		t.Errorf("bob: %s", bob.body)
	}
	n.setUp("vol1@aa", false)
	down := c.do(http.MethodPost, "/v3/manageable_volumes", obj{"volume": obj{"host": "vol1@aa", "ref": ref}})
	if down.status != 400 || down.message(t) != "Service is unavailable at this time." {
		t.Errorf("down: %s", down.body)
	}
}

// A volume is adopted, listed as such, retyped, and given back.
func TestManageRetypeUnmanage(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := newClient(t, newServer(t, n, finds))
	createReplicatedType(t, c)
	got := c.do(http.MethodPost, "/v3/os-volume-manage", obj{"volume": obj{"cluster": clusterAA + "#aa", "ref": obj{"source-name": "lun"}, "metadata": obj{"k": "v"}}})
	wantStatus(t, got, http.StatusAccepted)
	if got.at(t, "volume", "size") != 0.0 || got.at(t, "volume", "status") != "creating" || got.at(t, "volume", "metadata", "k") != "v" ||
		got.at(t, "volume", "migration_status") != nil || strings.Contains(string(got.body), `"group_id"`) {
		t.Errorf("got %s", got.body)
	}
	id := fmt.Sprint(got.at(t, "volume", "id"))
	n.work(t)
	volume := c.do(http.MethodGet, "/v3/volumes/"+id, nil)
	if volume.at(t, "volume", "size") != 3.0 || volume.at(t, "volume", "shared_targets") != true || volume.at(t, "volume", "service_uuid") != nil {
		t.Errorf("got %s", volume.body)
	}
	list := c.do(http.MethodGet, "/v3/manageable_volumes/detail?host=vol1@aa&sort=size", nil)
	if list.at(t, "manageable-volumes", 0, "cinder_id") != id || list.at(t, "manageable-volumes", 0, "reason_not_safe") != "already managed" ||
		list.at(t, "manageable-volumes", 0, "safe_to_manage") != false {
		t.Errorf("got %s", list.body)
	}
	act := func(action string, args any) answer {
		return c.do(http.MethodPost, "/v3/volumes/"+id+"/action", obj{action: args})
	}
	for _, tc := range []struct {
		args obj
		says string
		want int
	}{
		{obj{}, "'new_type' is a required property", 400},
		{obj{"new_type": 1}, "1 is not of type 'string'", 400},
		{obj{"new_type": "replicated", "migration_policy": "x"}, "'x' is not one of ['on-demand', 'never']", 400},
		{obj{"new_type": "zzz"}, "Volume type with name zzz could not be found.", 404},
		{obj{"new_type": "__DEFAULT__"}, "Invalid volume: Retype needs volume to be in available or in-use state", 400},
	} {
		if got := act("os-retype", tc.args); got.status != tc.want || !strings.Contains(got.message(t), tc.says) {
			t.Errorf("%v: got %d %s", tc.args, got.status, got.body)
		}
	}
	wantStatus(t, act("os-retype", obj{"new_type": "replicated", "migration_policy": "never"}), http.StatusAccepted)
	if got := act("os-retype", obj{"new_type": "replicated"}); !strings.Contains(got.message(t), "Invalid volume: Retype needs") {
		t.Errorf("while retyping: %s", got.body)
	}
	n.work(t)
	if v := c.do(http.MethodGet, "/v3/volumes/"+id, nil); v.at(t, "volume", "volume_type") != "replicated" || v.at(t, "volume", "replication_status") != "enabled" {
		t.Errorf("got %s", v.body)
	}
	wantStatus(t, act("os-unmanage", nil), http.StatusAccepted)
	if got := act("os-unmanage", obj{}); !strings.Contains(got.message(t), "Invalid volume: Volume status must be available or error") {
		t.Errorf("while unmanaging: %s", got.body)
	}
	n.work(t)
	wantStatus(t, c.do(http.MethodGet, "/v3/volumes/"+id, nil), http.StatusNotFound)
}
