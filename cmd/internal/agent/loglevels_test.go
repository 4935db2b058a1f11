package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/lockstep-storage/lockstep/api"
	"github.com/lockstep-storage/lockstep/cmd/internal/agent"
	"github.com/lockstep-storage/lockstep/cmd/internal/config"
	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/scripts/freeport"
)

// lines is what a node has logged, readable while it runs.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.buf.String(), text)
}

// logging is a node that logs.
type logging struct {
	api    string
	logger hclog.Logger
	log    *lines
	stop   func()
}

// three starts vol1 to vol3, whose services are in one cluster. Their storage cannot
// be opened, which is no reason not to have a log.
func three(t *testing.T) map[string]*logging {
	t.Helper()
	dir, base := t.TempDir(), must[int](t)(freeport.Find(t.Context(), 9))
	addr := func(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(base+port)) }
	drivers := func(config.Config, config.Backend) (driverhost.Backend, error) {
		return driverhost.Backend{Open: func(context.Context, driverhost.OpenRequest) (driverhost.Driver, error) {
			return nil, errors.New("there is no storage")
		}}, nil
	}
	all := map[string]*logging{}
	for i := range 3 {
		name := fmt.Sprintf("vol%d", i+1)
		cfg := must[config.Config](t)(config.Parse("test.yaml", fmt.Appendf(nil, `
node: %s
deployment: east
data_dir: %q
bootstrap_expect: 3
api: {listen: %q}
raft: {listen: %q}
gossip: {listen: %q, join: [%q]}
backends: [{name: aa, cluster: mycluster@aa, driver: /bin/false}]
`, name, filepath.Join(dir, name), addr(3*i), addr(3*i+1), addr(3*i+2), addr(2))))
		n := &logging{api: "http://" + addr(3*i), log: &lines{}}
		n.logger = hclog.New(&hclog.LoggerOptions{Name: "lockstep", Level: hclog.Info, Output: n.log})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- agent.Run(ctx, cfg, "v1", drivers, n.logger) }()
		n.stop = sync.OnceFunc(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		t.Cleanup(n.stop)
		all[name] = n
	}
	return all
}

// put asks a node, and returns the status and the body of its answer.
func (n *logging) put(t *testing.T, action, body string) (int, string) {
	t.Helper()
	r := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), http.MethodPut, n.api+"/v3/os-services/"+action, strings.NewReader(body)))
	for name, value := range map[string]string{"X-Auth-Token": "admin:p", "Content-Type": "application/json", "OpenStack-API-Version": "volume 3.32"} {
		r.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil {
		t.Error(err)
	}
	return resp.StatusCode, text.String()
}

// shown returns host=level of all services that a node answers about.
func (n *logging) shown(t *testing.T) string {
	t.Helper()
	_, text := n.put(t, "get-log", `{"binary": "cinder-volume"}`)
	var answer struct {
		Levels []struct {
			Host   string            `json:"host"`
			Levels map[string]string `json:"levels"`
		} `json:"log_levels"`
	}
	_ = json.Unmarshal([]byte(text), &answer) // a node that is not up yet shows nothing
	var all []string
	for _, l := range answer.Levels {
		all = append(all, l.Host+"="+l.Levels["lockstep"])
	}
	return strings.Join(all, " ")
}

// levels returns the levels of the loggers themselves.
func levels(nodes map[string]*logging) string {
	return fmt.Sprint(nodes["vol1"].logger.GetLevel(), " ", nodes["vol2"].logger.GetLevel(), " ", nodes["vol3"].logger.GetLevel())
}

// Any node sets and shows the levels of all others' logs, says so when one does not
// answer, and needs no leader.
func TestLogLevelsOfAllNodes(t *testing.T) {
	t.Parallel()
	nodes := three(t)
	until(t, "all services to be known", func() bool {
		return nodes["vol1"].shown(t) == "vol1@aa=INFO vol2@aa=INFO vol3@aa=INFO" && nodes["vol3"].shown(t) == nodes["vol1"].shown(t)
	})
	set := func(at, body string, want int, after string) string {
		t.Helper()
		status, text := nodes[at].put(t, "set-log", body)
		if status != want || levels(nodes) != after {
			t.Errorf("%s at %s: got %d %s, and the levels are %s; want %d and %s", body, at, status, text, levels(nodes), want, after)
		}
		return text
	}
	set("vol3", `{"level": "DEBUG", "binary": "cinder-volume", "server": "vol2@aa"}`, http.StatusAccepted, "info debug info")
	if !nodes["vol2"].log.has("[WARN]  lockstep: the level of the log changes: from=info to=debug") || nodes["vol1"].log.has("level of the log") {
		t.Errorf("vol2 has not logged it, or vol1 has")
	}
	if got := nodes["vol1"].shown(t); got != "vol1@aa=INFO vol2@aa=DEBUG vol3@aa=INFO" {
		t.Errorf("vol1 shows %s", got)
	}
	set("vol2", `{"level": "ERROR", "server": "vol1"}`, http.StatusAccepted, "error debug info")
	set("vol1", `{"level": "ERROR", "server": "mycluster@aa"}`, http.StatusAccepted, "error error error")

	nodes["vol3"].stop()
	if text := set("vol1", `{"level": "INFO"}`, http.StatusServiceUnavailable, "info info error"); !strings.Contains(text, "No answer from vol3:") {
		t.Errorf("without vol3: %s", text)
	}
	for _, change := range []string{"from=info to=error", "from=error to=info"} {
		if !nodes["vol1"].log.has("the level of the log changes: " + change) {
			t.Errorf("vol1 has not logged the change %s", change)
		}
	}
	if got := nodes["vol2"].shown(t); got != "vol1@aa=INFO vol2@aa=INFO" {
		t.Errorf("without vol3 vol2 shows %s", got)
	}
	nodes["vol2"].stop()
	set("vol1", `{"level": "DEBUG", "server": "vol1@aa"}`, http.StatusAccepted, "debug info error")
}

// What nodes ask each other is checked as everything else that arrives.
func TestLogLevelQuestions(t *testing.T) {
	t.Parallel()
	n := three(t)["vol1"]
	ask := func(question string) (string, error) {
		answer, err := api.NewPeerClient("east", nil).Ask(t.Context(), "vol1", strings.TrimPrefix(n.api, "http://"), "log_level", []byte(question))
		return string(answer), err
	}
	until(t, "an answer", func() bool { answer, err := ask(`""`); return err == nil && answer == `"info"` })
	for _, question := range []string{``, `{}`, `"loud"`, `"`} {
		if answer, err := ask(question); err == nil || errors.Is(err, api.ErrUnreachable) {
			t.Errorf("%s: answered %s, %v", question, answer, err)
		}
	}
	if answer, err := ask(`"warn"`); err != nil || answer != `"warn"` || n.logger.GetLevel() != hclog.Warn {
		t.Errorf("got %s, %v, and the level is %s", answer, err, n.logger.GetLevel())
	}
}
