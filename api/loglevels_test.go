package api_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/lockstep-storage/lockstep/api"
	"github.com/lockstep-storage/lockstep/fsm"
)

// logs are the levels of the logs of nodes, and which nodes do not answer.
type logs struct {
	mu     sync.Mutex
	levels map[string]hclog.Level
	asked  []string
	dead   []string
	hang   string // a node that does not answer in time
}

func newLogs() *logs {
	l := &logs{levels: map[string]hclog.Level{}}
	for _, node := range []string{"vol1", "vol2", "vol3", "solo", "quorum"} {
		l.levels[node] = hclog.Info
	}
	return l
}

func (l *logs) level(ctx context.Context, node string, set hclog.Level) (hclog.Level, error) {
	if node == l.hang {
		<-ctx.Done()
		return hclog.NoLevel, ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = append(l.asked, node)
	if slices.Contains(l.dead, node) {
		return hclog.NoLevel, errors.New("10.0.0.1: connection refused")
	}
	if set != hclog.NoLevel {
		l.levels[node] = set
	}
	return l.levels[node], nil
}

// at returns the nodes whose logs have a level.
func (l *logs) at(level hclog.Level) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var nodes []string
	for _, node := range slices.Sorted(maps.Keys(l.levels)) {
		if l.levels[node] == level {
			nodes = append(nodes, node)
		}
	}
	return strings.Join(nodes, " ")
}

// logClient asks vol1, of a deployment that has a further node without services.
func logClient(t *testing.T, l *logs) (*client, *fakeNode) {
	t.Helper()
	n := newNode(t)
	for node := range l.levels {
		n.do(t, fsm.RegisterNode{Node: fsm.Node{ID: node}})
	}
	s := newServer(t, n, func(cfg *api.Config) { cfg.LogLevel = l.level })
	return newClient(t, s).with("OpenStack-API-Version", "volume 3.32"), n
}

// Whose levels are set is what Cinder says: services by binary, host and cluster,
// and the API that is asked, or the one that is named.
func TestLogLevelsAreSetWhereTheyAreMeant(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		body obj
		want string // the nodes whose logs have changed
	}{
		"everything":               {obj{}, "solo vol1 vol2 vol3"},
		"every binary":             {obj{"binary": "*"}, "solo vol1 vol2 vol3"},
		"null":                     {obj{"server": nil, "prefix": nil}, "solo vol1 vol2 vol3"},
		"services":                 {obj{"binary": "cinder-volume"}, "solo vol1 vol2 vol3"},
		"a service":                {obj{"binary": "cinder-volume", "server": "vol2@aa"}, "vol2"},
		"a host":                   {obj{"server": "vol2@aa"}, "vol2"},
		"a cluster":                {obj{"server": clusterAA}, "vol1 vol2 vol3"},
		"this API":                 {obj{"binary": "cinder-api"}, "vol1"},
		"another API":              {obj{"binary": "cinder-api", "server": "vol3"}, "vol3"},
		"a node without services":  {obj{"server": "quorum"}, "quorum"},
		"what there is nothing of": {obj{"binary": "cinder-backup"}, ""},
		"the logger":               {obj{"prefix": "lockstep", "server": "vol3@aa"}, "vol3"},
		"part of its name":         {obj{"prefix": "lock", "server": "vol3@aa"}, "vol3"},
		"another logger":           {obj{"prefix": "cinder"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLogs()
			c, n := logClient(t, l)
			n.setLeaderless(true) // logs are needed then, too
			body := maps.Clone(tt.body)
			body["level"] = "debug"
			wantStatus(t, c.do(http.MethodPut, "/v3/os-services/set-log", body), http.StatusAccepted)
			if got := l.at(hclog.Debug); got != tt.want {
				t.Errorf("changed are %q, want %q", got, tt.want)
			}
			slices.Sort(l.asked)
			if got := strings.Join(l.asked, " "); got != tt.want {
				t.Errorf("asked were %q, want %q, each once", got, tt.want)
			}
		})
	}
}

func TestLogLevelsAreRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		action string
		body   obj
		says   string
	}{
		"no level":                  {"set-log", obj{}, "Invalid input received:  is not a valid log level."},
		"another level":             {"set-log", obj{"level": "zzz"}, "zzz is not a valid log level."},
		"a level that Cinder reads": {"set-log", obj{"level": "CRITICAL"}, "CRITICAL is not a valid log level."},
		"no binary":                 {"get-log", obj{"binary": nil}, "Value: None. None is not of type 'string'"},
		"another binary":            {"set-log", obj{"level": "INFO", "binary": "nova"}, "Value: nova. 'nova' is not one of ['cinder-scheduler', 'cinder-volume', 'cinder-backup', 'cinder-api', '', '*']"},
		"another binary, only read": {"get-log", obj{"binary": "nova"}, "Value: nova. 'nova' is not one of ['cinder-scheduler', 'cinder-volume', 'cinder-backup', 'cinder-api', '', '*']"},
		"an unknown server":         {"set-log", obj{"level": "DEBUG", "binary": "cinder-volume", "server": "vol9@aa"}, `server "vol9@aa" is not known for this binary; there are solo@bb, vol1@aa, mycluster@aa, vol2@aa, vol3@aa.`},
		"a host that has no API":    {"set-log", obj{"level": "DEBUG", "binary": "cinder-api", "server": "vol2@aa"}, "there are quorum, solo, vol1, vol2, vol3."},
		"a server of no service":    {"set-log", obj{"level": "DEBUG", "binary": "cinder-backup", "server": "vol2@aa"}, "there are none."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLogs()
			c, _ := logClient(t, l)
			got := c.do(http.MethodPut, "/v3/os-services/"+tt.action, tt.body)
			wantStatus(t, got, http.StatusBadRequest)
			if !strings.Contains(got.message(t), tt.says) {
				t.Errorf("got %q, want %q in it", got.message(t), tt.says)
			}
			if len(l.asked) > 0 {
				t.Errorf("%v were asked", l.asked)
			}
		})
	}
}

