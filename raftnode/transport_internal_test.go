package raftnode

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// startTransport runs a transport that is closed with the test.
func startTransport(t *testing.T, change func(*TransportConfig)) *transport {
	t.Helper()
	cfg := TransportConfig{Bind: "127.0.0.1:0", Deployment: "east", Node: "node1", Logger: hclog.NewNullLogger()}
	change(&cfg)
	transport, err := newTransport(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = transport.Close() })
	return transport
}

// grantVotes makes to grant every vote it is asked for, until the test ends.
func grantVotes(t *testing.T, to *transport) {
	t.Helper()
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() {
		for {
			select {
			case rpc := <-to.Consumer():
				rpc.Respond(&raft.RequestVoteResponse{Granted: true}, nil)
			case <-ctx.Done():
				return
			}
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

func askForVote(from *transport, node raft.ServerID, to raft.ServerAddress) error {
	return from.RequestVote(node, to, &raft.RequestVoteRequest{Term: 1}, new(raft.RequestVoteResponse))
}

// name is the node's name.
func (t *transport) name() raft.ServerID { return raft.ServerID(t.layer.own.node) }

func TestPeersOfOneDeploymentTalkRaft(t *testing.T) {
	t.Parallel()
	a := startTransport(t, func(*TransportConfig) {})
	b := startTransport(t, func(c *TransportConfig) { c.Node = "node2" })
	grantVotes(t, a)
	grantVotes(t, b)
	for range 3 {
		if err := askForVote(a, b.name(), b.LocalAddr()); err != nil {
			t.Error(err)
		}
		if err := askForVote(b, a.name(), a.LocalAddr()); err != nil {
			t.Error(err)
		}
	}
}

func TestDeploymentsNeverMixOverRaft(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	east := startTransport(t, func(c *TransportConfig) { c.Logger = hclog.New(&hclog.LoggerOptions{Output: &log}) })
	west := startTransport(t, func(c *TransportConfig) { c.Node, c.Deployment = "node2", "west" })
	for range 3 {
		wantError(t, askForVote(west, east.name(), east.LocalAddr()), `node "node1" belongs to deployment "east", this node to "west"`)
	}
	select {
	case rpc := <-east.Consumer():
		t.Errorf("Raft was reached by a message of another deployment: %v", rpc.Command)
	default:
	}
	eventually(t, func() bool { return strings.Contains(log.String(), `deployment \"west\", this node to \"east\"`) })
	if n := strings.Count(log.String(), "connection refused"); n != 1 {
		t.Errorf("logged %d times, want once: %s", n, log.String())
	}
}

func TestTwoNodesOfOneNameRefuseEachOther(t *testing.T) {
	t.Parallel()
	a := startTransport(t, func(*TransportConfig) {})
	b := startTransport(t, func(*TransportConfig) {})
	wantError(t, askForVote(a, b.name(), b.LocalAddr()), `the peer is named "node1" as this node is`)
}

func TestOnlyTheNodeThatWasDialedIsTalkedTo(t *testing.T) {
	t.Parallel()
	a := startTransport(t, func(*TransportConfig) {})
	b := startTransport(t, func(c *TransportConfig) { c.Node = "node2" })
	grantVotes(t, b)
	wantError(t, askForVote(a, "node3", b.LocalAddr()), `raft peer node3 at `+string(b.LocalAddr())+`: the peer is named "node2"`)
	if err := askForVote(a, "node2", b.LocalAddr()); err != nil {
		t.Error(err)
	}
	_, err := a.layer.Dial(b.LocalAddr(), time.Second)
	wantError(t, err, "nobody says which node it is")
}

func TestStrangersAreDroppedAndPeersStillGetIn(t *testing.T) {
	t.Parallel()
	a := startTransport(t, func(*TransportConfig) {})
	b := startTransport(t, func(c *TransportConfig) { c.Node = "node2" })
	grantVotes(t, a)
	// Some say nothing at all: they must hold nobody up.
	for range 8 {
		dial(t, a.LocalAddr())
	}
	for name, words := range map[string]string{
		"another protocol":     "GET / HTTP/1.1\r\n\r\n",
		"a later handshake":    "LOCKSTEP/2" + strings.Repeat("x", 40),
		"an empty deployment":  handshakeMagic + "\x00\x05node9",
		"a name that is noise": handshakeMagic + "\x04east\x02\xff\x00",
	} {
		conn := dial(t, a.LocalAddr())
		if _, err := io.WriteString(conn, words); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); len(got) > 0 {
			t.Errorf("%s was answered %q, %v", name, got, err)
		}
	}
	if err := askForVote(b, a.name(), a.LocalAddr()); err != nil {
		t.Errorf("a peer was kept out: %v", err)
	}
}

func TestStrangersThatHoldAllHandshakesAreTimedOut(t *testing.T) {
	t.Parallel()
	a := startTransport(t, func(*TransportConfig) {})
	b := startTransport(t, func(c *TransportConfig) { c.Node = "node2" })
	grantVotes(t, a)
	for range maxHandshakes + 8 {
		dial(t, a.LocalAddr())
	}
	eventually(t, func() bool { return askForVote(b, a.name(), a.LocalAddr()) == nil })
}

func TestAPeerThatNeverAnswersIsGivenUp(t *testing.T) {
	t.Parallel()
	silent, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	a := startTransport(t, func(*TransportConfig) {})
	err = askForVote(a, "node2", raft.ServerAddress(silent.Addr().String()))
	wantError(t, err, "raft peer node2 at "+silent.Addr().String()+": handshake: ")
}

func TestClosingEndsHandshakesUnderWay(t *testing.T) {
	t.Parallel()
	a := startTransport(t, func(*TransportConfig) {})
	conn := dial(t, a.LocalAddr())
	start := time.Now()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > handshakeTimeout/2 {
		t.Errorf("closing took %v: it waited for a stranger", took)
	}
	// The kernel may have completed the connection without it being accepted.
	if _, err := io.ReadAll(conn); err == nil {
		return
	}
	if _, err := new(net.Dialer).DialContext(t.Context(), "tcp", string(a.LocalAddr())); err == nil {
		t.Error("it still listens")
	}
}

func TestTransportAddressesAreChecked(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*TransportConfig){
		`raft address "nowhere"`:               func(c *TransportConfig) { c.Bind = "nowhere" },
		"nobody can dial it":                   func(c *TransportConfig) { c.Bind = "0.0.0.0:0" },
		`raft advertise address "a:b:c"`:       func(c *TransportConfig) { c.Advertise = "a:b:c" },
		`raft advertise address "0.0.0.0:1"`:   func(c *TransportConfig) { c.Advertise = "0.0.0.0:1" },
		`raft advertise address "127.0.0.1:0"`: func(c *TransportConfig) { c.Advertise = "127.0.0.1:0" },
		`deployment ""`:                        func(c *TransportConfig) { c.Deployment = "" },
		`node "a/b"`:                           func(c *TransportConfig) { c.Node = "a/b" },
	} {
		cfg := TransportConfig{Bind: "127.0.0.1:0", Deployment: "east", Node: "node1", Logger: hclog.NewNullLogger()}
		change(&cfg)
		_, err := newTransport(t.Context(), cfg)
		wantError(t, err, want)
	}
	named := startTransport(t, func(c *TransportConfig) { c.Advertise = "node1.example.org:9777" })
	if got := named.LocalAddr(); got != "node1.example.org:9777" {
		t.Errorf("advertises %q", got)
	}
}

func TestLimiterLetsOnePassPerInterval(t *testing.T) {
	t.Parallel()
	l := limiter{every: time.Second}
	start := time.Unix(0, 0)
	for i, want := range []struct {
		at         time.Duration
		suppressed int
		ok         bool
	}{{0, 0, true}, {1, 0, false}, {2, 0, false}, {time.Second, 2, true}, {3 * time.Second, 0, true}} {
		suppressed, ok := l.allow(start.Add(want.at))
		if suppressed != want.suppressed || ok != want.ok {
			t.Errorf("event %d: got %d, %v", i, suppressed, ok)
		}
	}
}

func FuzzReadHello(f *testing.F) {
	f.Add([]byte(handshakeMagic + "\x04east\x05node1"))
	f.Add([]byte(handshakeMagic + "\xff"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		peer, err := readHello(strings.NewReader(string(raw)))
		if err != nil {
			return
		}
		var b strings.Builder
		if err := peer.write(&b); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(raw), b.String()) {
			t.Errorf("%q was read as %q", raw, b.String())
		}
	})
}

func dial(t *testing.T, address raft.ServerAddress) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", string(address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// eventually waits until done, for real sockets have no clock of their own.
func eventually(t *testing.T, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it did not happen within 20 seconds")
		}
	}
}

// syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestMutedNodeTalksToNobody(t *testing.T) {
	t.Parallel()
	a := startTransport(t, func(*TransportConfig) {})
	b := startTransport(t, func(c *TransportConfig) { c.Node = "node2" })
	grantVotes(t, a)
	grantVotes(t, b)
	both := func() (to, from error) {
		return askForVote(a, "node2", b.LocalAddr()), askForVote(b, "node1", a.LocalAddr())
	}
	if to, from := both(); to != nil || from != nil {
		t.Fatal(to, from)
	}
	b.layer.mute() // with connections of both directions in the pools
	for range 3 {
		if to, from := both(); to == nil || from == nil {
			t.Errorf("a muted node talks: %v, %v", to, from)
		}
	}
	b.layer.unmute()
	// The pools may hold connections that were cut: Raft drops one with each error.
	_, _ = both()
	if to, from := both(); to != nil || from != nil {
		t.Errorf("the node is no longer muted: %v, %v", to, from)
	}
}
