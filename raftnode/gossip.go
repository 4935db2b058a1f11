package raftnode

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"
)

const (
	// joinEvery is how often a node looks for peers that it misses, and
	// joinAlone where it starts while it knows nobody, doubling up to joinEvery.
	joinEvery = 3 * time.Second
	joinAlone = 250 * time.Millisecond
	// joinPatience is how many rounds in a row fail before that is logged: nodes
	// that start together find each other in the second or third.
	joinPatience = 4
	// joinsPerRound bounds a round: an address nobody answers costs gossipDial.
	joinsPerRound = 8
	gossipDial    = 2 * time.Second
	// leaveTimeout is how long a node that stops waits until another has heard
	// of it. Those who have not will notice.
	leaveTimeout = 500 * time.Millisecond
	// loggedStrangers bounds the other deployments that are remembered so that
	// each is logged once.
	loggedStrangers = 64
)

// GossipConfig says how a node finds the others. Fields without a default are
// required.
type GossipConfig struct {
	Bind      string          // host:port for TCP and UDP; port 0 chooses one
	Advertise string          // ip:port that the others use; default: where it listens
	Node      string          // the name of this node
	Meta      Meta            // what the others shall know of it
	Seeds     []string        // host:port of any other nodes; this node's own is ignored
	Known     func() []string // further addresses, from the replicated state; default none
	Keys      [][]byte        // see [Place.GossipKeys]
	Logger    hclog.Logger
}

// gossip tells which nodes there are, where they are and whether they seem to
// be alive. All of it is a hint: nothing that must hold may rest on it.
type gossip struct {
	list   *memberlist.Memberlist
	view   *gossipView
	addr   string // ip:port that the others use
	seeds  []string
	known  func() []string
	logger hclog.Logger
	keys   *memberlist.Keyring // nil: gossip is plain

	update sync.Mutex // one UpdateMeta at a time
}

// newGossip starts to listen; the node is alone until Run. Whoever does not
// come to run it closes it.
func newGossip(cfg GossipConfig) (*gossip, error) {
	if err := errors.Join(validateName("node", cfg.Node), checkGossipKeys(cfg.Keys)); err != nil {
		return nil, err
	}
	meta, err := cfg.Meta.encode()
	if err != nil {
		return nil, err
	}
	g := &gossip{
		seeds:  slices.Clone(cfg.Seeds),
		known:  cfg.Known,
		logger: cfg.Logger.Named("gossip"),
	}
	if g.known == nil {
		g.known = func() []string { return nil }
	}
	g.view = &gossipView{
		deployment: cfg.Meta.Deployment,
		logger:     g.logger,
		meta:       meta,
		peers:      make(map[string]Peer),
		strangers:  make(map[string]bool),
	}
	listConfig, err := memberlistConfig(cfg, g.view)
	if err != nil {
		return nil, err
	}
	g.keys = listConfig.Keyring
	if err := g.setKeys(cfg.Keys); err != nil {
		return nil, err
	}
	g.list, err = memberlist.Create(listConfig)
	if err != nil {
		return nil, fmt.Errorf("gossip address %q: %w", cfg.Bind, err)
	}
	g.addr = g.list.LocalNode().Address()
	return g, nil
}

// memberlistConfig is for failure detection within a second or two. It is
// slower than it could be: a late answer makes a node look dead, and on a busy
// machine answers are late.
func memberlistConfig(cfg GossipConfig, view *gossipView) (*memberlist.Config, error) {
	host, port, err := splitIPPort("gossip address", cfg.Bind)
	if err != nil {
		return nil, err
	}
	c := memberlist.DefaultLANConfig()
	c.Name = cfg.Node
	c.BindAddr, c.BindPort = host, port
	c.AdvertisePort = port
	if cfg.Advertise != "" {
		c.AdvertiseAddr, c.AdvertisePort, err = splitIPPort("gossip advertise address", cfg.Advertise)
		if err != nil {
			return nil, err
		}
	}
	if len(cfg.Keys) > 0 {
		if c.Keyring, err = memberlist.NewKeyring(nil, cfg.Keys[0]); err != nil {
			return nil, fmt.Errorf("gossip key of %d bytes: %w", len(cfg.Keys[0]), err)
		}
	}
	c.TCPTimeout = gossipDial
	c.ProbeInterval = 300 * time.Millisecond
	c.ProbeTimeout = 150 * time.Millisecond
	c.SuspicionMult = 3
	c.GossipInterval = 100 * time.Millisecond
	// A push and pull of everything heals what single messages missed, such as
	// the new address of a node that was believed to be at its old one.
	c.PushPullInterval = 10 * time.Second
	// Without it, a crashed node that comes back at a new address is refused.
	c.DeadNodeReclaimTime = 5 * time.Second
	c.Delegate, c.Events, c.Alive, c.Merge = view, view, view, view
	c.LogOutput = &memberlistLog{to: view.logger}
	return c, nil
}

// splitIPPort refuses host names, which memberlist would take for "any address".
func splitIPPort(field, addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil || net.ParseIP(host) == nil {
		return "", 0, fmt.Errorf("%s %q: must be an IP address and a port, as in 192.0.2.1:9778", field, addr)
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("%s %q: the port must be 0 to 65535", field, addr)
	}
	return host, int(number), nil
}

