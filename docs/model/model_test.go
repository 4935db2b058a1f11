package main

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"
)

// A state is hashed as words, so it must be bytes that all mean something.
func TestStateIsBytes(t *testing.T) {
	t.Parallel()
	if size := unsafe.Sizeof(state{}); size%8 != 0 {
		t.Errorf("a state has %d bytes: pad it to a multiple of 8", size)
	}
	if bytes := bytesOf(t, reflect.TypeFor[state]()); bytes != unsafe.Sizeof(state{}) {
		t.Errorf("a state has %d bytes, its fields have %d", unsafe.Sizeof(state{}), bytes)
	}
}

func bytesOf(t *testing.T, v reflect.Type) (n uintptr) {
	t.Helper()
	k := v.Kind()
	if k == reflect.Bool || k == reflect.Uint8 {
		return 1
	}
	if k == reflect.Array {
		return uintptr(v.Len()) * bytesOf(t, v.Elem())
	}
	if k != reflect.Struct {
		t.Errorf("a state holds a %s", v)
		return 0
	}
	for f := range v.Fields() {
		n += bytesOf(t, f.Type)
	}
	return n
}

func TestHashTellsStatesApart(t *testing.T) {
	t.Parallel()
	m := standard()
	a := m.initial()
	seen := map[uint64]int{hash(&a): -1}
	block := (*[unsafe.Sizeof(a)]byte)(unsafe.Pointer(&a))
	for i := range block {
		block[i]++
		if other, known := seen[hash(&a)]; known {
			t.Errorf("a change of byte %d gives the hash of a change of byte %d", i, other)
		}
		seen[hash(&a)] = i
		block[i]--
	}
}

// The sizes are those of the model in C++ that this one was checked against: the
// two agree in every state and every step of these configurations.
func TestSizes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name                       string
		sets                       func(*model)
		states, transitions, depth int
	}{
		{"leases", func(m *model) { m.failovers, m.volumes = 0, false }, 36, 95, 7},
		{"leases of three", func(m *model) { m.failovers, m.volumes, m.nodes = 0, false, 3 }, 216, 755, 10},
		{"an election", func(m *model) { m.failovers, m.elections = 0, 1 }, 4676, 18088, 20},
		{"slow clocks and a leader that applies late", func(m *model) {
			m.failovers, m.elections, m.drift, m.grace, m.eager = 0, 1, 1, 3, false
		}, 34483, 176488, 21},
		{"a failover", func(m *model) { m.attempts, m.volumes = 1, false }, 142324, 697486, 51},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m := standard()
			tc.sets(&m)
			v := newSearch(&m, generous()).run()
			if v.states != tc.states || v.transitions != tc.transitions || v.depth != tc.depth || v.err() != nil {
				t.Errorf("%d states, %d transitions, depth %d, %v; want %d, %d, %d",
					v.states, v.transitions, v.depth, v.err(), tc.states, tc.transitions, tc.depth)
			}
		})
	}
}

func generous() limits { return limits{memory: 2 << 30, states: 1 << 30, time: 5 * time.Minute} }

// Each mutant is noticed, if it can be in a second or two; make model runs all.
func TestMutantsAreNoticed(t *testing.T) {
	t.Parallel()
	noticed := 0
	for _, r := range mutants() {
		m := r.model()
		if err := m.validate(); err != nil {
			t.Errorf("%s: %v", r.name, err)
		}
		l := generous()
		l.states = 30_000
		v := newSearch(&m, l).run()
		switch {
		case v.broken == r.caught:
			noticed++
		case !errors.Is(v.err(), errLimits):
			t.Errorf("%s: %v, want %v", r.name, v.err(), r.caught)
		}
	}
	if noticed < 12 {
		t.Errorf("%d mutants are noticed within the limit: the limit is too small to test anything", noticed)
	}
}

// No run breaks anything in the states that are visited first.
func TestRunsHold(t *testing.T) {
	t.Parallel()
	for _, r := range runs() {
		m := standard()
		r.sets(&m)
		if err := m.validate(); err != nil {
			t.Errorf("%s: %v", r.name, err)
		}
		l := generous()
		l.states = 20_000
		if v := newSearch(&m, l).run(); !errors.Is(v.err(), errLimits) {
			t.Errorf("%s: %v after %d states", r.name, v.err(), v.states)
		}
	}
}

// A failover that nothing but a fault could end is noticed.
func TestConvergence(t *testing.T) {
	t.Parallel()
	m := standard()
	m.attempts, m.volumes, m.outcomes, m.hangs, m.stuck, m.live = 1, false, true, 0, false, true
	if v := newSearch(&m, generous()).run(); v.err() != nil {
		t.Errorf("%v", v.err())
	}
	g := &graph{}
	for _, goal := range []bool{false, false, true, false} {
		g.goal(goal)
	}
	g.add(0, 1)
	g.add(1, 2)
	g.add(0, 3)
	if id, found := g.cannotConverge(4); !found || id != 3 {
		t.Errorf("the state without a way out is %d, %v; want 3", id, found)
	}
}

func TestTraceIsInWords(t *testing.T) {
	t.Parallel()
	for _, r := range mutants() {
		if r.name != "told-kept" {
			continue
		}
		m := r.model()
		v := newSearch(&m, generous()).run()
		var text strings.Builder
		v.printTrace(&text)
		for _, want := range []string{"--- a tick passes", "holds a lease for 1 ticks", "admits a volume call under epoch 1"} {
			if !strings.Contains(text.String(), want) {
				t.Errorf("the trace does not say %q:\n%s", want, text.String())
			}
		}
	}
}
