package clustertest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Coverage counts what happened in many histories, so that a run that exercised
// nothing is seen. It is safe for concurrent use.
type Coverage struct {
	mu     sync.Mutex
	counts map[string]int
}

// NewCoverage returns an empty count.
func NewCoverage() *Coverage { return &Coverage{counts: map[string]int{}} }

// Add counts that something happened n times. A nil Coverage counts nothing.
func (c *Coverage) Add(what string, n int) {
	if c == nil || n == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[what] += n
}

// Count returns how often something happened.
func (c *Coverage) Count(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[what]
}

// message counts the fate of a message.
func (c *Coverage) message(f fate) {
	switch {
	case f.lost:
		c.Add("message: lost", 1)
	case f.twice:
		c.Add("message: twice", 1)
	case f.wait > 0:
		c.Add("message: late", 1)
	}
}

// String lists all counts, by group: what is before the colon of its name.
func (c *Coverage) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	groups := map[string][]string{}
	for _, what := range slices.Sorted(maps.Keys(c.counts)) {
		group, rest, _ := strings.Cut(what, ": ")
		groups[group] = append(groups[group], fmt.Sprintf("%s %d", rest, c.counts[what]))
	}
	var text strings.Builder
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		fmt.Fprintf(&text, "  %s: %s\n", group, strings.Join(groups[group], ", "))
	}
	return text.String()
}
