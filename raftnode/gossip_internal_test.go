package raftnode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"
)

func someMeta() Meta {
	return Meta{Deployment: "east", Raft: "127.0.0.1:9777", API: "127.0.0.1:9776", Format: 1, Version: "v0.1.0"}
}

// startGossip runs gossip for node; stop ends it as Run's owner does.
func startGossip(t *testing.T, node string, change func(*GossipConfig)) (g *gossip, stop func()) {
	t.Helper()
	cfg := GossipConfig{Bind: "127.0.0.1:0", Node: node, Meta: someMeta(), Logger: hclog.NewNullLogger()}
	change(&cfg)
	g, err := newGossip(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	stop = func() {
		if ctx.Err() != nil {
			return
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return g, stop
}

// sees returns the names of the live peers that g sees.
func sees(g *gossip) string {
	var names []string
	for _, peer := range live(g.Peers()) {
		names = append(names, peer.ID)
	}
	return strings.Join(names, " ")
}

func TestNodesFindEachOtherThroughAnyAddress(t *testing.T) {
	t.Parallel()
	a, _ := startGossip(t, "a", func(*GossipConfig) {})
	b, _ := startGossip(t, "b", func(c *GossipConfig) { c.Seeds = []string{a.Addr()} })
	_, port, _ := strings.Cut(b.Addr(), ":")
	c, stopC := startGossip(t, "c", func(c *GossipConfig) {
		c.Known = func() []string { return []string{"localhost:" + port} }
		c.Meta.HasState = true
	})
	for _, g := range []*gossip{a, b, c} {
		eventually(t, func() bool { return sees(g) == "a b c" })
	}
	got, ok := a.Peer("c")
	want := someMeta()
	want.HasState = true
	if !ok || got.Meta != want || got.Addr != c.Addr() {
		t.Errorf("a knows c as %+v", got)
	}

	want.Format = 2
	if err := c.UpdateMeta(want); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { peer, _ := a.Peer("c"); return peer.Meta == want })

	stopC()
	eventually(t, func() bool { return sees(a) == "a b" })
	if got, ok := a.Peer("c"); !ok || got.Alive || got.Addr != c.Addr() {
		t.Errorf("a node that left is known as %+v, want its last address", got)
	}
}

func TestANodeThatCrashedIsNoticedAndComesBackUnasked(t *testing.T) {
	t.Parallel()
	a, _ := startGossip(t, "a", func(*GossipConfig) {})
	b, err := newGossip(GossipConfig{Bind: "127.0.0.1:0", Node: "b", Meta: someMeta(), Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.join(t.Context()); err != nil { // it has no seeds
		t.Fatal(err)
	}
	if _, err := a.list.Join([]string{b.Addr()}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return sees(a) == "a b" })
	if err := b.close(); err != nil { // without a word, as by kill -9
		t.Fatal(err)
	}
	eventually(t, func() bool { return sees(a) == "a" })
	// b is not told of any seed: a is who looks for it, where it was.
	again, _ := startGossip(t, "b", func(c *GossipConfig) { c.Bind = b.Addr() })
	eventually(t, func() bool { return sees(a) == "a b" && sees(again) == "a b" })
}

func TestDeploymentsNeverMixOverGossip(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	a, _ := startGossip(t, "a", func(c *GossipConfig) {
		c.Logger = hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Debug})
	})
	b, _ := startGossip(t, "b", func(c *GossipConfig) { c.Seeds = []string{a.Addr()} })
	west := func(c *GossipConfig) { c.Meta.Deployment = "west" }
	x, _ := startGossip(t, "x", func(c *GossipConfig) { west(c); c.Seeds = []string{a.Addr(), b.Addr()} })
	y, _ := startGossip(t, "b", func(c *GossipConfig) { west(c); c.Seeds = []string{x.Addr(), a.Addr()} })
	eventually(t, func() bool { return sees(a) == "a b" && sees(b) == "a b" && sees(x) == "b x" && sees(y) == "b x" })

	for range 3 {
		_, err := x.list.Join([]string{a.Addr()})
		wantError(t, err, `of another deployment, "east"; this one is "west"`)
		_, err = a.list.Join([]string{y.Addr()})
		wantError(t, err, `of another deployment, "west"; this one is "east"`)
	}
	if sees(a) != "a b" || sees(x) != "b x" {
		t.Errorf("deployments have mixed: a sees %s, x sees %s", sees(a), sees(x))
	}
	if n := strings.Count(log.String(), strangerText); n != 1 {
		t.Errorf("logged %d times, want once:\n%s", n, log.String())
	}
	if peer, _ := a.Peer("b"); peer.Addr != b.Addr() {
		t.Errorf("the other deployment's node of the same name has taken its place: %+v", peer)
	}
}

func TestGossipIsEncryptedByAKey(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte("k"), 32)
	with := func(keys ...[]byte) func(*GossipConfig) { return func(c *GossipConfig) { c.Keys = keys } }
	a, _ := startGossip(t, "a", with(key))
	b, _ := startGossip(t, "b", func(c *GossipConfig) { c.Keys, c.Seeds = [][]byte{key}, []string{a.Addr()} })
	eventually(t, func() bool { return sees(a) == "a b" && sees(b) == "a b" })
	for name, keys := range map[string][][]byte{"without a key": nil, "with another key": {bytes.Repeat([]byte("x"), 32)}} {
		c, _ := startGossip(t, "c", with(keys...))
		if _, err := c.list.Join([]string{a.Addr()}); err == nil {
			t.Errorf("a node %s has joined", name)
		}
		if got := sees(c); got != "c" {
			t.Errorf("a node %s sees %s", name, got)
		}
	}
	if got := sees(a); got != "a b" {
		t.Errorf("after strangers came, a sees %s", got)
	}
}

