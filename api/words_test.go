package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/lockstep-storage/lockstep/fsm"
)

// asked is a request to Cinder's API, and what Cinder 21.3.1 answers to it where the
// recorded exchanges show something else, or nothing.
type asked struct {
	method, path string
	version      string // of the request; empty for 3.70
	body         string
	status       int
	says         string // in the answer
}

// answersAs sends what is asked, and compares.
func (c *client) answersAs(t *testing.T, requests map[string]asked) {
	t.Helper()
	for name, a := range requests {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			c := &client{t: t, h: c.h, headers: c.headers}
			if a.version != "" {
				c = c.with("OpenStack-API-Version", "volume "+a.version)
			}
			var body any
			if a.method != http.MethodGet && a.method != http.MethodDelete {
				body = a.body
			}
			got := c.do(a.method, a.path, body)
			if got.status != a.status || !strings.Contains(string(got.body), a.says) {
				t.Errorf("%s %s %s\ngot  %d %s\nwant %d %s", a.method, a.path, a.body, got.status, got.body, a.status, a.says)
			}
		})
	}
}

const (
	noRoute    = `"code":"404 Not Found"`                                                     // there is no such route
	noResource = `{"itemNotFound":{"code":404,"message":"The resource could not be found."}}` // there is, and nothing behind it
	malformed  = `"message":"The server could not comply with the request since it is either malformed or otherwise incorrect."`
)

func TestWordsOfServices(t *testing.T) {
	t.Parallel()
	c := newClient(t, newServer(t, newNode(t)))
	const (
		get, put, del      = http.MethodGet, http.MethodPut, http.MethodDelete
		services, clusters = "/v3/os-services", "/v3/clusters"
	)
	c.answersAs(t, map[string]asked{
		"a binary is not looked at":       {get, clusters + "/" + clusterAA + "?binary=cinder-scheduler", "3.26", "", 200, `"binary":"cinder-volume"`},
		"a cluster without its backend":   {get, clusters + "/mycluster", "3.26", "", 200, `"name":"mycluster@aa"`},
		"no name is every name":           {get, clusters + "?name=", "3.26", "", 200, `"name":"mycluster@aa"`},
		"a name of every backend":         {get, clusters + "?name=mycluster", "3.26", "", 200, `"name":"mycluster@aa"`},
		"a name that is blank":            {put, clusters + "/enable", "3.26", `{"name": "  "}`, 400, `"message":"An invalid 'name' value was provided. The 'name' can not be empty."`},
		"a boolean with blanks":           {get, clusters + "?is_up=%20true", "3.26", "", 400, `"message":"Value ' true' for 'is_up' is not a boolean."`},
		"no binary":                       {get, services + "?binary=", "3.26", "", 200, `{"services":[]}`},
		"two hosts":                       {get, services + "?host=vol2@aa&host=nope", "3.26", "", 200, `{"services":[]}`},
		"a service of any backend":        {put, services + "/enable", "3.26", `{"binary": "cinder-volume", "host": "vol1"}`, 200, `"host":"vol1"`},
		"a cluster of any backend":        {put, services + "/thaw", "3.26", `{"cluster": "mycluster"}`, 400, "frozen in mycluster@aa must be True to failover."},
		"neither host nor cluster":        {put, services + "/failover_host", "3.26", `{}`, 400, `"message":"Invalid input received: Host field is missing."`},
		"a collection cannot be put":      {put, services, "3.26", `{}`, 404, noRoute},
		"a collection cannot be deleted":  {del, services, "3.26", "", 404, noRoute},
		"a record cannot be posted to":    {http.MethodPost, services + "/enable", "3.26", `{}`, 404, noRoute},
		"a record is not deleted here":    {del, services + "/vol1@aa", "3.26", "", 404, noResource},
		"a collection is not posted to":   {http.MethodPost, "/v3/" + project + "/os-services", "3.26", `{}`, 404, noResource},
		"nothing behind a project":        {get, "/v3/" + project + "/", "3.26", "", 404, noRoute},
		"versions of another time":        {get, "/", "3.71", "", 406, "Version 3.71 is not supported by the API. Minimum is 3.0 and maximum is 3.70."},
		"a name for the service":          {get, clusters, "3.26, x", "", 200, `"clusters":`},
		"a version of more than one word": {get, clusters, "3.26 x", "", 400, malformed},
	})
}

