package api_test

import (
	"net/http"
	"strings"
	"testing"
)

// Quotas are shown, set and enforced in Cinder's words.
func TestQuotas(t *testing.T) {
	t.Parallel()
	c := newClient(t, newServer(t, newNode(t))).with("X-Auth-Token", "admin:p")
	set := func(path, noun string, limits obj) answer { return c.do(http.MethodPut, path, obj{noun: limits}) }
	const own, class = "/v3/os-quota-sets/p", "/v3/os-quota-class-sets/default"
	for _, tc := range []struct {
		name  string
		got   answer
		want  int
		says  string
		path  []any // of a value in the answer
		value any
	}{
		{"what nobody has set", c.do(http.MethodGet, own, nil), 200, "", []any{"quota_set", "volumes"}, 10.0},
		{"it has an id", c.do(http.MethodGet, own, nil), 200, "", []any{"quota_set", "id"}, "p"},
		{"the defaults", c.do(http.MethodGet, own+"/defaults", nil), 200, "", []any{"quota_set", "gigabytes"}, 1000.0},
		{"the defaults of a type", c.do(http.MethodGet, own+"/defaults", nil), 200, "", []any{"quota_set", "volumes___DEFAULT__"}, -1.0},
		{"a class", c.do(http.MethodGet, "/v3/os-quota-class-sets/gold", nil), 200, "", []any{"quota_class_set", "id"}, "gold"},
		{"set the default", set(class, "quota_class_set", obj{"volumes": 1}), 200, "", []any{"quota_class_set", "volumes"}, 1.0},
		{"the default holds", c.do(http.MethodGet, own, nil), 200, "", []any{"quota_set", "volumes"}, 1.0},
		{"set no class but the default", set("/v3/os-quota-class-sets/gold", "quota_class_set", obj{"volumes": 1}), 400, "Quota class gold would have no effect", nil, nil},
		{"a class with a bad key", set(class, "quota_class_set", obj{"apples": 1}), 400, "Bad key(s) in quota class set: apples", nil, nil},
		{"a class below -1", set(class, "quota_class_set", obj{"volumes": -2}), 400, "-2 is less than the minimum of -1", nil, nil},
		{"the first volume", c.do(http.MethodPost, "/v3/volumes", obj{"volume": obj{"size": 1}}), 202, "", []any{"volume", "size"}, 1.0},
		{"no second one", c.do(http.MethodPost, "/v3/volumes", obj{"volume": obj{"size": 1}}), 413, "VolumeLimitExceeded: Maximum number of volumes allowed (1) exceeded for quota 'volumes'.", nil, nil},
		{"trying again is no use", c.do(http.MethodPost, "/v3/volumes", obj{"volume": obj{"size": 1}}), 413, "", []any{"overLimit", "retryAfter"}, "0"},
		{"set one's own", set(own, "quota_set", obj{"volumes": "2", "gigabytes": 3, "tenant_id": "p"}), 200, "", []any{"quota_set", "volumes"}, 2.0},
		{"a second volume", c.do(http.MethodPost, "/v3/volumes", obj{"volume": obj{"size": 1}}), 202, "", []any{"volume", "size"}, 1.0},
		{"usage", c.do(http.MethodGet, own+"?usage=True", nil), 200, "", []any{"quota_set", "volumes", "in_use"}, 2.0},
		{"usage of a type", c.do(http.MethodGet, own+"?usage=True", nil), 200, "", []any{"quota_set", "gigabytes___DEFAULT__", "in_use"}, 2.0},
		{"limits", c.do(http.MethodGet, "/v3/limits", nil), 200, "", []any{"limits", "absolute", "maxTotalVolumes"}, 2.0},
		{"limits of another", c.do(http.MethodGet, "/v3/limits?project_id=q", nil), 200, "", []any{"limits", "absolute", "maxTotalVolumes"}, 1.0},
		{"less than there is", set(own, "quota_set", obj{"volumes": 1}), 400, "Quota volumes limit must be equal or greater than existing resources. Current usage is 2 and the requested limit is 1.", nil, nil},
		{"not a number", set(own, "quota_set", obj{"volumes": "x"}), 400, "volumes must be an integer", nil, nil},
		{"below -1", set(own, "quota_set", obj{"volumes": -2}), 400, "volumes must be >= -1", nil, nil},
		{"too many", set(own, "quota_set", obj{"volumes": 1 << 40}), 400, "volumes must be <= 2147483647", nil, nil},
		{"a bad key", set(own, "quota_set", obj{"apples": 1, "volumes": 5}), 400, "Bad key(s) in quota set: apples", nil, nil},
		{"nothing", set(own, "quota_set", obj{}), 400, "{} does not have enough properties", nil, nil},
		{"nothing has changed", c.do(http.MethodGet, own, nil), 200, "", []any{"quota_set", "volumes"}, 2.0},
		{"a bad flag", c.do(http.MethodGet, own+"?usage=x", nil), 400, "x", nil, nil},
		{"forget it", c.do(http.MethodDelete, own, nil), 200, "", nil, nil},
		{"the default again", c.do(http.MethodGet, own, nil), 200, "", []any{"quota_set", "volumes"}, 1.0},
	} {
		if tc.got.status != tc.want {
			t.Errorf("%s: got %d %s, want %d", tc.name, tc.got.status, tc.got.body, tc.want)
			continue
		}
		if tc.says != "" && !strings.Contains(tc.got.message(t), tc.says) {
			t.Errorf("%s: got %q, want %q", tc.name, tc.got.message(t), tc.says)
		}
		if tc.path != nil && tc.got.at(t, tc.path...) != tc.value {
			t.Errorf("%s: got %s, want %v", tc.name, tc.got.body, tc.value)
		}
	}
}

// Who is no administrator sees the quota of the own project, and changes none.
func TestQuotasOfOthers(t *testing.T) {
	t.Parallel()
	admin := newClient(t, newServer(t, newNode(t), onlyAdmin))
	bob := admin.with("X-Auth-Token", "bob:p")
	for _, tc := range []struct {
		method, path string
		body         any
		want         int
	}{
		{http.MethodGet, "/v3/os-quota-sets/p", nil, 200},
		{http.MethodGet, "/v3/os-quota-sets/p/defaults", nil, 200},
		{http.MethodGet, "/v3/os-quota-sets/q", nil, 403},
		{http.MethodGet, "/v3/os-quota-sets/q/defaults", nil, 403},
		{http.MethodGet, "/v3/os-quota-class-sets/default", nil, 403},
		{http.MethodPut, "/v3/os-quota-class-sets/default", obj{"quota_class_set": obj{"volumes": 1}}, 403},
		{http.MethodPut, "/v3/os-quota-sets/p", obj{"quota_set": obj{"volumes": 1}}, 403},
		{http.MethodDelete, "/v3/os-quota-sets/p", nil, 403},
	} {
		wantStatus(t, bob.do(tc.method, tc.path, tc.body), tc.want)
	}
	if got := bob.do(http.MethodGet, "/v3/limits?project_id=q", nil); got.status != 200 {
		t.Errorf("got %s", got.body)
	}
}