// A key is replaced in three steps on two nodes that gossip all the while. They
// never lose each other, and the old key lets nobody in any more.
func TestGossipKeyIsReplacedWithoutARestart(t *testing.T) {
	t.Parallel()
	before, after := bytes.Repeat([]byte("b"), 32), bytes.Repeat([]byte("a"), 16)
	a, _ := startGossip(t, "a", func(c *GossipConfig) { c.Keys = [][]byte{before} })
	b, _ := startGossip(t, "b", func(c *GossipConfig) { c.Keys, c.Seeds = [][]byte{before}, []string{a.Addr()} })
	eventually(t, func() bool { return sees(a) == "a b" && sees(b) == "a b" })
	for step, keys := range [][][]byte{{before, after}, {after, before}, {after}} {
		for i, node := range []*gossip{a, b} {
			if err := node.setKeys(keys); err != nil {
				t.Fatal(err)
			}
			meta := someMeta()
			meta.Version = fmt.Sprintf("step %d of %d", step, i)
			if err := node.UpdateMeta(meta); err != nil {
				t.Fatal(err)
			}
			heard := func(by *gossip) bool {
				peer, _ := by.Peer(node.list.LocalNode().Name)
				return peer.Meta.Version == meta.Version
			}
			eventually(t, func() bool { return heard(a) && heard(b) })
			if sees(a) != "a b" || sees(b) != "a b" {
				t.Errorf("step %d: a sees %s, b sees %s", step, sees(a), sees(b))
			}
		}
	}
	late, _ := startGossip(t, "c", func(c *GossipConfig) { c.Keys = [][]byte{before} })
	if _, err := late.list.Join([]string{a.Addr()}); err == nil {
		t.Error("a node with the old key has joined")
	}
	for want, keys := range map[string][][]byte{
		"gossip key 2 of 5 bytes: must be": {after, []byte("short")},
		"changes only with a restart":      nil,
	} {
		wantError(t, a.setKeys(keys), want)
	}
	if got := a.keys.GetKeys(); len(got) != 1 || !bytes.Equal(got[0], after) {
		t.Errorf("refused keys have changed the ring: %d keys", len(got))
	}
}

func TestGossipConfigurationIsChecked(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*GossipConfig){
		`node "a@b"`:                             func(c *GossipConfig) { c.Node = "a@b" },
		`gossip address "localhost:9778"`:        func(c *GossipConfig) { c.Bind = "localhost:9778" },
		`gossip address "127.0.0.1:99999"`:       func(c *GossipConfig) { c.Bind = "127.0.0.1:99999" },
		`gossip advertise address "10.0.0.1"`:    func(c *GossipConfig) { c.Advertise = "10.0.0.1" },
		`gossip key 1 of 5 bytes: must be 16, 2`: func(c *GossipConfig) { c.Keys = [][]byte{[]byte("short")} },
		`deployment ""`:                          func(c *GossipConfig) { c.Meta.Deployment = "" },
		`raft address "127.0.0.1"`:               func(c *GossipConfig) { c.Meta.Raft = "127.0.0.1" },
		`api address ":9776"`:                    func(c *GossipConfig) { c.Meta.API = ":9776" },
		"format 0: must be at least 1":           func(c *GossipConfig) { c.Meta.Format = 0 },
		"bootstrap_expect -1":                    func(c *GossipConfig) { c.Meta.Expect = -1 },
		"shorten deployment (4), raft address (14), api address (14) or version (600)": func(c *GossipConfig) {
			c.Meta.Version = strings.Repeat("v", 600)
		},
	} {
		cfg := GossipConfig{Bind: "127.0.0.1:0", Node: "a", Meta: someMeta(), Logger: hclog.NewNullLogger()}
		change(&cfg)
		_, err := newGossip(cfg)
		wantError(t, err, want)
	}
	taken, _ := startGossip(t, "a", func(*GossipConfig) {})
	_, err := newGossip(GossipConfig{Bind: taken.Addr(), Node: "b", Meta: someMeta(), Logger: hclog.NewNullLogger()})
	wantError(t, err, "gossip address \""+taken.Addr())
	moved := someMeta()
	moved.Deployment = "west"
	wantError(t, taken.UpdateMeta(moved), `deployment "west": a node of "east" cannot change it`)
	wantError(t, taken.UpdateMeta(Meta{}), "deployment")
}

