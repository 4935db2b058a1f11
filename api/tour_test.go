package api_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/fsm"
)

// stop is one request of a tour. Names in braces stand for the ids that earlier
// stops have made.
type stop struct {
	request string // method and path
	body    string
	makes   string // what the id in the answer is called
	accept  string
	version string
	then    string // work: the services do what they owe; finish: the failover ends
}

// aTour asks for every operation once with success, and for each of its answers
// other than refusals.
func aTour() []stop {
	return slices.Concat(tourOfCinder(), tourOfVolumes(), tourOfTypes(), tourOfGroups(), tourOfOurs())
}

func tourOfCinder() []stop {
	return []stop{
		{request: "GET /"},
		{request: "GET /v3"},
		{request: "GET /v3/"},
		{request: "GET /v3/extensions"},
		{request: "GET /v3/extensions/os-services"},
		{request: "GET /v3/limits"},
		{request: "GET /v3/os-availability-zone"},
		{request: "GET /v3/os-services"},
		{request: "GET /v3/os-services", version: "3.0"},
		{request: "PUT /v3/os-services/disable", body: `{"host": "vol1@aa", "binary": "cinder-volume"}`},
		{request: "PUT /v3/os-services/disable-log-reason", body: `{"host": "vol1@aa", "binary": "cinder-volume", "disabled_reason": "x"}`},
		{request: "PUT /v3/os-services/enable", body: `{"host": "vol1@aa", "binary": "cinder-volume"}`},
		{request: "PUT /v3/os-services/freeze", body: `{"host": "vol1@aa"}`},
		{request: "PUT /v3/os-services/thaw", body: `{"cluster": "mycluster@aa"}`},
		{request: "PUT /v3/os-services/get-log", body: `{"server": "vol1@aa"}`},
		{request: "PUT /v3/os-services/set-log", body: `{"level": "INFO", "binary": "cinder-api"}`},
		{request: "GET /v3/clusters"},
		{request: "GET /v3/clusters/detail"},
		{request: "GET /v3/clusters/detail", version: "3.7"},
		{request: "GET /v3/clusters/mycluster@aa"},
		{request: "PUT /v3/clusters/disable", body: `{"name": "mycluster@aa", "disabled_reason": "x"}`},
		{request: "PUT /v3/clusters/enable", body: `{"name": "mycluster@aa"}`},
		{request: "GET /v3/scheduler-stats/get_pools?detail=true"},
		{request: "GET /v3/capabilities/vol1@aa"},
		{request: "PUT /v3/os-quota-sets/" + project, body: `{"quota_set": {"volumes": 50}}`},
		{request: "GET /v3/os-quota-sets/" + project + "?usage=true"},
		{request: "GET /v3/os-quota-sets/" + project + "/defaults"},
		{request: "DELETE /v3/os-quota-sets/" + project},
		{request: "PUT /v3/os-quota-class-sets/default", body: `{"quota_class_set": {"volumes": 60}}`},
		{request: "GET /v3/os-quota-class-sets/default"},
	}
}

