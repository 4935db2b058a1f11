package raftnode

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// voters and nonvoters return servers at the address "<id>:1".
func voters(ids string) []raft.Server    { return servers(ids, raft.Voter) }
func nonvoters(ids string) []raft.Server { return servers(ids, raft.Nonvoter) }

func servers(ids string, suffrage raft.ServerSuffrage) []raft.Server {
	var list []raft.Server
	for id := range strings.FieldsSeq(ids) {
		list = append(list, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id + ":1"), Suffrage: suffrage})
	}
	return list
}

// nodes returns live peers that have state, at the address "<id>:1".
func nodes(ids string, changes ...func(*Peer)) []Peer {
	var list []Peer
	for id := range strings.FieldsSeq(ids) {
		peer := Peer{ID: id, Alive: true, Meta: Meta{Raft: id + ":1", Format: 1, HasState: true}}
		for _, change := range changes {
			change(&peer)
		}
		list = append(list, peer)
	}
	return list
}

func dead(p *Peer)  { p.Alive = false }
func fresh(p *Peer) { p.Meta.HasState = false }
func at(address string) func(*Peer) {
	return func(p *Peer) { p.Meta.Raft = address }
}

func expecting(n int) func(*Peer) {
	return func(p *Peer) { fresh(p); p.Meta.Expect = n }
}

// kept says that each of ids has kept up for d.
func kept(d time.Duration, ids string) map[raft.ServerID]time.Duration {
	m := make(map[raft.ServerID]time.Duration)
	for id := range strings.FieldsSeq(ids) {
		m[raft.ServerID(id)] = d
	}
	return m
}

