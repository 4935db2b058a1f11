package lab

import (
	"context"
	"os/exec"
	"time"
)

// StartTraced is startTraced.
func StartTraced(cmd *exec.Cmd) error { return startTraced(cmd) }

// Rules are rules.
type Rules struct{ rules *rules }

// NewRules is newRules.
func NewRules() Rules { return Rules{newRules()} }

// Add is add.
func (r Rules) Add(rule Rule) (remove func()) { return r.rules.add(rule) }

// Fate decides on a packet between two nodes.
func (r Rules) Fate(from, to int) (lost bool, late time.Duration) {
	return r.rules.between(from, to).fate()
}

// NewProxy is newProxy.
func NewProxy(ctx context.Context, nodes int) (Network, error) { return newProxy(ctx, nodes) }
