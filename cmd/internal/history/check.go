package history

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/lockstep-storage/lockstep/fsm"
)

// Verdict is what a check found.
type Verdict string

// The verdicts.
const (
	Linearizable Verdict = "linearizable"
	Violated     Verdict = "violated"
	Undecided    Verdict = "undecided" // the time was not enough
)

// Result is the verdict on a history, and what led to it.
type Result struct {
	Verdict Verdict
	Object  string // that the history is wrong about: "volume V", "failover F", "cluster C"

	info porcupine.LinearizationInfo
}

// Visualize writes a page that shows the part of the history that is about
// Object, and how far it could be put in order, for a browser.
func (r Result) Visualize(w io.Writer) error {
	if err := porcupine.Visualize(model(), r.info, w); err != nil {
		return fmt.Errorf("visualize the history: %w", err)
	}
	return nil
}

// Check judges a history. It takes at most about the given time, 0 for no limit.
// Every object is judged by itself, which is as good as all at once: a history is
// linearizable if that of each object is (Herlihy and Wing, 1990).
func Check(history []Operation, within time.Duration) Result {
	result := Result{Verdict: Linearizable}
	began := time.Now()
	parts := partition(history)
	for _, object := range slices.Sorted(maps.Keys(parts)) {
		left := time.Duration(0)
		if within > 0 {
			left = max(within-time.Since(began), time.Millisecond)
		}
		ok, info := porcupine.CheckOperationsVerbose(model(), parts[object], left)
		switch ok {
		case porcupine.Illegal:
			return Result{Verdict: Violated, Object: object, info: info}
		case porcupine.Unknown:
			result = Result{Verdict: Undecided, Object: object, info: info}
		case porcupine.Ok:
		}
	}
	return result
}

// input is a request as one of its objects sees it.
type input struct {
	Request
	object
}

// object says what a state is about, so that a partition starts with the right one.
type object string

const (
	aVolume   object = "volume"
	aSnapshot object = "snapshot"
	aFailover object = "failover"
	aCluster  object = "cluster"
)

// about returns the objects that a request concerns, with their names. A failover
// concerns its cluster and is an object of its own, which is still there when the
// cluster has gone on. Clusters are those of all failovers: who aborts one need not
// know it.
func (r Request) about(clusters map[string]string) map[object]string {
	switch r.Kind {
	case CreateVolume, DeleteVolume, ExtendVolume, ReadVolume:
		return map[object]string{aVolume: r.ID}
	case CreateSnapshot, DeleteSnapshot, ReadSnapshot:
		return map[object]string{aSnapshot: r.ID}
	case RequestFailover:
		return map[object]string{aFailover: r.ID, aCluster: r.Cluster}
	case AbortFailover:
		return map[object]string{aFailover: r.ID, aCluster: clusters[r.ID]}
	case ReadFailover:
		return map[object]string{aFailover: r.ID}
	case SetFrozen, ReadCluster:
		return map[object]string{aCluster: r.Cluster}
	}
	return nil
}

// partition returns what each object has seen of a history. A read that nobody
// heard the answer of says nothing.
func partition(history []Operation) map[string][]porcupine.Operation {
	parts := map[string][]porcupine.Operation{}
	clusters := map[string]string{}
	for _, op := range history {
		if op.Request.Kind == RequestFailover {
			clusters[op.Request.ID] = op.Request.Cluster
		}
	}
	for _, op := range history {
		if op.Answer.Unknown && op.Request.Kind.reads() {
			continue
		}
		end := int64(op.End)
		if op.Answer.Unknown {
			end = math.MaxInt64
		}
		for about, name := range op.Request.about(clusters) {
			key := string(about) + " " + name
			parts[key] = append(parts[key], porcupine.Operation{
				ClientId: op.Client, Input: input{op.Request, about}, Call: int64(op.Begin), Output: op.Answer, Return: end,
				Metadata: op.Note,
			})
		}
	}
	return parts
}

// state is one that an object may be in. States are comparable.
type state interface {
	// next returns the states that the object may come to by itself, in one step.
	next() []state
	// accept returns the state after a request that succeeds with this answer, or
	// false if it cannot.
	accept(Request, Answer) (state, bool)
	// refuse reports whether a request may be refused with code.
	refuse(Request, fsm.Code) bool
}

// unborn is the state of an object before the first request about it.
type unborn struct{}

func (o object) start() state {
	switch o {
	case aVolume, aSnapshot:
		return volume{}
	case aFailover:
		return failover{}
	case aCluster:
	}
	return cluster{epoch: 1, active: fsm.DefaultBackendID}
}

func model() porcupine.Model {
	m := porcupine.NondeterministicModel{
		Init: func() []any { return []any{unborn{}} },
		Step: func(from, in, out any) []any {
			request, _ := in.(input)
			answer, _ := out.(Answer)
			s, born := from.(state)
			if !born {
				s = request.start()
			}
			return step(s, request.Request, answer)
		},
		DescribeOperation: func(in, out any) string { return describe(in, out) },
		DescribeState:     func(s any) string { return fmt.Sprintf("%+v", s) },
	}
	return m.ToModel()
}

// step returns the states in which an object may be after a request. Before it the
// object may have moved on by itself.
func step(from state, r Request, a Answer) []any {
	var after []any
	for _, s := range reach(from) {
		if a.Unknown {
			after = append(after, s)
		}
		switch {
		case a.Code != "":
			if s.refuse(r, a.Code) {
				after = append(after, s)
			}
		default:
			if next, ok := s.accept(r, a); ok {
				after = append(after, next)
			}
		}
	}
	return after
}

// reach returns all states that an object may come to by itself, with where it is.
func reach(from state) []state {
	all := []state{from}
	for i := 0; i < len(all); i++ {
		for _, s := range all[i].next() {
			if !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	return all
}

func describe(in, out any) string {
	request, _ := in.(input)
	answer, _ := out.(Answer)
	text := fmt.Sprintf("%s %s", request.Kind, request.ID)
	switch request.Kind {
	case CreateVolume, ExtendVolume:
		text += fmt.Sprintf(" to %d GiB", request.Size)
	case RequestFailover:
		text += " to " + request.Target
	case SetFrozen:
		text += fmt.Sprintf(" %v", request.Frozen)
	case DeleteVolume, ReadVolume, CreateSnapshot, DeleteSnapshot, ReadSnapshot, AbortFailover, ReadFailover, ReadCluster:
	}
	return text + ": " + answer.String()
}

// String says an answer in words.
func (a Answer) String() string {
	switch {
	case a.Unknown:
		return "unknown"
	case a.Code != "":
		return string(a.Code)
	}
	words := []string{"ok"}
	for _, field := range [...]string{a.Status, a.Active, a.Failover, string(a.Phase)} {
		if field != "" {
			words = append(words, field)
		}
	}
	if a.Epoch != 0 {
		words = append(words, fmt.Sprintf("epoch %d", a.Epoch))
	}
	return strings.Join(words, " ")
}
