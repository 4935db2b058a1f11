package cli_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/api/client"
	"github.com/lockstep-storage/lockstep/cmd/internal/cli"
)

var update = flag.Bool("update", false, "write the golden files anew")

var (
	at     = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	member = func(host, state string, up bool) client.FailoverMember {
		return client.FailoverMember{Host: host, State: state, Epoch: 2, ActiveBackendID: "site-b", At: at, Up: &up}
	}
	done = client.Failover{
		ID: "f1", Cluster: "dev@files", From: "default", Target: "site-b", Mode: "forced", Phase: "done", Attempt: 2,
		Executor: "node2@files", Reason: "fire", RequestedBy: "admin", RequestedAt: at, FinishedAt: at.Add(1500 * time.Millisecond),
		Epoch: 2, Index: 42,
		Members: []client.FailoverMember{member("node1@files", "switched", true), member("node2@files", "drained", false)},
	}
	failed  = client.Failover{ID: "f2", Cluster: "dev@files", From: "default", Target: "site-b", Mode: "forced", Phase: "failed", Error: "the array is on fire", Index: 9}
	partial = client.Failover{
		ID: "f3", Cluster: "dev@files", From: "default", Target: "site-b", Phase: "done", Epoch: 2, Results: client.FailoverResults{Staged: 3, Failed: 1},
		Members: []client.FailoverMember{{Host: "node1@files", State: "error", Error: "no answer", Up: new(true)}},
	}
	running = client.Failover{
		ID: "f4", Cluster: "dev@files", From: "default", Target: "site-b", Phase: "promoting", Executor: "node1@files", Attempt: 1, Index: 3,
		Members: []client.FailoverMember{member("node1@files", "drained", true)},
	}
	truth = client.Cluster{
		Name: "dev@files", Binary: "cinder-volume", Epoch: 2, ActiveBackendID: "site-b", ReplicationStatus: "failed-over",
		Disabled: true, DisabledReason: "failed-over", Targets: []string{"site-b", "site-c"}, Index: 42,
		Members: []client.ClusterMember{
			{
				Host: "node1@files", Node: "node1", Up: new(true), State: "current", Age: "3s", Disabled: true, DisabledReason: "failed-over",
				Committed: client.Site{Epoch: 2, ActiveBackendID: "site-b"}, Reported: client.Report{Epoch: 2, ActiveBackendID: "site-b", At: at},
			},
			{
				Host: "node2@files", Node: "node2", Up: new(false), State: "down", Age: "1m0s",
				Committed: client.Site{Epoch: 2, ActiveBackendID: "site-b"}, Reported: client.Report{Epoch: 1, ActiveBackendID: "default", At: at},
			},
		},
	}
	volume = client.Volume{
		ID: "4eced89d-35d6-4e54-8510-6556139e31bb", Name: "db", Size: 2, Status: "available", VolumeType: "replicated",
		ReplicationStatus: "failed-over", ClusterName: "dev@files", Host: "node1@files", CreatedAt: "2026-11-22T12:00:00.000000",
	}
)

