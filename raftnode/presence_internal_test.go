package raftnode

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/fsm"
)

// leases keeps a service of every node, and their leases, until the test ends or
// the node's is stopped.
func (f *fleet) leases(t *testing.T) map[*fleetNode]*Lease {
	t.Helper()
	all := map[*fleetNode]*Lease{}
	ctx, cancel := contextOf(t)
	var wg sync.WaitGroup
	for _, n := range f.nodes {
		l := n.NewLease(f.service(n))
		all[n] = l
		wg.Go(func() { l.Run(ctx) })
	}
	t.Cleanup(func() { cancel(); wg.Wait() })
	for _, l := range all {
		f.until("all hold leases", func() bool { return holds(l) })
	}
	return all
}

func TestPresence(t *testing.T) {
	t.Parallel()
	duration := fleetLease().Duration
	story(t, "a service is up on every node exactly while its lease is current", 3, 3, func(t *testing.T, f *fleet) {
		leases := f.leases(t)
		n := f.follower()
		host := leases[n].host
		var log uint64
		<-time.After(settle + 123*time.Millisecond) // not at a whole second
		first, err := f.leader().presence(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range f.nodes {
			seen, err := at.Presence(t.Context())
			if p := seen[host]; err != nil || !p.Up || time.Since(p.LastSeen.Time()) > duration/2 {
				t.Errorf("at %s: %+v, %v", at.id, p, err)
			}
			if got, want := seen[host].LastSeen, first[host].LastSeen; got != want {
				t.Errorf("at %s: last seen %v, want %v", at.id, got, want)
			}
			log = at.raft.LastIndex()
		}
		<-time.After(time.Minute)
		if now := f.leader().raft.LastIndex(); now != log {
			t.Errorf("the log has grown from %d to %d by heartbeats", log, now)
		}
		f.isolate(n)
		until, _ := leases[n].Deadline()
		for _, at := range f.nodes {
			if at == n {
				continue
			}
			for n.clock.now() < until-20*time.Millisecond {
				if seen, err := at.Presence(t.Context()); err != nil || !seen[host].Up {
					t.Fatalf("at %s, %v before its lease ends: %+v, %v", at.id, until-n.clock.now(), seen[host], err)
				}
				synctestPause()
			}
		}
		f.until("its lease is over", func() bool { return !holds(leases[n]) })
		<-time.After(time.Millisecond)
		for _, at := range f.nodes {
			if at == n {
				continue // it rides out what it takes for an election
			}
			seen, err := at.Presence(t.Context())
			if p := seen[host]; err != nil || p.Up || p.LastSeen == 0 {
				t.Errorf("at %s, after its lease: %+v, %v", at.id, p, err)
			}
		}
		f.heal(n)
		f.until("it is up again", func() bool {
			seen, err := n.Presence(t.Context())
			return err == nil && seen[host].Up
		})
	})
	story(t, "no service goes down, nor back in time, with its leader", 3, 3, func(t *testing.T, f *fleet) {
		leases := f.leases(t)
		<-time.After(2 * duration)
		old := f.leader()
		f.kill(old)
		killed := time.Now()
		at := f.follower()
		ctx, cancel := contextOf(t)
		defer cancel()
		first := true
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); synctestPause() {
			seen, err := at.Presence(ctx)
			if err != nil {
				t.Fatalf("%v after the leader was killed: %v", time.Since(killed), err)
			}
			for n, l := range leases {
				p := seen[l.host]
				if n != old && (!p.Up || time.Since(p.LastSeen.Time()) > 2*time.Second) {
					t.Fatalf("%v after the leader was killed, %s is %+v", time.Since(killed), l.host, p)
				}
				if n == old && (p.Up || p.LastSeen < fsm.TimeOf(killed.Add(-2*duration)) || p.LastSeen > fsm.TimeOf(killed)) {
					t.Fatalf("%v after it was killed, the old leader's is %+v", time.Since(killed), p)
				}
			}
			if took := time.Since(killed); first && took > 5*time.Second {
				t.Errorf("the first answer took %v", took)
			}
			first = false
		}
	})
	story(t, "no service goes down while leadership is handed over", 3, 3, func(t *testing.T, f *fleet) {
		leases := f.leases(t)
		for range 10 {
			old := f.leader()
			if err := old.raft.LeadershipTransfer().Error(); err != nil {
				t.Fatal(err)
			}
			handed := time.Now()
			for end := handed.Add(duration); time.Now().Before(end); synctestPause() {
				seen, err := old.Presence(t.Context())
				for _, l := range leases {
					if !seen[l.host].Up {
						t.Fatalf("%v after the handover %s is %+v, %v", time.Since(handed), l.host, seen[l.host], err)
					}
				}
			}
		}
	})
	story(t, "not without a leader", 3, 3, func(t *testing.T, f *fleet) {
		n := f.follower()
		f.isolate(n)
		ctx, cancel := contextOf(t)
		time.AfterFunc(10*time.Second, cancel)
		if _, err := n.Presence(ctx); !errors.Is(err, fsm.ErrNoLeader) {
			t.Errorf("Presence = %v, want %v", err, fsm.ErrNoLeader)
		}
	})
}

func TestPresenceCountsGrantedLeasesOnly(t *testing.T) {
	t.Parallel()
	story(t, "one that nobody confirms does not make a service up", 3, 3, func(t *testing.T, f *fleet) {
		leader := f.leader()
		host := f.service(leader)
		f.losing(func(_, _, method string) error {
			if method == methodTerm {
				return errUnreachable
			}
			return nil
		})
		if _, err := leader.grant(t.Context(), f.question(host, leader.id)); err == nil {
			t.Fatal("granted though nobody confirms the term")
		}
		f.losing(nil)
		<-time.After(settle)
		if seen, err := leader.Presence(t.Context()); err != nil || seen[host].Up {
			t.Errorf("it is %+v, %v", seen[host], err)
		}
	})
}
