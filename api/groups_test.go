package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/lockstep-storage/lockstep/api"
)

// groupClient asks a node that has a group type of each kind and a volume type that is
// replicated, and knows their ids.
type groupClient struct {
	*client
	n                            *fakeNode
	plain, replicating, mirrored string
}

func newGroupClient(t *testing.T) *groupClient {
	t.Helper()
	n := newNode(t)
	s := newServer(t, n, func(cfg *api.Config) { cfg.Admin = func(user string) bool { return user == "admin" } })
	c := &groupClient{client: newClient(t, s), n: n}
	c.plain = c.created("group_type", c.do(http.MethodPost, "/v3/group_types", obj{"group_type": obj{"name": "plain"}}))
	c.replicating = c.created("group_type", c.do(http.MethodPost, "/v3/group_types", obj{"group_type": obj{
		"name": "replicating", "group_specs": obj{"consistent_group_replication_enabled": "<is> True"},
	}}))
	c.mirrored = c.created("volume_type", c.do(http.MethodPost, "/v3/types", obj{"volume_type": obj{
		"name": "mirrored", "extra_specs": obj{"replication_enabled": "<is> True"},
	}}))
	return c
}

func (c *groupClient) created(noun string, a answer) string {
	c.t.Helper()
	id, ok := a.at(c.t, noun, "id").(string)
	if !ok || a.status/100 != 2 {
		c.t.Fatalf("create %s: %d %s", noun, a.status, a.body)
	}
	return id
}

func (c *groupClient) group(kind string) string {
	c.t.Helper()
	return c.created("group", c.do(http.MethodPost, "/v3/groups", obj{"group": obj{"name": "g", "group_type": kind, "volume_types": []string{c.mirrored}}}))
}

func (c *groupClient) act(id, action string, args obj) answer {
	c.t.Helper()
	return c.do(http.MethodPost, "/v3/groups/"+id+"/action", obj{action: args})
}

// answers checks answers in order; says is a part of a refusal, of or the body.
func answers(t *testing.T, all []answered) {
	t.Helper()
	for _, tc := range all {
		if tc.got.status != tc.want || !strings.Contains(string(tc.got.body), tc.says) {
			t.Errorf("%s: got %d %s, want %d with %q", tc.name, tc.got.status, tc.got.body, tc.want, tc.says)
		}
	}
}

type answered struct {
	name string
	got  answer
	want int
	says string
}

