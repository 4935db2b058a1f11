package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-storage/lockstep/fsm"
)

// bodyRoutes are the routes that take a body, each with a field of it: every
// operation of the description, with every property that its body may have, and
// some that it does not say so much of.
func bodyRoutes(tb testing.TB) [][3]string {
	tb.Helper()
	c, err := described()
	if err != nil {
		tb.Fatal(err)
	}
	all := [][3]string{
		{"PUT", "/v3/os-services/bogus", "host"},
		{"PUT", "/v3/clusters/bogus", "name"},
		{"POST", "/v3/volumes/x/action", "bogus"},
		{"POST", "/v3/volumes/x/action", "os-reset_status"},
	}
	fill := strings.NewReplacer("{id}", "x", "{key}", "k", "{project}", "p", "{class}", "default")
	for at := range c.operations() {
		method, path, _ := strings.Cut(at, " ")
		_, pointer := c.operation(path, method)
		body, where := c.at(pointer + "/requestBody")
		if asObj(body["content"])[jsonType] == nil || strings.Contains(path, "{project_id}") {
			continue
		}
		fields := c.fields(where + "/content/" + escape(jsonType) + "/schema")
		if len(fields) == 0 {
			fields = []string{"k"}
		}
		for _, field := range fields {
			all = append(all, [3]string{method, fill.Replace(path), field})
		}
	}
	slices.SortFunc(all, func(a, b [3]string) int { return slices.Compare(a[:], b[:]) })
	return all
}

const jsonType = "application/json"

// fields returns the properties that a schema or one of its alternatives names.
func (c *contract) fields(pointer string) (names []string) {
	schema, at := c.at(pointer)
	for name := range asObj(schema["properties"]) {
		names = append(names, name)
	}
	alternatives, _ := schema["anyOf"].([]any)
	for i := range alternatives {
		names = append(names, c.fields(fmt.Sprintf("%s/anyOf/%d", at, i))...)
	}
	return names
}

func TestEveryRouteWithABodyMeetsHostileOnes(t *testing.T) {
	t.Parallel()
	h, s := handler(t, nil)
	met := map[string]bool{}
	for _, rt := range bodyRoutes(t) {
		_, pointer := document(t).operation(rt[1], rt[0])
		met[pointer] = true
	}
	for _, u := range s.Uses() {
		if u.Method != http.MethodPost && u.Method != http.MethodPut || strings.HasSuffix(u.Path, "/:action") && u.Action == "" || u.Path == "/v1/failovers/:id/abort" || u.Path == "/internal/v1/:method" {
			continue // without a body of its own, or below
		}
		path := strings.NewReplacer(":action", u.Action, ":id", "x", ":key", "k", ":project", "p", ":class", "default").Replace(u.Path)
		if _, pointer := document(t).operation(path, u.Method); !met[pointer] {
			t.Errorf("%s meets no hostile bodies", useName(u))
		}
	}
	if len(met) < 20 || h == nil {
		t.Errorf("only %d routes meet hostile bodies", len(met))
	}
}

func TestHostileBodies(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := newClient(t, newServer(t, n))
	before := n.count()
	bodies := []string{
		"", " ", "null", "true", "1", `"x"`, "[]", "{", "}", "{}{}", `{"a":}`, `{'a': 1}`, "{\"a\": \"\xff\"}", "\x00", "\xef\xbb\xbf{}",
		strings.Repeat("[", 100_000), strings.Repeat(`{"a":`, 100_000), strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000),
		strings.Repeat(" ", 2<<20), "{\"a\": \"caf\xe9\"}", "\xff\xfe{\x00}\x00", "\xfe\xff\x00{\x00}", "\x00\x00\x00{\x00\x00\x00}", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00",
		"{\"a\": 1}\x00", `{"\u0000": 1}`, `{"__proto__": {}}`, `{"a": 1, "a": 2}`, strings.Repeat(`{"a":1,`, 9999), "{" + strings.Repeat(`"a":1,`, 99_999) + `"a":1}`,
	}
	values := []string{
		"null", "true", "[]", "[[[[]]]]", "{}", `{"a": {"b": [null]}}`, "-1", "0", "1e400", "-1e-400", "1.5", strings.Repeat("9", 1000), `""`, `" "`,
		`"` + strings.Repeat("x", 100_000) + `"`, `"\u0000"`, `"\ud800"`, `"../../etc"`, `"a b"`,
		`{"size": 99999999999999999999}`, `{"size": "9"}}`, `{"size": 1e3}`, `{"size": -1, "name": 5}`, `{"size": 1, "metadata": []}`,
		`{"size": 1, "metadata": {"k": 1}}`, `{"size": 1, "metadata": {"": "v"}}`, `{"size": 1, "metadata": {"k": null}}`, `{"size": 1, "multiattach": "perhaps"}`,
		`{"size": 1, "snapshot_id": "x"}`, `{"size": 1, "imageRef": "x"}`, `{"new_size": []}`, `{"new_size": 1e999}`, `{"volume_id": 7}`, `{"volume_id": "x"}`, `{"name": null}`, `{"name": ["x"]}`,
		`{"name": "t", "extra_specs": {"a": {}}}`, `{"name": "t", "extra_specs": 7}`, `{"name": "t", "os-volume-type-access:is_public": "perhaps"}`,
	}
	last := ""
	for _, rt := range bodyRoutes(t) {
		var all []string
		if at := rt[0] + rt[1]; at != last {
			all, last = slices.Clone(bodies), at
		}
		for _, v := range values {
			all = append(all, fmt.Sprintf(`{%q: %s}`, rt[2], v))
		}
		for _, body := range all {
			got := c.do(rt[0], rt[1], body)
			if got.status >= 500 || got.status < 400 && body == "" {
				t.Errorf("%s %s %.80q: got %d %.200s", rt[0], rt[1], body, got.status, got.body)
			}
			if got.status < 400 {
				continue // as described, or the client says so; and nothing has changed, see below
			}
			if !json.Valid(got.body) || got.message(t) == "" || len(got.body) > 16<<10 {
				t.Errorf("%s %s %.80q: got %d bytes, %.200s", rt[0], rt[1], body, len(got.body), got.body)
			}
		}
	}
	if n.count() != before {
		t.Error("something changed")
	}
}

