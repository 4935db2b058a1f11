package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/api/client"
)

func TestAskName(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]int{"dev@files\n": ExitDone, " dev@files": ExitDone, "yes\n": ExitUsage, "": ExitUsage} {
		var out bytes.Buffer
		err := askName(strings.NewReader(answer), &out, "dev@files", "site-b")
		if got := ExitDone; err != nil {
			got = exitCode(err)
			if got != want {
				t.Errorf("%q: got %v", answer, err)
			}
		} else if got != want {
			t.Errorf("%q was taken for a confirmation", answer)
		}
		if !strings.Contains(out.String(), "Type dev@files to go on") {
			t.Errorf("asked %q", out.String())
		}
	}
}

// On a terminal each member's bar is drawn over the one before, and no line wraps.
func TestBars(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := &bars{w: &out, width: func() int { return 52 }}
	f := client.Failover{
		ID: "f", Cluster: "dev@files", From: "default", Target: "site-b", Phase: client.PhasePromoting, Executor: "node1@files", Attempt: 1,
		Members: []client.FailoverMember{{Host: "node1@files", State: client.MemberDrained, Up: new(true)}, {Host: "n2@files", State: client.MemberWaiting, Up: new(false)}},
	}
	b.show(f, time.Second)
	first := out.Len()
	f.Phase, f.Members[0].State = client.PhaseSwitching, client.MemberSwitched
	b.show(f, 2*time.Second)
	for line := range strings.Lines(out.String()) {
		_, text, _ := strings.Cut(strings.TrimRight(line, "\n"), "\x1b[K")
		if n := len([]rune(text)); n > 51 {
			t.Errorf("%d columns: %q", n, text)
		}
	}
	for _, want := range []string{"node1@files [######..............] drained", "n2@files    [....................] waiting (down)"} {
		if !strings.Contains(out.String()[:first], want) {
			t.Errorf("%q does not show %q", out.String()[:first], want)
		}
	}
	if second := out.String()[first:]; !strings.HasPrefix(second, "\x1b[3A") || !strings.Contains(second, "[####################] switched") {
		t.Errorf("%q is not drawn over the first", second)
	}
}

func TestLinesSayOnlyWhatChanges(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := &lines{w: &out, states: map[string]string{}}
	f := client.Failover{
		ID: "f", Cluster: "dev@files", From: "default", Target: "site-b", Phase: client.PhaseDraining,
		Members: []client.FailoverMember{{Host: "a@b", State: client.MemberWaiting, Up: new(true)}},
	}
	l.show(f, 0)
	l.show(f, time.Second)
	f.Phase, f.Members = client.PhaseDone, []client.FailoverMember{{Host: "a@b", State: client.MemberSwitched, Up: new(true)}}
	l.show(f, 1500*time.Millisecond)
	want := "  0.000s  dev@files  draining: members end their running calls on default\n" +
		"  0.000s  a@b  waiting\n" +
		"  1.500s  dev@files  done\n" +
		"  1.500s  a@b  switched\n"
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