// Run joins the others, and again whenever one is missing, until ctx ends. Then
// it tells the others that this node leaves, and closes.
func (g *gossip) Run(ctx context.Context) error {
	failed := 0
	wait := joinAlone
	for ctx.Err() == nil {
		err := g.join(ctx)
		failed++
		if err == nil {
			failed = 0
		}
		if failed == joinPatience {
			g.logger.Warn("not all known nodes can be reached, trying on", "error", err)
		}
		wait = min(2*wait, joinEvery)
		if g.alone() {
			wait = min(wait, joinEvery/3)
		}
		select {
		case <-time.After(jitter(wait)):
		case <-ctx.Done():
		}
	}
	if err := g.list.Leave(leaveTimeout); err != nil {
		g.logger.Debug("nobody confirmed that this node leaves", "error", err)
	}
	return g.close()
}

// close stops at once and silently.
func (g *gossip) close() error {
	if err := g.list.Shutdown(); err != nil {
		return fmt.Errorf("close gossip: %w", err)
	}
	return nil
}

// jitter keeps nodes that started together from acting together.
func jitter(d time.Duration) time.Duration {
	return d - d/4 + rand.N(d/2+1)
}

// join contacts the known addresses at which no live node is.
func (g *gossip) join(ctx context.Context) error {
	missing := g.missing(ctx)
	rand.Shuffle(len(missing), func(i, j int) { missing[i], missing[j] = missing[j], missing[i] })
	var errs []error
	for _, addr := range missing[:min(len(missing), joinsPerRound)] {
		if ctx.Err() != nil {
			break
		}
		if _, err := g.list.Join([]string{addr}); err != nil {
			errs = append(errs, cmp.Or(errors.Unwrap(err), err)) // without the list of one around it
		}
	}
	return errors.Join(errs...)
}

// missing returns the addresses of seeds, of the replicated state and of dead
// peers (memberlist itself forgets those) that no live peer has.
func (g *gossip) missing(ctx context.Context) []string {
	wanted := slices.Concat(g.seeds, g.known())
	alive := make(map[string]bool)
	for _, peer := range g.Peers() {
		if peer.Alive {
			alive[peer.Addr] = true
		} else {
			wanted = append(wanted, peer.Addr)
		}
	}
	var missing []string
	for _, name := range wanted {
		for _, addr := range resolve(ctx, name) {
			if !alive[addr] && !slices.Contains(missing, addr) {
				missing = append(missing, addr)
			}
		}
	}
	return missing
}

// resolve returns the ip:port that name stands for, which is how peers are
// listed; what cannot be resolved comes back as it is, for Join to complain.
func resolve(ctx context.Context, name string) []string {
	host, port, err := net.SplitHostPort(name)
	if err != nil {
		return []string{name}
	}
	ctx, cancel := context.WithTimeout(ctx, gossipDial)
	defer cancel()
	ips, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil || len(ips) == 0 {
		return []string{name}
	}
	addrs := make([]string, len(ips))
	for i, ip := range ips {
		addrs[i] = net.JoinHostPort(ip, port)
	}
	return addrs
}

func (g *gossip) alone() bool {
	alive := 0
	for _, peer := range g.Peers() {
		if peer.Alive {
			alive++
		}
	}
	return alive <= 1
}

// Addr returns the ip:port that the others use.
func (g *gossip) Addr() string { return g.addr }

// Peers returns all nodes that were ever seen, this one included, by name.
func (g *gossip) Peers() []Peer { return g.view.list() }

// Peer returns the node with the name id, if it was ever seen.
func (g *gossip) Peer(id string) (Peer, bool) { return g.view.find(id) }

// UpdateMeta tells the others what is new about this node. It blocks for up to
// half a second, and may not change the deployment.
func (g *gossip) UpdateMeta(meta Meta) error {
	raw, err := meta.encode()
	if err != nil {
		return err
	}
	if meta.Deployment != g.view.deployment {
		return fmt.Errorf("deployment %q: a node of %q cannot change it", meta.Deployment, g.view.deployment)
	}
	g.update.Lock()
	defer g.update.Unlock()
	g.view.setMeta(raw)
	if err := g.list.UpdateNode(leaveTimeout); err != nil {
		// The next exchange of everything carries it.
		g.logger.Debug("nobody confirmed the update", "error", err)
	}
	return nil
}

// memberlistLog passes on what memberlist logs at its level, but not what it
// says about nodes of other deployments: gossipView has said that, once.
type memberlistLog struct {
	to hclog.Logger
}

// Write implements [io.Writer]; memberlist writes one line at a time.
func (l *memberlistLog) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte(strangerText)) {
		return len(line), nil
	}
	text := strings.TrimSpace(string(line))
	if i := strings.Index(text, "["); i >= 0 {
		text = text[i:] // after the time
	}
	tag, text, _ := strings.Cut(text, " ")
	text = strings.TrimPrefix(text, "memberlist: ")
	switch tag {
	case "[ERR]", "[WARN]":
		l.to.Warn(text)
	case "[INFO]":
		l.to.Info(text)
	default:
		l.to.Debug(text)
	}
	return len(line), nil
}
