package raftnode

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/lockstep-storage/lockstep/fsm"
)

const (
	// handshakeMagic is the first thing each side says. A change of the
	// handshake changes its number.
	handshakeMagic = "LOCKSTEP/2"
	// handshakeTimeout bounds connecting and the handshake together.
	handshakeTimeout = 2 * time.Second
	// maxHandshakes bounds the connections that have not said who they are.
	maxHandshakes = 64
	// refusalLogInterval bounds what a stranger can write into our log.
	refusalLogInterval = 10 * time.Second
)

// TransportConfig says how a node talks Raft. Fields without a default are
// required.
type TransportConfig struct {
	Bind       string                                    // host:port to listen on; port 0 chooses one
	Advertise  string                                    // host:port that the others dial; default: where it listens
	Deployment string                                    // checked on every connection, from both sides
	Directory  fsm.Directory                             // of this node
	Known      func(node string, is fsm.Directory) error // refuses a peer's directory; nil: none
	Node       string                                    // the name of this node
	Peers      Certificates                              // how nodes prove who they are; nil: plain TCP
	MaxPool    int                                       // idle connections kept per peer; default 3
	Timeout    time.Duration                             // of one message; default 5s
	Logger     hclog.Logger
}

// newTransport listens and returns Raft's transport. It outlives ctx: Raft hands
// over its leadership while it shuts down, and then closes the transport, which
// waits for the transport's goroutines.
func newTransport(ctx context.Context, cfg TransportConfig) (*transport, error) {
	err := errors.Join(validateName("deployment", cfg.Deployment), validateName("node", cfg.Node))
	if err != nil {
		return nil, err
	}
	if cfg.MaxPool == 0 {
		cfg.MaxPool = 3
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	layer, err := newStreamLayer(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &transport{raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:  layer,
		MaxPool: cfg.MaxPool,
		Timeout: cfg.Timeout,
		Logger:  cfg.Logger.Named("transport"),
	}), layer}, nil
}

// streamLayer is TCP, or TLS, on which both sides have said at the start which
// node of which deployment they are. Raft itself asks nobody who he is.
type streamLayer struct {
	own       hello
	known     func(node string, is fsm.Directory) error
	peers     Certificates
	listener  net.Listener
	advertise net.Addr
	logger    hclog.Logger
	refusals  limiter

	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	accepted chan net.Conn // connections whose handshake is done
	slots    chan struct{} // one per handshake under way
	tasks    sync.WaitGroup

	mu     sync.Mutex
	open   map[*peerConn]struct{} // over TLS, handshake done
	silent bool
	conns  map[*trackedConn]bool // all connections, of both directions
}

var _ raft.StreamLayer = (*streamLayer)(nil)

func newStreamLayer(ctx context.Context, cfg TransportConfig) (*streamLayer, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Bind)
	if err != nil {
		return nil, fmt.Errorf("raft address %q: %w", cfg.Bind, err)
	}
	advertise, err := advertised(cfg.Advertise, listener.Addr())
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l := &streamLayer{
		own:       hello{deployment: cfg.Deployment, node: cfg.Node, directory: directoryText(cfg.Directory)},
		known:     cfg.Known,
		peers:     cfg.Peers,
		listener:  listener,
		advertise: advertise,
		logger:    cfg.Logger.Named("transport"),
		refusals:  limiter{every: refusalLogInterval},
		ctx:       ctx,
		cancel:    cancel,
		accepted:  make(chan net.Conn),
		slots:     make(chan struct{}, maxHandshakes),
		open:      make(map[*peerConn]struct{}),
		conns:     make(map[*trackedConn]bool),
	}
	l.tasks.Go(l.listen)
	return l, nil
}

// hostPort is an address that may be a name, which others resolve when they dial.
type hostPort string

func (hostPort) Network() string  { return "tcp" }
func (a hostPort) String() string { return string(a) }

