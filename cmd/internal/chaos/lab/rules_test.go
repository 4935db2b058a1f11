package lab_test

import (
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/cmd/internal/chaos/lab"
)

func TestRules(t *testing.T) {
	t.Parallel()
	r := lab.NewRules()
	cut := r.Add(lab.Rule{From: []int{1}, To: []int{2, 3}, Cut: true})
	late := r.Add(lab.Rule{From: []int{1, 2}, To: []int{3}, Delay: time.Second})
	lossy := r.Add(lab.Rule{From: []int{1}, To: []int{2}, Loss: 1})
	type want struct {
		lost bool
		late bool
	}
	check := func(when string, links map[[2]int]want) {
		t.Helper()
		for l, w := range links {
			lost, delay := r.Fate(l[0], l[1])
			if lost != w.lost || (delay >= time.Second) != w.late {
				t.Errorf("%s, from %d to %d: got lost %v, late by %v, want %+v", when, l[0], l[1], lost, delay, w)
			}
		}
	}
	check("with all rules", map[[2]int]want{
		{1, 2}: {lost: true}, {1, 3}: {lost: true}, {2, 1}: {}, {3, 1}: {}, {2, 3}: {late: true}, {3, 2}: {},
	})
	cut()
	check("without the cut", map[[2]int]want{{1, 2}: {lost: true}, {1, 3}: {late: true}, {2, 3}: {late: true}})
	late()
	lossy()
	check("without rules", map[[2]int]want{{1, 2}: {}, {1, 3}: {}, {2, 3}: {}})
}