func TestSeedsThatAreAliveAreNotJoinedAgain(t *testing.T) {
	t.Parallel()
	a, _ := startGossip(t, "a", func(*GossipConfig) {})
	b, _ := startGossip(t, "b", func(c *GossipConfig) { c.Seeds = []string{a.Addr()} })
	eventually(t, func() bool { return sees(b) == "a b" })
	if missing := b.missing(t.Context()); len(missing) > 0 {
		t.Errorf("b looks for %v", missing)
	}
	b.seeds = append(slices.Clone(b.seeds), b.Addr(), "127.0.0.1:1", "no port")
	if missing := b.missing(t.Context()); !slices.Equal(missing, []string{"127.0.0.1:1", "no port"}) {
		t.Errorf("b looks for %v", missing)
	}
	if err := b.join(t.Context()); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("joining nobody: %v", err)
	}
}

func TestMemberlistLogsAtItsLevel(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	w := &memberlistLog{to: hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Info, DisableTime: true})}
	for _, line := range []string{
		"2026/01/02 03:04:05 [ERR] memberlist: one\n",
		"2026/01/02 03:04:05 [INFO] memberlist: two\n",
		"2026/01/02 03:04:05 [DEBUG] memberlist: three\n",
		"2026/01/02 03:04:05 [WARN] memberlist: four " + strangerText + "\n",
		"five",
	} {
		if n, err := w.Write([]byte(line)); n != len(line) || err != nil {
			t.Errorf("%q: %d, %v", line, n, err)
		}
	}
	if got, want := log.String(), "[WARN]  one\n[INFO]  two\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMetaFieldsOfANewerReleaseAreIgnored(t *testing.T) {
	t.Parallel()
	raw, err := cbor.Marshal(map[int]any{1: "east", 2: "n:1", 3: "n:2", 4: 9, 99: []string{"new"}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeMeta(raw)
	if want := (Meta{Deployment: "east", Raft: "n:1", API: "n:2", Format: 9}); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
}

func FuzzDecodeMeta(f *testing.F) {
	raw, err := someMeta().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(raw[:len(raw)/2])
	f.Add([]byte{0xbf, 0xff})
	f.Add(bytes.Repeat([]byte{0x81}, 400))
	f.Fuzz(func(t *testing.T, raw []byte) {
		meta, err := decodeMeta(raw)
		if err != nil {
			return
		}
		again, err := meta.encode()
		if err != nil {
			return // it was less compact: too long now
		}
		if got, err := decodeMeta(again); err != nil || got != meta {
			t.Errorf("%+v came back as %+v, %v", meta, got, err)
		}
	})
}

func TestJitterStaysWithinAQuarter(t *testing.T) {
	t.Parallel()
	for range 1000 {
		if d := jitter(time.Second); d < 750*time.Millisecond || d > 1250*time.Millisecond {
			t.Fatalf("got %v", d)
		}
	}
}

func TestWhoIsAdmittedToGossip(t *testing.T) {
	t.Parallel()
	encoded := func(change func(*Meta)) []byte {
		meta := someMeta()
		change(&meta)
		raw, err := meta.encode()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	same := encoded(func(*Meta) {})
	for name, test := range map[string]struct {
		node string
		meta []byte
		want string
	}{
		"a node of the deployment":       {"b", same, ""},
		"a node of another deployment":   {"b", encoded(func(m *Meta) { m.Deployment = "west" }), strangerText},
		"a node that says nothing":       {"b", nil, "decode gossip meta"},
		"a node that says noise":         {"b", []byte("\xff\x00noise"), "decode gossip meta"},
		"a node that says too much":      {"b", bytes.Repeat([]byte{0x41}, 513), "at most 512"},
		"a node with half an address":    {"b", bytes.Replace(same, []byte(":9777"), []byte("x9777"), 1), "raft address"},
		"a node whose name is no name":   {"b/../c", same, `node "b/../c"`},
		"a node with no name in the end": {"", same, `node ""`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			view := &gossipView{deployment: "east", logger: hclog.NewNullLogger(), strangers: map[string]bool{}, peers: map[string]Peer{}}
			node := &memberlist.Node{Name: test.node, Meta: test.meta, Addr: []byte{127, 0, 0, 1}, Port: 1}
			wantError(t, view.NotifyAlive(node), test.want)
			wantError(t, view.NotifyMerge([]*memberlist.Node{{Name: "a", Meta: same}, node}), test.want)
		})
	}
}
