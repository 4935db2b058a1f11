package raftnode

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// BootTime returns the time since the machine started, on CLOCK_BOOTTIME. It goes
// on while the machine is suspended, and nobody can set it.
func BootTime() time.Duration {
	t, _ := bootTime() // New has seen it work, and nothing that it depends on changes
	return t
}

func bootTime() (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0, fmt.Errorf("read CLOCK_BOOTTIME: %w", err)
	}
	return time.Duration(ts.Nano()), nil
}

// left returns for how long a timer has to run until the clock shows at. Timers go
// by another clock than leases, one that stands still while the machine sleeps, so
// whoever is woken looks at the clock, and waits again if it is early.
func (c Config) left(at time.Duration) time.Duration { return max(at-c.Clock(), 0) }
