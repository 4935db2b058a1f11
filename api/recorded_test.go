package api_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// recordings are the exchanges with a running Cinder that make contract replays.
const recordings = "../scripts/contract/recorded"

// TestRecordedExchangesAreAsDescribed holds the description against what Cinder
// was asked and answered, on its own: nothing of this package answers here.
func TestRecordedExchangesAreAsDescribed(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(recordings, "*", "*.json"))
	if err != nil || len(files) < 500 {
		t.Fatalf("got %d recorded exchanges, %v", len(files), err)
	}
	c := document(t)
	for _, file := range files {
		var x exchange
		load(t, file, &x)
		at, err := url.Parse("http://127.0.0.1:8776" + x.Request.Path)
		if err != nil {
			t.Fatal(err)
		}
		s := seen{method: x.Request.Method, url: at, body: []byte(x.Request.Body), status: x.Response.Status, header: http.Header{}, answer: normalised(x.Response.Body)}
		for _, kv := range x.Response.Headers {
			s.header.Add(kv[0], kv[1])
		}
		if strings.Contains(x.Request.Path, "/failover") { // ours beside what Cinder sends
			s.header.Set("Location", "/v1/failovers/x")
			s.header.Set("X-Lockstep-Failover-Id", "x")
		}
		name := strings.TrimSuffix(strings.TrimPrefix(file, recordings+"/"), ".json")
		for _, problem := range c.violations(s) {
			t.Errorf("%s: %s %s %.200s\nis not as described: %s", name, s.method, x.Request.Path, s.body, problem)
		}
	}
}

// normalised drops the rows of Cinder's scheduler, since there is none here, and
// what the recorded sites were configured with.
func normalised(body string) []byte {
	var answer map[string][]obj
	if json.Unmarshal([]byte(body), &answer) != nil || answer["services"] == nil && answer["replication_targets"] == nil {
		return []byte(body)
	}
	for noun, rows := range answer {
		answer[noun] = slices.DeleteFunc(rows, func(row obj) bool { return row["binary"] == "cinder-scheduler" })
		for _, row := range answer[noun] {
			delete(row, "region")
		}
	}
	raw, err := json.Marshal(answer)
	if err != nil {
		return []byte(body)
	}
	return raw
}
