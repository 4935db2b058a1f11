package history_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/cmd/internal/history"
	"github.com/lockstep-storage/lockstep/fsm"
)

const (
	unknown = -1 // the end of an operation whose answer nobody heard
	cl      = "c@aa"
)

// op is one operation, from begin to end in milliseconds.
func op(begin, end int, r history.Request, a history.Answer) history.Operation {
	o := history.Operation{Request: r, Answer: a, Begin: time.Duration(begin) * time.Millisecond, End: time.Duration(end) * time.Millisecond}
	if end == unknown {
		o.Answer = history.Answer{Unknown: true}
	}
	return o
}

func create(id string) history.Request {
	return history.Request{Kind: history.CreateVolume, ID: id, Size: 1}
}

func extend(size int64) history.Request {
	return history.Request{Kind: history.ExtendVolume, ID: "v", Size: size}
}

func remove() history.Request { return history.Request{Kind: history.DeleteVolume, ID: "v"} }

func volume() history.Request { return history.Request{Kind: history.ReadVolume, ID: "v"} }

func ask(id, target string) history.Request {
	return history.Request{Kind: history.RequestFailover, Cluster: cl, ID: id, Target: target}
}

func abort(id string) history.Request {
	return history.Request{Kind: history.AbortFailover, Cluster: cl, ID: id}
}

func failover(id string) history.Request {
	return history.Request{Kind: history.ReadFailover, ID: id}
}

func cluster() history.Request { return history.Request{Kind: history.ReadCluster, Cluster: cl} }

func freeze(frozen bool) history.Request {
	return history.Request{Kind: history.SetFrozen, Cluster: cl, Frozen: frozen}
}

func seen(status fsm.VolumeStatus, size int64) history.Answer {
	return history.Answer{Status: string(status), Size: size}
}

func at(epoch uint64, site string) history.Answer { return history.Answer{Epoch: epoch, Active: site} }

func phase(p fsm.Phase) history.Answer { return history.Answer{Phase: p} }

func refused(code fsm.Code) history.Answer { return history.Answer{Code: code} }

func frozen(f bool) history.Answer { return history.Answer{Frozen: &f} }

