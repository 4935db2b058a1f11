package raftnode

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestBootTime(t *testing.T) {
	t.Parallel()
	var before, after unix.Timespec
	errBefore := unix.ClockGettime(unix.CLOCK_BOOTTIME, &before)
	now := int64(BootTime())
	errAfter := unix.ClockGettime(unix.CLOCK_BOOTTIME, &after)
	if errBefore != nil || errAfter != nil || now < before.Nano() || now > after.Nano() {
		t.Errorf("%d, while CLOCK_BOOTTIME went from %d to %d (%v, %v)", now, before.Nano(), after.Nano(), errBefore, errAfter)
	}
}

// losingLeases loses all that a node asks about leases.
func (f *fleet) losingLeases(id string) {
	f.losing(func(from, _, method string) error {
		if from == id && method == methodLease {
			return errUnreachable
		}
		return nil
	})
}

func TestLeaseGoesByTheClock(t *testing.T) {
	t.Parallel()
	duration := fleetLease().Duration
	for name, rate := range map[string]float64{"a slow clock": -0.05, "a fast clock": 0.05} {
		story(t, name, 3, 3, func(t *testing.T, f *fleet) {
			for _, n := range f.nodes {
				n.clock.run(0, rate)
			}
			n, l := leased(t, f)
			f.losingLeases(n.id)
			held, _ := l.Current()
			until, _ := l.Deadline()
			<-held.Done()
			// A timer that follows false time is late by what the clock is fast.
			late := n.cfg.Clock() - until
			if most := duration / 10; late < 0 || late > most || rate < 0 && late > time.Millisecond {
				t.Errorf("it ended %v after its deadline", late)
			}
			if until, _ := l.Deadline(); until != 0 || holds(l) {
				t.Errorf("after it has lapsed it ends at %v", until)
			}
		})
	}
	story(t, "a machine that slept, and nobody asks", 3, 3, func(t *testing.T, f *fleet) {
		n, l := leased(t, f)
		f.losingLeases(n.id)
		held, _ := l.Current()
		n.clock.run(2*duration, 0)
		woke := time.Now()
		<-held.Done()
		if late := time.Since(woke); late > duration/3+10*time.Millisecond {
			t.Errorf("that it was over was noticed %v after the machine woke", late)
		}
	})
	story(t, "a machine that slept", 3, 3, func(t *testing.T, f *fleet) {
		n, l := leased(t, f)
		held, _ := l.Current()
		n.clock.run(duration, 0)
		if holds(l) || held.Err() == nil {
			t.Error("it was not over when the machine woke, before any timer fired")
		}
	})
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	story(t, "it moves with every renewal, and is over with the lease", 3, 3, func(t *testing.T, f *fleet) {
		n, l := leased(t, f)
		duration := fleetLease().Duration
		last, renewed := l.Deadline()
		for range 10 {
			<-renewed
			var until time.Duration
			until, renewed = l.Deadline()
			if left := until - n.cfg.Clock(); until <= last || left <= duration/2 || left > duration {
				t.Errorf("it moved from %v to %v, which is in %v", last, until, left)
			}
			last = until
		}
		f.losingLeases(n.id)
		<-renewed
		if now := n.cfg.Clock(); now != last {
			t.Errorf("it lapsed at %v instead of %v", now, last)
		}
		if until, _ := l.Deadline(); until != 0 {
			t.Errorf("without a lease it ends at %v", until)
		}
	})
}
