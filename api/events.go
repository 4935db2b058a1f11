package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/lockstep-storage/lockstep/fsm"
)

const (
	heartbeat = 15 * time.Second
	// breath is the least time between two looks at the state for one stream, so
	// that a busy deployment costs little.
	breath = 20 * time.Millisecond
)

// event is one record that has changed.
type event struct {
	index uint64
	name  string
	data  any
}

// streamEvents answers GET /v1/events with every failover, cluster and service
// that changes from now on, or has changed since the index that the client names.
// What it sends follows from the state: a client that comes back gets the records
// as they are by then, not each step between.
func (s *Server) streamEvents(x *exchange) error {
	last, err := s.since(x)
	if err != nil {
		return err
	}
	h := x.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	s.metrics.streams.Inc()
	defer s.metrics.streams.Dec()
	if err := x.send([]byte(": events from index " + strconv.FormatUint(last, 10) + "\n\n")); err != nil {
		return nil // the client has gone away or is too slow
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		changed, fresh := s.eventsAfter(x, last)
		if len(fresh) > 0 {
			last = fresh[len(fresh)-1].index
			if err := x.send(encodeEvents(fresh)); err != nil {
				return nil
			}
		}
		if !x.awaitChange(changed, beat.C) {
			return nil
		}
	}
}

// awaitChange returns when something has changed, and false when there is nobody
// to tell. It sends a comment now and then, so that both ends notice a connection
// that is gone.
func (x *exchange) awaitChange(changed <-chan struct{}, beat <-chan time.Time) bool {
	ctx := x.r.Context()
	breathe := time.NewTimer(breath)
	defer breathe.Stop()
	for rested := false; ; {
		ready := changed
		if !rested {
			ready = nil
		}
		select {
		case <-ready:
			return true
		case <-breathe.C:
			rested = true
		case <-beat:
			if x.send([]byte(": still here\n\n")) != nil {
				return false
			}
		case <-ctx.Done():
			return false
		case <-draining(ctx):
			return false
		}
	}
}

// send writes to the stream at once. A reader that is too slow is dropped.
func (x *exchange) send(text []byte) error {
	x.limitWrite()
	if _, err := x.Write(text); err != nil {
		return err
	}
	return http.NewResponseController(x.ResponseWriter).Flush()
}

// since returns the index after which events are wanted.
func (s *Server) since(x *exchange) (last uint64, err error) {
	text := x.r.Header.Get("Last-Event-Id")
	if x.query.Has("index") {
		text = x.query.Get("index")
	}
	if text == "" {
		s.node.View(func(state *fsm.State) { last = state.Index() })
		return last, nil
	}
	if last, err = strconv.ParseUint(text, 10, 64); err != nil {
		return 0, fieldFault("index", text, fmt.Sprintf("index %q must be a whole number that is not negative.", text))
	}
	return last, nil
}

// eventsAfter returns what has changed after an index, in the order of the log.
func (s *Server) eventsAfter(x *exchange, last uint64) (changed <-chan struct{}, fresh []event) {
	due := false
	changed = s.node.View(func(state *fsm.State) { due = anyAfter(state, last) })
	if !due {
		return changed, nil
	}
	t, err := s.truth(x)
	t.known = t.known && err == nil
	changed = s.node.View(func(state *fsm.State) { fresh = t.eventsAfter(state, last) })
	return changed, fresh
}

// anyAfter reports whether there is an event to send.
func anyAfter(state *fsm.State, last uint64) bool {
	for cl := range state.Clusters() {
		if cl.Index > last {
			return true
		}
	}
	for svc := range state.Services() {
		if svc.Index > last {
			return true
		}
	}
	for f := range state.Failovers(0) {
		if f.Index > last {
			return true
		}
	}
	return false
}

func (t truth) eventsAfter(state *fsm.State, last uint64) []event {
	var fresh []event
	for f := range state.Failovers(0) {
		if f.Index > last {
			fresh = append(fresh, event{index: f.Index, name: "failover", data: t.failover(state, &f)})
		}
	}
	for cl := range state.Clusters() {
		if cl.Index > last {
			fresh = append(fresh, event{index: cl.Index, name: "cluster", data: t.cluster(state, &cl)})
		}
	}
	for svc := range state.Services() {
		cl, ok := state.Cluster(svc.Group())
		if ok && svc.Index > last {
			fresh = append(fresh, event{index: svc.Index, name: "service", data: serviceEvent{
				memberView: t.member(&cl, &svc), Cluster: svc.Cluster, Index: svc.Index,
			}})
		}
	}
	slices.SortStableFunc(fresh, func(a, b event) int { return cmp.Compare(a.index, b.index) })
	return fresh
}

// serviceEvent is a service of /v1.
type serviceEvent struct {
	memberView
	Cluster string `json:"cluster"` // empty outside clusters
	Index   uint64 `json:"index"`
}

// encodeEvents writes events as server-sent ones. One command can change several
// records: only the last event of an index carries it as its id, so that a client
// which is cut off in between gets all of them again.
func encodeEvents(events []event) []byte {
	var buf bytes.Buffer
	for i, e := range events {
		data, err := json.Marshal(e.data)
		if err != nil {
			panic(err) // a view that cannot be encoded is a bug; the caller recovers
		}
		if i == len(events)-1 || events[i+1].index != e.index {
			fmt.Fprintf(&buf, "id: %d\n", e.index)
		}
		fmt.Fprintf(&buf, "event: %s\ndata: %s\n\n", e.name, data)
	}
	return buf.Bytes()
}