func TestGroupTypes(t *testing.T) {
	t.Parallel()
	c := newGroupClient(t)
	bob := c.with("X-Auth-Token", "bob:"+project)
	of := "/v3/group_types/" + c.plain
	const all = "/v3/group_types"
	answers(t, []answered{
		{"before 3.11", c.with("OpenStack-API-Version", "volume 3.10").do(http.MethodGet, all, nil), 404, "The resource could not be found."},
		{"a name twice", c.do(http.MethodPost, all, obj{"group_type": obj{"name": "plain"}}), 409, "Group Type plain already exists."},
		{"the reserved name", c.do(http.MethodPost, all, obj{"group_type": obj{"name": "default_cgsnapshot_type"}}), 409, "already exists."},
		{"no name", c.do(http.MethodPost, all, obj{"group_type": obj{}}), 400, "'name' is a required property"},
		{"an empty name", c.do(http.MethodPost, all, obj{"group_type": obj{"name": ""}}), 400, "'' is too short"},
		{"a long name", c.do(http.MethodPost, all, obj{"group_type": obj{"name": strings.Repeat("x", 256)}}), 400, "is too long"},
		{"a bad flag", c.do(http.MethodPost, all, obj{"group_type": obj{"name": "x", "is_public": "maybe"}}), 400, "'maybe' is not one of"},
		{"too much", c.do(http.MethodPost, all, obj{"group_type": obj{"name": "x", "colour": "red"}}), 400, "('colour' was unexpected)"},
		{"a bad key", c.do(http.MethodPost, all, obj{"group_type": obj{"name": "x", "group_specs": obj{"a*": "b"}}}), 400, "'a*' does not match any of the regexes: '^[a-zA-Z0-9-_:. /]{1,255}$'"},
		{"no administrator", bob.do(http.MethodPost, all, obj{"group_type": obj{"name": "x"}}), 403, "Policy doesn't allow group:group_types:create to be performed."},
		{"the default", c.do(http.MethodGet, all+"/default", nil), 404, "Default group type can not be found."},
		{"none", c.do(http.MethodGet, all+"/nope", nil), 404, "Group type nope could not be found."},
		{"show", c.do(http.MethodGet, of, nil), 200, `"group_specs":{}`},
		{"the list", c.do(http.MethodGet, all+"?sort=name:asc&limit=2", nil), 200, `"group_type_links":[{"href":`},
		{"a bad filter", c.do(http.MethodGet, all+"?is_public=maybe", nil), 400, "Invalid is_public filter [maybe]"},
		{"private ones", c.do(http.MethodGet, all+"?is_public=False", nil), 200, `{"group_types":[]}`},
		{"a bad key to sort by", c.do(http.MethodGet, all+"?sort=colour", nil), 400, "Invalid sort key"},
		{"a marker that is none", c.do(http.MethodGet, all+"?marker=nope", nil), 404, "Group type nope could not be found."},
		{"nothing to update", c.do(http.MethodPut, of, obj{"group_type": obj{}}), 400, "Specify group type name, description or a combination thereof."},
		{"an update without name", c.do(http.MethodPut, of, obj{"group_type": obj{"name": " "}}), 400, "Group type name can not be empty."},
		{"an update to a taken name", c.do(http.MethodPut, of, obj{"group_type": obj{"name": "replicating"}}), 409, "Group Type replicating already exists."},
		{"an update", c.do(http.MethodPut, of, obj{"group_type": obj{"name": "simple", "is_public": false}}), 200, `"name":"simple"`},
		{"private now", c.do(http.MethodGet, all+"?is_public=False", nil), 200, `"name":"simple"`},
		{"add specs", c.do(http.MethodPost, of+"/group_specs", obj{"group_specs": obj{"k": "v", "l": nil}}), 202, `{"group_specs":{"k":"v","l":null}}`},
		{"a spec with a space", c.do(http.MethodPost, of+"/group_specs", obj{"group_specs": obj{"k k": "v"}}), 400, "'k k' does not match any of the regexes: '^[a-zA-Z0-9-_:.]{1,255}$'"},
		{"specs for others", bob.do(http.MethodGet, of+"/group_specs", nil), 403, "group:group_types_specs:get_all"},
		{"all specs", c.do(http.MethodGet, of+"/group_specs", nil), 200, `{"group_specs":{"k":"v","l":null}}`},
		{"one spec", c.do(http.MethodGet, of+"/group_specs/k", nil), 200, `{"k":"v"}`},
		{"no such spec", c.do(http.MethodGet, of+"/group_specs/m", nil), 404, "has no extra spec with key m."},
		{"change a spec", c.do(http.MethodPut, of+"/group_specs/k", obj{"k": "w"}), 200, `{"k":"w"}`},
		{"change another spec", c.do(http.MethodPut, of+"/group_specs/k", obj{"m": "w"}), 400, "Request body and URI mismatch"},
		{"change two", c.do(http.MethodPut, of+"/group_specs/k", obj{"k": "w", "m": "x"}), 400, "has too many properties"},
		{"drop a spec", c.do(http.MethodDelete, of+"/group_specs/k", nil), 202, ""},
		{"drop it again", c.do(http.MethodDelete, of+"/group_specs/k", nil), 404, "has no specs with key k."},
		{"in use", func() answer { c.group("replicating"); return c.do(http.MethodDelete, all+"/"+c.replicating, nil) }(), 400, "Target group type is still in use."},
		{"delete", c.do(http.MethodDelete, of, nil), 202, ""},
		{"delete it again", c.do(http.MethodDelete, of, nil), 404, "could not be found."},
	})
	if a := bob.do(http.MethodGet, all+"/"+c.replicating, nil); a.status != 200 || strings.Contains(string(a.body), "specs") {
		t.Errorf("specs are for administrators: %d %s", a.status, a.body)
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	c := newGroupClient(t)
	id, plain := c.group(c.replicating), c.group("plain")
	bob, other := c.with("X-Auth-Token", "bob:"+project), c.with("X-Auth-Token", "bob:q")
	create := func(group obj) answer { return c.do(http.MethodPost, "/v3/groups", obj{"group": group}) }
	volume := func(v obj) answer { v["size"] = 1; return c.do(http.MethodPost, "/v3/volumes", obj{"volume": v}) }
	types := []string{c.mirrored}
	member := c.created("volume", volume(obj{"volume_type": "mirrored", "group_id": id}))
	loose := c.created("volume", volume(obj{"volume_type": "mirrored"}))
	c.n.work(t)
	const all = "/v3/groups"
	answers(t, []answered{
		{"before 3.13", c.with("OpenStack-API-Version", "volume 3.12").do(http.MethodGet, all, nil), 404, "The resource could not be found."},
		{"without types", create(obj{"group_type": c.plain}), 400, "'volume_types' is a required property"},
		{"no types", create(obj{"group_type": c.plain, "volume_types": []string{}}), 400, "[] is too short"},
		{"a type twice", create(obj{"group_type": c.plain, "volume_types": []string{"a", "a"}}), 400, "['a', 'a'] has non-unique elements"},
		{"an empty group type", create(obj{"group_type": "", "volume_types": types}), 400, "'' is not a 'group_type'"},
		{"a name that is none", create(obj{"group_type": "nope", "volume_types": types}), 404, "Group type with name nope could not be found."},
		{"an id that is none", create(obj{"group_type": id, "volume_types": types}), 404, "Group type " + id + " could not be found."},
		{"the reserved type", create(obj{"group_type": "default_cgsnapshot_type", "volume_types": types}), 400, "is reserved for migrating CGs to groups."},
		{"a volume type that is none", create(obj{"group_type": c.plain, "volume_types": []string{"nope"}}), 404, "Volume type with name nope could not be found."},
		{"another zone", create(obj{"group_type": c.plain, "volume_types": types, "availability_zone": "x"}), 400, "Availability zone 'x' is invalid."},
		{"what is none", c.do(http.MethodGet, all+"/nope", nil), 404, "Group nope could not be found."},
		{"another project's", other.do(http.MethodGet, all+"/"+id, nil), 404, "could not be found."},
		{"project for administrators", c.do(http.MethodGet, all+"/"+id, nil), 200, `"project_id":"` + project},
		{"its volumes", c.do(http.MethodGet, all+"/"+id+"?list_volume=1", nil), 200, `"volumes":["` + member + `"]`},
		{"by name", c.do(http.MethodGet, all+"?name=nope", nil), 200, `{"groups":[]}`},
		{"by type", c.do(http.MethodGet, all+"/detail?group_type_id="+c.plain, nil), 200, plain},
		{"a page", c.do(http.MethodGet, all+"?limit=1", nil), 200, `"group_links":[{"href":`},
		{"a filter for administrators", bob.do(http.MethodGet, all+"?status=available", nil), 400, "Invalid filters status are found in query options."},
		{"a key that is none", c.do(http.MethodGet, all+"?sort=colour", nil), 400, "Invalid sort key"},
		{"a marker that is none", c.do(http.MethodGet, all+"?marker=nope", nil), 404, "Group nope could not be found."},
		{"volumes of a group", c.do(http.MethodGet, "/v3/volumes?group_id="+id, nil), 200, member},
		{"of another", c.do(http.MethodGet, "/v3/volumes?group_id="+plain, nil), 200, `{"volumes":[]}`},
		{"a volume without type", volume(obj{"group_id": id}), 400, "volume_type must be provided when creating a volume in a group."},
		{"a volume of another type", volume(obj{"group_id": id, "volume_type": "__DEFAULT__"}), 400, "(requested type must be supported by this group)."},
		{"a volume of no group", volume(obj{"group_id": "nope", "volume_type": "mirrored"}), 404, "Group nope could not be found."},
		{"delete a member", c.do(http.MethodDelete, "/v3/volumes/"+member, nil), 400, "belong to a group"},
		{"update nothing", c.do(http.MethodPut, all+"/"+id, obj{"group": obj{}}), 400, "is not valid under any of the given schemas"},
		{"update to what it is", c.do(http.MethodPut, all+"/"+id, obj{"group": obj{"name": "g"}}), 400, "because no valid name, description, add_volumes, or remove_volumes were provided."},
		{"update", c.do(http.MethodPut, all+"/"+id, obj{"group": obj{"name": "h"}}), 202, ""},
		{"add what is none", c.do(http.MethodPut, all+"/"+plain, obj{"group": obj{"add_volumes": "nope"}}), 400, "because volume cannot be found."},
		{"add of another group", c.do(http.MethodPut, all+"/"+plain, obj{"group": obj{"add_volumes": member}}), 400, "because it is already in group " + id},
		{"add and remove", c.do(http.MethodPut, all+"/"+plain, obj{"group": obj{"add_volumes": loose, "remove_volumes": loose}}), 400, "are in both add and remove volume list."},
		{"remove what is not in it", c.do(http.MethodPut, all+"/"+plain, obj{"group": obj{"remove_volumes": loose}}), 400, "because it is not in the group."},
		{"add", c.do(http.MethodPut, all+"/"+plain, obj{"group": obj{"add_volumes": loose + ","}}), 202, ""},
		{"remove", c.do(http.MethodPut, all+"/"+plain, obj{"group": obj{"remove_volumes": loose}}), 202, ""},
		{"add to a replication group", c.do(http.MethodPut, all+"/"+id, obj{"group": obj{"add_volumes": loose}}), 400, "joins replication group"},
		{"no such action", c.act(id, "explode", nil), 400, "There is no such action: explode."},
		{"delete with volumes", c.act(id, "delete", obj{}), 400, "still contains volumes. The delete-volumes flag is required to delete it."},
		{"a bad flag", c.act(id, "delete", obj{"delete-volumes": "maybe"}), 400, "'maybe' is not one of"},
		{"delete", c.act(id, "delete", obj{"delete-volumes": true}), 202, ""},
		{"deleting", c.do(http.MethodGet, all+"/"+id, nil), 200, `"status":"deleting"`},
		{"gone", func() answer { c.n.work(t); return c.do(http.MethodGet, all+"/"+id, nil) }(), 404, "could not be found."},
		{"delete what is empty", c.act(plain, "delete", obj{}), 202, ""},
		{"usage", c.do(http.MethodGet, "/v3/os-quota-sets/"+project+"?usage=True", nil), 200, `"groups":{"in_use":0,`},
	})
}

func TestGroupReplication(t *testing.T) {
	t.Parallel()
	c := newGroupClient(t)
	id, plain := c.group(c.replicating), c.group("plain")
	bob := c.with("X-Auth-Token", "bob:"+project)
	status := func() answer { return c.do(http.MethodGet, "/v3/groups/"+id, nil) }
	prefix := "Invalid Group: Group " + id + " replication status must be "
	answers(t, []answered{
		{"before 3.38", c.with("OpenStack-API-Version", "volume 3.37").do(http.MethodPost, "/v3/groups/"+id+"/action", obj{"enable_replication": obj{}}), 404, "The resource could not be found."},
		{"reset before 3.20", c.with("OpenStack-API-Version", "volume 3.19").do(http.MethodPost, "/v3/groups/"+id+"/action", obj{"reset_status": obj{"status": "error"}}), 404, "The resource could not be found."},
		{"at first", status(), 200, `"replication_status":"disabled"`},
		{"a plain group", c.act(plain, "enable_replication", obj{}), 400, "Invalid group type: Group " + plain + " is not a replication group type."},
		{"targets of a plain group", c.act(plain, "list_replication_targets", obj{}), 400, "is not a replication group type."},
		{"targets", c.act(id, "list_replication_targets", obj{}), 200, `{"replication_targets":[{"backend_id":"site-b"},{"backend_id":"site-c"}]}`},
		{"disable what is disabled", c.act(id, "disable_replication", obj{}), 400, prefix + "['enabled', 'error'], but current status is: disabled. Cannot disable replication."},
		{"enable", c.act(id, "enable_replication", obj{}), 202, ""},
		{"enabled", status(), 200, `"replication_status":"enabled"`},
		{"reset by others", bob.do(http.MethodPost, "/v3/groups/"+id+"/action", obj{"reset_status": obj{"status": "error"}}), 403, "Policy doesn't allow group:reset_status to be performed."},
		{"reset to what is none", c.act(id, "reset_status", obj{"status": "happy"}), 400, "Invalid Group Status: Group status: happy is invalid, valid status are: ('error', 'available', 'creating', 'deleting', 'deleted', 'updating', 'in-use', 'error_deleting')."},
		{"reset to nothing", c.act(id, "reset_status", obj{"status": " "}), 400, "Invalid Group Status: The 'status' can not be empty."},
		{"reset", c.act(id, "reset_status", obj{"status": "ERROR"}), 202, ""},
		{"enable in error", c.act(id, "enable_replication", obj{}), 400, "status must be ['available'], but current status is: error. Cannot enable replication."},
		{"disable in error", c.act(id, "disable_replication", obj{}), 202, ""},
	})
	for _, action := range []string{"enable_replication", "disable_replication", "list_replication_targets"} {
		a := c.do(http.MethodPost, "/v3/groups/"+id+"/action", obj{action: nil})
		if want := fmt.Sprintf("Invalid input for field/attribute %s. Value: None. None is not of type 'object'", action); a.status != 400 || a.message(t) != want {
			t.Errorf("%s: got %d %s", action, a.status, a.body)
		}
	}
}

func TestFailoverOfAGroupThroughV1(t *testing.T) {
	t.Parallel()
	c := newGroupClient(t)
	id, plain := c.group(c.replicating), c.group("plain")
	ask := func(body obj) answer { return c.do(http.MethodPost, "/v1/failovers", body) }
	to := func(group string) obj { return obj{"cluster": "mycluster@aa", "group": group, "backend_id": "site-b"} }
	before := c.do(http.MethodGet, "/v1/failovers", nil)
	answers(t, []answered{
		{"unknown", ask(to("x")), 404, `"field":"group","value":"x"`},
		{"of another cluster", ask(obj{"host": "solo@bb", "group": id, "backend_id": "site-b"}), 404, `"field":"group"`},
		{"not replicating", ask(to(plain)), 409, "is not a replication group type."},
		{"not enabled", ask(to(id)), 409, "but current status is: disabled. Cannot failover replication."},
		{"not a boolean", ask(obj{"cluster": "mycluster@aa", "group": id, "allow_attached_volume": "maybe"}), 400, `"field":"allow_attached_volume"`},
		{"enable", c.act(id, "enable_replication", obj{}), 202, ""},
	})
	if after := c.do(http.MethodGet, "/v1/failovers", nil); string(after.body) != string(before.body) {
		t.Errorf("refusals left %s", after.body)
	}
	a := ask(to(id))
	wantStatus(t, a, http.StatusAccepted)
	if a.at(t, "group") != id || a.at(t, "cluster") != "mycluster@aa" || a.at(t, "target") != "site-b" || a.at(t, "phase") != "draining" {
		t.Errorf("got %s", a.body)
	}
}
