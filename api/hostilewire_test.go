package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/api"
	"github.com/lockstep-storage/lockstep/fsm"
)

// TestHostileWire sends what no client library sends. Each gets a refusal or a
// closed connection; the server goes on, and nothing changes.
func TestHostileWire(t *testing.T) {
	t.Parallel()
	const post = "POST /v3/volumes HTTP/1.1\r\nHost: x\r\nX-Auth-Token: admin:p\r\n"
	const look = "GET /v3/volumes HTTP/1.1\r\nHost: x\r\nX-Auth-Token: admin:p\r\n"
	const body = `{"volume": {"size": 1}}`
	n := newNode(t)
	address, _ := listen(t, newServer(t, n, func(c *api.Config) { c.RequestTimeout = 300 * time.Millisecond }))
	address = strings.TrimPrefix(address, "http://")
	before := n.count()
	for name, request := range map[string]string{
		"a body that does not come":      post + "Content-Length: 23\r\n\r\n",
		"a body that nobody asked for":   look + "Content-Length: 23\r\n\r\n",
		"a body for nobody":              "POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 23\r\n\r\n",
		"a body that stops":              post + "Content-Length: 2300\r\n\r\n" + body,
		"chunks that stop":               post + "Transfer-Encoding: chunked\r\n\r\n17\r\n" + body + "\r\n",
		"a body that is longer":          post + "Content-Length: 5\r\n\r\n" + body,
		"no length":                      post + "\r\n" + body,
		"two lengths":                    post + "Content-Length: 23\r\nContent-Length: 5\r\n\r\n" + body,
		"a length that is none":          post + "Content-Length: x\r\n\r\n" + body,
		"a length below nothing":         post + "Content-Length: -1\r\n\r\n" + body,
		"a length beyond all":            post + "Content-Length: 99999999999999999999\r\n\r\n" + body,
		"a length that is too large":     post + "Content-Length: 9999999999\r\n\r\n" + body,
		"chunks and a length":            post + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nzz\r\n",
		"chunks that are none":           post + "Transfer-Encoding: chunked\r\n\r\n" + body + "\r\n",
		"a chunk beyond all":             post + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n" + body,
		"another transfer encoding":      post + "Transfer-Encoding: gzip, chunked\r\n\r\n17\r\n" + body + "\r\n0\r\n\r\n",
		"a packed body":                  post + "Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00",
		"an expectation":                 post + "Expect: the-unexpected\r\nContent-Length: 23\r\n\r\n" + body,
		"headers beyond all":             "GET /v3/volumes HTTP/1.1\r\nHost: x\r\nX-Auth-Token: " + strings.Repeat("x", 100<<10) + "\r\n\r\n",
		"too many headers":               "GET /v3/volumes HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", 20<<10) + "\r\n",
		"a path beyond all":              "GET /" + strings.Repeat("x", 100<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"a name that is none":            "GET /v3/volumes HTTP/1.1\r\nHost: x\r\nX Auth: y\r\n\r\n",
		"a value that is none":           "GET /v3/volumes HTTP/1.1\r\nHost: x\r\nX-Auth-Token: a\x00b\r\n\r\n",
		"a line that goes on":            "GET /v3/volumes HTTP/1.1\r\nHost: x\r\n X-Auth-Token: y\r\n\r\n",
		"no host":                        "GET /v3/volumes HTTP/1.1\r\n\r\n",
		"two hosts":                      "GET /v3/volumes HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
		"a host that is none":            "GET /v3/volumes HTTP/1.1\r\nHost: x y\r\n\r\n",
		"another version":                "GET /v3/volumes HTTP/9.9\r\nHost: x\r\n\r\n",
		"no version":                     "GET /v3/volumes\r\n\r\n",
		"no method":                      " /v3/volumes HTTP/1.1\r\nHost: x\r\n\r\n",
		"a method that is none":          "GE(T /v3/volumes HTTP/1.1\r\nHost: x\r\n\r\n",
		"a path that is none":            "GET v3/volumes HTTP/1.1\r\nHost: x\r\n\r\n",
		"a path with a bad escape":       "GET /v3/%zz/volumes HTTP/1.1\r\nHost: x\r\n\r\n",
		"a path out of the root":         "GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
		"a path out of the root, hidden": "GET /v3/%2e%2e%2f%2e%2e%2fetc HTTP/1.1\r\nHost: x\r\nX-Auth-Token: admin:p\r\n\r\n",
		"a tunnel":                       "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: x\r\n\r\n",
		"another protocol":               "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
		"nothing":                        "\r\n\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			status, took := exchangeRaw(t, address, request)
			if name == "a body that nobody asked for" && status == http.StatusOK {
				status = http.StatusBadRequest // it is answered before the body is missed
			}
			if status != 0 && (status < 400 || status >= 500) && status != http.StatusNotImplemented && status != http.StatusHTTPVersionNotSupported {
				t.Errorf("got %d", status)
			}
			if took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
	if n.count() != before {
		t.Error("something changed")
	}
	if status, _ := get(t, "http://"+address+"/livez"); status != http.StatusOK {
		t.Errorf("the server answers %d", status)
	}
}

// exchangeRaw sends bytes and returns the status of the answer, 0 if there is none.
func exchangeRaw(t *testing.T, address, request string) (status int, took time.Duration) {
	t.Helper()
	start := time.Now()
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.WriteString(conn, request) // the server may have closed the connection already
	}()
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	took = time.Since(start)
	_ = conn.Close()
	<-sent
	if err != nil {
		return 0, took
	}
	_ = answer.Body.Close()
	return answer.StatusCode, took
}

