package raftnode

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lockstep-storage/lockstep/fsm"
)

// trio runs three voters on real files and sockets, each of which knows all.
func trio(t *testing.T) (s *site, dirs map[string]string, at map[string]*Process, stop map[string]func()) {
	t.Helper()
	gossip := ""
	s = &site{tb: t, stay: true, api: map[string]*Process{}, raft: map[string]string{}}
	dirs, at, stop = map[string]string{}, map[string]*Process{}, map[string]func(){}
	for _, id := range []string{"a", "b", "c"} {
		dirs[id] = t.TempDir()
		at[id], stop[id] = s.run(dirs[id], id, LogStoreWAL, 3, gossip)
		gossip = at["a"].gossip.Addr()
	}
	for id := range dirs {
		waitFor(t, id+" is registered everywhere", func() bool {
			for _, p := range at {
				if registered(p, id) != at[id].identity.directory {
					return false
				}
			}
			return true
		})
	}
	return s, dirs, at, stop
}

func registered(p *Process, id string) (d fsm.Directory) {
	p.View(func(s *fsm.State) {
		n, _ := s.Node(id)
		d = n.Directory
	})
	return d
}

func empty(t *testing.T, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
}

// A voter that has lost its directory, and one that lacks what was acknowledged,
// are two of three. They must not go on without the third; with it all is well.
func TestG13_EmptiedVoterDoesNotVote(t *testing.T) {
	t.Parallel()
	s, dirs, at, stop := trio(t)
	stop["c"]()
	commit(t, at["a"], "acknowledged-by-a-and-b")
	stop["b"]()
	stop["a"]()
	empty(t, dirs["b"])

	c, _ := s.run(dirs["c"], "c", LogStoreWAL, 3)
	b, _ := s.run(dirs["b"], "b", LogStoreWAL, 3, c.gossip.Addr())
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	if _, err := c.Propose(ctx, "", newcomer("too-early")); err == nil {
		t.Error("committed by a voter that lacks what was acknowledged and one that has lost it")
	}

	a, _ := s.run(dirs["a"], "a", LogStoreWAL, 3, c.gossip.Addr())
	commit(t, b, "together")
	for _, p := range []*Process{a, b, c} {
		commit(t, p, "by-"+p.cfg.ID)
		p.View(func(st *fsm.State) {
			if _, ok := st.Node("acknowledged-by-a-and-b"); !ok {
				t.Errorf("%s has lost what was acknowledged", p.cfg.ID)
			}
		})
	}
	waitFor(t, "b votes again", func() bool { return votes(a, "b") })
	if got := registered(a, "b"); got != b.identity.directory {
		t.Errorf("b is registered with %+v and has %+v", got, b.identity.directory)
	}
}

func votes(p *Process, id string) bool {
	peers, err := p.Peers()
	for _, peer := range peers {
		if peer.ID == id {
			return err == nil && peer.Voter
		}
	}
	return false
}

// A directory that was copied, used and then restored has forgotten what it did
// since: the others do not hear it.
func TestRestoredDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	s, dirs, at, stop := trio(t)
	stop["b"]()
	copied := t.TempDir() + "/copy"
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", dirs["b"], copied).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, stopB := s.run(dirs["b"], "b", LogStoreWAL, 3, at["a"].gossip.Addr())
	commit(t, b, "since-the-copy")
	waitFor(t, "the second start is known", func() bool { return registered(at["a"], "b") == b.identity.directory })
	stopB()

	old, _ := s.run(copied, "b", LogStoreWAL, 3, at["a"].gossip.Addr())
	commit(t, at["a"], "without-b")
	err := at["a"].known.check("b", old.identity.directory)
	if err == nil || !strings.Contains(err.Error(), "older copy") {
		t.Errorf("a copy of the directory is taken for it: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := old.Wait(ctx, at["a"].index()); err == nil {
		t.Error("the others talk to a copy")
	}
}

func TestEmptiedVoterIsTakenBack(t *testing.T) {
	t.Parallel()
	servers := func(voters ...raft.ServerID) (all []raft.Server) {
		for _, id := range voters {
			all = append(all, raft.Server{ID: id, Address: raft.ServerAddress(id), Suffrage: raft.Voter})
		}
		return all
	}
	peer := func(id, directory string, alive bool) Peer {
		return Peer{ID: id, Alive: alive, Meta: Meta{Raft: id, Directory: directory, Format: 1}}
	}
	known := map[raft.ServerID]string{"a": "A", "b": "B", "c": "C"}
	for name, test := range map[string]struct {
		servers []raft.Server
		peers   []Peer
		want    membershipChange
		blocked bool
	}{
		"it is removed":                       {servers("a", "b", "c"), []Peer{peer("a", "A", true), peer("b", "new", true), peer("c", "C", true)}, membershipRemove, false},
		"not without the others":              {servers("a", "b", "c"), []Peer{peer("a", "A", true), peer("b", "new", true), peer("c", "C", false)}, membershipKeep, true},
		"not if another is emptied as well":   {servers("a", "b", "c"), []Peer{peer("a", "A", true), peer("b", "new", true), peer("c", "new", true)}, membershipKeep, true},
		"not as long as it is down":           {servers("a", "b", "c"), []Peer{peer("a", "A", true), peer("b", "new", false), peer("c", "C", true)}, membershipKeep, false},
		"once removed it is registered":       {servers("a", "c"), []Peer{peer("a", "A", true), peer("b", "new", true), peer("c", "C", true)}, membershipRenew, false},
		"and added":                           {servers("a", "c"), []Peer{peer("a", "A", true), peer("b", "B", true), peer("c", "C", true)}, membershipAdd, false},
		"nobody is removed who has their own": {servers("a", "b", "c"), []Peer{peer("a", "A", true), peer("b", "B", true), peer("c", "C", true)}, membershipKeep, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := membershipStep(membershipInput{Leader: "a", Servers: test.servers, Peers: test.peers, Format: 1, Registered: known})
			if got.Change != test.want || got.Change != membershipKeep && got.Server.ID != "b" || (len(got.Blocked) > 0) != test.blocked {
				t.Errorf("got %+v", got)
			}
		})
	}
}
