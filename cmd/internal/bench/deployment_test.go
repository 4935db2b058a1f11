package bench_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/lockstep-storage/lockstep/api/client"
	"github.com/lockstep-storage/lockstep/cmd/internal/agent"
	"github.com/lockstep-storage/lockstep/cmd/internal/config"
	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/driverhost/process"
	"github.com/lockstep-storage/lockstep/scripts/freeport"
)

// The environment in which the test binary is a node.
const (
	envIndex = "LOCKSTEP_BENCH_NODE"
	envDir   = "LOCKSTEP_BENCH_DIR"
	envPorts = "LOCKSTEP_BENCH_PORTS"
	envLogs  = "LOCKSTEP_BENCH_LOGS" // a directory for the nodes' logs; none are kept if it is empty
)

const clusterName = "bench@instant"

// TestMain lets the test binary be a node of the deployment that it measures.
func TestMain(m *testing.M) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if os.Getenv("LOCKSTEP_DRIVER") != "" {
		serveInstant(ctx)
		return
	}
	if os.Getenv(envIndex) == "" {
		os.Exit(m.Run()) //nolint:gocritic // there is nothing to tidy up
	}
	if err := serveNode(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // the node has ended
	}
}

// serveNode is the process of a node.
func serveNode(ctx context.Context) error {
	logger, cfg := hclog.NewNullLogger(), nodeConfig()
	if logs := os.Getenv(envLogs); logs != "" {
		path := filepath.Join(logs, cfg.Node+".log")
		kept, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // where the test says
		if err != nil {
			return err
		}
		defer func() { _ = kept.Close() }()
		logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: kept})
	}
	drivers := func(cfg config.Config, b config.Backend) (driverhost.Backend, error) {
		return agent.Process(cfg, b, []string{os.Args[0], os.Getenv(envDir)})
	}
	return agent.Run(ctx, cfg, "bench", drivers, logger)
}

// serveInstant is the process of a driver.
func serveInstant(ctx context.Context) {
	open := func(context.Context, driverhost.OpenRequest, []byte) (driverhost.Driver, error) {
		return instant{dir: os.Args[1]}, nil
	}
	if err := process.Serve(ctx, open); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func nodeConfig() config.Config {
	index, _ := strconv.Atoi(os.Getenv(envIndex))
	ports := strings.Split(os.Getenv(envPorts), ",")
	at := func(i, kind int) string { return "127.0.0.1:" + ports[3*i+kind] }
	cfg := config.Default()
	cfg.Node, cfg.Deployment = nodeName(index), "bench"
	cfg.DataDir = filepath.Join(os.Getenv(envDir), cfg.Node)
	cfg.BootstrapExpect = 3
	cfg.API.Listen, cfg.Raft.Listen, cfg.Gossip.Listen = at(index, 0), at(index, 1), at(index, 2)
	cfg.Gossip.Join = []string{at(0, 2)}
	cfg.Backends = []config.Backend{{Name: "instant", Cluster: clusterName, Driver: os.Args[0], Targets: []string{"site-b"}}}
	return cfg
}

// deployment is three running nodes.
type deployment struct {
	client *client.Client
	dir    string
	logs   string // see envLogs
	ports  []string
	nodes  []*exec.Cmd // by number; nil while one is dead
}

// start runs three nodes until the test ends. Their logs go to a directory, if one is
// given.
func start(tb testing.TB, logs string) *deployment {
	tb.Helper()
	d := &deployment{dir: tb.TempDir(), logs: logs, nodes: make([]*exec.Cmd, 3)}
	base, err := freeport.Find(tb.Context(), 9)
	if err != nil {
		tb.Fatal(err)
	}
	for port := base; port < base+9; port++ {
		d.ports = append(d.ports, strconv.Itoa(port))
	}
	var addrs []string
	for i := range d.nodes {
		d.run(tb, i)
		addrs = append(addrs, "127.0.0.1:"+d.ports[3*i])
	}
	tb.Cleanup(func() {
		for i := range d.nodes {
			d.kill(i)
		}
	})
	// As many connections stay open as there are clients at most.
	keep := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}
	c, err := client.New(addrs, client.Options{HTTP: keep})
	if err != nil {
		tb.Fatal(err)
	}
	d.client = c
	d.await(tb)
	return d
}

// run starts a node with the data that it has.
func (d *deployment) run(tb testing.TB, i int) {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), envIndex+"="+strconv.Itoa(i), envDir+"="+d.dir, envPorts+"="+strings.Join(d.ports, ","), envLogs+"="+d.logs)
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := os.MkdirAll(filepath.Join(d.dir, nodeName(i)), 0o700); err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	d.nodes[i] = cmd
}

// kill ends a node as kill -9 does.
func (d *deployment) kill(i int) {
	if d.nodes[i] == nil {
		return
	}
	_ = d.nodes[i].Process.Kill()
	_ = d.nodes[i].Wait()
	d.nodes[i] = nil
}

func nodeName(i int) string { return fmt.Sprintf("node%d", i+1) }

// await waits until all members serve.
func (d *deployment) await(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for ; ; <-tick.C {
		if cl, err := d.client.Cluster(ctx, clusterName); err == nil && len(cl.Members) == 3 && cl.Settled() {
			return
		}
		if ctx.Err() != nil {
			tb.Fatal("the deployment is not ready after 30 s")
		}
	}
}