// FuzzQueries offers any query and any headers to every route without a body: the
// answer is never a fault of the server, and nothing changes.
func FuzzQueries(f *testing.F) {
	routes := queryRoutes(f)
	at := func(path string) uint8 {
		return uint8(slices.Index(routes, path)) //nolint:gosec // there are not so many
	}
	for i := range routes {
		f.Add(uint8(i), "", "volume 3.70", "*/*", "") //nolint:gosec // there are not so many
	}
	f.Add(at("/v3/volumes"), "limit=1&marker=x&sort=size:asc,name&metadata={'a':'1'}&name~=v&with_count=true", "volume 3.34", "", "")
	f.Add(at("/v3/volumes/detail"), "sort_key=name&sort_dir=asc&offset=3&all_tenants=1&bootable=yes", "compute 2.1, volume 3.45", "", "")
	f.Add(at("/v3/clusters"), "frozen=true&is_up=0&num_hosts=3&a;b", "volume latest", "text/html;q=0.1", "")
	f.Add(at("/v3/types"), "is_public=none&extra_specs={'replication_enabled':'<is> True'}", "volume 3.07", "", "k")
	f.Add(at("/v1/failovers"), "limit=99999999999999999999&marker=%ff&cluster=", "", "application/json", "")
	f.Add(at("/healthcheck"), "", "", "text/plain;q=2, */*;q=x, application/json", "")
	f.Add(at("/v1/clusters"), "consistency=stale", "", "", "")
	f.Fuzz(func(t *testing.T, route uint8, query, version, accept, token string) {
		n := newNode(t)
		h := newServer(t, n).Handler() // parameters that nobody knows are not described
		n.do(t, fsm.CreateVolume{Volume: fsm.Volume{ID: ourVolume, ProjectID: ourProject, Size: 1, Cluster: clusterAA, Host: "vol1@aa"}})
		before := n.count()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, routes[int(route)%len(routes)], nil)
		r.URL.RawQuery = query
		for name, value := range map[string]string{"Openstack-Api-Version": version, "Accept": accept, "X-Auth-Token": token, "If-None-Match": accept, "Idempotency-Key": token} {
			if value != "" {
				r.Header[name] = []string{value}
			}
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Errorf("GET %s?%s: got %d %s", r.URL.Path, query, w.Code, w.Body)
		}
		if n.count() != before {
			t.Errorf("GET %s?%s changed something", r.URL.Path, query)
		}
	})
}

// queryRoutes are the paths of all operations that only look.
func queryRoutes(tb testing.TB) (paths []string) {
	tb.Helper()
	c, err := described()
	if err != nil {
		tb.Fatal(err)
	}
	fill := strings.NewReplacer("{id}", ourVolume, "{key}", "k", "{project}", ourProject, "{project_id}", ourProject, "{class}", "default",
		"{name}", url.PathEscape(clusterAA), "{alias}", "os-services", "{host}", "vol1@aa")
	for at := range c.operations() {
		method, path, _ := strings.Cut(at, " ")
		if method == http.MethodGet && path != "/v1/events" { // which goes on for ever
			paths = append(paths, fill.Replace(path))
		}
	}
	slices.Sort(paths)
	if len(paths) > 255 {
		tb.Fatal(fmt.Sprint("too many paths: ", len(paths)))
	}
	return paths
}
