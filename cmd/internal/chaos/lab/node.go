package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Node is one agent: a process, its disk and its place in the network.
type Node struct {
	ID   int // from 1
	Name string
	Dir  string
	Disk *Disk

	argv    []string
	network Network

	mu      sync.Mutex
	process *process // nil before the first start
	wanted  bool     // it should run
	exits   []Exit
	started int
}

// process is one run of an agent.
type process struct {
	cmd    *exec.Cmd
	ended  chan struct{} // closed when it has ended
	killed bool          // on purpose
}

// Exit is an end of an agent that nobody has asked for.
type Exit struct {
	Node string    `json:"node"`
	At   time.Time `json:"at"`
	Says string    `json:"says"` // how it ended
}

// Config is the path of the node's configuration.
func (n *Node) Config() string { return filepath.Join(n.Dir, "lockstep.yaml") }

// Log is the path of what the node says.
func (n *Node) Log() string { return filepath.Join(n.Dir, "log") }

// longestEnd is how long a killed process may take to be gone.
const longestEnd = 30 * time.Second

// Start starts the agent unless it runs, once the one before is gone, and has it
// started again whenever it ends by itself, as a supervisor of services does.
func (n *Node) Start(ctx context.Context) error {
	n.mu.Lock()
	before := n.process
	n.wanted = true
	runs := before != nil && before.running() && !before.killed
	n.mu.Unlock()
	if runs {
		return nil
	}
	if before != nil {
		select {
		case <-before.ended:
		case <-time.After(longestEnd):
			return fmt.Errorf("%s: the process before has not ended", n.Name)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return n.launch(context.WithoutCancel(ctx))
}

func (n *Node) launch(ctx context.Context) (err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.wanted || n.process != nil && n.process.running() {
		return nil
	}
	log, err := os.OpenFile(n.Log(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }() // the process has its own
	cmd := exec.CommandContext(ctx, n.argv[0], n.argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// A process that is dead goes on at once; what its drivers still write is lost.
	cmd.WaitDelay = time.Second
	if err := n.network.Start(n.ID, cmd); err != nil {
		return err
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	n.process = p
	n.started++
	go n.watch(ctx, p)
	return nil
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// restartPause is how long a supervisor waits before it starts an agent again.
const restartPause = 500 * time.Millisecond

// watch waits for the end of a process, and starts the next if it was not asked for.
func (n *Node) watch(ctx context.Context, p *process) {
	err := p.cmd.Wait()
	n.mu.Lock()
	unasked := !p.killed
	if unasked {
		says := "exit status 0"
		if err != nil {
			says = err.Error()
		}
		n.exits = append(n.exits, Exit{Node: n.Name, At: time.Now(), Says: says})
	}
	n.mu.Unlock()
	close(p.ended)
	if !unasked {
		return
	}
	<-time.After(restartPause)
	_ = n.launch(ctx) // a failure shows: the node stays down
}

// Kill ends the agent with kill -9 and does not start it again. A process on a
// stalled disk is gone only once the disk goes on.
func (n *Node) Kill() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wanted = false
	if n.process == nil || !n.process.running() {
		return
	}
	n.process.killed = true
	_ = n.process.cmd.Process.Kill() // one that has ended needs none
}

// AwaitEnd waits for a killed agent to be gone.
func (n *Node) AwaitEnd(ctx context.Context) error {
	n.mu.Lock()
	p := n.process
	n.mu.Unlock()
	if p == nil {
		return nil
	}
	select {
	case <-p.ended:
		return nil
	case <-time.After(longestEnd):
		return fmt.Errorf("%s: the process has not ended", n.Name)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Running reports whether the agent runs, stopped or not.
func (n *Node) Running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process != nil && n.process.running()
}

// PID is the process id of the agent, or 0.
func (n *Node) PID() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil || !n.process.running() {
		return 0
	}
	return n.process.cmd.Process.Pid
}

// Starts is how often the agent was started.
func (n *Node) Starts() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.started
}

// Exits are the ends of the agent that nobody has asked for.
func (n *Node) Exits() []Exit {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]Exit{}, n.exits...)
}

// Part is a part of a node that can be signalled by itself.
type Part int

// The parts of a node.
const (
	Agent Part = 1 << iota
	Drivers
)

// Signal sends a signal to parts of the node. It returns to how many processes.
func (n *Node) Signal(s syscall.Signal, parts Part) int {
	pid := n.PID()
	if pid == 0 {
		return 0
	}
	var to []int
	if parts&Drivers != 0 {
		to = Children(pid)
	}
	if parts&Agent != 0 {
		to = append(to, pid)
	}
	sent := 0
	for _, p := range to {
		if syscall.Kill(p, s) == nil {
			sent++
		}
	}
	return sent
}

// Drivers are the driver processes of the agent.
func (n *Node) Drivers() []int {
	if pid := n.PID(); pid != 0 {
		return Children(pid)
	}
	return nil
}

// Children are the processes that a process has started and that live.
func Children(pid int) (children []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		child, err := strconv.Atoi(e.Name())
		if err == nil && parent(child) == pid {
			children = append(children, child)
		}
	}
	return children
}

// parent is the parent of a process that lives, or 0.
func parent(pid int) int {
	state, ppid := statOf(fmt.Sprintf("/proc/%d/stat", pid))
	if state == "Z" {
		return 0
	}
	return ppid
}

// statOf reads the state of a process or thread, and the process that started it, from
// its file stat (proc_pid_stat(5)): nothing if there is none.
func statOf(path string) (state string, parent int) {
	stat, err := os.ReadFile(path)
	if err != nil {
		return "", 0
	}
	// The second field, the name, is in parentheses and may hold anything.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 2 {
		return "", 0
	}
	if parent, err = strconv.Atoi(fields[1]); err != nil {
		return "", 0
	}
	return fields[0], parent
}
