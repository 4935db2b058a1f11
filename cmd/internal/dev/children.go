package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// children are the processes that were started. Each leads a process group of its
// own, so that an interrupt of the terminal reaches only the parent, which then
// ends them in order.
type children struct {
	out  io.Writer
	died chan string // the name of the first that ended unasked

	mu      sync.Mutex
	running map[string]*exec.Cmd
	ending  bool
	wg      sync.WaitGroup
}

func newChildren(out io.Writer) *children {
	return &children{out: out, died: make(chan string, 1), running: map[string]*exec.Cmd{}}
}

// start runs a node; it lives until it ends by itself or end is called.
func (c *children) start(ctx context.Context, n *node) (err error) {
	log, err := os.OpenFile(n.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }() // the child has its own
	cmd := exec.CommandContext(context.WithoutCancel(ctx), n.Argv[0], n.Argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", n.Name, err)
	}
	c.mu.Lock()
	c.running[n.Name] = cmd
	c.mu.Unlock()
	c.wg.Go(func() { c.reap(n, cmd) })
	return nil
}

// reap waits for the end of a child and says so if nobody asked for it.
func (c *children) reap(n *node, cmd *exec.Cmd) {
	err := cmd.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.running, n.Name)
	if c.ending {
		return
	}
	how := "exit code 0"
	if err != nil {
		how = err.Error()
	}
	fmt.Fprintf(c.out, "%s (pid %d) has ended: %s; its log is %s\n", n.Name, cmd.Process.Pid, how, n.log)
	select {
	case c.died <- n.Name:
	default:
	}
}

func (c *children) pid(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cmd, ok := c.running[name]; ok {
		return cmd.Process.Pid
	}
	return 0
}

// patience is how long children have to end when asked.
const patience = 15 * time.Second

// end asks all children to end, and makes those that do not.
func (c *children) end() {
	c.signal(syscall.SIGTERM)
	timer := time.AfterFunc(patience, func() { c.signal(syscall.SIGKILL) })
	defer timer.Stop()
	c.wg.Wait()
}

func (c *children) signal(s syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ending = true
	for _, cmd := range c.running {
		// The only error is that the process is gone already.
		_ = syscall.Kill(-cmd.Process.Pid, s)
	}
}