// node answers like a deployment of two nodes after a failover.
func node(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	says := func(pattern string, status int, body any) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(body)
		})
	}
	type m map[string]any
	refusal := func(status int, code, detail string) m { return m{"status": status, "code": code, "detail": detail} }
	for _, f := range []client.Failover{done, failed, partial, running} {
		says("GET /v1/failovers/"+f.ID, 200, f)
	}
	says("GET /v1/failovers", 200, m{"failovers": []client.Failover{failed, done}})
	says("GET /v1/failovers/none", 404, refusal(404, "not_found", `failover "none" could not be found`))
	says("POST /v1/failovers/f1/abort", 409, refusal(409, "conflict", "failover f1 is done already"))
	mux.HandleFunc("POST /v1/failovers", request)
	says("GET /v1/clusters", 200, m{"clusters": []client.Cluster{truth}})
	says("GET /v1/clusters/dev@files", 200, truth)
	says("GET /v1/clusters/nope", 404, refusal(404, "not_found", `cluster "nope" could not be found`))
	says("GET /v1/status", 200, client.Status{
		Node: "node1", Deployment: "dev-1", Version: "v1", Leader: "node1", Leading: true, Term: 3, AppliedIndex: 42, CommitIndex: 42,
		Ready: true, Clusters: 1, Services: 2, Volumes: 1,
	})
	says("GET /v1/peers", 200, m{"peers": []client.Peer{
		{ID: "node1", Raft: "h:1", API: "http://h:2", Gossip: "h:3", Suffrage: "voter", Leader: true, Alive: true, Version: "v1", Format: 1},
		{ID: "node2", Raft: "i:1", API: "http://i:2", Gossip: "i:3", Suffrage: "nonvoter", Version: "v1", Format: 1},
	}})
	says("GET /v3/clusters/detail", 200, m{"clusters": []client.ClusterSummary{{
		Name: "dev@files", State: "up", Status: "disabled", DisabledReason: "failed-over", NumHosts: 2, NumDownHosts: 1,
		ReplicationStatus: "failed-over", ActiveBackendID: "site-b",
	}}})
	says("GET /v3/os-services", 200, m{"services": []client.Service{
		{Host: "node1@files", Binary: "cinder-volume", Cluster: "dev@files", Status: "enabled", State: "up", ReplicationStatus: "enabled"},
	}})
	says("GET /v3/volumes/detail", 200, m{"volumes": []client.Volume{volume}})
	says("GET /v3/volumes/"+volume.ID, 200, m{"volume": volume})
	says("POST /v3/volumes", 202, m{"volume": volume})
	says("POST /v3/volumes/"+volume.ID+"/action", 202, nil)
	says("DELETE /v3/volumes/"+volume.ID, 202, nil)
	says("GET /v3/snapshots/detail", 200, m{"snapshots": []client.Snapshot{{ID: "s1", Name: "snap", VolumeID: volume.ID, Size: 2, Status: "available"}}})
	says("POST /v3/snapshots", 202, m{"snapshot": client.Snapshot{ID: "s1", VolumeID: volume.ID, Size: 2, Status: "creating"}})
	says("PUT /v3/os-services/freeze", 200, nil)
	says("PUT /v3/os-services/thaw", 503, refusal(503, "no_leader", "nobody leads"))
	says("PUT /v3/clusters/enable", 200, nil)
	says("PUT /v3/clusters/disable", 500, refusal(500, "internal", "broken"))
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL
}

// request answers by the name of the cluster; n@b is a service outside clusters.
func request(w http.ResponseWriter, r *http.Request) {
	var asked client.FailoverRequest
	_ = json.NewDecoder(r.Body).Decode(&asked)
	status, body := http.StatusAccepted, any(map[string]client.Failover{
		"done@b": done, "failed@b": failed, "partial@b": partial, "running@b": running, "": {ID: "f1", Host: asked.Host, Target: asked.BackendID, Phase: "draining"},
	}[asked.Cluster])
	switch asked.Cluster {
	case "n@b":
		status, body = http.StatusNotFound, map[string]any{"code": "not_found", "detail": `cluster or host "n@b" could not be found`}
	case "busy@b":
		status, body = http.StatusConflict, map[string]any{"code": "failing_over", "detail": "failover f4 is promoting"}
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// run runs one command, and returns its exit code and output.
func run(t *testing.T, addr string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = cli.Main(t.Context(), cli.Process{
		Args: append([]string{"--addr", addr}, args...), In: strings.NewReader(""), Out: &out, Err: &err, Release: "v1.2.3",
	})
	return code, out.String(), err.String()
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	addr := node(t)
	for line, want := range map[string]struct {
		code int
		says string // on either stream
	}{
		"status":                                {cli.ExitDone, "dev-1"},
		"failover done@b site-b -y":             {cli.ExitDone, "failovers watch f1"},
		"failback done@b --wait":                {cli.ExitDone, "node2@files is down; it follows"},
		"failover n@b site-b -y":                {cli.ExitDone, "failover f1 of n@b to site-b"},
		"failovers watch f1":                    {cli.ExitDone, "epoch 2 after 1.5s"},
		"failovers watch f2":                    {cli.ExitError, "the array is on fire"},
		"cluster disable dev@files":             {cli.ExitError, "broken"},
		"config validate /nowhere":              {cli.ExitError, "no such file"},
		"agent --config /nowhere":               {cli.ExitError, "no such file"},
		"bogus":                                 {cli.ExitUsage, "unknown command"},
		"cluster bogus":                         {cli.ExitUsage, "unknown command"},
		"status --bogus":                        {cli.ExitUsage, "unknown flag"},
		"status -o xml":                         {cli.ExitUsage, "table, json, yaml"},
		"status --timeout -1s":                  {cli.ExitUsage, "negative"},
		"agent":                                 {cli.ExitUsage, "config"},
		"failover":                              {cli.ExitUsage, "received 0"},
		"failover done@b site-b":                {cli.ExitUsage, "--yes"},
		"failback done@b --forced":              {cli.ExitUsage, "--yes"},
		"failback done@b --mode now":            {cli.ExitUsage, "forced, planned"},
		"failover done@b b --to c":              {cli.ExitUsage, "two targets"},
		"failover done@b b --allow-attached -y": {cli.ExitUsage, "needs --group"},
		"volume create":                         {cli.ExitUsage, "size"},
		"volume create --size 0":                {cli.ExitUsage, "at least 1"},
		"volume extend db many":                 {cli.ExitUsage, "whole number"},
		"dev --dir /d --nodes 0":                {cli.ExitError, "1 to 20"},
		"cluster show nope":                     {cli.ExitRefused, "cluster list"},
		"failovers show none":                   {cli.ExitRefused, "failovers list"},
		"failovers abort f1":                    {cli.ExitRefused, "done already"},
		"failover busy@b site-b -y":             {cli.ExitRefused, "failovers watch"},
		"volume show nope":                      {cli.ExitRefused, "volume list"},
		"failovers watch f3":                    {cli.ExitPartly, "1 volumes, node1@files (no answer)"},
		"failback partial@b --wait":             {cli.ExitPartly, "not everything followed"},
		"failovers watch f4 --timeout 50ms": {
			cli.ExitRunning, "still promoting",
		},
		"thaw dev@files --timeout 50ms": {cli.ExitNoLeader, "majority"},
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := run(t, addr, strings.Fields(line)...)
			if code != want.code {
				t.Errorf("got exit code %d, want %d", code, want.code)
			}
			if !strings.Contains(stdout+stderr, want.says) {
				t.Errorf("nothing says %q:\n%s%s", want.says, stdout, stderr)
			}
		})
	}
}