func TestMembershipStep(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		in      membershipInput
		want    string // change, id, address and suffrage
		blocked string // who, and a part of why
	}{
		"a full deployment is left alone": {
			in: membershipInput{Servers: voters("a b c"), Peers: nodes("a b c")},
		},
		"a new node is added without a vote": {
			in:   membershipInput{Servers: voters("a b c"), Peers: slices.Concat(nodes("a b c"), nodes("d", fresh))},
			want: "add d at d:1 as Nonvoter",
		},
		"new nodes are added one at a time, by name": {
			in:   membershipInput{Servers: voters("a"), Peers: slices.Concat(nodes("f e", fresh), nodes("a"))},
			want: "add e at e:1 as Nonvoter",
		},
		"a new node that is dead is not added": {
			in: membershipInput{Servers: voters("a"), Peers: slices.Concat(nodes("a"), nodes("b", fresh, dead))},
		},
		"a removed node stays out while it has its old state": {
			in:      membershipInput{Servers: voters("a"), Peers: nodes("a b")},
			blocked: "b: it has a log although it is not a peer",
		},
		"a node that cannot read the log is not added": {
			in:      membershipInput{Servers: voters("a"), Peers: slices.Concat(nodes("a"), nodes("b", fresh)), Format: 2},
			blocked: "b: it reads log entries up to version 1 and the log has version 2",
		},
		"a new node at the address of another is not added": {
			in:      membershipInput{Servers: voters("a b"), Peers: slices.Concat(nodes("a"), nodes("z", fresh, at("b:1")))},
			blocked: "z: its address b:1 is that of peer b",
		},
		"one node that is blocked keeps no other out": {
			in: membershipInput{
				Servers: voters("a"), Peers: slices.Concat(nodes("a b"), nodes("c", fresh), nodes("d", fresh, at("a:1"))),
			},
			want:    "add c at c:1 as Nonvoter",
			blocked: "b: it has a log although it is not a peer; d: its address a:1 is that of peer a",
		},
		"nobody is removed, dead or unheard of": {
			in: membershipInput{Servers: slices.Concat(voters("a b c"), nonvoters("d e")), Peers: slices.Concat(nodes("a b"), nodes("c d", dead))},
		},
		"a voter that moved keeps its vote": {
			in:   membershipInput{Servers: voters("a b c"), Peers: slices.Concat(nodes("a b"), nodes("c", at("c:2")))},
			want: "readdress c at c:2 as Voter",
		},
		"a non-voter that moved gets none": {
			in:   membershipInput{Servers: slices.Concat(voters("a"), nonvoters("b")), Peers: slices.Concat(nodes("a"), nodes("b", at("b:2")))},
			want: "readdress b at b:2 as Nonvoter",
		},
		"the leader corrects its own address": {
			in:   membershipInput{Servers: voters("a b c"), Peers: slices.Concat(nodes("a", at("a:2")), nodes("b c"))},
			want: "readdress a at a:2 as Voter",
		},
		"a server that moved comes before one that is new or ready": {
			in: membershipInput{
				Servers: slices.Concat(voters("a z"), nonvoters("b")),
				Peers:   slices.Concat(nodes("a b"), nodes("c", fresh), nodes("z", at("z:2"))),
				KeptUp:  kept(time.Hour, "b"),
			},
			want: "readdress z at z:2 as Voter",
		},
		"a server that died elsewhere keeps its address": {
			in: membershipInput{Servers: voters("a b c"), Peers: slices.Concat(nodes("a b"), nodes("c", at("c:2"), dead))},
		},
		"a server is not moved onto another": {
			in:      membershipInput{Servers: voters("a b c"), Peers: slices.Concat(nodes("a b"), nodes("c", at("b:1")))},
			blocked: "c: its address b:1 is that of peer b",
		},
		"a second voter alone would help nobody": {
			in: membershipInput{Servers: slices.Concat(voters("a"), nonvoters("b")), Peers: nodes("a b"), KeptUp: kept(time.Hour, "b")},
		},
		"two that have kept up get votes, one at a time": {
			in: membershipInput{
				Servers: slices.Concat(voters("a"), nonvoters("c b")), Peers: nodes("a b c"), KeptUp: kept(time.Hour, "b c"),
			},
			want: "promote b at b:1 as Voter",
		},
		"the second of the two follows": {
			in: membershipInput{
				Servers: slices.Concat(voters("a b"), nonvoters("c")), Peers: nodes("a b c"), KeptUp: kept(time.Hour, "c"),
			},
			want: "promote c at c:1 as Voter",
		},
		"who has kept up for too short a time waits": {
			in: membershipInput{
				Servers: slices.Concat(voters("a b"), nonvoters("c")), Peers: nodes("a b c"), KeptUp: kept(promotionStable-1, "c"),
			},
		},
		"how long is configurable": {
			in: membershipInput{
				Servers: slices.Concat(voters("a b"), nonvoters("c")), Peers: nodes("a b c"),
				KeptUp: kept(time.Second, "c"), StableFor: time.Second,
			},
			want: "promote c at c:1 as Voter",
		},
		"who has not kept up waits": {
			in: membershipInput{Servers: slices.Concat(voters("a b"), nonvoters("c")), Peers: nodes("a b c")},
		},
		"who has kept up and died waits": {
			in: membershipInput{
				Servers: slices.Concat(voters("a b"), nonvoters("c")), Peers: slices.Concat(nodes("a b"), nodes("c", dead)),
				KeptUp: kept(time.Hour, "c"),
			},
		},
		"the limit holds": {
			in: membershipInput{
				Servers: slices.Concat(voters("a b c"), nonvoters("d e")), Peers: nodes("a b c d e"),
				KeptUp: kept(time.Hour, "d e"), VoterLimit: 3,
			},
		},
		"an even limit means the odd one below": {
			in: membershipInput{
				Servers: slices.Concat(voters("a b c"), nonvoters("d e")), Peers: nodes("a b c d e"),
				KeptUp: kept(time.Hour, "d e"), VoterLimit: 4,
			},
		},
		"the default limit is seven": {
			in: membershipInput{
				Servers: slices.Concat(voters("a b c d e f"), nonvoters("g h")), Peers: nodes("a b c d e f g h"),
				KeptUp: kept(time.Hour, "g h"),
			},
			want: "promote g at g:1 as Voter",
		},
		"with a minority down two more are let in": {
			in: membershipInput{
				Servers: slices.Concat(voters("a b c"), nonvoters("d e")), Peers: slices.Concat(nodes("a b d e"), nodes("c", dead)),
				KeptUp: kept(time.Hour, "d e"),
			},
			want: "promote d at d:1 as Voter",
		},
		"the leader counts even if gossip has not heard of it": {
			in: membershipInput{
				Servers: slices.Concat(voters("a b c d"), nonvoters("e")), Peers: slices.Concat(nodes("b e"), nodes("c d", dead)),
				KeptUp: kept(time.Hour, "e"),
			},
			want: "promote e at e:1 as Voter",
		},
		"no vote is added that would need a majority that is not there": {
			in: membershipInput{
				Servers: slices.Concat(voters("a b c d"), nonvoters("e")), Peers: slices.Concat(nodes("a e"), nodes("b c d", dead)),
				KeptUp: kept(time.Hour, "e"),
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.in.Leader = "a"
			got := membershipStep(test.in)
			text := ""
			if got.Change != membershipKeep {
				text = fmt.Sprintf("%v %s at %s as %v", got.Change, got.Server.ID, got.Server.Address, got.Server.Suffrage)
			}
			if text != test.want {
				t.Errorf("got %q, want %q", text, test.want)
			}
			var blocked []string
			for _, id := range slices.Sorted(maps.Keys(got.Blocked)) {
				blocked = append(blocked, string(id)+": "+got.Blocked[id])
			}
			wantParts(t, blocked, test.blocked)
		})
	}
}

