package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/julienschmidt/httprouter"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-storage/lockstep/api/auth"
)

// The limits of a server.
const (
	defaultRequestTimeout = 30 * time.Second
	readHeaderTimeout     = 10 * time.Second
	idleTimeout           = 2 * time.Minute
	maxHeaderBytes        = 64 << 10
	shutdownGrace         = 10 * time.Second
	writeTimeout          = 10 * time.Second // of one write: a reader that takes longer is dropped
)

// Config is what a server is made of.
type Config struct {
	Node       Node         // required
	Logger     hclog.Logger // nil logs nothing
	Deployment string       // required: what peers must name
	Version    string       // of the build

	// Certificates are how other nodes prove who they are. Nil takes everyone
	// who names the deployment for one of its nodes.
	Certificates Certificates

	// Authenticator knows users by their tokens. Nil is Cinder's noauth: everyone
	// is who they say they are.
	Authenticator auth.Authenticator

	// Admin says of a user of noauth whether they have the role admin; the others
	// have the role member. Nil means that everyone may do everything, as in Cinder.
	Admin func(user string) bool

	// Policies returns what those users may do. Nil means the default policies.
	Policies func() *auth.Policies

	// RequestTimeout is how long a request may take, elections included.
	// Zero means 30 s.
	RequestTimeout time.Duration

	// Local returns the host of this node's service in a cluster, or "" if it
	// does not serve there now. Nil means that it never does.
	Local func(cluster string) string

	// Manageable lists what could be adopted at the site that a cluster, or a
	// service outside clusters, uses. Nil means that nothing ever can.
	Manageable func(ctx context.Context, cluster string) ([]Existing, error)

	// LogLevel asks a node of the deployment, which may be this one, for the level
	// of its log, and has it changed first unless set is [hclog.NoLevel]. Nil knows
	// no node but this one, and its Logger.
	LogLevel func(ctx context.Context, node string, set hclog.Level) (hclog.Level, error)

	// Ready says why the node is not ready. Nil asks the node's [Status].
	Ready func() error

	// Metrics is where the server registers its own metrics, and what /metrics
	// shows. Nil means a new registry.
	Metrics *prometheus.Registry
}

// Server answers HTTP requests for one node.
type Server struct {
	cfg     Config
	node    Node
	log     hclog.Logger
	router  *httprouter.Router
	access  map[string]access // by method and path of a route
	metrics *metrics
	schemas *schemas

	described func() (description, error) // made when it is first asked for
}

// New returns a server. It answers an error when cfg lacks something or when its
// registry has the metrics of another server already.
func New(cfg Config) (*Server, error) {
	if cfg.Node == nil {
		return nil, errors.New("api: Node is required")
	}
	if cfg.Deployment == "" {
		return nil, errors.New("api: Deployment is required")
	}
	if cfg.RequestTimeout < 0 {
		return nil, fmt.Errorf("api: RequestTimeout %s must not be negative", cfg.RequestTimeout)
	}
	if cfg.RequestTimeout == 0 {
		cfg.RequestTimeout = defaultRequestTimeout
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.Local == nil {
		cfg.Local = func(string) string { return "" }
	}
	if cfg.Manageable == nil {
		cfg.Manageable = func(context.Context, string) ([]Existing, error) { return nil, nil }
	}
	if cfg.Policies == nil {
		cfg.Policies = auth.DefaultPolicies
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	s := &Server{cfg: cfg, node: cfg.Node, log: cfg.Logger.Named("api")}
	if cfg.LogLevel == nil {
		s.cfg.LogLevel = s.ownLogLevel
	}
	var err error
	if s.metrics, err = newMetrics(cfg.Metrics); err != nil {
		return nil, fmt.Errorf("api: register metrics: %w", err)
	}
	if s.schemas, err = compileSchemas(); err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	s.access = accessTable()
	if err := checkAccess(s.allRoutes()); err != nil {
		return nil, err
	}
	s.described = sync.OnceValues(s.describe)
	s.router = s.routes()
	return s, nil
}

// Handler returns the handler of all routes.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// drainKey is the context key of the channel that closes when a server stops.
type drainKey struct{}

// draining returns a channel that is closed when the server stops, so that what
// waits for a change can answer at once. It is nil when nobody will tell.
func draining(ctx context.Context) <-chan struct{} {
	ch, _ := ctx.Value(drainKey{}).(<-chan struct{})
	return ch
}

// Serve answers requests that arrive at l until ctx ends. Then it ends blocking
// reads and event streams, gives the other requests ten seconds to end, and
// returns.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	base := context.WithValue(context.WithoutCancel(ctx), drainKey{}, ctx.Done())
	srv := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          s.log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
		BaseContext:       func(net.Listener) context.Context { return base },
	}
	var serveErr error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		serveErr = srv.Serve(l)
	}()
	select {
	case <-ended:
		return fmt.Errorf("serve %s: %w", l.Addr(), serveErr)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(base, shutdownGrace)
	defer cancel()
	err := srv.Shutdown(grace)
	if err != nil {
		err = errors.Join(fmt.Errorf("shut down %s: %w", l.Addr(), err), srv.Close())
	}
	<-ended
	return err
}
