package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/driverhost/process/driverpb"
)

// Config says how drivers of one service are started. All fields but StartTimeout and
// Options are required.
type Config struct {
	Command []string      // program, absolute, and arguments; everybody on the machine can read them
	Options []byte        // of the backend, a JSON object; they may hold secrets
	Lock    string        // absolute path of the file that is the service's lock; its directory is made
	Kill    time.Duration // K: from a lease's end until no process of a driver is left; greater than 0

	// StartTimeout bounds the time from the start of a process until it answers;
	// default 10s.
	StartTimeout time.Duration
}

// The parts of K: when, counted from the end of the lease, what happens. Calls are
// cancelled at 0.
func (c Config) termAfter() time.Duration { return c.Kill / 4 } // SIGTERM, by the agent
func (c Config) killAfter() time.Duration { return c.Kill / 2 } // SIGKILL, by the kernel's timer and by the agent
// A process that has not ended so long after SIGKILL is reported as stuck. The last
// quarter of K is for that report, and for timers that are late.
func (c Config) reapWithin() time.Duration { return c.Kill / 4 }

// New returns an opener of drivers in processes. Their drivers are of type
// [driverhost.Process], and have the optional interfaces that the driver in the
// process has.
func New(cfg Config) (driverhost.Opener, error) {
	switch {
	case len(cfg.Command) == 0 || !filepath.IsAbs(cfg.Command[0]):
		return nil, fmt.Errorf("command: %q is not the absolute path of a program", cfg.Command)
	case !filepath.IsAbs(cfg.Lock):
		return nil, fmt.Errorf("lock: %q is not an absolute path", cfg.Lock)
	case cfg.Kill <= 0:
		return nil, fmt.Errorf("kill: %v is not greater than 0", cfg.Kill)
	}
	if cfg.StartTimeout <= 0 {
		cfg.StartTimeout = 10 * time.Second
	}
	if err := os.MkdirAll(filepath.Dir(cfg.Lock), 0o700); err != nil {
		return nil, fmt.Errorf("directory of the lock: %w", err)
	}
	return cfg.open, nil
}

// remote is a driver in a process, as the agent sees it.
type remote struct {
	cfg    Config
	lease  driverhost.Deadline
	logger hclog.Logger
	child  *child
	plugin *plugin.Client
	driver driverpb.DriverClient
	calls  atomic.Uint64

	adopts, retypes, groups bool // what the driver said that it can do when it was opened

	alive context.Context //nolint:containedctx // ends when nothing is left of the process
	wg    sync.WaitGroup
}

var _ driverhost.Process = (*remote)(nil)

// open starts a process once nothing is left of the one before, and opens the driver
// in it.
func (c Config) open(ctx context.Context, req driverhost.OpenRequest) (driverhost.Driver, error) {
	if req.OnStuck == nil {
		req.OnStuck = func(bool) {}
	}
	logger := req.Logger
	if logger == nil {
		logger = hclog.NewNullLogger()
	}
	lock, err := c.awaitPredecessor(ctx, logger, req.OnStuck)
	if err != nil {
		return nil, err
	}
	r := &remote{cfg: c, lease: req.Lease, logger: logger}
	if err := r.start(ctx, lock, req.OnStuck); err != nil {
		return nil, err
	}
	driver, err := r.open(ctx, req)
	if err != nil {
		return nil, errors.Join(err, r.Close()) //nolint:contextcheck // what was started is ended, whatever ctx says
	}
	return driver, nil
}

// awaitPredecessor returns the lock on the service. What holds it may be a driver that
// outlived its agent, and work still.
func (c Config) awaitPredecessor(ctx context.Context, logger hclog.Logger, report func(stuck bool)) (*os.File, error) {
	lock, err := tryLock(c.Lock)
	if lock != nil || err != nil {
		return lock, err
	}
	logger.Warn("waiting for processes of an earlier driver to end", "lock", c.Lock, "pids", holders(c.Lock))
	patient, cancel := context.WithTimeout(ctx, c.killAfter()+c.reapWithin())
	defer cancel()
	lock, err = waitLock(patient, c.Lock)
	if lock != nil || patient.Err() == nil || ctx.Err() != nil {
		return lock, err
	}
	logger.Error("processes of an earlier driver do not end: power this node off if they cannot be ended",
		"lock", c.Lock, "pids", holders(c.Lock))
	report(true)
	if lock, err = waitLock(ctx, c.Lock); err != nil {
		return nil, err
	}
	report(false)
	return lock, nil
}

// start starts the process and connects to it.
func (r *remote) start(ctx context.Context, lock *os.File, report func(stuck bool)) error {
	stop := func() bool { return true }
	r.plugin = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: handshake(), Plugins: plugin.PluginSet{pluginName: &grpcPlugin{}},
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC}, StartTimeout: r.cfg.StartTimeout,
		Logger: quiet{Logger: hclog.NewNullLogger(), driver: r.logger}, SkipHostEnv: true,
		GRPCDialOptions: []grpc.DialOption{grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage))},
		RunnerFunc: func(_ hclog.Logger, spec *exec.Cmd, _ string) (runner.Runner, error) {
			c, err := start(r.cfg.Command, spec.Env, lock, r.logger) //nolint:contextcheck // the process outlives ctx
			if err != nil {
				return nil, err
			}
			r.child = c
			stop = context.AfterFunc(ctx, func() { c.signal(unix.SIGKILL) })
			return c, nil
		},
	})
	client, err := r.plugin.Client()
	stop()
	if r.child == nil {
		_ = lock.Close() // again, if the start has failed and not what comes before it
		return fmt.Errorf("start %s: %w", r.cfg.Command[0], err)
	}
	alive, dead := context.WithCancel(context.WithoutCancel(ctx))
	r.alive = alive
	r.wg.Go(func() {
		<-r.child.gone
		dead()
	})
	r.wg.Go(func() { r.child.oversee(r.cfg.reapWithin(), report) })
	if err == nil {
		var raw any
		raw, err = client.Dispense(pluginName)
		r.driver, _ = raw.(driverpb.DriverClient)
	}
	if err != nil {
		//nolint:contextcheck // what was started is ended, whatever ctx says
		return errors.Join(fmt.Errorf("start %s: %w", r.cfg.Command[0], err), r.Close())
	}
	r.wg.Go(r.guard)
	r.wg.Go(r.renewals)
	return nil
}
