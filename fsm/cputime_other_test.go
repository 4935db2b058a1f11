//go:build !linux

package fsm_test

import "time"

// cpuTime is known on Linux only.
func cpuTime() time.Duration { return 0 }
