package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/lockstep-storage/lockstep/api/client"
	"github.com/lockstep-storage/lockstep/driverhost/file"
	"github.com/lockstep-storage/lockstep/scripts/freeport"
)

// cluster is what dev.json says.
type cluster struct {
	Name  string            `json:"cluster"`
	Sites map[string]string `json:"sites"`
	Nodes []node            `json:"nodes"`
}

type node struct {
	Name string   `json:"name"`
	PID  int      `json:"pid"`
	API  string   `json:"api"`
	Dir  string   `json:"dir"`
	Argv []string `json:"argv"`
}

func (c cluster) node(name string) (node, error) {
	for _, n := range c.Nodes {
		if n.Name == name {
			return n, nil
		}
	}
	return node{}, fmt.Errorf("node: got %q, want one of dev.json", name)
}

// promoteDelay is how long a promotion is held up, so that there is a middle of it
// to kill the leader in.
const promoteDelay = time.Second

// launch starts lockstep dev; its ports are some that are free now.
func (d *demo) launch(ctx context.Context, binary string) error {
	path, err := exec.LookPath(binary)
	if err != nil {
		return fmt.Errorf("-bin: %w (make build builds it)", err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	port, err := freeport.Find(ctx, 30)
	if err != nil {
		return err
	}
	d.dev, err = startProcess(ctx, []string{
		path, "dev", "--dir", d.dir, "--api-port", strconv.Itoa(port), "--promote-delay", promoteDelay.String(),
	}, filepath.Join(d.dir, "dev.log"))
	return err
}

// awaitCluster waits for dev.json, which is written when the cluster is ready.
func (d *demo) awaitCluster(ctx context.Context) error {
	err := await(ctx, "dev.json is there", func() error {
		select {
		case <-d.dev.ended:
			log, _ := os.ReadFile(filepath.Join(d.dir, "dev.log"))
			return &hopeless{fmt.Errorf("lockstep dev has ended: %s", log)}
		default:
		}
		content, err := os.ReadFile(filepath.Join(d.dir, "dev.json"))
		if err != nil {
			return err
		}
		return json.Unmarshal(content, &d.cluster)
	})
	if err != nil {
		return err
	}
	return d.connect("")
}

// connect makes a client of all nodes but the one left out.
func (d *demo) connect(except string) (err error) {
	var addrs []string
	for _, n := range d.cluster.Nodes {
		if n.Name != except {
			addrs = append(addrs, n.API)
		}
	}
	d.api, err = client.New(addrs, client.Options{Patience: patience})
	return err
}

// patience is how long to wait for anything that must happen.
const patience = 40 * time.Second

// hopeless is an error that waiting does not cure.
type hopeless struct{ error }

// await looks until a condition holds. The last reason why it does not is the
// error.
func await(ctx context.Context, what string, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		if end, ok := errors.AsType[*hopeless](err); ok {
			return end.error
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("want: %s\n got: %w", what, err)
		}
	}
}

// same compares what is with what must be.
func same[T comparable](what string, got, want T, more ...string) error {
	if got == want {
		return nil
	}
	return fmt.Errorf("%s\n got: %v\nwant: %v %s", what, got, want, strings.Join(more, " "))
}

// process is one that this program has started.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended
}

// startProcess starts a process whose output goes to a file. It is in a group of
// its own and outlives ctx: an interrupt of the terminal is for the demo, which
// then ends it.
func startProcess(ctx context.Context, argv []string, log string) (p *process, err error) {
	out, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, out.Close()) }() // the process has its own
	cmd := exec.CommandContext(context.WithoutCancel(ctx), argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p = &process{cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait() // how it ended is nobody's business: it is ended
	}()
	return p, nil
}

// end ends the process, if there is one.
func (p *process) end() error {
	if p == nil {
		return nil
	}
	select {
	case <-p.ended:
		return nil
	default:
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timer := time.NewTimer(20 * time.Second)
	defer timer.Stop()
	select {
	case <-p.ended:
		return nil
	case <-timer.C:
		err := p.cmd.Process.Kill()
		<-p.ended
		return errors.Join(fmt.Errorf("%s did not end when asked", p.cmd.Args[0]), err)
	}
}

func kill(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill -9 %d: %w", pid, err)
	}
	return nil
}

func (d *demo) journal(siteDir string) ([]file.JournalEntry, error) {
	entries, err := file.ReadJournal(filepath.Join(siteDir, "journal"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}

// promotionBegan is nil once the journal of a site says that its promotion began.
func (d *demo) promotionBegan(site, failover string) error {
	entries, err := d.journal(d.cluster.Sites[site])
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Call == file.CallPromote && e.Phase == file.PhaseStart && e.Failover == failover {
			return nil
		}
	}
	f := fmt.Sprintf("no promotion in the journal of %s, which has %d lines", site, len(entries))
	return errors.New(f)
}

// readJournals checks that no call of an older epoch had effect at any site after a
// promotion began.
func (d *demo) readJournals(context.Context) (string, error) {
	var all []file.JournalEntry
	for _, dir := range d.cluster.Sites {
		entries, err := d.journal(dir)
		if err != nil {
			return "", err
		}
		all = append(all, entries...)
	}
	for _, p := range all {
		if p.Call != file.CallPromote || p.Phase != file.PhaseStart || p.Outcome != file.OutcomeOK {
			continue
		}
		for _, e := range all {
			if e.MonoNS > p.MonoNS && e.Epoch < p.Epoch && e.Outcome == file.OutcomeOK {
				return "", fmt.Errorf("%s of epoch %d by %s at %v\n got: it had effect\nwant: none after the promotion of epoch %d began at %v",
					e.Call, e.Epoch, e.Host, e.Wall, p.Epoch, p.Wall)
			}
		}
	}
	return fmt.Sprintf("The journals of all sites, %d calls, agree: none of an older epoch had effect after a promotion began.", len(all)), nil
}