func tourOfVolumes() []stop {
	return []stop{
		{request: "POST /v3/volumes", body: `{"volume": {"size": 1, "name": "v", "metadata": {"k": "v"}}}`, makes: "v", then: "work"},
		{request: "GET /v3/volumes?limit=1&with_count=true"},
		{request: "GET /v3/volumes/detail?limit=1"},
		{request: "GET /v3/volumes/detail", version: "3.0"},
		{request: "GET /v3/volumes/summary"},
		{request: "GET /v3/volumes/summary", version: "3.12"},
		{request: "GET /v3/volumes/{v}"},
		{request: "PUT /v3/volumes/{v}", body: `{"volume": {"name": "w"}}`},
		{request: "GET /v3/volumes/{v}/metadata"},
		{request: "GET /v3/volumes/{v}/metadata", version: "3.14"},
		{request: "POST /v3/volumes/{v}/metadata", body: `{"metadata": {"a": "b"}}`},
		{request: "PUT /v3/volumes/{v}/metadata", body: `{"metadata": {"a": "b"}}`},
		{request: "GET /v3/volumes/{v}/metadata/a"},
		{request: "PUT /v3/volumes/{v}/metadata/a", body: `{"meta": {"a": "c"}}`},
		{request: "DELETE /v3/volumes/{v}/metadata/a"},
		{request: "POST /v3/volumes/{v}/action", body: `{"os-set_bootable": {"bootable": true}}`},
		{request: "POST /v3/volumes/{v}/action", body: `{"os-initialize_connection": {"connector": {}}}`},
		{request: "POST /v3/volumes/{v}/action", body: `{"os-extend": {"new_size": 2}}`, then: "work"},
		{request: "POST /v3/snapshots", body: `{"snapshot": {"volume_id": "{v}", "name": "s", "metadata": {"k": "v"}}}`, makes: "s", then: "work"},
		{request: "GET /v3/snapshots"},
		{request: "GET /v3/snapshots/detail?limit=1&with_count=true"},
		{request: "GET /v3/snapshots/{s}"},
		{request: "GET /v3/snapshots/{s}", version: "3.0"},
		{request: "PUT /v3/snapshots/{s}", body: `{"snapshot": {"description": "d"}}`},
		{request: "POST /v3/snapshots/{s}/action", body: `{"os-reset_status": {"status": "available"}}`},
		{request: "GET /v3/snapshots/{s}/metadata"},
		{request: "POST /v3/snapshots/{s}/metadata", body: `{"metadata": {"a": "b"}}`},
		{request: "PUT /v3/snapshots/{s}/metadata", body: `{"metadata": {"a": "b"}}`},
		{request: "GET /v3/snapshots/{s}/metadata/a"},
		{request: "PUT /v3/snapshots/{s}/metadata/a", body: `{"meta": {"a": "c"}}`},
		{request: "DELETE /v3/snapshots/{s}/metadata/a"},
		{request: "DELETE /v3/snapshots/{s}", then: "work"},
		{request: "POST /v3/attachments", body: `{"attachment": {"volume_uuid": "{v}"}}`, makes: "a"},
		{request: "GET /v3/attachments"},
		{request: "PUT /v3/attachments/{a}", body: `{"attachment": {"connector": {"host": "h"}}}`},
		{request: "GET /v3/attachments/detail"},
		{request: "GET /v3/attachments/{a}"},
		{request: "POST /v3/attachments/{a}/action", body: `{"os-complete": {}}`},
		{request: "GET /v3/volumes/{v}"},
		{request: "GET /v3/manageable_volumes?host=vol1@aa"},
		{request: "GET /v3/manageable_volumes/detail?cluster=mycluster@aa"},
		{request: "GET /v3/os-volume-manage?host=vol1@aa"},
		{request: "GET /v3/os-volume-manage/detail?host=vol1@aa"},
		{request: "GET /v3/manageable_snapshots?host=vol1@aa"},
		{request: "GET /v3/manageable_snapshots/detail?host=vol1@aa"},
		{request: "POST /v3/manageable_volumes", body: `{"volume": {"host": "vol1@aa", "ref": {"source-name": "lun"}}}`, makes: "m", then: "work"},
		{request: "POST /v3/os-volume-manage", body: `{"volume": {"host": "vol1@aa", "ref": "lun"}}`, makes: "o", then: "work"},
		{request: "POST /v3/volumes/{m}/action", body: `{"os-unmanage": {}}`, then: "work"},
		{request: "DELETE /v3/volumes/{o}", then: "work"},
		{request: "DELETE /v3/attachments/{a}"},
		{request: "DELETE /v3/volumes/{v}?cascade=true", then: "work"},
	}
}

func tourOfTypes() []stop {
	return []stop{
		{request: "POST /v3/types", body: `{"volume_type": {"name": "t"}}`, makes: "t"},
		{request: "GET /v3/types"},
		{request: "GET /v3/types/default"},
		{request: "GET /v3/types/{t}"},
		{request: "PUT /v3/types/{t}", body: `{"volume_type": {"description": "d"}}`},
		{request: "POST /v3/types/{t}/extra_specs", body: `{"extra_specs": {"a": "b", "c": null}}`},
		{request: "GET /v3/types/{t}/extra_specs"},
		{request: "PUT /v3/types/{t}/extra_specs/a", body: `{"a": "c"}`},
		{request: "GET /v3/types/{t}/extra_specs/a"},
		{request: "DELETE /v3/types/{t}/extra_specs/a"},
		{request: "DELETE /v3/types/{t}"},
	}
}

