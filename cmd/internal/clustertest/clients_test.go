package clustertest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/lockstep-storage/lockstep/cmd/internal/history"
	"github.com/lockstep-storage/lockstep/fsm"
)

// within is a client's patience.
func (s *story) within() time.Duration {
	return 300*time.Millisecond + time.Duration(s.rnd.Int64N(int64(2*time.Second)))
}

// do has a client ask for something, beside all that goes on.
func (s *story) do(m *Member, r history.Request, cmd fsm.Command, accepted func()) {
	if _, up := s.c.node(m.ID); !up {
		return
	}
	within, client := s.within(), s.rnd.IntN(8)
	s.clients.Go(func() {
		pending, request := s.c.History.Begin(client, r), uuid.NewString()
		err := s.c.ask(m, within, request, cmd)
		answer := answerOf(err)
		pending.End(answer)
		if answer.Unknown {
			s.mu.Lock()
			s.unknown[request] = pending
			s.mu.Unlock()
		}
		s.note("%s %s at %s: %v", r.Kind, r.ID, m.ID, err)
		if answer.Code == "" && accepted != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			accepted()
		}
		kind := "accepted"
		switch {
		case answer.Unknown:
			kind = "unknown"
		case answer.Code != "":
			kind = "refused"
		}
		s.stats.Add(fmt.Sprintf("client: %s %s", r.Kind, kind), 1)
	})
}

// answerOf is what a client knows after an error of Propose.
func answerOf(err error) history.Answer {
	var refusal *fsm.Refusal
	switch {
	case err == nil:
		return history.Answer{}
	case errors.As(err, &refusal) && fsm.CodeOf(err) != fsm.ErrNoLeader:
		return history.Answer{Code: refusal.Code}
	}
	return history.Answer{Unknown: true}
}

func (s *story) failover(m *Member, cluster string) {
	target := []string{fsm.DefaultBackendID, "site-b", "site-c"}[s.rnd.IntN(3)]
	mode := []fsm.Mode{fsm.Forced, fsm.Planned}[s.rnd.IntN(2)]
	id := s.name("f")
	s.note("%s failover %s of %s to %s asked of %s", mode, id, cluster, target, m.ID)
	s.do(m, history.Request{Kind: history.RequestFailover, Cluster: cluster, ID: id, Target: target},
		fsm.RequestFailover{ID: id, Cluster: cluster, Target: target, Mode: mode}, func() { s.asked = append(s.asked, asked{id, cluster}) })
}

// abort aborts the latest failover that was asked for.
func (s *story) abort(m *Member) {
	f, ok := s.latest()
	if !ok {
		return
	}
	s.do(m, history.Request{Kind: history.AbortFailover, Cluster: f.cluster, ID: f.id}, fsm.AbortFailover{ID: f.id}, nil)
}

// latest is the failover that was asked for last.
func (s *story) latest() (f asked, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.asked) == 0 {
		return asked{}, false
	}
	return s.asked[len(s.asked)-1], true
}

// pick is a random one of some names. They come by pointer, since clients that are
// answered meanwhile add to them.
func pick[T any](s *story, of *[]T) (one T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(*of) == 0 {
		return one
	}
	return (*of)[s.rnd.IntN(len(*of))]
}

func (s *story) freeze(m *Member, cluster string) {
	frozen := s.rnd.IntN(4) == 0
	s.do(m, history.Request{Kind: history.SetFrozen, Cluster: cluster, Frozen: frozen}, fsm.SetFrozen{Cluster: cluster, Frozen: frozen}, nil)
}

// enable is asked for before volumes: a failover disables a cluster.
func (s *story) enable(m *Member, cluster string) {
	if _, up := s.c.node(m.ID); !up {
		return
	}
	within := s.within()
	s.clients.Go(func() { _ = s.c.Ask(m, within, fsm.SetClusterDisabled{Cluster: cluster}) })
}

// volume asks for something to be done to a volume, or for a few new ones.
func (s *story) volume(m *Member, cluster string) {
	host := m.HostIn(cluster)
	v := pick(s, &s.volumes)
	n := s.rnd.IntN(10)
	if v == "" || n < 5 {
		s.enable(m, cluster)
		for range 1 + s.rnd.IntN(3) {
			s.create(m, host)
		}
		return
	}
	switch {
	case n < 6:
		s.do(m, history.Request{Kind: history.DeleteVolume, ID: v}, fsm.DeleteVolume{ID: v, Host: host}, nil)
	case n < 8:
		size := 1 + s.rnd.Int64N(5)
		s.do(m, history.Request{Kind: history.ExtendVolume, ID: v, Size: size}, fsm.ExtendVolume{ID: v, Size: size, Host: host}, nil)
	case n < 9:
		id := s.name("s")
		s.do(m, history.Request{Kind: history.CreateSnapshot, ID: id},
			fsm.CreateSnapshot{Snapshot: fsm.Snapshot{ID: id, VolumeID: v}, Host: host}, func() { s.snapshots = append(s.snapshots, id) })
	default:
		if id := pick(s, &s.snapshots); id != "" {
			s.do(m, history.Request{Kind: history.DeleteSnapshot, ID: id}, fsm.DeleteSnapshot{ID: id, Host: host}, nil)
		}
	}
}

func (s *story) create(m *Member, host string) {
	id, replicated := s.name("v"), s.rnd.IntN(4) > 0
	s.do(m, history.Request{Kind: history.CreateVolume, ID: id, Size: 1},
		fsm.CreateVolume{Volume: fsm.Volume{ID: id, Size: 1, Host: host, Replicated: replicated}},
		func() { s.volumes = append(s.volumes, id) })
}

// read makes a linearizable read.
func (s *story) read(m *Member, cluster string) {
	node, up := s.c.node(m.ID)
	if !up {
		return
	}
	v, f := pick(s, &s.volumes), pick(s, &s.asked).id
	r := history.Request{Kind: history.ReadCluster, Cluster: cluster}
	switch n := s.rnd.IntN(3); {
	case n == 0 && v != "":
		r = history.Request{Kind: history.ReadVolume, ID: v}
	case n == 1 && f != "":
		r = history.Request{Kind: history.ReadFailover, ID: f}
	}
	p, within, client := m.process, s.within(), s.rnd.IntN(8)
	s.clients.Go(func() {
		pending := s.c.History.Begin(client, r)
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		err := node.Linearize(ctx)
		var a history.Answer
		node.View(func(st *fsm.State) { a = seen(st, r) })
		if err != nil || !p.runs() {
			return // nobody heard the answer
		}
		s.stats.Add("client: linearizable read", 1)
		pending.End(a)
	})
}

// seen is what a reader sees.
func seen(st *fsm.State, r history.Request) history.Answer {
	if r.Kind == history.ReadVolume {
		if v, ok := st.Volume(r.ID); ok {
			return history.Answer{Status: string(v.Status), Size: v.Size}
		}
	}
	if r.Kind == history.ReadFailover {
		if f, ok := st.Failover(r.ID); ok {
			return history.Answer{Phase: f.Phase}
		}
	}
	cl, ok := st.Cluster(r.Cluster)
	if !ok {
		return history.Answer{Code: fsm.ErrNotFound}
	}
	f, _ := st.Failover(cl.Failover)
	return history.Answer{
		Epoch: cl.Epoch, Active: cl.ActiveBackendID, Frozen: new(cl.Frozen), Status: string(cl.ReplicationStatus),
		Failover: cl.Failover, Phase: f.Phase,
	}
}