// advertised returns the address that others shall dial.
func advertised(configured string, listening net.Addr) (net.Addr, error) {
	if configured != "" {
		if err := validateHostPort("raft advertise address", configured); err != nil {
			return nil, err
		}
		return hostPort(configured), nil
	}
	if tcp, ok := listening.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return nil, fmt.Errorf("raft address %s: nobody can dial it: set the address to advertise", listening)
	}
	return listening, nil
}

// validateHostPort wants a host and a port that another node can dial.
func validateHostPort(field, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s %q: must be host:port", field, addr)
	}
	if ip := net.ParseIP(host); host == "" || port == "" || port == "0" || ip != nil && ip.IsUnspecified() {
		return fmt.Errorf("%s %q: must be host:port as other nodes dial it", field, addr)
	}
	return nil
}

// listen accepts connections until the listener is closed. A handshake never
// holds it up: a stranger that says nothing would keep out the peers.
func (l *streamLayer) listen() {
	for {
		conn, err := l.listener.Accept()
		if err != nil {
			if l.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			l.refused("accept", err)
			// Out of file descriptors, most likely; they come back.
			select {
			case <-time.After(100 * time.Millisecond):
			case <-l.ctx.Done():
			}
			continue
		}
		select {
		case l.slots <- struct{}{}:
			l.tasks.Go(func() {
				defer func() { <-l.slots }()
				l.receive(conn)
			})
		default:
			_ = conn.Close() // it is refused, whatever closing says
			l.refused(conn.RemoteAddr().String(), fmt.Errorf("%d handshakes are under way", maxHandshakes))
		}
	}
}

// receive shakes hands with whoever has dialed, and hands the connection to Raft.
func (l *streamLayer) receive(raw net.Conn) {
	raw, err := l.track(raw)
	if err != nil {
		return // it will be dialed again
	}
	conn, err := l.shake(raw, l.welcome)
	if err != nil {
		if l.ctx.Err() == nil {
			l.refused(raw.RemoteAddr().String(), err)
		}
		return
	}
	select {
	case l.accepted <- conn:
	case <-l.ctx.Done():
		_ = conn.Close() // Raft never saw it
	}
}

// refused logs at Warn, but not every time: anyone who reaches the port can
// cause it.
func (l *streamLayer) refused(peer string, err error) {
	if suppressed, ok := l.refusals.allow(time.Now()); ok {
		l.logger.Warn("connection refused", "peer", peer, "error", err, "suppressed", suppressed)
	}
}

// welcome is the handshake of the side that was dialed. It says nothing to
// someone who does not speak first, and its own name also to a peer that it
// refuses, so that the log at the other end says why.
func (l *streamLayer) welcome(raw net.Conn) (net.Conn, error) {
	conn := raw
	if l.peers != nil {
		conn = tls.Server(raw, l.peers.Listen())
	}
	peer, err := readHello(conn)
	if err != nil {
		return nil, err
	}
	if err := l.own.write(conn); err != nil {
		return nil, err
	}
	return l.admit(conn, peer)
}

