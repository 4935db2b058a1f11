package clustertest

import (
	"slices"
	"testing"
	"testing/synctest"
)

// TestASeedNamesItsEvents runs histories twice: whatever has become of the events
// before, what a seed draws for the next one is the same. So a failing seed that is
// printed tries the same again.
func TestASeedNamesItsEvents(t *testing.T) {
	t.Parallel()
	for seed := range int64(4) {
		once, again := eventsOf(t, seed), eventsOf(t, seed)
		if len(once) == 0 || !slices.Equal(once, again) {
			i := 0
			for i < min(len(once), len(again)) && once[i] == again[i] {
				i++
			}
			t.Errorf("seed %d: %d events, then %d, the first %d of them the same", seed, len(once), len(again), i)
		}
	}
}

// eventsOf returns the events of a history.
func eventsOf(t *testing.T, seed int64) (drawn []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newStory(t, seed, nil, func(*Options) {})
		s.run()
		drawn = s.drawn
	})
	return drawn
}
