package main

// graph is the steps that need no fault, backwards. A failover converges if from
// every state such steps can lead to one in which all is well: with strong
// fairness, that is the same as that they do.
type graph struct {
	to, from []uint32
	goals    []bool // of each state
}

func (g *graph) add(from, to uint32) {
	g.from = append(g.from, from)
	g.to = append(g.to, to)
}

func (g *graph) goal(is bool) { g.goals = append(g.goals, is) }

func (g *graph) bytes() int {
	if g == nil {
		return 0
	}
	return (cap(g.to)+cap(g.from))*8 + cap(g.goals)*5
}

// cannotConverge returns the first state from which no goal can be reached.
func (g *graph) cannotConverge(states int) (id uint32, found bool) {
	first := make([]uint32, states+1) // where the steps into each state begin
	for _, to := range g.to {
		first[to+1]++
	}
	for i := range states {
		first[i+1] += first[i]
	}
	into, fill := make([]uint32, len(g.from)), make([]uint32, states)
	copy(fill, first)
	for i, to := range g.to {
		into[fill[to]] = g.from[i]
		fill[to]++
	}
	reached := make([]bool, states)
	var open []uint32
	for id, goal := range g.goals {
		if goal {
			reached[id] = true
			open = append(open, uint32(id))
		}
	}
	for len(open) > 0 {
		at := open[len(open)-1]
		open = open[:len(open)-1]
		for _, from := range into[first[at]:first[at+1]] {
			if !reached[from] {
				reached[from] = true
				open = append(open, from)
			}
		}
	}
	for id, ok := range reached {
		if !ok {
			return uint32(id), true
		}
	}
	return 0, false
}