func TestManyPairsAreRefused(t *testing.T) {
	t.Parallel()
	pairs := obj{}
	for i := range 200 {
		pairs[fmt.Sprint(i)] = "v"
	}
	c := newClient(t, newServer(t, newNode(t)))
	got := c.do(http.MethodPost, "/v3/volumes", obj{"volume": obj{"size": 1, "metadata": pairs}})
	wantStatus(t, got, http.StatusBadRequest)
	if !strings.Contains(got.message(t), "200 entries, more than 128") {
		t.Errorf("got %q", got.message(t))
	}
}

func TestABodyOfAnotherTypeIsToldWhatIsAllowed(t *testing.T) {
	t.Parallel()
	c := newClient(t, newServer(t, newNode(t))).with("Content-Type", "application/x-www-form-urlencoded")
	got := c.do(http.MethodPost, "/v1/failovers", obj{"cluster": clusterAA, "backend_id": "site-b"})
	wantStatus(t, got, http.StatusUnsupportedMediaType)
	if field := got.at(t, "field"); field != "Content-Type" {
		t.Errorf("field %v, want Content-Type: %s", field, got.body)
	}
	if !strings.Contains(string(got.body), "application/json") {
		t.Errorf("got %s, want it to name application/json", got.body)
	}
}

func TestHostilePathsAndHeaders(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	s := newServer(t, n)
	before := n.count()
	for _, path := range []string{
		"/v3//volumes", "/v3/../v1/status", "/v3/%00/volumes", "/v3/volumes/%2e%2e", "/v3/volumes/%ff", "/v3/---/volumes", "/v3/volumes?limit=%zz",
		"/v3/clusters?;a=b", "/v3/clusters?" + strings.Repeat("a=b&", 1000), "/v1/failovers/%20", "/v1/clusters/..", "//", "/v3/volumes/detail/x",
	} {
		if got := newClient(t, s).do(http.MethodGet, path, nil); got.status >= 500 {
			t.Errorf("%s: got %d %s", path, got.status, got.body)
		}
	}
	for _, value := range []string{"volume", "volume 3.", "volume .3", "volume 3.99999999999999999999", "volume ٣.٧", "volume 3.26 x", ",,,", strings.Repeat("volume 3.1,", 1000)} {
		if got := newClient(t, s).with("OpenStack-API-Version", value).do(http.MethodGet, "/v3/volumes", nil); got.status >= 500 {
			t.Errorf("version %.40q: got %d %s", value, got.status, got.body)
		}
	}
	for _, token := range []string{":", "::", "a:b:c", strings.Repeat("x", 10_000), "\x00:\x00"} {
		if got := newClient(t, s).with("X-Auth-Token", token).do(http.MethodGet, "/v3/volumes", nil); got.status >= 500 {
			t.Errorf("token %.40q: got %d %s", token, got.status, got.body)
		}
	}
	if n.count() != before {
		t.Error("something changed")
	}
}

// FuzzBodies offers any body to any route: the answer is never a fault of the
// server, and one that refuses changes nothing.
func FuzzBodies(f *testing.F) {
	routes := bodyRoutes(f)
	for i, rt := range routes {
		f.Add(uint8(i), fmt.Appendf(nil, `{%q: {"size": 1, "name": "x", "new_size": "3"}}`, rt[2]))
	}
	at := func(path string) uint8 {
		return uint8(slices.IndexFunc(routes, func(rt [3]string) bool { return rt[1] == path })) //nolint:gosec // there are not so many
	}
	f.Add(at("/v3/os-services/failover"), []byte(`{"cluster": "mycluster@aa", "backend_id": "site-b"}`))
	f.Add(at("/v1/failovers"), []byte(`{"host": "vol1@aa", "backend_id": "default", "mode": "planned"}`))
	f.Add(at("/v3/volumes"), []byte(`{"volume": {"size": 1, "metadata": {"a": "\ud83d\ude00"}}}`))
	f.Fuzz(func(t *testing.T, route uint8, body []byte) {
		n := newNode(t)
		rt := routes[int(route)%len(routes)]
		before := n.state.Index()
		got := newClient(t, newServer(t, n)).do(rt[0], rt[1], string(body))
		if got.status >= 500 {
			t.Fatalf("%s %s: got %d %s", rt[0], rt[1], got.status, got.body)
		}
		if got.status >= 400 && (!json.Valid(got.body) || got.message(t) == "") {
			t.Fatalf("%s %s: got %d %q", rt[0], rt[1], got.status, got.body)
		}
		var unfinished bool
		n.View(func(s *fsm.State) { _, unfinished = s.Unfinished(clusterAA) })
		if got.status >= 400 && unfinished {
			t.Fatalf("%s %s: refused with %d after %d, and a failover runs", rt[0], rt[1], got.status, before)
		}
	})
}
