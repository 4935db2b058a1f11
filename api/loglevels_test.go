package api_test

import (
	"net/http"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/lockstep-storage/lockstep/api"
)

// The level of a node's log is read and set through Cinder's API, and nothing else
// changes it.
func TestLogLevels(t *testing.T) {
	t.Parallel()
	logger := hclog.New(&hclog.LoggerOptions{Name: "lockstep", Level: hclog.Info})
	c := newClient(t, newServer(t, newNode(t), func(cfg *api.Config) { cfg.Logger = logger })).with("OpenStack-API-Version", "volume 3.32")
	set := func(body obj, status int, want hclog.Level) {
		t.Helper()
		wantStatus(t, c.do(http.MethodPut, "/v3/os-services/set-log", body), status)
		if got := logger.GetLevel(); got != want {
			t.Errorf("after %v the level is %s, want %s", body, got, want)
		}
	}
	set(obj{"level": "zzz"}, http.StatusBadRequest, hclog.Info)
	set(obj{}, http.StatusBadRequest, hclog.Info)
	set(obj{"level": "DEBUG", "prefix": "cinder"}, http.StatusAccepted, hclog.Info)
	set(obj{"level": "DEBUG", "binary": "cinder-volume"}, http.StatusAccepted, hclog.Info)
	set(obj{"level": "debug", "server": "another"}, http.StatusAccepted, hclog.Info)
	set(obj{"level": "error"}, http.StatusAccepted, hclog.Error)
	got := c.do(http.MethodPut, "/v3/os-services/get-log", obj{"binary": "cinder-api"})
	if got.at(t, "log_levels", 0, "levels", "lockstep") != "ERROR" {
		t.Errorf("got %s", got.body)
	}
	wantStatus(t, c.do(http.MethodPut, "/v3/os-services/get-log", obj{"binary": "nova"}), http.StatusBadRequest)
}