func tourOfGroups() []stop {
	return []stop{
		{request: "POST /v3/types", body: `{"volume_type": {"name": "u", "extra_specs": {"replication_enabled": "<is> True"}}}`, makes: "u"},
		{request: "POST /v3/group_types", body: `{"group_type": {"name": "gt", "group_specs": {"consistent_group_replication_enabled": "<is> True"}}}`, makes: "gt"},
		{request: "GET /v3/group_types"},
		{request: "GET /v3/group_types/{gt}"},
		{request: "PUT /v3/group_types/{gt}", body: `{"group_type": {"description": "d"}}`},
		{request: "POST /v3/group_types/{gt}/group_specs", body: `{"group_specs": {"a": "b"}}`},
		{request: "GET /v3/group_types/{gt}/group_specs"},
		{request: "PUT /v3/group_types/{gt}/group_specs/a", body: `{"a": "c"}`},
		{request: "GET /v3/group_types/{gt}/group_specs/a"},
		{request: "DELETE /v3/group_types/{gt}/group_specs/a"},
		{request: "POST /v3/groups", body: `{"group": {"name": "g", "group_type": "{gt}", "volume_types": ["{u}"]}}`, makes: "g"},
		{request: "POST /v3/volumes", body: `{"volume": {"size": 1, "volume_type": "u", "group_id": "{g}"}}`, makes: "gv", then: "work"},
		{request: "GET /v3/groups?limit=1"},
		{request: "GET /v3/groups/detail?list_volume=true"},
		{request: "GET /v3/groups/{g}"},
		{request: "GET /v3/groups/{g}", version: "3.13"},
		{request: "PUT /v3/groups/{g}", body: `{"group": {"description": "d"}}`},
		{request: "POST /v3/groups/{g}/action", body: `{"list_replication_targets": {}}`},
		{request: "POST /v3/groups/{g}/action", body: `{"delete": {"delete-volumes": true}}`, then: "work"},
		{request: "DELETE /v3/group_types/{gt}"},
	}
}

func tourOfOurs() []stop {
	return []stop{
		{request: "PUT /v3/os-services/failover", body: `{"cluster": "mycluster@aa", "backend_id": "site-b"}`, then: "finish"},
		{request: "PUT /v3/os-services/failover_host", body: `{"host": "vol1@aa", "backend_id": "default"}`, then: "finish"},
		{request: "POST /v1/failovers", body: `{"cluster": "mycluster@aa", "backend_id": "site-b", "reason": "x"}`, makes: "f"},
		{request: "GET /v1/failovers"},
		{request: "GET /v1/failovers/{f}?index=1&wait=1ms"},
		{request: "POST /v1/failovers/{f}/abort"},
		{request: "GET /v1/clusters"},
		{request: "GET /v1/clusters/solo@bb"},
		{request: "GET /v1/status"},
		{request: "GET /v1/peers"},
		{request: "DELETE /v1/peers/vol9"},
		{request: "GET /v1/events?index=0"},
		{request: "GET /v1/openapi.json"},
		{request: "GET /v1/openapi.json", accept: "application/openapi+json"},
		{request: "POST /internal/v1/echo", body: "x"},
		{request: "GET /metrics"},
		{request: "GET /livez"},
		{request: "GET /readyz"},
		{request: "GET /healthcheck"},
		{request: "GET /healthcheck", accept: "text/html"},
		{request: "GET /healthcheck", accept: "application/json"},
		{request: "HEAD /healthcheck"},
	}
}

