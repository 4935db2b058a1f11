package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lockstep-storage/lockstep/scripts/freeport"
)

const loopback = "127.0.0.1"

// proxied is a network for machines that do not allow namespaces: the nodes listen
// on ports of this machine, and reach each other through this process, which finds
// out who connects by whose socket it is. What is lost on a connection is late
// instead, and what is cut waits, as it would be sent again by TCP.
type proxied struct {
	rules  *rules
	listen map[place]int // ports
	reach  map[place]int

	close func()
	wg    sync.WaitGroup

	mu   sync.Mutex
	pids map[int]int // of the nodes
}

// place is where a service of a node is.
type place struct {
	node    int
	service Service
}

func newProxy(ctx context.Context, nodes int) (p *proxied, err error) {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx)) // until Close
	p = &proxied{
		rules: newRules(), listen: map[place]int{}, reach: map[place]int{}, close: stop, pids: map[int]int{},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	services := []Service{API, Raft, Gossip}
	port, err := freeport.Find(ctx, nodes*len(services))
	if err != nil {
		return p, err
	}
	for node := 1; node <= nodes; node++ {
		for _, service := range services {
			p.listen[place{node, service}] = port
			port++
		}
	}
	for at := range p.listen {
		if err := p.open(ctx, at); err != nil {
			return p, err
		}
	}
	return p, nil
}

// open takes the port by which the other nodes reach a place.
func (p *proxied) open(ctx context.Context, at place) error {
	l, packets, err := listenBoth(ctx)
	if err != nil {
		return err
	}
	p.reach[at] = portOf(l)
	p.wg.Go(func() { p.accept(ctx, l, at) })
	p.wg.Go(func() { p.packets(ctx, packets, at) })
	p.wg.Go(func() {
		<-ctx.Done()
		_ = l.Close()
		_ = packets.Close() // nobody waits for what is under way
	})
	return nil
}

// listenBoth listens on one free port for TCP and UDP.
func listenBoth(ctx context.Context) (l net.Listener, packets net.PacketConn, err error) {
	var lc net.ListenConfig
	const tries = 20
	for range tries {
		if l, err = lc.Listen(ctx, "tcp", hostPort(loopback, 0)); err != nil {
			return nil, nil, err
		}
		if packets, err = lc.ListenPacket(ctx, "udp", l.Addr().String()); err == nil {
			return l, packets, nil
		}
		err = errors.Join(err, l.Close())
	}
	return nil, nil, err
}

func portOf(l net.Listener) int {
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return 0
	}
	return n
}

func (p *proxied) accept(ctx context.Context, l net.Listener, to place) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.connect(ctx, conn, to) })
	}
}

// connect passes on what a node and a service of another say to each other.
func (p *proxied) connect(ctx context.Context, conn net.Conn, to place) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer func() { _ = conn.Close() }() // what it did not pass on is lost with it
	from := p.owner(conn)
	dialer := net.Dialer{Timeout: time.Second}
	other, err := dialer.DialContext(ctx, "tcp", hostPort(loopback, p.listen[to]))
	if err != nil {
		return
	}
	defer func() { _ = other.Close() }()
	var wg sync.WaitGroup
	defer wg.Wait()
	both := func() {
		stop()
		_ = conn.Close()
		_ = other.Close() // the other direction ends with them
	}
	wg.Go(func() {
		defer both()
		p.copy(ctx, other, conn, from, to.node)
	})
	wg.Go(func() {
		defer both()
		p.copy(ctx, conn, other, to.node, from)
	})
	<-ctx.Done()
	both()
}

const (
	// resend is about how long TCP waits before it sends again what was lost.
	resend = 200 * time.Millisecond
	// lookAgain is how often a cut is looked at, and what the kernel is about to do.
	lookAgain = 20 * time.Millisecond
)

// copy copies until an end, as late as the link is.
func (p *proxied) copy(ctx context.Context, dst io.Writer, src io.Reader, from, to int) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := src.Read(buffer)
		if n > 0 && !p.hold(ctx, from, to) {
			return
		}
		if _, werr := dst.Write(buffer[:n]); err != nil || werr != nil {
			return
		}
	}
}

// hold waits for as long as the link holds up what is sent; false says that the
// network has ended.
func (p *proxied) hold(ctx context.Context, from, to int) bool {
	for {
		l := p.rules.between(from, to)
		lost, late := l.fate()
		switch {
		case l.cut:
			late = lookAgain
		case lost:
			late = resend
		case late == 0:
			return ctx.Err() == nil
		}
		select {
		case <-time.After(late):
		case <-ctx.Done():
			return false
		}
		if !lost {
			return true
		}
	}
}

// packets passes on packets of gossip, which nodes send from the port that they
// listen on.
func (p *proxied) packets(ctx context.Context, c net.PacketConn, to place) {
	target := &net.UDPAddr{IP: net.ParseIP(loopback), Port: p.listen[to]}
	buffer := make([]byte, largestRead)
	for ctx.Err() == nil {
		n, sender, err := c.ReadFrom(buffer)
		if err != nil {
			continue // a closed socket ends the loop by its context
		}
		switch lost, late := p.rules.between(p.sender(sender), to.node).fate(); {
		case lost:
		case late > 0:
			held := append([]byte{}, buffer[:n]...)
			time.AfterFunc(late, func() { _, _ = c.WriteTo(held, target) })
		default:
			_, _ = c.WriteTo(buffer[:n], target) // packets may be lost
		}
	}
}

// sender is the node that a packet comes from, or 0.
func (p *proxied) sender(addr net.Addr) int {
	udp, ok := addr.(*net.UDPAddr)
	if !ok {
		return 0
	}
	for at, port := range p.listen {
		if at.service == Gossip && port == udp.Port {
			return at.node
		}
	}
	return 0
}

// owner is the node whose process has the other end of a connection, or 0.
func (p *proxied) owner(conn net.Conn) int {
	remote, ok := conn.RemoteAddr().(*net.TCPAddr)
	local, ok2 := conn.LocalAddr().(*net.TCPAddr)
	if !ok || !ok2 {
		return 0
	}
	inode, err := inodeOf(remote.Port, local.Port)
	if err != nil {
		return 0 // it is closed already
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for node, pid := range p.pids {
		if holds(pid, inode) {
			return node
		}
	}
	return 0
}

// Listen implements [Network].
func (p *proxied) Listen(node int, service Service) string {
	return hostPort(loopback, p.listen[place{node, service}])
}

// Reach implements [Network].
func (p *proxied) Reach(node int, service Service) string {
	return hostPort(loopback, p.reach[place{node, service}])
}

// Client implements [Network].
func (p *proxied) Client(node int, service Service) string { return p.Listen(node, service) }

// Start implements [Network]. The process dies with this one.
func (p *proxied) Start(node int, cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = unix.SIGKILL
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := startTraced(cmd); err != nil {
		return fmt.Errorf("start node %d: %w", node, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pids[node] = cmd.Process.Pid
	return nil
}

// Break implements [Network].
func (p *proxied) Break(rule Rule) (mend func()) { return p.rules.add(rule) }

// Mode implements [Network].
func (p *proxied) Mode() string { return "a proxy (no namespaces here, so disks stay whole)" }

// Close implements [Network].
func (p *proxied) Close() error {
	p.close()
	p.wg.Wait()
	return nil
}