var ok history.Answer

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		want    history.Verdict
		history []history.Operation
	}{
		{"nothing happened", history.Linearizable, nil},
		{"a volume's life", history.Linearizable, []history.Operation{
			op(0, 1, create("v"), ok), op(2, 3, volume(), seen(fsm.StatusCreating, 1)), op(4, 5, volume(), seen(fsm.StatusAvailable, 1)),
			op(6, 7, extend(3), ok), op(8, 9, volume(), seen(fsm.StatusAvailable, 3)),
			op(10, 11, remove(), ok), op(12, 13, volume(), refused(fsm.ErrNotFound)),
		}},
		{"a volume that is there is not found", history.Violated, []history.Operation{
			op(0, 1, create("v"), ok), op(2, 3, volume(), refused(fsm.ErrNotFound)),
		}},
		{"a write that was acknowledged is lost later", history.Violated, []history.Operation{
			op(0, 1, create("v"), ok), op(2, 3, volume(), seen(fsm.StatusAvailable, 1)), op(4, 5, volume(), refused(fsm.ErrNotFound)),
		}},
		{"a read goes back in time", history.Violated, []history.Operation{
			op(0, 1, create("v"), ok), op(2, 3, volume(), seen(fsm.StatusAvailable, 1)), op(4, 5, volume(), seen(fsm.StatusCreating, 1)),
		}},
		{"two reads at the same time may be in any order", history.Linearizable, []history.Operation{
			op(0, 1, create("v"), ok), op(2, 5, volume(), seen(fsm.StatusAvailable, 1)), op(4, 6, volume(), seen(fsm.StatusCreating, 1)),
		}},
		{"an old size after the new one", history.Violated, []history.Operation{
			op(0, 1, create("v"), ok), op(2, 3, extend(2), ok), op(4, 5, volume(), seen(fsm.StatusAvailable, 2)),
			op(6, 7, volume(), seen(fsm.StatusAvailable, 1)),
		}},
		{"an unknown create may have taken effect", history.Linearizable, []history.Operation{
			op(0, unknown, create("v"), ok), op(2, 3, volume(), refused(fsm.ErrNotFound)), op(4, 5, volume(), seen(fsm.StatusAvailable, 1)),
		}},
		{"an unknown create may never take effect", history.Linearizable, []history.Operation{
			op(0, unknown, create("v"), ok), op(2, 3, volume(), refused(fsm.ErrNotFound)),
		}},
		{"an unknown create takes effect twice", history.Violated, []history.Operation{
			op(0, unknown, create("v"), ok), op(2, 3, volume(), seen(fsm.StatusAvailable, 1)), op(4, 5, remove(), ok),
			op(6, 7, volume(), refused(fsm.ErrNotFound)), op(8, 9, volume(), seen(fsm.StatusAvailable, 1)),
		}},
		{"deleted twice", history.Violated, []history.Operation{
			op(0, 1, create("v"), ok), op(2, 3, remove(), ok), op(4, 5, volume(), refused(fsm.ErrNotFound)), op(6, 7, remove(), ok),
		}},
		{"a volume is out of reach for a while", history.Linearizable, []history.Operation{
			op(0, 1, create("v"), ok), op(2, 3, volume(), seen(fsm.StatusAvailable, 1)), op(4, 5, volume(), seen(fsm.StatusError, 1)),
			op(6, 7, volume(), seen(fsm.StatusAvailable, 1)),
		}},
		{"there and back", history.Linearizable, []history.Operation{
			op(0, 1, ask("f", "b"), ok), op(2, 3, ask("g", "b"), refused(fsm.ErrFailingOver)), op(4, 5, cluster(), at(2, "b")),
			op(6, 7, failover("f"), phase(fsm.Done)), op(8, 9, ask("h", "default"), ok), op(10, 11, cluster(), at(2, "b")),
			op(12, 13, cluster(), at(3, "default")), op(14, 15, failover("h"), phase(fsm.Switching)),
		}},
		{"an epoch is skipped", history.Violated, []history.Operation{
			op(0, 1, ask("f", "b"), ok), op(2, 3, cluster(), at(3, "b")),
		}},
		{"the site changes back by itself", history.Violated, []history.Operation{
			op(0, 1, ask("f", "b"), ok), op(2, 3, cluster(), at(2, "b")), op(4, 5, cluster(), at(1, "default")),
		}},
		{"the switch is half seen", history.Violated, []history.Operation{
			op(0, 1, ask("f", "b"), ok), op(2, 3, cluster(), at(2, "default")), op(4, 5, cluster(), at(2, "b")),
		}},
		{"a second failover while one is unfinished", history.Violated, []history.Operation{
			op(0, 1, ask("f", "b"), ok), op(2, 3, ask("g", "c"), ok), op(4, 5, failover("f"), phase(fsm.Draining)),
			op(6, 7, cluster(), history.Answer{Failover: "f"}),
		}},
		{"failed with something perhaps promoted, and again", history.Linearizable, []history.Operation{
			op(0, 1, ask("f", "b"), ok), op(2, 3, failover("f"), phase(fsm.Failed)), op(4, 5, ask("g", "default"), ok),
			op(6, 7, cluster(), at(2, "default")),
		}},
		{"aborted", history.Linearizable, []history.Operation{
			op(0, 1, ask("f", "b"), ok), op(2, 3, abort("f"), ok), op(4, 5, failover("f"), phase(fsm.Aborted)), op(6, 7, cluster(), at(1, "default")),
		}},
		{"aborted and yet switched", history.Violated, []history.Operation{
			op(0, 1, ask("f", "b"), ok), op(2, 3, abort("f"), ok), op(4, 5, cluster(), at(2, "b")),
		}},
		{"aborted after the switch", history.Violated, []history.Operation{
			op(0, 1, ask("f", "b"), ok), op(2, 3, failover("f"), phase(fsm.Switching)), op(4, 5, abort("f"), ok),
		}},
		{"frozen", history.Linearizable, []history.Operation{
			op(0, 1, freeze(true), ok), op(2, 3, cluster(), frozen(true)), op(4, unknown, freeze(false), ok), op(6, 7, cluster(), frozen(true)),
			op(8, 9, cluster(), frozen(false)),
		}},
		{"a freeze is forgotten", history.Violated, []history.Operation{
			op(0, 1, freeze(true), ok), op(2, 3, cluster(), frozen(false)),
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := history.Check(test.history, 0)
			if got.Verdict != test.want {
				t.Errorf("Check = %s (%s), want %s", got.Verdict, got.Object, test.want)
			}
			var page bytes.Buffer
			if got.Verdict == history.Violated {
				if err := got.Visualize(&page); err != nil || !strings.Contains(page.String(), "<html") {
					t.Errorf("Visualize: %d bytes, %v", page.Len(), err)
				}
			}
		})
	}
}

func TestRecorder(t *testing.T) {
	t.Parallel()
	now := time.Duration(0)
	r := history.NewRecorder(func() time.Duration { now++; return now })
	heard := r.Begin(1, create("v"))
	r.Begin(2, create("w"))
	heard.End(refused(fsm.ErrFrozen))

	got, err := json.Marshal(r.Operations())
	want := `[{"client":1,"request":{"kind":"create volume","id":"v","size":1},"answer":{"code":"frozen"},"begin":1,"end":3},` +
		`{"client":2,"request":{"kind":"create volume","id":"w","size":1},"answer":{"unknown":true},"begin":2,"end":0}]`
	if err != nil || string(got) != want {
		t.Errorf("Operations = %s, %v, want %s", got, err, want)
	}
}