// Dial implements [raft.StreamLayer]. The address is one of [addressOf].
func (l *streamLayer) Dial(target raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	node, address, ok := strings.Cut(string(target), nodeSeparator)
	if !ok {
		return nil, fmt.Errorf("raft peer at %s: nobody says which node it is", target)
	}
	// Raft's timeout is that of a message. A peer that answers nothing at all
	// is tried again sooner.
	dialer := net.Dialer{Timeout: min(timeout, handshakeTimeout)}
	raw, err := dialer.DialContext(l.ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	raw, err = l.track(raw)
	if err != nil {
		return nil, err
	}
	conn, err := l.shake(raw, func(raw net.Conn) (net.Conn, error) { return l.introduce(raw, node) })
	if err != nil {
		return nil, fmt.Errorf("raft peer %s at %s: %w", node, address, err)
	}
	return conn, nil
}

// introduce is the handshake of the side that dials, and wants to talk to node.
func (l *streamLayer) introduce(raw net.Conn, node string) (net.Conn, error) {
	conn := raw
	if l.peers != nil {
		conn = tls.Client(raw, l.peers.Dial(node))
	}
	if err := l.own.write(conn); err != nil {
		return nil, err
	}
	peer, err := readHello(conn)
	if err != nil {
		return nil, err
	}
	if peer.deployment == l.own.deployment && peer.node != node {
		return nil, fmt.Errorf("the peer is named %q", peer.node)
	}
	return l.admit(conn, peer)
}

// shake runs handshake on raw within handshakeTimeout, and ends it when the
// layer closes. It closes raw if it returns an error.
func (l *streamLayer) shake(raw net.Conn, handshake func(net.Conn) (net.Conn, error)) (net.Conn, error) {
	stop := context.AfterFunc(l.ctx, func() { _ = raw.Close() }) // wakes the handshake, which reports
	defer stop()
	err := raw.SetDeadline(time.Now().Add(handshakeTimeout))
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	conn, err := handshake(raw)
	if err == nil {
		err = raw.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = raw.Close() // why the handshake ended says more
		return nil, err
	}
	return conn, nil
}

// Accept implements [net.Listener].
func (l *streamLayer) Accept() (net.Conn, error) {
	select {
	case conn := <-l.accepted:
		return conn, nil
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Addr implements [net.Listener]: it is the address to advertise.
func (l *streamLayer) Addr() net.Addr { return l.advertise }

// Close implements [net.Listener]. It waits for the handshakes under way.
func (l *streamLayer) Close() error {
	l.cancel()
	err := l.listener.Close()
	l.tasks.Wait()
	return err
}

// hello is what each side says of itself, after the magic: the lengths take one
// byte each.
type hello struct {
	deployment, node, directory string
}

// accepts says why a peer is not to be talked to.
func (h hello) accepts(peer hello) error {
	if peer.deployment != h.deployment {
		return fmt.Errorf("node %q belongs to deployment %q, this node to %q", peer.node, peer.deployment, h.deployment)
	}
	if peer.node == h.node {
		return fmt.Errorf("the peer is named %q as this node is: every node needs a name of its own", peer.node)
	}
	return nil
}

// write sends h; both names are valid.
func (h hello) write(w io.Writer) error {
	var b strings.Builder
	b.WriteString(handshakeMagic)
	for _, name := range []string{h.deployment, h.node, h.directory} {
		b.WriteByte(byte(len(name)))
		b.WriteString(name)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// readHello reads no byte beyond the handshake: the next one is Raft's.
func readHello(r io.Reader) (hello, error) {
	magic := make([]byte, len(handshakeMagic))
	if _, err := io.ReadFull(r, magic); err != nil {
		return hello{}, fmt.Errorf("handshake: %w", err)
	}
	if string(magic) != handshakeMagic {
		return hello{}, fmt.Errorf("handshake: got %q, want %q", magic, handshakeMagic)
	}
	var names [3]string
	for i, field := range []string{"deployment", "node", "directory"} {
		name, err := readName(r)
		if err == nil {
			err = validateName(field, name)
		}
		if err != nil {
			return hello{}, fmt.Errorf("handshake: %w", err)
		}
		names[i] = name
	}
	return hello{deployment: names[0], node: names[1], directory: names[2]}, nil
}

func readName(r io.Reader) (string, error) {
	var length [1]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return "", err
	}
	name := make([]byte, length[0])
	_, err := io.ReadFull(r, name)
	return string(name), err
}

// limiter lets one event pass per interval and counts the rest.
type limiter struct {
	every time.Duration

	mu         sync.Mutex
	next       time.Time
	suppressed int
}

// allow reports whether the event at now may pass, and how many did not since
// the last that did.
func (l *limiter) allow(now time.Time) (suppressed int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Before(l.next) {
		l.suppressed++
		return 0, false
	}
	suppressed, l.suppressed = l.suppressed, 0
	l.next = now.Add(l.every)
	return suppressed, true
}
