package dev_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/cmd/internal/config"
	"github.com/lockstep-storage/lockstep/cmd/internal/dev"
	"github.com/lockstep-storage/lockstep/scripts/freeport"
)

// TestMain makes the test binary its own agent: a process that answers as if the
// cluster were ready.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "agent" {
		os.Exit(fakeAgent(os.Args[3]))
	}
	os.Exit(m.Run())
}

// secret is the only token that nodes with tokens take.
const secret = "secret"

func fakeAgent(path string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg, err := config.Load(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if cfg.LogLevel == "trace" { // how a test asks for an agent that cannot start
		fmt.Fprintln(os.Stderr, "the disk is full")
		return 1
	}
	says := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/readyz", says("{}"))
	if cfg.Auth.Mode == config.ModeTokens { // only for who has the token
		known := says
		says = func(body string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("X-Auth-Token") != secret {
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				known(body)(w, r)
			}
		}
	}
	mux.HandleFunc("/v1/status", says(`{"leader":"node1"}`))
	mux.HandleFunc("/v1/clusters/", says(`{"members":[{"state":"current"},{"state":"current"}]}`))
	mux.HandleFunc("POST /v3/types", says("{}"))
	server := &http.Server{Addr: cfg.API.Listen, Handler: mux, ReadHeaderTimeout: time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return 1
	}
	return 0
}

// output is what a cluster says, readable while it runs.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func options(t *testing.T, out *output) dev.Options {
	t.Helper()
	port, err := freeport.Find(t.Context(), 20)
	if err != nil {
		t.Fatal(err)
	}
	o := dev.Default()
	o.Dir, o.Nodes, o.APIPort = t.TempDir(), 2, port
	o.Binary, o.Out = os.Args[0], out
	return o
}

// await looks until a condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		}
	}
}

// up runs a cluster until it is ready; the function returned ends it.
func up(t *testing.T, o dev.Options) (dev.File, func() error) {
	t.Helper()
	path := filepath.Join(o.Dir, dev.FileName)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- dev.Run(ctx, o) }()
	end := sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { _ = end() })
	await(t, "the cluster is ready", func() bool {
		_, err := os.Stat(path)
		return err == nil
	})
	f, err := dev.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return f, end
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestClusterComesUpAndEndsAsAWhole(t *testing.T) { //nolint:paralleltest // it needs a range of ports to itself
	var out output
	o := options(t, &out)
	f, end := up(t, o)

	content, err := os.ReadFile(filepath.Join(o.Dir, dev.FileName))
	if err != nil {
		t.Fatal(err)
	}
	var shape map[string]any
	if err := json.Unmarshal(content, &shape); err != nil {
		t.Fatal(err)
	}
	at := func(port int) string { return "127.0.0.1:" + strconv.Itoa(o.APIPort+port) }
	n1, n2 := filepath.Join(o.Dir, "node1"), filepath.Join(o.Dir, "node2")
	want := map[string]any{
		"cluster": "dev@files",
		"sites": map[string]any{
			"default": filepath.Join(o.Dir, "sites/default"), "site-b": filepath.Join(o.Dir, "sites/site-b"), "site-c": filepath.Join(o.Dir, "sites/site-c"),
		},
		"nodes": []any{
			map[string]any{
				"name": "node1", "pid": float64(f.Nodes[0].PID), "api": "http://" + at(0), "raft": at(1), "gossip": at(2), "dir": n1,
				"argv": []any{os.Args[0], "agent", "--config", filepath.Join(n1, "lockstep.yaml")},
			},
			map[string]any{
				"name": "node2", "pid": float64(f.Nodes[1].PID), "api": "http://" + at(10), "raft": at(11), "gossip": at(12), "dir": n2,
				"argv": []any{os.Args[0], "agent", "--config", filepath.Join(n2, "lockstep.yaml")},
			},
		},
	}
	if !reflect.DeepEqual(shape, want) {
		t.Errorf("dev.json\n got %v\nwant %v", shape, want)
	}
	await(t, "the greeting", func() bool { return strings.Contains(out.String(), "LOCKSTEP_ADDR="+at(0)+","+at(10)) })

	pid := f.Nodes[1].PID
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "the death of node2 is told", func() bool {
		return strings.Contains(out.String(), "node2 (pid "+strconv.Itoa(pid)+") has ended: signal: killed")
	})
	if !alive(f.Nodes[0].PID) {
		t.Error("node1 went with node2")
	}
	if err := end(); err != nil {
		t.Errorf("the end: %v", err)
	}
	if alive(f.Nodes[0].PID) {
		t.Error("node1 outlived the cluster")
	}
	if _, err := os.Stat(filepath.Join(o.Dir, dev.FileName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("dev.json of a cluster that has ended: %v", err)
	}
}