// Every service has an entry with the level of its node's log; nodes that do not
// answer are left out.
func TestLogLevelsAreShown(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		body obj
		dead string
		want string // binary@host=level
	}{
		"everything":        {obj{}, "", "cinder-api/vol1=ERROR cinder-volume/solo@bb=INFO cinder-volume/vol1@aa=ERROR cinder-volume/vol2@aa=DEBUG cinder-volume/vol3@aa=WARNING"},
		"services":          {obj{"binary": "cinder-volume", "server": clusterAA}, "", "cinder-volume/vol1@aa=ERROR cinder-volume/vol2@aa=DEBUG cinder-volume/vol3@aa=WARNING"},
		"a service":         {obj{"server": "vol2@aa"}, "", "cinder-volume/vol2@aa=DEBUG"},
		"this API":          {obj{"binary": "cinder-api"}, "", "cinder-api/vol1=ERROR"},
		"another API":       {obj{"binary": "cinder-api", "server": "vol3"}, "", "cinder-api/vol3=WARNING"},
		"a dead node":       {obj{"binary": "cinder-volume"}, "vol2", "cinder-volume/solo@bb=INFO cinder-volume/vol1@aa=ERROR cinder-volume/vol3@aa=WARNING"},
		"another logger":    {obj{"server": "vol2@aa", "prefix": "cinder"}, "", "cinder-volume/vol2@aa="},
		"an unknown server": {obj{"server": "vol9@aa"}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLogs()
			l.levels["vol1"], l.levels["vol2"], l.levels["vol3"] = hclog.Error, hclog.Trace, hclog.Warn
			l.dead = []string{tt.dead}
			c, _ := logClient(t, l)
			answer := c.do(http.MethodPut, "/v3/os-services/get-log", tt.body)
			wantStatus(t, answer, http.StatusOK)
			rows, _ := answer.at(t, "log_levels").([]any)
			var got []string
			for i := range rows {
				level, _ := answer.at(t, "log_levels", i, "levels", "lockstep").(string)
				got = append(got, fmt.Sprintf("%v/%v=%s", answer.at(t, "log_levels", i, "binary"), answer.at(t, "log_levels", i, "host"), level))
			}
			if text := strings.Join(got, " "); text != tt.want {
				t.Errorf("got  %s\nwant %s", text, tt.want)
			}
		})
	}
}

// What did not happen everywhere is no success: the answer names the nodes, and not
// how they are reached.
func TestLogLevelsThatAreNotKnownToBeSet(t *testing.T) {
	t.Parallel()
	l := newLogs()
	l.dead, l.hang = []string{"vol2"}, "vol3"
	c, _ := logClient(t, l)
	began := time.Now()
	got := c.do(http.MethodPut, "/v3/os-services/set-log", obj{"level": "DEBUG", "binary": "cinder-volume"})
	wantStatus(t, got, http.StatusServiceUnavailable)
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("it took %v", took)
	}
	text := got.message(t)
	if !strings.Contains(text, "No answer from vol2, vol3:") || !strings.Contains(text, "Repeat the request") || strings.Contains(text, "10.0.0.1") {
		t.Errorf("got %q", text)
	}
	if changed := l.at(hclog.Debug); changed != "solo vol1" {
		t.Errorf("changed are %q", changed)
	}
}

// Without the others there is this node's logger.
func TestOwnLogLevel(t *testing.T) {
	t.Parallel()
	logger := hclog.New(&hclog.LoggerOptions{Name: "lockstep", Level: hclog.Info})
	c := newClient(t, newServer(t, newNode(t), func(cfg *api.Config) { cfg.Logger = logger })).with("OpenStack-API-Version", "volume 3.32")
	wantStatus(t, c.do(http.MethodPut, "/v3/os-services/set-log", obj{"level": "error", "server": "vol1"}), http.StatusAccepted)
	if got := logger.GetLevel(); got != hclog.Error {
		t.Errorf("the level is %s", got)
	}
	if got := c.do(http.MethodPut, "/v3/os-services/get-log", obj{"server": "vol1@aa"}); got.at(t, "log_levels", 0, "levels", "lockstep") != "ERROR" {
		t.Errorf("got %s", got.body)
	}
	wantStatus(t, c.do(http.MethodPut, "/v3/os-services/set-log", obj{"level": "DEBUG", "server": "vol2@aa"}), http.StatusServiceUnavailable)
}
