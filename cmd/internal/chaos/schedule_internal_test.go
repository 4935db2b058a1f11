package chaos

import (
	"fmt"
	"reflect"
	"testing"
	"time"
)

func TestScheduleFollowsFromTheSeed(t *testing.T) {
	t.Parallel()
	plan := func(seed int64) []planned { return schedule(newRand(seed, 1), Kinds(), 5, 5*time.Minute) }
	if !reflect.DeepEqual(plan(1), plan(1)) {
		t.Error("two schedules of one seed differ")
	}
	if reflect.DeepEqual(plan(1), plan(2)) {
		t.Error("the schedules of two seeds are the same")
	}
}

// TestScheduleLeavesEnough goes through every moment of many schedules: no node has
// two faults, and a majority is there unless one fault alone takes it away.
func TestScheduleLeavesEnough(t *testing.T) {
	t.Parallel()
	seen := map[Kind]int{}
	several, lost := 0, 0
	for seed := range int64(50) {
		faults := schedule(newRand(seed, 1), Kinds(), 5, 10*time.Minute)
		for at := time.Duration(0); at < 10*time.Minute; at += 250 * time.Millisecond {
			var now []planned
			for _, p := range faults {
				if p.at <= at && at < p.end() {
					now = append(now, p)
				}
			}
			s, l, err := bearable(now)
			if err != nil {
				t.Fatalf("seed %d at %v: %v", seed, at, err)
			}
			several, lost = several+s, lost+l
		}
		for _, p := range faults {
			seen[p.kind]++
		}
	}
	for _, k := range Kinds() {
		if seen[k] == 0 {
			t.Errorf("%s: got none in 50 schedules", k)
		}
	}
	if several == 0 || lost == 0 {
		t.Errorf("moments with several faults: %d, without a quorum: %d; want some of each", several, lost)
	}
}

// bearable says what is wrong with faults that hold at once, and counts the moments
// with several and those without a quorum.
func bearable(now []planned) (several, lost int, err error) {
	broken, away, alone := map[int]bool{}, 0, 0
	for _, p := range now {
		for _, n := range p.nodes {
			if broken[n] {
				return 0, 0, fmt.Errorf("node %d has two faults: %+v", n, now)
			}
			broken[n] = true
		}
		if p.kind.takesAway() {
			away += len(p.nodes)
		}
		if p.alone(5) {
			alone++
		}
	}
	if len(now) > 1 {
		several = 1
	}
	switch {
	case away <= 2:
		return several, 0, nil
	case alone == 1:
		return several, 1, nil
	}
	return 0, 0, fmt.Errorf("%d nodes are away by several faults: %+v", away, now)
}

func TestParseKinds(t *testing.T) {
	t.Parallel()
	for list, want := range map[string][]Kind{
		"": Kinds(), "all": Kinds(), "kill, loss": {Kill, Loss}, "fire": nil,
	} {
		got, err := ParseKinds(list)
		if !reflect.DeepEqual(got, want) || (err == nil) != (want != nil) {
			t.Errorf("ParseKinds(%q): got %v, %v, want %v", list, got, err, want)
		}
	}
}

func TestParseScenarios(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]int{"all": len(Scenarios()), "none": 0, "": 0, "disk-full,empty-disk": 2, "fire": -1} {
		got, err := ParseScenarios(list)
		if err == nil && len(got) != want || err != nil && want >= 0 {
			t.Errorf("ParseScenarios(%q): got %d, %v, want %d", list, len(got), err, want)
		}
	}
}

func TestSlots(t *testing.T) {
	t.Parallel()
	written := encodeSlot("v", 3, 7)
	for name, c := range map[string]struct {
		content []byte
		number  int
		want    int64
	}{
		"written":          {written, 3, 7},
		"never written":    {make([]byte, slotBytes), 3, 0},
		"of another slot":  {written, 4, -1},
		"half of a write":  {append(append([]byte{}, written[:256]...), make([]byte, 256)...), 3, -1},
		"half of another":  {append(append([]byte{}, written[:256]...), encodeSlot("v", 3, 6)[256:]...), 3, -1},
		"of another write": {encodeSlot("v", 3, 6), 3, 6},
	} {
		if got := decodeSlot("v", c.number, c.content); got != c.want {
			t.Errorf("%s: got %d, want %d", name, got, c.want)
		}
	}
}
