package raftnode

import (
	"fmt"
	"math"
	"time"
)

// LeaseTiming says how long members may serve without hearing from the leader,
// and how long the leader waits before it holds a member for gone. Nodes may
// differ in it: a leader grants no lease that outlasts its own grace.
type LeaseTiming struct {
	Duration   time.Duration `yaml:"duration"`    // L: of a lease, counted from before it was asked for
	Kill       time.Duration `yaml:"kill"`        // K: from a lease's end until none of its calls runs
	Grace      time.Duration `yaml:"grace"`       // G: from a grant until its member counts as gone; also a new leader's wait
	ClockError float64       `yaml:"clock_error"` // rho: largest rate error of a clock, as a fraction
	Lateness   time.Duration `yaml:"lateness"`    // q: how late a timer may fire
}

// DefaultLeaseTiming is safe for clocks that are off by a thousandth.
func DefaultLeaseTiming() LeaseTiming {
	return LeaseTiming{
		Duration: 3 * time.Second, Kill: 2500 * time.Millisecond, Grace: 6 * time.Second,
		ClockError: 0.001, Lateness: 100 * time.Millisecond,
	}
}

// maxClockError is a rate error that no clock has.
const maxClockError = 0.1

// Span is the longest time for which calls may run under a lease after it was
// asked for, by a clock without an error: (L+K)/(1-rho), since the member's own may
// be slow.
func (t LeaseTiming) Span() time.Duration {
	return time.Duration(math.Ceil(float64(t.Duration+t.Kill) / (1 - t.ClockError)))
}

// LeastGrace is how long a leader with this clock, which may be fast, has to wait
// until it knows that a span is over: span (1+rho) + q/(1-rho). For its own
// [LeaseTiming.Span], which is the least that the grace may be, it is the
// inequality on which every lease rests: G(1-rho) >= (L+K)(1+rho)+q.
func (t LeaseTiming) LeastGrace(span time.Duration) time.Duration {
	return time.Duration(math.Ceil(float64(span)*(1+t.ClockError) + float64(t.Lateness)/(1-t.ClockError)))
}

func (t LeaseTiming) validate() error {
	if t.Duration <= 0 || t.Kill < 0 || t.Lateness < 0 {
		return fmt.Errorf("lease: duration %v must be positive, kill %v and lateness %v must not be negative", t.Duration, t.Kill, t.Lateness)
	}
	if !(t.ClockError >= 0 && t.ClockError <= maxClockError) {
		return fmt.Errorf("lease: clock_error %v must be between 0 and %v", t.ClockError, maxClockError)
	}
	if least := t.LeastGrace(t.Span()); t.Grace < least {
		return fmt.Errorf("lease: grace %v is too short: a member may serve for %v (duration + kill, with clock_error and lateness)", t.Grace, least)
	}
	return nil
}