// visit makes a stop, and returns what was asked and answered. It notes the id that
// the answer made. Within is the project in the path, or nothing.
func (n *fakeNode) visit(t *testing.T, h http.Handler, st stop, within string, ids map[string]string) seen {
	t.Helper()
	var pairs []string
	for name, id := range ids {
		pairs = append(pairs, "{"+name+"}", id)
	}
	method, path, _ := strings.Cut(strings.NewReplacer(pairs...).Replace(st.request), " ")
	if rest, ok := strings.CutPrefix(path, "/v3/"); ok && rest != "" {
		path = "/v3/" + within + rest
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if strings.HasPrefix(path, "/v1/events") {
		ctx, cancel = context.WithTimeout(ctx, 50*time.Millisecond) // it goes on for ever
		defer cancel()
	}
	r := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(strings.NewReplacer(pairs...).Replace(st.body)))
	for name, value := range map[string]string{
		"X-Auth-Token": "admin:" + project, "Openstack-Api-Version": "volume " + cmp.Or(st.version, "3.70"), "X-Lockstep-Deployment": deployment, "Accept": st.accept,
		"Content-Type": "application/json",
	} {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	got := seen{method: method, url: r.URL, status: w.Code, header: w.Header(), answer: w.Body.Bytes()}
	if st.makes != "" {
		ids[st.makes] = idIn(t, got.answer)
	}
	switch st.then {
	case "work":
		n.locate(t)
	case "finish":
		n.finish(t)
	}
	return got
}

// idIn returns the id of the record that an answer is about.
func idIn(t *testing.T, body []byte) string {
	t.Helper()
	var answer obj
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	id, ok := answer["id"].(string)
	for _, record := range answer {
		if inner, isRecord := asObj(record)["id"].(string); isRecord && !ok {
			id = inner
		}
	}
	return id
}

// locate ends every operation that the services owe, with a place for the volume.
func (n *fakeNode) locate(t *testing.T) {
	t.Helper()
	var ends []fsm.Command
	n.View(func(s *fsm.State) {
		for svc := range s.Services() {
			cl, _ := s.Cluster(svc.Group())
			for _, op := range s.Owed(svc.Host, 1000) {
				ends = append(ends, fsm.EndOperation{Operation: op.ID, Host: svc.Host, Epoch: cl.Epoch, Update: fsm.VolumeUpdate{ProviderLocation: "/dev/v"}})
			}
		}
	})
	n.do(t, ends...)
}

// TestATourSeesEveryAnswer holds every operation's answers against the description,
// with the project in the path and without it.
func TestATourSeesEveryAnswer(t *testing.T) {
	t.Parallel()
	c := document(t)
	had := map[string]bool{}
	for _, within := range []string{"", project + "/"} {
		n := newNode(t)
		n.answer = func(_ string, body []byte) ([]byte, error) { return body, nil }
		h, ids := checked(t, newServer(t, n).Handler()), map[string]string{}
		for _, st := range aTour() {
			x := n.visit(t, h, st, within, ids)
			_, pointer := c.operation(x.url.Path, x.method)
			if pointer == "" || x.status >= 400 {
				t.Errorf("%s %s: got %d %s", x.method, x.url, x.status, x.answer)
			}
			media, _, _ := strings.Cut(x.header.Get("Content-Type"), ";")
			if len(x.answer) == 0 {
				media = ""
			}
			had[fmt.Sprintf("%s/responses/%d %s", pointer, x.status, media)] = true
		}
	}
	for at, op := range c.operations() {
		method, path, _ := strings.Cut(at, " ")
		for code := range asObj(op["responses"]) {
			pointer := "/paths/" + escape(path) + "/" + strings.ToLower(method) + "/responses/" + code
			answer, where := c.at(pointer)
			if code >= "304" || strings.HasSuffix(where, "/v3_204") {
				continue // refusals, and those of a request that says not who asks: in other tests
			}
			media := slices.Collect(maps.Keys(asObj(answer["content"])))
			if len(media) == 0 || answer["x-lockstep-may-be-empty"] == true {
				media = append(media, "")
			}
			for _, m := range media {
				if !had[pointer+" "+m] {
					t.Errorf("nobody has seen %s answer %s %s", at, code, m)
				}
			}
		}
	}
}
