package fsm_test

import (
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is what the calling thread has used of its processor. On a machine that
// others use too it says more about an apply than the clock does.
func cpuTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
