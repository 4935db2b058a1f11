package api_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-storage/lockstep/api"
	"github.com/lockstep-storage/lockstep/fsm"
)

// stream is a client that reads an event stream.
type stream struct {
	header http.Header
	cancel context.CancelFunc
	ended  chan struct{}

	mu       sync.Mutex
	got      bytes.Buffer
	deadline time.Time
	slow     bool // it has stopped reading
}

func openStream(t *testing.T, s *api.Server, query, lastEventID string) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	st := &stream{header: http.Header{}, cancel: cancel, ended: make(chan struct{})}
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/events"+query, nil)
	if lastEventID != "" {
		r.Header.Set("Last-Event-ID", lastEventID)
	}
	go func() {
		defer close(st.ended)
		checked(t, s.Handler()).ServeHTTP(st, r)
	}()
	return st
}

func (s *stream) Header() http.Header { return s.header }
func (s *stream) WriteHeader(int)     {}
func (s *stream) FlushError() error   { return nil }

func (s *stream) SetWriteDeadline(at time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = at
	return nil
}

// Write blocks until the deadline when the reader is slow, as a connection does.
func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	slow, deadline := s.slow, s.deadline
	s.mu.Unlock()
	if slow {
		<-time.After(time.Until(deadline))
		return 0, context.DeadlineExceeded
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.Write(p)
}

// read returns what has come since the last read.
func (s *stream) read() string {
	time.Sleep(100 * time.Millisecond) // of the bubble's clock: lets the stream take its breath
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.got.String()
	s.got.Reset()
	return text
}

func (s *stream) close() {
	s.cancel()
	<-s.ended
}

func TestEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		s := newServer(t, n)
		c := newClient(t, s)
		st := openStream(t, s, "", "")
		if got := st.read(); strings.Contains(got, "data:") || st.header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("before anything happened: %q, %v", got, st.header)
		}

		asked := c.do(http.MethodPost, "/v1/failovers", obj{"cluster": clusterAA, "backend_id": "site-b"})
		got := st.read()
		id, index := asked.at(t, "id").(string), asked.header.Get("X-Lockstep-Index") //nolint:errcheck // a failure shows below
		for _, want := range []string{"event: failover\n", "event: cluster\n", `"id":"` + id + `"`, `"phase":"draining"`, "id: " + index + "\n"} {
			if !strings.Contains(got, want) {
				t.Errorf("got %q, want %q in it", got, want)
			}
		}
		// Of one change only the last event carries the index, so that a client
		// which is cut off in between gets all of it again.
		if strings.Count(got, "id: "+index+"\n") != 1 {
			t.Errorf("got %q, want one id", got)
		}

		n.do(t, fsm.SetServiceDisabled{Host: "solo@bb", Disabled: true, Reason: "repair"})
		if got := st.read(); !strings.Contains(got, "event: service\n") || !strings.Contains(got, `"disabled_reason":"repair"`) || strings.Contains(got, id) {
			t.Errorf("got %q", got)
		}
		n.do(t, fsm.RegisterNode{Node: fsm.Node{ID: "vol1"}}) // changes no cluster, service or failover
		if got := st.read(); got != "" {
			t.Errorf("got %q for a change of something else", got)
		}
		time.Sleep(15 * time.Second)
		if got := st.read(); !strings.HasPrefix(got, ":") || strings.Contains(got, "data:") {
			t.Errorf("got %q, want a comment", got)
		}
		st.close()
	})
}

func TestEventsResume(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		s := newServer(t, n)
		last := strconv.FormatUint(n.index, 10)
		n.do(t, fsm.SetServiceDisabled{Host: "vol2@aa", Disabled: true, Reason: "a"}, fsm.SetServiceDisabled{Host: "vol1@aa", Disabled: true, Reason: "b"})
		for _, query := range []string{"?index=" + last, ""} {
			resume := ""
			if query == "" {
				resume = last
			}
			st := openStream(t, s, query, resume)
			got := st.read()
			a, b := strings.Index(got, `"disabled_reason":"a"`), strings.Index(got, `"disabled_reason":"b"`)
			if a < 0 || b < a || strings.Contains(got, "vol3@aa") {
				t.Errorf("index %q, Last-Event-ID %q: got %q", query, resume, got)
			}
			st.close()
		}
		everything := openStream(t, s, "?index=0", "")
		if got := everything.read(); strings.Count(got, "event: service") != 4 || strings.Count(got, "event: cluster") != 2 {
			t.Errorf("from the start: got %q", got)
		}
		everything.close()
		wantStatus(t, newClient(t, s).do(http.MethodGet, "/v1/events?index=x", nil), http.StatusBadRequest)
	})
}

func TestSlowReaderIsDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		st := openStream(t, newServer(t, n), "", "")
		st.read()
		st.mu.Lock()
		st.slow = true
		st.mu.Unlock()
		start := time.Now()
		n.do(t, fsm.SetServiceDisabled{Host: "vol2@aa", Disabled: true})
		<-st.ended
		if took := time.Since(start); took > 11*time.Second {
			t.Errorf("it took %s", took)
		}
		st.cancel()
	})
}
