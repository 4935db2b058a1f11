package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/cmd/internal/config"
)

const minimal = `node: node1
deployment: test
data_dir: /tmp/node1
bootstrap_expect: 1
`

const backend = `backends:
  - name: files
    cluster: dev@files
    driver: file
    options:
      sites: {default: /srv/a, site-b: /srv/b}
`

func TestExampleIsValidAndSaysTheDefaults(t *testing.T) {
	t.Parallel()
	got, err := config.Parse("example.yaml", []byte(config.Example()))
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.Node, want.Deployment, want.DataDir = "node1", "example", "/var/lib/lockstep"
	want.BootstrapExpect = 3
	want.Gossip.Join = []string{"127.0.0.1:9788", "127.0.0.1:9798"}
	want.Backends = got.Backends
	if !reflect.DeepEqual(got, want) {
		t.Errorf("example\n got %+v\nwant %+v", got, want)
	}
	b := got.Backends[0]
	files, err := b.File()
	if err != nil {
		t.Fatal(err)
	}
	if b.Host(got.Node) != "node1@files" || b.Cluster != "prod@files" || files.Sites["site-b"] != "/srv/lockstep/site-b" || files.BlockSize != 65536 {
		t.Errorf("backend %+v with options %+v", b, files)
	}
}

func TestMinimalConfigurationTakesDefaults(t *testing.T) {
	t.Parallel()
	got, err := config.Parse("f", []byte(minimal+"raft:\n  timing:\n    heartbeat: 1s\n    election: 1s\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.Node, want.Deployment, want.DataDir, want.BootstrapExpect = "node1", "test", "/tmp/node1", 1
	want.Raft.Timing.Heartbeat, want.Raft.Timing.Election = time.Second, time.Second
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
}

// Every mistake gets a message that names the key, and a line where there is one.
func TestMistakes(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		content string
		line    int
		says    []string
	}{
		"empty":                  {"", 0, []string{"config example"}},
		"not a mapping":          {"just words", 1, nil},
		"broken syntax":          {"node: [1\n", 1, nil},
		"unknown key":            {minimal + "bootstrap_expects: 3\n", 5, []string{"bootstrap_expects"}},
		"unknown nested key":     {minimal + "raft:\n  timing:\n    heart_beat: 1s\n", 7, []string{"heart_beat"}},
		"unknown backend key":    {minimal + "backends:\n  - name: a\n    drivers: file\n", 7, []string{"drivers"}},
		"unknown driver option":  {minimal + strings.Replace(backend, "sites", "site", 1), 10, []string{"site"}},
		"twice the same key":     {minimal + "node: node2\n", 5, []string{"node"}},
		"wrong type":             {minimal + "voters: many\n", 5, []string{"voters", "many", "whole number"}},
		"list for a word":        {minimal + "log_level: [info]\n", 5, nil},
		"bad duration":           {minimal + "lease:\n  duration: 3 seconds\n", 6, []string{"3 seconds", "300ms"}},
		"duration without unit":  {minimal + "lease:\n  duration: 3\n", 6, []string{"3", "unit"}},
		"bad duration in driver": {minimal + backend + "      promote_delay: soon\n", 11, []string{"soon"}},
		"no node":                {"deployment: d\ndata_dir: /d\nbootstrap_expect: 1\n", 0, []string{"node is missing"}},
		"no deployment":          {"node: d\ndata_dir: /d\nbootstrap_expect: 1\n", 0, []string{"deployment is missing"}},
		"no data_dir":            {"node: d\ndeployment: d\nbootstrap_expect: 1\n", 0, []string{"data_dir is missing"}},
		"bad node name":          {strings.Replace(minimal, "node1", "node@1", 1), 1, []string{"node", "node@1", "letters"}},
		"bad level":              {minimal + "log_level: loud\n", 5, []string{"log_level", "loud", "debug"}},
		"bad store":              {minimal + "raft:\n  log_store: files\n", 6, []string{"raft.log_store", "files", "wal, boltdb"}},
		"nobody to join":         {"node: n\ndeployment: d\ndata_dir: /d\nbootstrap_expect: 3\n", 0, []string{"gossip.join"}},
		"more than vote":         {minimal[:len(minimal)-2] + "5\nvoters: 3\ngossip: {join: ['h:1']}\n", 4, []string{"bootstrap_expect", "5", "3"}},
		"bad join":               {minimal + "gossip:\n  join:\n    - h:1\n    - nowhere\n", 8, []string{"gossip.join[1]", "nowhere", "host:port"}},
		"port too high":          {minimal + "api:\n  listen: 127.0.0.1:99999\n", 6, []string{"api.listen", "99999"}},
		"open to others":         {minimal + "api:\n  listen: 192.0.2.1:9776\n", 6, []string{"api.listen", "loopback", "insecure: true"}},
		"all addresses":          {minimal + "insecure: true\nraft:\n  listen: 0.0.0.0:9777\n", 7, []string{"raft.advertise", "raft.listen"}},
		"same address twice":     {minimal + "raft:\n  listen: 127.0.0.1:9776\n", 6, []string{"raft.listen", "api.listen"}},
		"grace too short":        {minimal + "lease:\n  grace: 5s\n", 6, []string{"lease.grace", "5s", "5.61"}},
		"clock error":            {minimal + "lease:\n  clock_error: 2\n", 6, []string{"lease.clock_error", "0.1"}},
		"heartbeat":              {minimal + "raft:\n  timing:\n    heartbeat: 1ms\n", 7, []string{"raft.timing.heartbeat", "50ms"}},
		"trailing logs":          {minimal + "raft:\n  timing:\n    trailing_logs: 999\n", 7, []string{"raft.timing.trailing_logs", "1000"}},
		"attempts":               {minimal + "failover:\n  attempts: 0\n", 6, []string{"failover.attempts", "1 to 1000"}},
		"cluster of another":     {minimal + strings.Replace(backend, "dev@files", "dev@other", 1), 7, []string{"backends[0].cluster", "dev@other", "@files"}},
		"tag":                    {minimal + "backends: !list x\n", 5, []string{"!list", "not allowed"}},
		"no driver":              {minimal + "backends:\n  - name: a\n", 6, []string{"backends[0].driver", "file"}},
		"unknown driver":         {minimal + "backends:\n  - name: a\n    driver: rbd\n", 7, []string{"backends[0].driver", "rbd", "file"}},
		"two of a name":          {minimal + "backends:\n  - &b\n    name: a\n    driver: file\n    options: {sites: {default: /a}}\n  - *b\n", 0, []string{"backends[1].name"}},
		"relative site":          {minimal + strings.Replace(backend, "/srv/b", "srv/b", 1), 10, []string{"site-b", "srv/b", "absolute"}},
		"no primary":             {minimal + strings.Replace(backend, "default:", "main:", 1), 10, []string{"default"}},
		"odd block size":         {minimal + backend + "      block_size: 1000\n", 11, []string{"block_size", "1000"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Parse("node.yaml", []byte(tc.content))
			if err == nil {
				t.Fatal("got no error")
			}
			bad, ok := errors.AsType[*config.Error](err)
			if !ok {
				t.Fatalf("got %T: %v", err, err)
			}
			if tc.line != 0 && bad.Line != tc.line {
				t.Errorf("got line %d, want %d: %v", bad.Line, tc.line, err)
			}
			for _, want := range tc.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}

func TestAllMistakesAreToldAtOnce(t *testing.T) {
	t.Parallel()
	_, err := config.Parse("f", []byte("node: a b\nlog_level: loud\n"))
	for _, want := range []string{"node", "deployment", "data_dir", "log_level"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

func TestPrettyErrorShowsTheLine(t *testing.T) {
	t.Parallel()
	_, err := config.Parse("node.yaml", []byte(minimal+"vorters: 3\n"))
	bad, ok := errors.AsType[*config.Error](err)
	if !ok {
		t.Fatalf("got %v", err)
	}
	plain := bad.Pretty(config.Plain)
	for _, want := range []string{"node.yaml", "> ", "5 | vorters: 3", "^"} {
		if !strings.Contains(plain, want) {
			t.Errorf("%q does not contain %q", plain, want)
		}
	}
	if strings.Contains(plain, "\x1b") {
		t.Errorf("%q has colour", plain)
	}
	if !strings.Contains(bad.Pretty(config.Coloured), "\x1b") {
		t.Error("no colour where it was asked for")
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "node.yaml")
	if _, err := config.Load(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: got %v", err)
	}
	if err := os.WriteFile(path, []byte(minimal), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil || cfg.Node != "node1" {
		t.Errorf("got %+v, %v", cfg, err)
	}
	if err := os.WriteFile(path, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(path); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("a huge file: got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(config.Example()))
	f.Add([]byte(minimal + backend))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("backends: !a b\n")) // the library would panic
	f.Fuzz(func(_ *testing.T, content []byte) {
		_, err := config.Parse("f", content)
		for bad, ok := errors.AsType[*config.Error](err); ok; ok = false {
			_ = bad.Pretty(config.Plain)
		}
	})
}

func TestReadmeShowsTheExample(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), "```yaml\n"+config.Example()+"```\n") {
		t.Error("README.md shows another configuration than 'lockstep config example'")
	}
}