func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	code, _, stderr := run(t, s.URL, "status")
	if code != cli.ExitError || !strings.Contains(stderr, "LOCKSTEP_ADDR") {
		t.Errorf("got %d: %s", code, stderr)
	}
}

func TestExitCodesAreDocumented(t *testing.T) {
	t.Parallel()
	_, stdout, _ := run(t, "h:1", "help", "exit-codes")
	readme, err := os.ReadFile("../../../README.md")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(stdout), "\n")[2:] {
		code, meaning, _ := strings.Cut(strings.TrimSpace(line), "  ")
		if len(code) != 1 || !strings.Contains(string(readme), "| "+code+" | "+meaning+" |") {
			t.Errorf("README.md does not explain exit code %q as %q", code, meaning)
		}
	}
}

// What people and scripts see.
func TestGolden(t *testing.T) {
	t.Parallel()
	addr := node(t)
	for _, line := range []string{
		"cluster list", "cluster list -o json", "cluster show dev@files", "cluster show dev@files -o json", "cluster show dev@files -o yaml",
		"cluster enable dev@files", "service list", "service list -o json", "peers list", "peers list -o json",
		"failovers list", "failovers list -o json", "failovers show f1", "failovers show f1 -o json", "failovers watch f1", "failovers watch f1 -o json",
		"failover done@b site-b --yes", "failover done@b site-b --yes -o json", "freeze dev@files",
		"volume list", "volume list -o json", "volume show db", "volume show db -o json", "volume create --size 2 --wait", "volume delete db",
		"volume extend db 3", "snapshot list", "snapshot list -o json", "snapshot create db --name x",
		"status", "status -o json", "help",
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := run(t, addr, strings.Fields(line)...)
			if code != cli.ExitDone {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			golden(t, line, stdout+progressOnly(stderr))
		})
	}
}

// progressOnly takes the times out of what was shown on standard error.
func progressOnly(stderr string) string {
	var out strings.Builder
	for line := range strings.Lines(stderr) {
		_, rest, _ := strings.Cut(line, "s  ")
		out.WriteString("T  " + rest)
	}
	return out.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", strings.NewReplacer(" ", "_", "@", "-", "--", "").Replace(name)+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (run with -update and look at the difference)\n--- got\n%s--- want\n%s", path, got, want)
	}
}
