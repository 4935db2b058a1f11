package api_test

import (
	"net/http"
	"strings"
	"testing"
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
