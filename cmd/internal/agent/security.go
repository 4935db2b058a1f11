package agent

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-storage/lockstep/api"
	"github.com/lockstep-storage/lockstep/cmd/internal/config"
	"github.com/lockstep-storage/lockstep/cmd/internal/reload"
	"github.com/lockstep-storage/lockstep/cmd/internal/tlsfiles"
	"github.com/lockstep-storage/lockstep/raftnode"
)

// security is what a node proves who it is with, and knows others by.
type security struct {
	certificates *tlsfiles.Certificates // nil: nothing is encrypted
	gossipFile   string
	gossipKeys   [][]byte
	logger       hclog.Logger
}

// openSecurity reads the files that cfg names.
func openSecurity(cfg config.Config, logger hclog.Logger) (*security, error) {
	s := &security{gossipFile: cfg.Gossip.KeyFile, logger: logger.Named("tls")}
	if !cfg.TLS.On() {
		return s, nil
	}
	var err error
	s.certificates, err = tlsfiles.Open(tlsfiles.Paths{
		CA: cfg.TLS.CA, Cert: cfg.TLS.Cert, Key: cfg.TLS.Key, APICert: cfg.API.Cert, APIKey: cfg.API.Key,
	}, cfg.Deployment, cfg.Node)
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	if s.gossipKeys, err = tlsfiles.ReadGossipKeys(s.gossipFile); err != nil {
		return nil, fmt.Errorf("gossip.key_file: %w", err)
	}
	return s, nil
}

// The interfaces of other packages are nil where there are no certificates.
func (s *security) forRaft() raftnode.Certificates {
	if s.certificates == nil {
		return nil
	}
	return s.certificates
}

func (s *security) forAPI() api.Certificates {
	if s.certificates == nil {
		return nil
	}
	return s.certificates
}

// listener encrypts what arrives at the API.
func (s *security) listener(l net.Listener) net.Listener {
	if s.certificates == nil {
		return l
	}
	return tls.NewListener(l, s.certificates.API())
}

// sources are the files to read again when they change.
func (s *security) sources(process *raftnode.Process) []reload.Source {
	if s.certificates == nil {
		return nil
	}
	return []reload.Source{
		{Name: "certificates", Files: s.certificates.Files(), Load: s.certificates.Load},
		{Name: "gossip keys", Files: []string{s.gossipFile}, Load: func() error {
			keys, err := tlsfiles.ReadGossipKeys(s.gossipFile)
			if err != nil {
				return err
			}
			return process.SetGossipKeys(keys)
		}},
	}
}

// watchFiles reads sources again when they change or on SIGHUP, until ctx ends.
func watchFiles(ctx context.Context, logger hclog.Logger, sources []reload.Source) error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	return reload.New(reload.Interval, logger.Named("files"), sources...).Run(ctx, hangups)
}

const (
	// expiryWarning is how long before its end a certificate is warned about.
	expiryWarning = 30 * 24 * time.Hour
	expiryEvery   = 12 * time.Hour
)

// warnOfExpiry logs certificates that end soon, until ctx ends.
func (s *security) warnOfExpiry(ctx context.Context) error {
	tick := time.NewTicker(expiryEvery)
	defer tick.Stop()
	for {
		if s.certificates != nil {
			s.logExpiries(time.Now())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *security) logExpiries(now time.Time) {
	for _, e := range s.certificates.Expiries() {
		if left := e.Until.Sub(now); left < expiryWarning {
			s.logger.Warn("a certificate ends soon: replace it", "use", e.Use, "path", e.Path,
				"until", e.Until.UTC().Format(time.RFC3339), "days", int(left.Hours()/24))
		}
	}
}

var _ prometheus.Collector = (*security)(nil)

// Describe implements [prometheus.Collector].
func (s *security) Describe(ch chan<- *prometheus.Desc) { ch <- expiryDesc() }

// Collect implements [prometheus.Collector].
func (s *security) Collect(ch chan<- prometheus.Metric) {
	if s.certificates == nil {
		return
	}
	for _, e := range s.certificates.Expiries() {
		ch <- prometheus.MustNewConstMetric(expiryDesc(), prometheus.GaugeValue, float64(e.Until.Unix()), e.Use)
	}
}

func expiryDesc() *prometheus.Desc {
	return prometheus.NewDesc("lockstep_tls_not_after_seconds",
		"When the certificate in use ends, since the epoch: ca, node or api.", []string{"use"}, nil)
}
