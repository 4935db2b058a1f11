package agent

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/lockstep-storage/lockstep/api/auth"
	"github.com/lockstep-storage/lockstep/cmd/internal/config"
	"github.com/lockstep-storage/lockstep/cmd/internal/reload"
	"github.com/lockstep-storage/lockstep/cmd/internal/tlsfiles"
)

// users is how the node knows users of its API, and what they may do.
type users struct {
	authenticator auth.Authenticator // nil: noauth
	admin         func(string) bool  // of noauth; nil: everyone may do everything
	policies      atomic.Pointer[auth.Policies]
	sources       []reload.Source
}

// openUsers reads the files that cfg names. Keystone is asked for nothing yet.
func openUsers(cfg config.Auth) (*users, error) {
	u := &users{}
	u.policies.Store(auth.DefaultPolicies())
	if cfg.Policies != "" {
		load := func() error { return u.loadPolicies(cfg.Policies) }
		if err := load(); err != nil {
			return nil, fmt.Errorf("auth.policies: %w", err)
		}
		u.sources = append(u.sources, reload.Source{Name: "policies", Files: []string{cfg.Policies}, Load: load})
	}
	if len(cfg.Admins) > 0 {
		u.admin = func(user string) bool { return slices.Contains(cfg.Admins, user) }
	}
	switch cfg.Mode {
	case config.ModeTokens:
		tokens, err := auth.OpenTokens(cfg.Tokens)
		if err != nil {
			return nil, fmt.Errorf("auth.tokens: %w", err)
		}
		u.authenticator = tokens
		u.sources = append(u.sources, reload.Source{Name: "tokens", Files: []string{cfg.Tokens}, Load: tokens.Load})
	case config.ModeKeystone:
		keystone, err := openKeystone(cfg.Keystone)
		if err != nil {
			return nil, fmt.Errorf("auth.keystone: %w", err)
		}
		u.authenticator = keystone
	}
	return u, nil
}

func (u *users) loadPolicies(path string) error {
	policies, err := auth.ReadPolicies(path)
	if err != nil {
		return err
	}
	u.policies.Store(policies)
	return nil
}

func openKeystone(cfg config.Keystone) (*auth.Keystone, error) {
	password := func() (string, error) {
		content, err := tlsfiles.ReadSecret(cfg.PasswordFile)
		return strings.TrimRight(string(content), "\r\n"), err
	}
	if _, err := password(); err != nil {
		return nil, err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	if cfg.CA != "" {
		pool, err := tlsfiles.Pool(cfg.CA)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	var roles map[string][]string
	if len(cfg.Roles) > 0 {
		roles = cfg.Roles
	}
	return auth.NewKeystone(auth.KeystoneConfig{
		AuthURL: cfg.AuthURL, PublicURL: cfg.PublicURL, Username: cfg.Username, UserDomain: cfg.UserDomain,
		Project: cfg.Project, ProjectDomain: cfg.ProjectDomain, Password: password,
		Roles: roles, TTL: cfg.CacheTTL, Size: cfg.CacheSize, HTTP: &http.Client{Transport: transport},
	})
}
