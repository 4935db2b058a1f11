package api_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/lockstep-storage/lockstep/fsm"
)

// exchange is a request and the answer that a running Cinder gave to it.
type exchange struct {
	Request struct {
		Method  string      `json:"method"`
		Path    string      `json:"path"`
		Headers [][2]string `json:"headers"`
		Body    string      `json:"body"`
	} `json:"request"`
	Response struct {
		Status  int         `json:"status"`
		Headers [][2]string `json:"headers"`
		Body    string      `json:"body"`
	} `json:"response"`
}

// step is one line of testdata/contract/sequence.json.
type step struct {
	Case   string            `json:"case"`
	Binds  map[string]string `json:"binds"` // ids in the answer that later requests repeat
	Work   bool              `json:"work"`  // let the services do what they owe
	Reset  bool              `json:"reset"`
	Settle bool              `json:"settle"` // let the failover finish
	Call   json.RawMessage   `json:"call"`   // the body of a failover whose answer was not recorded
}

// TestContract replays what a running Cinder was asked and compares the answers.
func TestContract(t *testing.T) {
	t.Parallel()
	var steps []step
	load(t, "testdata/contract/sequence.json", &steps)
	var n *fakeNode
	var h http.Handler
	ids := map[string]string{}
	for _, st := range steps {
		switch {
		case st.Reset:
			n = newNode(t)
			n.do(t, fsm.DeleteService{Host: "solo@bb", Term: 1}) // Cinder had no such service
			h = checked(t, newServer(t, n).Handler())
		case st.Settle:
			n.finish(t)
		case st.Work:
			n.work(t)
		case st.Call != nil:
			c := &client{t: t, h: h, headers: map[string]string{"X-Auth-Token": "admin:" + project, "OpenStack-API-Version": "volume 3.26"}}
			wantStatus(t, c.do(http.MethodPut, "/v3/os-services/failover", string(st.Call)), http.StatusAccepted)
		case st.Case != "":
			var x exchange
			load(t, filepath.Join("testdata/contract", st.Case), &x)
			t.Run(strings.TrimSuffix(st.Case, ".json"), func(t *testing.T) {
				given := replay(t, h, x, ids)
				for _, id := range st.Binds {
					ids[id] = given
				}
			})
		}
	}
}

func load(t *testing.T, file string, into any) {
	t.Helper()
	raw, err := os.ReadFile(file) //nolint:gosec // a file of testdata
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// replay sends a request, with our ids where the recorded ones were, and compares
// the answer. It returns the id of the record that the answer is about.
func replay(t *testing.T, h http.Handler, x exchange, ids map[string]string) string {
	t.Helper()
	for theirs, ours := range ids {
		x.Request.Path = strings.ReplaceAll(x.Request.Path, theirs, ours)
		x.Request.Body = strings.ReplaceAll(x.Request.Body, theirs, ours)
	}
	r := httptest.NewRequestWithContext(t.Context(), x.Request.Method, "http://127.0.0.1:8776"+x.Request.Path, strings.NewReader(x.Request.Body))
	for _, kv := range x.Request.Headers {
		if kv[0] != "Host" && kv[0] != "Content-Length" {
			r.Header[http.CanonicalHeaderKey(kv[0])] = []string{kv[1]}
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != x.Response.Status {
		t.Fatalf("%s %s %s\ngot status %d, want %d; body %s", x.Request.Method, x.Request.Path, x.Request.Body, w.Code, x.Response.Status, w.Body)
	}
	want := http.Header{}
	for _, kv := range x.Response.Headers {
		want.Set(kv[0], kv[1])
	}
	for _, name := range []string{"Content-Type", "OpenStack-API-Version", "Vary", "Location", "X-Auth-Token", "X-Server-Management-Url"} {
		got := w.Header().Get(name)
		if strings.HasPrefix(got, "/v1/failovers/") { // which Cinder does not have
			continue
		}
		if got != want.Get(name) {
			t.Errorf("header %s: got %q, want %q", name, got, want.Get(name))
		}
	}
	if got, want := normal(w.Body.String()), normal(x.Response.Body); !reflect.DeepEqual(got, want) {
		t.Errorf("%s %s %s\ngot  %v\nwant %v", x.Request.Method, x.Request.Path, x.Request.Body, got, want)
	}
	var created map[string]struct {
		ID string `json:"id"`
	}
	_ = json.Unmarshal(w.Body.Bytes(), &created) // most answers are about no record
	for _, record := range created {
		return record.ID
	}
	return ""
}

// normal returns a body without what differs from run to run.
func normal(body string) any {
	stamps := regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}`)
	body = stamps.ReplaceAllString(body, "TIME")
	body = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`).ReplaceAllString(body, "UUID")
	body = regexp.MustCompile(`"service_uuid": ?("UUID"|null)`).ReplaceAllString(body, `"service_uuid":null`) // services have none here
	body = regexp.MustCompile(`vol\d@aa#aa`).ReplaceAllString(body, "vol2@aa")                                // any service may be chosen
	body = strings.ReplaceAll(body, clusterAA+"#aa", clusterAA)                                               // there are no pools here
	var v any
	if json.Unmarshal([]byte(body), &v) != nil {
		return body
	}
	if m, ok := v.(map[string]any); ok {
		if services, ok := m["services"].([]any); ok {
			kept := []any{}
			for _, row := range services {
				if r, ok := row.(map[string]any); !ok || r["binary"] != "cinder-scheduler" {
					kept = append(kept, row)
				}
			}
			m["services"] = kept
		}
	}
	return v
}
