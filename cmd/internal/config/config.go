// Package config reads the configuration of a node.
package config

import (
	"net"
	"time"

	"github.com/lockstep-storage/lockstep/fsm"
	"github.com/lockstep-storage/lockstep/raftnode"
)

// Config is the configuration of a node, one YAML file. See [Example] for what
// each key means to an operator.
type Config struct {
	Node            string         `yaml:"node"`             // name of this node, unique in the deployment
	Deployment      string         `yaml:"deployment"`       // the same on all nodes; two deployments never mix
	DataDir         string         `yaml:"data_dir"`         // absolute once loaded
	LogLevel        string         `yaml:"log_level"`        // trace, debug, info, warn or error
	BootstrapExpect int            `yaml:"bootstrap_expect"` // nodes that start the deployment; 0: join one
	Voters          int            `yaml:"voters"`           // at most so many vote, the others follow
	Insecure        bool           `yaml:"insecure"`         // other machines may connect, unencrypted or unknown
	TLS             TLS            `yaml:"tls"`
	Auth            Auth           `yaml:"auth"`
	API             API            `yaml:"api"`
	Raft            Raft           `yaml:"raft"`
	Gossip          Gossip         `yaml:"gossip"`
	Lease           Lease          `yaml:"lease"`
	Failover        FailoverLimits `yaml:"failover"`
	Backends        []Backend      `yaml:"backends"`
}

// Endpoint is an address to listen on, and the one that others reach it by.
type Endpoint struct {
	Listen    string `yaml:"listen"`    // host:port
	Advertise string `yaml:"advertise"` // host:port; empty: the address listened on
}

// Address is the host:port by which other nodes reach the endpoint.
func (e Endpoint) Address() string {
	if e.Advertise != "" {
		return e.Advertise
	}
	return e.Listen
}

// TLS names the files by which the nodes of the deployment know each other. All
// are empty, and nothing is encrypted, or none is.
type TLS struct {
	CA   string `yaml:"ca"`   // certificates of the deployment's authority
	Cert string `yaml:"cert"` // of this node
	Key  string `yaml:"key"`  // of Cert
}

// On reports whether the ports are encrypted.
func (t TLS) On() bool { return t != TLS{} }

// Auth says how users of the API prove who they are, and what they may do.
type Auth struct {
	Mode     string   `yaml:"mode"`     // noauth, tokens or keystone
	Admins   []string `yaml:"admins"`   // with noauth: users who are administrators, the others members; empty: everyone may do everything
	Tokens   string   `yaml:"tokens"`   // file of tokens
	Policies string   `yaml:"policies"` // file of policies; empty: the default ones
	Keystone Keystone `yaml:"keystone"`
}

// Keystone is how to ask Keystone whose a token is.
type Keystone struct {
	AuthURL       string              `yaml:"auth_url"`       // as in https://keystone.example.org:5000/v3
	PublicURL     string              `yaml:"public_url"`     // that clients are told; empty: AuthURL
	CA            string              `yaml:"ca"`             // who signed its certificate; empty: the system's
	Username      string              `yaml:"username"`       // of the service account
	PasswordFile  string              `yaml:"password_file"`  // of the service account
	UserDomain    string              `yaml:"user_domain"`    // name
	Project       string              `yaml:"project"`        // name
	ProjectDomain string              `yaml:"project_domain"` // name
	CacheTTL      time.Duration       `yaml:"cache_ttl"`      // how long an answer is believed
	CacheSize     int                 `yaml:"cache_size"`     // answers at most
	Roles         map[string][]string `yaml:"roles"`          // what a role of Keystone is here; empty: see auth.KeystoneRoles
}

// API configures the HTTP server.
type API struct {
	Listen    string `yaml:"listen"`
	Advertise string `yaml:"advertise"`
	Cert      string `yaml:"cert"` // shown to users; empty: that of the node
	Key       string `yaml:"key"`  // of Cert
}

// Endpoint is where the API listens.
func (a API) Endpoint() Endpoint { return Endpoint{Listen: a.Listen, Advertise: a.Advertise} }

// Raft configures the replicated log.
type Raft struct {
	Listen    string          `yaml:"listen"`
	Advertise string          `yaml:"advertise"`
	LogStore  string          `yaml:"log_store"` // wal or boltdb
	Timing    raftnode.Timing `yaml:"timing"`
}

// Endpoint is where the Raft transport listens.
func (r Raft) Endpoint() Endpoint { return Endpoint{Listen: r.Listen, Advertise: r.Advertise} }

