package clustertest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	"github.com/lockstep-storage/lockstep/fsm"
)

var (
	seeds   = flag.Int("seeds", 500, "how many random histories to run")
	seed    = flag.Int64("seed", -1, "run only the history of this seed")
	verbose = flag.Bool("history", false, "print every event of a history, and the log of the nodes")
)

// TestHistories breaks a cluster at random while failovers and volumes are asked
// for, mends it, and checks that no guarantee was ever broken and that all is quiet
// and agreed upon afterwards. A failing seed replays with -seed N -history.
func TestHistories(t *testing.T) {
	t.Parallel()
	first, last := int64(0), int64(*seeds)
	if *seed >= 0 {
		first, last = *seed, *seed+1
	}
	for s := first; s < last; s++ {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { run(t, s) })
			if t.Failed() {
				t.Logf("replay: go test ./cmd/internal/clustertest -run 'TestHistories/%d$' -seed %d -history", s, s)
			}
		})
	}
}

// story is one random run.
type story struct {
	t       *testing.T
	c       *Cluster
	rnd     *rand.Rand
	began   time.Time
	down    map[*Member]func() // how to mend each member that is broken
	asked   []string           // failovers that were accepted
	volumes []string
	epochs  map[string]uint64 // greatest epoch seen on each member since it started
}

const eventsPerHistory = 40

func run(t *testing.T, seed int64) {
	logger := hclog.NewNullLogger()
	if *verbose {
		logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: testWriter{t}})
	}
	rnd := rand.New(rand.NewPCG(uint64(seed), 0))
	h := &story{
		t: t, rnd: rnd, began: time.Now(), down: map[*Member]func(){}, epochs: map[string]uint64{},
		c: New(t, 3+2*rnd.IntN(2), logger),
	}
	h.network(seed)
	for range eventsPerHistory {
		time.Sleep(time.Duration(rnd.Int64N(int64(500 * time.Millisecond))))
		h.event()
		h.check()
	}
	for m, mend := range h.down {
		mend()
		delete(h.down, m)
	}
	h.note("mended")
	h.c.Eventually("quiet and agreed", h.c.Quiet)
	h.check()
	h.settled()
}

// network makes the questions between nodes slow in two histories of three: by a
// few milliseconds, or now and then by as long as a lease.
func (h *story) network(seed int64) {
	rnd := rand.New(rand.NewPCG(uint64(seed), 1)) // the nodes' own, so as not to change the events
	switch seed % 3 {
	case 1:
		h.c.SetDelay(func() time.Duration { return time.Duration(rnd.Int64N(int64(20 * time.Millisecond))) })
	case 2:
		h.c.SetDelay(func() time.Duration {
			if rnd.IntN(10) > 0 {
				return time.Duration(rnd.Int64N(int64(5 * time.Millisecond)))
			}
			return time.Duration(rnd.Int64N(int64(lease().Duration)))
		})
	}
}

// event does one random thing.
func (h *story) event() {
	m := h.c.Members[h.rnd.IntN(len(h.c.Members))]
	switch h.rnd.IntN(12) {
	case 0:
		h.breaks(m, "cut", h.c.Cut, h.c.Heal)
	case 1:
		h.breaks(m, "kill", h.c.Kill, h.c.Restart)
	case 2, 3:
		h.mend(m)
	case 4, 5, 6:
		h.failover(m)
	case 7:
		b := Behaviour(h.rnd.IntN(6))
		h.note("the next promotion will behave as %d", b)
		h.c.Array.Next(b)
	case 8:
		if len(h.asked) > 0 {
			h.ask(m, "abort", fsm.AbortFailover{ID: h.asked[len(h.asked)-1]})
		}
	case 9:
		h.ask(m, "freeze", fsm.SetFrozen{Cluster: ClusterName, Frozen: h.rnd.IntN(3) == 0})
		h.ask(m, "enable", fsm.SetClusterDisabled{Cluster: ClusterName})
	default:
		h.volume(m)
	}
}