// What cannot be failed over is refused as was recorded while Cinder's rows said so:
// here such a cluster is one whose services have no targets, or that fails over already,
// and with it all its services.
func TestWordsOfWhatCannotFailOver(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.do(t, fsm.RegisterService{Host: "plain@cc", Node: "plain", Cluster: "plaincluster@cc"})
	c := newClient(t, newServer(t, n))
	recorded := func(name string) string {
		var x exchange
		load(t, recordings+"/services/"+name+".json", &x)
		var body struct {
			BadRequest struct{ Message string }
		}
		if err := json.Unmarshal([]byte(x.Response.Body), &body); err != nil || body.BadRequest.Message == "" {
			t.Fatalf("%s: %s, %v", name, x.Response.Body, err)
		}
		return body.BadRequest.Message
	}
	failOver := func(cluster string) answer {
		return c.do(http.MethodPut, "/v3/os-services/failover", obj{"cluster": cluster, "backend_id": "site-b"})
	}
	for _, name := range []string{"331-failover-when-disabled", "332-failover-when-not-capable"} {
		got := failOver("plaincluster@cc")
		wantStatus(t, got, http.StatusBadRequest)
		if want := strings.ReplaceAll(recorded(name), clusterAA, "plaincluster@cc"); got.message(t) != want {
			t.Errorf("%s: got %q, want %q", name, got.message(t), want)
		}
	}
	if f, ok := n.failover(); ok {
		t.Errorf("a failover was started: %+v", f)
	}
	wantStatus(t, failOver(clusterAA), http.StatusAccepted)
	got := failOver(clusterAA)
	wantStatus(t, got, http.StatusBadRequest)
	reason := strings.TrimPrefix(recorded("330-failover-cluster-ok-services-failing-over"), "Invalid input received: No service could be changed: ")
	reason = strings.ReplaceAll(reason, "['vol1@aa', 'vol2@aa', 'vol3@aa']", clusterAA)
	if !strings.HasPrefix(got.message(t), "Invalid input received: "+reason) {
		t.Errorf("got %q, want %q and which failover it is", got.message(t), reason)
	}
}

// What a body is said to be.
func TestTypesOfBodies(t *testing.T) {
	t.Parallel()
	c := newClient(t, newServer(t, newNode(t)))
	for ct, want := range map[string]int{
		"application/json": 200, "application/json; charset=utf-8": 200, "application/vnd.openstack.volume+json": 200,
		"Application/JSON": 415, "text/plain": 415, "application/x-www-form-urlencoded": 415,
	} {
		wantStatus(t, c.with("Content-Type", ct).do(http.MethodPut, "/v3/clusters/enable", obj{"name": clusterAA}), want)
	}
	r := c.bare(http.MethodPut, "/v3/clusters/enable", `{"name": "mycluster@aa"}`)
	if r.status != http.StatusBadRequest || !strings.Contains(string(r.body), malformed) {
		t.Errorf("a body that is said to be nothing: got %d %s", r.status, r.body)
	}
}

// Who says nothing of who they are is told what to say, whatever they ask.
func TestOptionsNeedsAToken(t *testing.T) {
	t.Parallel()
	s := newServer(t, newNode(t))
	stranger := &client{t: t, h: checked(t, s.Handler())}
	got := stranger.do(http.MethodOptions, "/v3/clusters/", nil)
	wantStatus(t, got, http.StatusNoContent)
	if got.header.Get("X-Auth-Token") != "admin:admin" || got.header.Get("X-Server-Management-Url") != "http://example.com/v3/clusters" {
		t.Errorf("got %v", got.header)
	}
	wantStatus(t, newClient(t, s).do(http.MethodOptions, "/v3/clusters", nil), http.StatusOK)
	wantStatus(t, stranger.do(http.MethodOptions, "/", nil), http.StatusOK)
}