// wantParts checks that each of got begins with the part of want, which is
// separated by "; ".
func wantParts(t *testing.T, got []string, want string) {
	t.Helper()
	var parts []string
	if want != "" {
		parts = strings.Split(want, "; ")
	}
	if !slices.EqualFunc(got, parts, strings.HasPrefix) {
		t.Errorf("got blocked %q, want %q", got, parts)
	}
}

func TestMembershipStepComesToRest(t *testing.T) {
	t.Parallel()
	// From one voter and eight new nodes, step by step, as the leader acts.
	in := membershipInput{Leader: "a", Servers: voters("a"), Peers: slices.Concat(nodes("a"), nodes("b c d e f g h i", fresh))}
	in.KeptUp = kept(time.Hour, "b c d e f g h i")
	steps := 0
	for {
		action := membershipStep(in)
		if action.Change == membershipKeep {
			break
		}
		in.Servers = slices.DeleteFunc(slices.Clone(in.Servers), func(s raft.Server) bool { return s.ID == action.Server.ID })
		in.Servers = append(in.Servers, action.Server)
		if steps++; steps > 100 {
			t.Fatal("it never comes to rest")
		}
	}
	var voting int
	for _, server := range in.Servers {
		if server.Suffrage == raft.Voter {
			voting++
		}
	}
	if len(in.Servers) != 9 || voting != DefaultVoterLimit {
		t.Errorf("ended with %d peers and %d voters", len(in.Servers), voting)
	}
}