func TestADirectoryKeepsItsDeployment(t *testing.T) { //nolint:paralleltest // it needs a range of ports to itself
	var out output
	o := options(t, &out)
	deployment := func() string {
		t.Helper()
		cfg, err := config.Load(filepath.Join(o.Dir, "node2", "lockstep.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		return cfg.Deployment
	}
	_, end := up(t, o)
	first := deployment()
	if err := end(); err != nil {
		t.Fatal(err)
	}
	o.LogLevel = "debug"
	_, end = up(t, o)
	if second := deployment(); second != first || first == "" {
		t.Errorf("the deployment is called %q and then %q", first, second)
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
	o.Dir = t.TempDir()
	_, _ = up(t, o)
	if other := deployment(); other == first {
		t.Errorf("two directories have the deployment %q", first)
	}
}

// All nodes have the section auth of a file, and are asked with a token that they know.
func TestUsersAreThoseOfAFile(t *testing.T) { //nolint:paralleltest // it needs a range of ports to itself
	var out output
	o := options(t, &out)
	o.Auth, o.Token = filepath.Join(t.TempDir(), "auth.yaml"), secret
	if err := os.WriteFile(o.Auth, []byte("# who is who\nmode: tokens\ntokens: /etc/tokens\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, end := up(t, o)
	for _, node := range []string{"node1", "node2"} {
		cfg, err := config.Load(filepath.Join(o.Dir, node, "lockstep.yaml"))
		if err != nil || cfg.Auth.Mode != config.ModeTokens || cfg.Auth.Tokens != "/etc/tokens" {
			t.Errorf("%s has %+v, %v", node, cfg.Auth, err)
		}
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	for file, want := range map[string]string{"mode: nobody": "auth.mode", "policies": "lockstep.yaml"} {
		if err := os.WriteFile(o.Auth, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := dev.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestAnAgentThatCannotStartIsQuoted(t *testing.T) { //nolint:paralleltest // it needs a range of ports to itself
	var out output
	o := options(t, &out)
	o.LogLevel = "trace"
	err := dev.Run(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "the disk is full") || !strings.Contains(err.Error(), "node") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(o.Dir, dev.FileName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("dev.json of a cluster that never was ready: %v", err)
	}
}

func TestAPortInUseIsNamed(t *testing.T) { //nolint:paralleltest // it needs a range of ports to itself
	var out output
	o := options(t, &out)
	taken := strconv.Itoa(o.APIPort + 11)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:"+taken)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = dev.Run(t.Context(), o)
	for _, want := range []string{taken, "Raft of node2", "--api-port"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if entries, _ := os.ReadDir(o.Dir); len(entries) > 0 {
		t.Errorf("it left %v", entries)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*dev.Options){
		"--dir":           func(o *dev.Options) { o.Dir = "" },
		"--nodes 21":      func(o *dev.Options) { o.Nodes = 21 },
		"--api-port":      func(o *dev.Options) { o.APIPort = 65530 },
		"--node-prefix":   func(o *dev.Options) { o.NodePrefix = "a@" },
		"--cluster":       func(o *dev.Options) { o.Cluster = "" },
		"--backend":       func(o *dev.Options) { o.Backend = "a/b" },
		"--targets":       func(o *dev.Options) { o.Targets = []string{"default"} },
		"--targets \"b\"": func(o *dev.Options) { o.Targets = []string{"b", "b"} },
		"--promote-delay": func(o *dev.Options) { o.PromoteDelay = -1 },
		"--admins: not":   func(o *dev.Options) { o.Auth, o.Admins = "auth.yaml", []string{"a"} },
		"--auth: open":    func(o *dev.Options) { o.Auth = "/nowhere/auth.yaml" },
		"--log-level":     func(o *dev.Options) { o.LogLevel = "loud" },
	} {
		o := dev.Default()
		o.Dir = t.TempDir()
		change(&o)
		if err := dev.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %q", err, want)
		}
	}
}