func TestWordsOfVolumes(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := newClient(t, newServer(t, n))
	createReplicatedType(t, c)
	plain := createVolume(t, c, obj{"size": 2, "name": "first"})
	nameless := createVolume(t, c, obj{"size": 1})
	n.work(t)
	wantStatus(t, c.do(http.MethodPost, "/v3/volumes/"+nameless+"/action", obj{"os-reset_status": obj{"status": "error"}}), http.StatusAccepted)
	const (
		get, put, post, del = http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete
		volumes             = "/v3/volumes"
	)
	act, broken := volumes+"/"+plain+"/action", volumes+"/"+nameless+"/action"
	c.answersAs(t, map[string]asked{
		"no action is named":               {post, act, "", `{}`, 400, `"message":"Malformed request body"`},
		"two actions are named":            {post, act, "", `{"os-extend": {"new_size": 3}, "os-zzz": {}}`, 400, `"message":"Malformed request body"`},
		"a list without actions":           {post, act, "", `[]`, 400, `"message":"Malformed request body"`},
		"no body":                          {post, act, "", "", 400, `"message":"There is no such action: None. Verify the request body and Content-Type header and try again."`},
		"a text is no action":              {post, act, "", `"x"`, 404, noResource},
		"null is no action":                {post, act, "", `null`, 404, noResource},
		"a size of no digits":              {post, act, "", `{"os-extend": {"new_size": ""}}`, 400, `Value: . '' does not match '^[0-9]+$'`},
		"a size of nothing":                {post, volumes, "", `{"volume": {"size": "0"}}`, 400, "Invalid input for field/attribute size. Value: 0. 0 is less than the minimum of 1"},
		"a size beyond all":                {post, volumes, "", `{"volume": {"size": "99999999999999999999"}}`, 400, "99999999999999999999 is greater than the maximum of 2147483647"},
		"multiattach is of types":          {post, volumes, "", `{"volume": {"size": 1, "multiattach": true}}`, 400, `"message":"multiattach parameter has been removed.`},
		"created after":                    {get, volumes + "?created_at=gt:2020-01-01,lte:2999-01-01T00:00:00Z", "", "", 200, plain},
		"created before":                   {get, volumes + "?created_at=lt:2020-01-01T00:00:00", "", "", 200, `{"volumes":[]}`},
		"created at no other time":         {get, volumes + "?created_at=neq:2020-01-01&updated_at=eq:2020-01-01", "", "", 200, `{"volumes":[]}`},
		"an operator that there is not":    {get, volumes + "?created_at=zzz", "", "", 400, `"message":"Invalid zzz operator"`},
		"a time that is none":              {get, volumes + "?updated_at=gt:zzz", "", "", 400, `"message":"Invalid zzz value"`},
		"no time":                          {get, volumes + "?updated_at=gt", "", "", 400, `"message":"Invalid gt value"`},
		"times before they were looked at": {get, volumes + "?created_at=zzz", "3.59", "", 200, plain},
		"no marker is no volume":           {get, volumes + "?marker=", "", "", 404, "Volume  could not be found."},
		"an image's properties":            {get, volumes + "?glance_metadata={'a':'b'}", "", "", 200, `{"volumes":[]}`},
		"no properties of an image":        {get, volumes + "?glance_metadata={}", "", "", 200, plain},
		"an image's properties before":     {get, volumes + "?glance_metadata={'a':'b'}", "3.3", "", 200, plain},
		"nothing to change":                {put, volumes + "/" + plain, "3.53", `{"volume": {}}`, 400, "{} is not valid under any of the given schemas"},
		"nothing to change, before":        {put, volumes + "/" + plain, "3.52", `{"volume": {}}`, 200, plain},
		"a key of metadata":                {post, volumes + "/" + plain + "/metadata", "", `{"metadata": {"a?b": "x"}}`, 400, `'a?b' does not match any of the regexes: '^[a-zA-Z0-9-_:. /]{1,255}$'`},
		"metadata before it was tagged":    {get, volumes + "/" + plain + "/metadata", "3.14", "", 200, `{"metadata": {}}`},
		"an image":                         {post, volumes, "", `{"volume": {"size": 1, "imageRef": "x"}}`, 400, "Invalid image identifier or unable to access requested image."},
		"a group that there is not":        {post, volumes, "", `{"volume": {"size": 1, "group_id": "x"}}`, 404, "Group x could not be found."},
		"a source in error":                {post, volumes, "", `{"volume": {"source_volid": "` + nameless + `"}}`, 400, "Invalid volume: Originating source volume status must be one of 'available, in-use' values"},
		"nothing to reset":                 {post, act, "", `{"os-reset_status": {}}`, 400, "Must specify 'status', 'attach_status' or 'migration_status' for update."},
		"what cannot be reset":             {post, act, "", `{"os-reset_status": {"status": "error", "zzz": 1}}`, 400, "Additional properties are not allowed ('zzz' was unexpected)"},
		"how attached it is":               {post, act, "", `{"os-reset_status": {"attach_status": "zzz"}}`, 400, "Volume attach status: zzz is invalid, valid statuses are: ['attached', 'detached']."},
		"no connector":                     {post, act, "", `{"os-initialize_connection": {"connector": null}}`, 400, "None is not of type 'object', 'string'"},
		"an attachment to detach":          {post, act, "", `{"os-detach": {"attachment_id": "zzz"}}`, 400, "'zzz' is not valid under any of the given schemas"},
		"an attachment of what is lost":    {post, "/v3/attachments", "", `{"attachment": {"volume_uuid": "` + nameless + `"}}`, 400, "Invalid volume: Volume attachments can not be created if the volume is in an error state."},
		"a mode before its time":           {post, "/v3/attachments", "3.53", `{"attachment": {"volume_uuid": "` + plain + `", "mode": "ro"}}`, 400, "Additional properties are not allowed ('mode' was unexpected)"},
		"no name is no filter":             {get, volumes + "?name=", "", "", 200, `{"volumes":[]}`},
		"a type's volumes":                 {get, volumes + "?volume_type_id=zzz", "", "", 200, `{"volumes":[]}`},
		"what is bootable":                 {get, volumes + "?bootable=junk", "", "", 400, `"message":"Invalid input received: 'bootable = junk'"`},
		"what consumes":                    {get, volumes + "?consumes_quota=junk", "", "", 400, `"message":"Value 'junk' for 'use_quota' is not a boolean."`},
		"a count before its time":          {get, volumes + "?with_count=true", "3.44", "", 200, `{"volumes":[]}`},
		"no key to sort by":                {get, volumes + "?sort=", "", "", 400, `"message":"Invalid input received: Invalid sort key"`},
		"a summary of all":                 {get, volumes + "/summary?name=first", "", "", 200, `"total_count":2`},
		"what the provider calls it":       {get, volumes + "/" + plain, "3.21", "", 200, `"provider_id":null`},
		"no name of the service":           {get, volumes + "/" + plain, "3.47", "", 200, `"provider_id":null,"replication_status"`},
		"reset in capitals":                {post, broken, "", `{"os-reset_status": {"status": "ERROR"}}`, 202, ""},
		"a list that has no count":         {get, "/v3/groups?with_count=true", "", "", 200, `{"groups":[]}`},
		"pools by what there is not":       {get, "/v3/scheduler-stats/get_pools?pool_name=x", "", "", 400, "Invalid filters pool_name are found in query options."},
		"pools before filters":             {get, "/v3/scheduler-stats/get_pools?zzz=x", "3.27", "", 200, `"name":"mycluster@aa#aa"`},
		"what a node can do":               {get, "/v3/capabilities/vol1", "", "", 200, `"namespace":"OS::Storage::Capabilities::mycluster@aa"`},
		"types, a page":                    {get, "/v3/types?limit=1", "", "", 200, `"volume_type_links":[{"href"`},
		"types, no key to sort by":         {get, "/v3/types?sort=zzz", "", "", 400, "Invalid sort key"},
		"types, public or not":             {get, "/v3/types?is_public=junk", "", "", 400, `"message":"Invalid is_public filter [junk]"`},
		"types, by name":                   {get, "/v3/types?name=nope", "", "", 200, `{"volume_types":[]}`},
		"the default type":                 {del, "/v3/types/d3fa0170-0000-4000-8000-10c557e90000", "", "", 400, "is a default volume type and cannot be deleted."},
		"a key of extra specs":             {post, "/v3/types/d3fa0170-0000-4000-8000-10c557e90000/extra_specs", "", `{"extra_specs": {"a/b": "x"}}`, 400, `'^[a-zA-Z0-9-_:.]{1,255}$'`},
		"a snapshot has no metadata":       {put, "/v3/snapshots/x", "", `{"snapshot": {"metadata": {"a": "b"}}}`, 400, "Additional properties are not allowed ('metadata' was unexpected)"},
		"a status of snapshots":            {post, "/v3/snapshots/x/action", "", `{"os-reset_status": {"status": "ZZZ"}}`, 400, "Snapshot status: ZZZ is invalid, valid statuses are: ('error', 'available', 'creating', 'deleting', 'deleted', 'updating', "},
		"snapshots had no names":           {get, "/v3/snapshots?sort=name:asc", "3.29", "", 400, "Invalid sort key"},
	})
}

