package lab_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/cmd/internal/chaos/lab"
)

// TestMain makes this program, when it is started for that, say what time it is or
// ask a service, for each line that it reads.
func TestMain(m *testing.M) {
	addr, times := os.Getenv("CHAOS_ASK"), os.Getenv("CHAOS_TELL_TIME") != ""
	if addr == "" && !times {
		os.Exit(m.Run())
	}
	begin := time.Now()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if now := time.Now(); times {
			fmt.Println(now.Unix(), now.Sub(begin).Seconds())
		} else {
			fmt.Println(askOnce(addr))
		}
	}
}

// tell starts a process that tells the time, and returns what asks it: by its wall
// clock, and how long it has run by its monotonic one.
func tell(t *testing.T) (pid int, ask func() (wall, ran float64)) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "CHAOS_TELL_TIME=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := lab.StartTraced(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	return cmd.Process.Pid, func() (wall, ran float64) {
		t.Helper()
		if _, err := fmt.Fprintln(in); err != nil {
			t.Fatal(err)
		}
		if !lines.Scan() {
			t.Fatalf("the process has ended: %v", lines.Err())
		}
		for i, field := range strings.Fields(lines.Text()) {
			value, err := strconv.ParseFloat(field, 64)
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				wall = value
			} else {
				ran = value
			}
		}
		return wall, ran
	}
}

func TestStepClock(t *testing.T) {
	t.Parallel()
	if !lab.ClocksStep() {
		t.Skip("clocks cannot be stepped on this architecture")
	}
	pid, ask := tell(t)
	for _, step := range []time.Duration{0, time.Hour, -36 * time.Hour, 0} {
		if err := lab.StepClock(pid, step); err != nil {
			t.Fatalf("StepClock(%v): %v", step, err)
		}
		wall, ran := ask()
		if got, want := wall-float64(time.Now().Unix()), step.Seconds(); got < want-5 || got > want+5 {
			t.Errorf("wall clock after a step to %v: got %vs ahead, want %vs", step, got, want)
		}
		if ran < 0 || ran > 60 {
			t.Errorf("monotonic clock after a step to %v: got %vs since the start, want a few", step, ran)
		}
	}
}