func TestBootstrapDecision(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		expect int
		state  bool
		peers  []Peer
		start  string // the ids of the first voters
		wait   string
		err    string
	}{
		"a node that expects itself starts alone":             {expect: 1, start: "b"},
		"it starts also with nodes around that join later":    {expect: 1, peers: nodes("a c", fresh), start: "b"},
		"a node that expects nobody joins":                    {expect: 0, peers: nodes("b c", expecting(3))},
		"a node with state never starts another deployment":   {expect: 1, state: true},
		"nor where others have state":                         {expect: 1, peers: nodes("a"), wait: "node a belongs to the deployment already"},
		"nor where others have state and expect another size": {expect: 3, peers: slices.Concat(nodes("a", expecting(5)), nodes("c")), wait: "node c belongs"},
		"the least of three starts with all":                  {expect: 3, peers: nodes("d c b", expecting(3)), start: "b c d"},
		"it need not see itself":                              {expect: 3, peers: nodes("d c", expecting(3)), start: "b c d"},
		"the others wait for it":                              {expect: 3, peers: nodes("a b c", expecting(3)), wait: "node a starts the deployment"},
		"it waits for the third":                              {expect: 3, peers: nodes("b c", expecting(3)), wait: "2 of 3 expected nodes are here"},
		"a dead third does not count":                         {expect: 3, peers: slices.Concat(nodes("b c", expecting(3)), nodes("d", expecting(3), dead)), wait: "2 of 3"},
		"nor one that joins later":                            {expect: 3, peers: slices.Concat(nodes("b c", expecting(3)), nodes("d", fresh)), wait: "2 of 3"},
		"a fourth is an error":                                {expect: 3, peers: nodes("b c d e", expecting(3)), err: "4 nodes expect to be 3: set 4 on all"},
		"two that expect to be alone are an error":            {expect: 1, peers: nodes("b c", expecting(1)), err: "2 nodes expect to be 1"},
		"different expectations are an error":                 {expect: 3, peers: slices.Concat(nodes("b c", expecting(3)), nodes("d", expecting(5))), err: "this node expects 3 nodes, node d expects 5"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := bootstrapDecision(bootstrapInput{
				ID: "b", Address: "b:1", Expect: test.expect, HasState: test.state, Peers: test.peers,
			})
			wantError(t, err, test.err)
			if !slices.Equal(got.Servers, voters(test.start)) {
				t.Errorf("starts with %v, want %q", got.Servers, test.start)
			}
			if !strings.HasPrefix(got.Wait, test.wait) || (test.wait == "") != (got.Wait == "") {
				t.Errorf("waits because %q, want %q", got.Wait, test.wait)
			}
		})
	}
}

func TestOnlyOneOfThoseWhoExpectEachOtherStarts(t *testing.T) {
	t.Parallel()
	all := nodes("a b c d e", expecting(5))
	var starters []string
	for _, peer := range all {
		got, err := bootstrapDecision(bootstrapInput{
			ID: raft.ServerID(peer.ID), Address: raft.ServerAddress(peer.Meta.Raft), Expect: 5, Peers: all,
		})
		if err != nil {
			t.Fatal(err)
		}
		if got.Servers != nil {
			starters = append(starters, peer.ID)
		}
	}
	if !slices.Equal(starters, []string{"a"}) {
		t.Errorf("%v start, want a alone", starters)
	}
}

func TestProgressStartsAgainAfterABreak(t *testing.T) {
	t.Parallel()
	var p progress
	now := time.Unix(0, 0)
	for i, step := range []struct {
		current []raft.ServerID
		want    map[raft.ServerID]time.Duration
	}{
		{[]raft.ServerID{"a"}, map[raft.ServerID]time.Duration{"a": 0}},
		{[]raft.ServerID{"a", "b"}, map[raft.ServerID]time.Duration{"a": time.Second, "b": 0}},
		{[]raft.ServerID{"b"}, map[raft.ServerID]time.Duration{"b": time.Second}},
		{[]raft.ServerID{"a", "b"}, map[raft.ServerID]time.Duration{"a": 0, "b": 2 * time.Second}},
	} {
		if got := p.observe(now, step.current); !maps.Equal(got, step.want) {
			t.Errorf("step %d: got %v, want %v", i, got, step.want)
		}
		now = now.Add(time.Second)
	}
}

func TestCaughtUpAllowsForEntriesUnderWay(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		applied, commit uint64
		want            bool
	}{{0, 0, true}, {10, 5, true}, {1000, 1000 + promotionLag, true}, {1000, 1001 + promotionLag, false}, {0, 10000, false}} {
		if got := caughtUp(test.applied, test.commit); got != test.want {
			t.Errorf("caughtUp(%d, %d) is %v", test.applied, test.commit, got)
		}
	}
}