// A reserved attachment is completed as in Cinder, which asks for no connector.
func TestReservedAttachmentIsCompleted(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := newClient(t, newServer(t, n))
	id := createVolume(t, c, obj{"size": 1})
	n.work(t)
	a := c.do(http.MethodPost, "/v3/attachments", obj{"attachment": obj{"volume_uuid": id}})
	wantStatus(t, a, http.StatusOK)
	at, _ := a.at(t, "attachment", "id").(string)
	wantStatus(t, c.do(http.MethodPost, "/v3/attachments/"+at+"/action", obj{"os-complete": obj{}}), http.StatusNoContent)
	if got := c.do(http.MethodGet, "/v3/attachments/"+at, nil).at(t, "attachment", "status"); got != "attached" {
		t.Errorf("the attachment is %v", got)
	}
	if got := c.do(http.MethodGet, "/v3/volumes/"+id, nil).at(t, "volume", "status"); got != "in-use" {
		t.Errorf("the volume is %v", got)
	}
}

// What is attached can be completed twice, and gets no snapshot without force.
func TestWordsOfAttachedVolumes(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := newClient(t, newServer(t, n))
	id := createVolume(t, c, obj{"size": 1})
	n.work(t)
	a := c.do(http.MethodPost, "/v3/attachments", obj{"attachment": obj{"volume_uuid": id, "connector": obj{"host": "h"}}})
	wantStatus(t, a, http.StatusOK)
	at, _ := a.at(t, "attachment", "id").(string)
	for range 2 {
		wantStatus(t, c.do(http.MethodPost, "/v3/attachments/"+at+"/action", obj{"os-complete": obj{}}), http.StatusNoContent)
	}
	c.answersAs(t, map[string]asked{
		"a page has no links":       {http.MethodGet, "/v3/attachments?limit=1", "", "", 200, `{"attachments":[{"id":"` + at + `"`},
		"two actions are named":     {http.MethodPost, "/v3/attachments/" + at + "/action", "", `{"os-complete": {}, "os-zzz": {}}`, 400, "Malformed request body"},
		"a snapshot without force":  {http.MethodPost, "/v3/snapshots", "3.65", `{"snapshot": {"volume_id": "` + id + `"}}`, 400, "Invalid volume: Volume " + id + " status must be available, but current status is: in-use."},
		"more than a page of links": {http.MethodGet, "/v3/attachments?limit=1", "", "", 200, `]}`},
	})
}
