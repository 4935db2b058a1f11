package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin/runner"
	"golang.org/x/sys/unix"
)

// child is a process that was started, and what that has started: all that holds the
// lock. It is the runner of go-plugin.
type child struct {
	cmd    *exec.Cmd
	path   string // of the lock
	logger hclog.Logger

	lifeline       *os.File // its other end is the child's standard input
	stdout, stderr *os.File

	mu     sync.Mutex
	reaped bool
	ended  error         // how; set before exited is closed
	killed chan struct{} // closed when it is made to end
	exited chan struct{} // closed when the process has ended
	gone   chan struct{} // closed when nothing holds the lock any more
}

var _ runner.Runner = (*child)(nil)

// environment is what a driver gets of the agent's: nothing that might be a secret.
func environment() []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ", "GODEBUG", "GOCOVERDIR", "GORACE"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// start starts a process that inherits the lock, and closes this process's own hold
// on it. It leads a process group, so that what it starts can be ended with it.
func start(command, env []string, lock *os.File, logger hclog.Logger) (c *child, err error) {
	c = &child{
		path: lock.Name(), logger: logger,
		killed: make(chan struct{}), exited: make(chan struct{}), gone: make(chan struct{}),
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	//nolint:gosec,noctx // the command is the operator's; no context is to end it but our own rules
	c.cmd = exec.Command(command[0], command[1:]...)
	c.cmd.Env = append(environment(), env...)
	c.cmd.ExtraFiles = []*os.File{lock}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	theirs, err := c.pipes()
	if err == nil {
		err = c.cmd.Start()
	}
	for _, f := range theirs {
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return nil, errors.Join(err, c.closePipes())
	}
	go c.reap()
	return c, nil
}

// pipes connects the standard streams, and returns the child's ends.
func (c *child) pipes() (theirs []*os.File, err error) {
	in, lifeline, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c.lifeline, c.cmd.Stdin = lifeline, in
	theirs = append(theirs, in)
	stdout, out, err := os.Pipe()
	if err != nil {
		return theirs, err
	}
	c.stdout, c.cmd.Stdout = stdout, out
	theirs = append(theirs, out)
	stderr, out, err := os.Pipe()
	if err != nil {
		return theirs, err
	}
	c.stderr, c.cmd.Stderr = stderr, out
	return append(theirs, out), nil
}

func (c *child) closePipes() error {
	var errs []error
	for _, f := range []*os.File{c.lifeline, c.stdout, c.stderr} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// reap waits for the end of the process, then for that of what it has left behind.
// It cannot be made to stop waiting: while it does, the lock is held.
func (c *child) reap() {
	pid := c.cmd.Process.Pid
	for errors.Is(unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
	}
	c.mu.Lock()
	// Not reaped yet, so the number of the group cannot be another's.
	_ = unix.Kill(-pid, unix.SIGKILL) // if there is no group any more, all is well
	c.ended = c.cmd.Wait()
	c.reaped = true
	c.mu.Unlock()
	close(c.exited)
	lock, err := waitLock(context.Background(), c.path) //nolint:forbidigo // nothing may end this wait, see above
	if err == nil {
		err = lock.Close()
	}
	if err != nil {
		c.logger.Error("nobody knows whether the driver's processes are gone", "lock", c.path, "error", err)
		return
	}
	close(c.gone)
}

// signal sends a signal to the process and what it has started.
func (c *child) signal(s syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s == unix.SIGKILL {
		select {
		case <-c.killed:
		default:
			close(c.killed)
		}
	}
	if !c.reaped {
		_ = unix.Kill(-c.cmd.Process.Pid, s) // all of them may have ended
	}
}

// outcome says how the process has ended; it is for after exited is closed.
func (c *child) outcome() error {
	if c.ended == nil {
		return fmt.Errorf("driver process %d has ended: exit status 0", c.cmd.Process.Pid)
	}
	return fmt.Errorf("driver process %d has ended: %w", c.cmd.Process.Pid, c.ended)
}

// oversee reports a process that cannot be ended, until it is gone.
func (c *child) oversee(patience time.Duration, report func(stuck bool)) {
	select {
	case <-c.exited:
	case <-c.killed:
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-c.gone:
		return
	case <-timer.C:
	}
	c.logger.Error("the driver's processes cannot be ended: power this node off if they do not end by themselves",
		"pid", c.cmd.Process.Pid, "pids", holders(c.path))
	report(true)
	<-c.gone
	c.logger.Info("the driver's processes have ended after all", "pid", c.cmd.Process.Pid)
	report(false)
}

// Start implements [runner.Runner]: the process runs already.
func (c *child) Start(context.Context) error { return nil }

// Wait implements [runner.AttachedRunner].
func (c *child) Wait(context.Context) error {
	<-c.exited
	return nil // who cares has seen it
}

// Kill implements [runner.AttachedRunner].
func (c *child) Kill(context.Context) error {
	c.signal(unix.SIGKILL)
	return nil
}

// Stdout implements [runner.Runner].
func (c *child) Stdout() io.ReadCloser { return c.stdout }

// Stderr implements [runner.Runner].
func (c *child) Stderr() io.ReadCloser { return c.stderr }

// Name implements [runner.Runner].
func (c *child) Name() string { return c.cmd.Path }

// ID implements [runner.AttachedRunner].
func (c *child) ID() string { return strconv.Itoa(c.cmd.Process.Pid) }

// Diagnose implements [runner.Runner].
func (c *child) Diagnose(context.Context) string {
	return "is it a driver for Lockstep? See driver.proto for what one has to print"
}

// PluginToHost implements [runner.AddrTranslator].
func (c *child) PluginToHost(network, addr string) (hostNet, hostAddr string, err error) {
	return network, addr, nil
}

// HostToPlugin implements [runner.AddrTranslator].
func (c *child) HostToPlugin(network, addr string) (pluginNet, pluginAddr string, err error) {
	return network, addr, nil
}
