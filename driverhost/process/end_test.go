package process_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/driverhost/process"
)

// Whatever a driver does, the kernel ends its process, also when the agent cannot.
func TestDriverIsKilledAtItsDeadline(t *testing.T) {
	t.Parallel()
	for name, freeze := range map[string]func(agent, driver int) error{
		"ignores everything, agent stopped": func(agent, _ int) error { return syscall.Kill(agent, syscall.SIGSTOP) },
		"stopped, agent stopped": func(agent, driver int) error {
			return errors.Join(syscall.Kill(agent, syscall.SIGSTOP), syscall.Kill(driver, syscall.SIGSTOP))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			agent := startAgent(t, dir, "busy")
			driver := await(t, dir, "begin busy")
			if err := freeze(agent.Process.Pid, driver.pid); err != nil {
				t.Fatal(err)
			}
			frozen := now(t) // the last lease of the agent began before
			eventually(t, "the end of the process", func() bool { return gone(driver.pid) })
			if at := now(t) - frozen; at > 2*time.Second+killAfter/2+late {
				t.Errorf("the process ended %v after the agent was stopped", at)
			}
		})
	}
}

// A driver's process ends its calls at the deadline that it knows by itself: nobody else
// can while the agent is stopped. That is before the kernel ends the process.
func TestCallsEndAtTheDeadlineWithoutTheAgent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	agent := startAgent(t, dir, "wait")
	driver := await(t, dir, "begin wait")
	if err := agent.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the process", func() bool { return gone(driver.pid) })
	lines := journal(t, dir)
	if last := lines[len(lines)-1].text; last != "end wait" {
		t.Errorf("the last word of the driver is %q", last)
	}
}

// An agent that is killed takes its driver along at once, stopped or not, and the next
// agent does not begin before that.
func TestDriverDiesWithItsAgent(t *testing.T) {
	t.Parallel()
	for _, stopped := range []bool{false, true} {
		t.Run(fmt.Sprintf("driver stopped %v", stopped), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			agent := startAgent(t, dir, "busy")
			driver := await(t, dir, "begin busy")
			if stopped {
				if err := syscall.Kill(driver.pid, syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
			}
			if err := agent.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			killed := now(t)
			eventually(t, "the end of the process", func() bool { return gone(driver.pid) })
			if at := now(t) - killed; at > late {
				t.Errorf("the process ended %v after its agent", at)
			}
			d, _ := opened(t, config(dir, ""), leased(time.Minute), nil)
			if err := create(t.Context(), d, "v"); err != nil {
				t.Error(err)
			}
		})
	}
}

func startAgent(t *testing.T, dir, volume string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), os.Args[0], "agent", dir, volume)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

func TestProcessThatEndsIsNoticed(t *testing.T) {
	t.Parallel()
	for name, kill := range map[string]func(pid int) error{
		"kill -9": func(pid int) error { return syscall.Kill(pid, syscall.SIGKILL) },
		"crash":   nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			d, _ := opened(t, config(dir, ""), leased(time.Minute), nil)
			ended := make(chan error, 1)
			volume := "crash"
			if kill != nil {
				volume = "busy"
			}
			go func() { ended <- create(t.Context(), d, volume) }()
			pid := await(t, dir, "begin "+volume).pid
			if kill != nil {
				if err := kill(pid); err != nil {
					t.Fatal(err)
				}
			}
			if err := <-ended; !errors.Is(err, driverhost.ErrDriverLost) {
				t.Errorf("the call in flight: %v", err)
			}
			<-d.Lost()
			if err := create(t.Context(), d, "v"); !errors.Is(err, driverhost.ErrDriverLost) {
				t.Errorf("the next call: %v", err)
			}
			if err := d.Close(); err == nil || !strings.Contains(err.Error(), "has ended") {
				t.Errorf("close says %v", err)
			}
		})
	}
}

// What a driver has started, and nobody can kill, keeps the lock: nothing goes on.
func TestStuck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stuck := make(chan bool, 10)
	d, _ := opened(t, config(dir, ""), leased(time.Minute), func(s bool) { stuck <- s })
	got, err := d.CreateVolume(t.Context(), driverhost.VolumeRequest{Volume: driverhost.Volume{ID: "leave"}})
	if err != nil {
		t.Fatal(err)
	}
	left, err := strconv.Atoi(got.ProviderID)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(left, syscall.SIGKILL) }()
	ended := make(chan error, 1)
	go func() { ended <- create(t.Context(), d, "crash") }()
	begin := now(t)
	if !soon(t, "a word on whether it is stuck", stuck) {
		t.Error("not stuck, it says first")
	}
	if at := now(t) - begin; at > 2*killAfter {
		t.Errorf("reported %v after the process ended", at)
	}
	select {
	case err := <-ended:
		t.Errorf("the call has ended while something may work for it: %v", err)
	default:
	}

	// Another agent waits, says so, and reports it as well.
	open, err := process.New(config(dir, ""))
	if err != nil {
		t.Fatal(err)
	}
	lines, theirs := &log{}, make(chan bool, 10)
	next := make(chan error, 1)
	go func() {
		d, err := open(t.Context(), request(leased(time.Minute), func(s bool) { theirs <- s }, lines.logger()))
		if err == nil {
			err = d.Close()
		}
		next <- err
	}()
	if !soon(t, "a word of the next agent", theirs) {
		t.Error("not stuck, the next agent says first")
	}
	if !strings.Contains(lines.String(), "waiting for processes of an earlier driver") || !strings.Contains(lines.String(), got.ProviderID) {
		t.Errorf("the log does not say who is waited for:\n%s", lines)
	}
	if err := syscall.Kill(left, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := soon(t, "the end of the call", ended); !errors.Is(err, driverhost.ErrDriverLost) {
		t.Errorf("the call: %v", err)
	}
	if soon(t, "the end of being stuck", stuck) || soon(t, "the same at the next agent", theirs) {
		t.Error("still stuck")
	}
	if err := soon(t, "the next driver", next); err != nil {
		t.Errorf("the next driver: %v", err)
	}
}

func TestWhatIsNoDriver(t *testing.T) {
	t.Parallel()
	for role, says := range map[string]string{
		"garbage":     "start",
		"old":         "incompatible API version",
		"exit":        "Unrecognized remote plugin message",
		"unreachable": "connect",
		"":            "refused to start by its own word",
	} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			cfg := config(dir, `, "refuse": "refused to start by its own word"`)
			if role != "" {
				cfg.Command[1] = role
			}
			cfg.StartTimeout = 2 * time.Second
			open, err := process.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			_, err = open(t.Context(), request(leased(time.Minute), nil, hclog.NewNullLogger()))
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("error is %v", err)
			}
		})
	}
}

func TestServeByHand(t *testing.T) {
	t.Parallel()
	for _, env := range [][]string{nil, {"LOCKSTEP_DRIVER=serve"}} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "driver")
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "a driver is not run by hand") {
			t.Errorf("with %q: %v, %s", env, err, out)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for field, change := range map[string]func(*process.Config){
		"command": func(c *process.Config) { c.Command = []string{"driver"} },
		"lock":    func(c *process.Config) { c.Lock = "lock" },
		"kill":    func(c *process.Config) { c.Kill = 0 },
	} {
		cfg := config(t.TempDir(), "")
		change(&cfg)
		if _, err := process.New(cfg); err == nil || !strings.HasPrefix(err.Error(), field+":") {
			t.Errorf("%s: %v", field, err)
		}
	}
}