func (h *story) note(format string, args ...any) {
	if *verbose {
		h.t.Logf("%8.3fs %s", time.Since(h.began).Seconds(), fmt.Sprintf(format, args...))
	}
}

// breaks breaks a member in a way that mends it, as long as a majority is left.
func (h *story) breaks(m *Member, what string, apply, mend func(*Member)) {
	if _, broken := h.down[m]; broken || len(h.down) >= (len(h.c.Members)-1)/2 {
		return
	}
	h.note("%s %s", what, m.ID)
	apply(m)
	if what == "kill" {
		delete(h.epochs, m.ID)
	}
	h.down[m] = func() {
		h.note("mend %s", m.ID)
		mend(m)
	}
}

func (h *story) mend(m *Member) {
	if mend, broken := h.down[m]; broken {
		delete(h.down, m)
		mend()
	}
}

func (h *story) failover(m *Member) {
	target := []string{"default", "site-b", "site-c"}[h.rnd.IntN(3)]
	mode := []fsm.Mode{fsm.Forced, fsm.Planned}[h.rnd.IntN(2)]
	id := uuid.NewString()
	if h.ask(m, "failover to "+target, fsm.RequestFailover{ID: id, Cluster: ClusterName, Target: target, Mode: mode}) {
		h.asked = append(h.asked, id)
	}
}

func (h *story) volume(m *Member) {
	if len(h.volumes) > 0 && h.rnd.IntN(3) == 0 {
		id := h.volumes[h.rnd.IntN(len(h.volumes))]
		h.ask(m, "delete a volume", fsm.DeleteVolume{ID: id, Host: m.Host()})
		return
	}
	id := uuid.NewString()
	v := fsm.Volume{ID: id, Size: 1, Host: m.Host(), Replicated: h.rnd.IntN(2) == 0}
	if h.ask(m, "create a volume", fsm.CreateVolume{Volume: v}) {
		h.volumes = append(h.volumes, id)
	}
}

// ask proposes cmd at m, which may refuse it or be unable to answer.
func (h *story) ask(m *Member, what string, cmd fsm.Command) bool {
	if _, up := h.c.node(m.ID); !up {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	_, err := m.Node.Propose(ctx, uuid.NewString(), cmd)
	h.note("%s at %s: %v", what, m.ID, err)
	return err == nil || errors.Is(err, fsm.ErrNoLeader)
}

// check holds at every moment: epochs only grow, and the array saw nothing that it
// never should have.
func (h *story) check() {
	for _, m := range h.c.Members {
		if _, up := h.c.node(m.ID); !up {
			continue
		}
		epoch := h.c.Cluster(m).Epoch
		if epoch < h.epochs[m.ID] {
			h.t.Errorf("G2: %s went from epoch %d back to %d", m.ID, h.epochs[m.ID], epoch)
		}
		h.epochs[m.ID] = epoch
	}
	for _, v := range h.c.Array.Violations() {
		h.t.Error(v)
	}
	if h.t.Failed() {
		h.t.FailNow()
	}
}

// settled holds when all is mended: every failover that was asked for has ended,
// and every member and the array agree on the site.
func (h *story) settled() {
	s := h.c.Leader().Node.Clone()
	for _, id := range h.asked {
		if f, ok := s.Failover(id); ok && !f.Phase.Terminal() {
			h.t.Errorf("G5: failover %s is still %s", id, f.Phase)
		}
	}
	cl, _ := s.Cluster(ClusterName)
	if !cl.Held && h.c.Array.Promoted() != cl.ActiveBackendID {
		h.t.Errorf("the cluster is on %q, the array on %q", cl.ActiveBackendID, h.c.Array.Promoted())
	}
	if cl.Held || cl.Frozen {
		return
	}
	h.c.Eventually("every volume operation has ended", func() bool {
		for v := range h.c.Leader().Node.Clone().Volumes(0) {
			if v.Status == fsm.StatusCreating || v.Status == fsm.StatusDeleting {
				return false
			}
		}
		return true
	})
	h.check()
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", p)
	return len(p), nil
}