// Gossip configures how nodes find each other.
type Gossip struct {
	Listen    string   `yaml:"listen"`
	Advertise string   `yaml:"advertise"`
	KeyFile   string   `yaml:"key_file"` // keys that encrypt gossip; empty: none
	Join      []string `yaml:"join"`     // gossip addresses of other nodes; its own does no harm
}

// Endpoint is where gossip listens, on TCP and UDP.
func (g Gossip) Endpoint() Endpoint { return Endpoint{Listen: g.Listen, Advertise: g.Advertise} }

// Lease bounds how long a service that is out of touch may go on serving.
type Lease struct {
	Duration   time.Duration `yaml:"duration"`    // of one lease
	Kill       time.Duration `yaml:"kill"`        // that ending a driver takes at most once its lease is over
	Grace      time.Duration `yaml:"grace"`       // after which the leader counts a silent service as gone
	ClockError float64       `yaml:"clock_error"` // largest rate error of a clock, as a fraction
}

// Timing is the lease as the node takes it.
func (l Lease) Timing() raftnode.LeaseTiming {
	t := raftnode.DefaultLeaseTiming()
	t.Duration, t.Kill, t.Grace, t.ClockError = l.Duration, l.Kill, l.Grace, l.ClockError
	return t
}

// FailoverLimits paces failovers.
type FailoverLimits struct {
	Drain    time.Duration `yaml:"drain"`    // for a member to end its running calls
	Promote  time.Duration `yaml:"promote"`  // for an executor's call to the storage to answer
	Switch   time.Duration `yaml:"switch"`   // for a member to be told of the new site
	Backoff  time.Duration `yaml:"backoff"`  // before the second attempt; doubles with each one, up to 16 times
	Attempts uint64        `yaml:"attempts"` // before a failover has failed
}

// Limits are the limits as the state machine takes them.
func (l FailoverLimits) Limits() fsm.Limits {
	return fsm.Limits{Drain: l.Drain, Promote: l.Promote, Switch: l.Switch, Backoff: l.Backoff, Attempts: l.Attempts}
}

// Backend is one storage driver of the node, and so one volume service.
type Backend struct {
	Name    string  `yaml:"name"`    // the service is called node@name
	Cluster string  `yaml:"cluster"` // something@name; empty: the service is in no cluster
	Driver  string  `yaml:"driver"`  // file, or the absolute path of a program that is a driver
	Options Options `yaml:"options"` // the driver's own

	// Targets are the replication targets of a driver that is a program; the file
	// driver's are its sites.
	Targets []string `yaml:"targets"`
}

// ReplicationTargets are the backend ids that the backend can fail over to.
func (b Backend) ReplicationTargets() ([]string, error) {
	if b.Driver != DriverFile {
		return b.Targets, nil
	}
	cfg, err := b.File()
	return cfg.Targets(), err
}

// Host is the name of the backend's service.
func (b Backend) Host(node string) string { return node + "@" + b.Name }

// Default returns what a file need not say.
func Default() Config {
	limits := fsm.DefaultLimits()
	return Config{
		LogLevel: "info",
		Voters:   7,
		API:      API{Listen: "127.0.0.1:9776"},
		Auth: Auth{Mode: ModeNoAuth, Admins: []string{}, Keystone: Keystone{
			Username: "lockstep", UserDomain: "Default", Project: "service", ProjectDomain: "Default",
			CacheTTL: time.Minute, CacheSize: 4096, Roles: map[string][]string{},
		}},
		Raft:   Raft{Listen: "127.0.0.1:9777", LogStore: "wal", Timing: raftnode.DefaultTiming()},
		Gossip: Gossip{Listen: "127.0.0.1:9778"},
		Lease: Lease{
			Duration: 3 * time.Second, Kill: 2500 * time.Millisecond, Grace: 6 * time.Second, ClockError: 0.001,
		},
		Failover: FailoverLimits{
			Drain: limits.Drain, Promote: limits.Promote, Switch: limits.Switch,
			Backoff: limits.Backoff, Attempts: limits.Attempts,
		},
	}
}

// URL is the base URL of the node's HTTP API.
func (c Config) URL() string {
	if c.TLS.On() {
		return "https://" + c.API.Endpoint().Address()
	}
	return "http://" + c.API.Endpoint().Address()
}

// loopback reports whether only this machine can reach an address to listen on.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
