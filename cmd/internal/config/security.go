package config

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-storage/lockstep/api/auth"
)

// The ways in which users of the API prove who they are.
const (
	ModeNoAuth   = "noauth"   // not at all: as Cinder's noauth
	ModeTokens   = "tokens"   // by tokens of a file
	ModeKeystone = "keystone" // by tokens of Keystone
)

// security checks that whoever reaches this node from another machine has to prove
// something, unless the file says that it need not.
func (v *validation) security(c Config) {
	v.together("a PEM file: tls.ca, tls.cert and tls.key come together",
		setting{"tls.ca", c.TLS.CA}, setting{"tls.cert", c.TLS.Cert}, setting{"tls.key", c.TLS.Key})
	v.together("a PEM file: api.cert and api.key come together",
		setting{"api.cert", c.API.Cert}, setting{"api.key", c.API.Key})
	v.check(c.API.Cert == "" || c.TLS.On(), "tls.ca", "", "a PEM file, since api.cert is set")
	v.check(c.Gossip.KeyFile == "" || c.TLS.On(), "tls.ca", "", "a PEM file, since gossip.key_file is set: half of the ports would be open")
	v.check(c.Gossip.KeyFile != "" || !c.TLS.On(), "gossip.key_file", "", "a file of 'lockstep tls gossip-key create', since tls is set: half of the ports would be open")
	v.auth(c.Auth)
	if c.Insecure {
		return
	}
	if c.TLS.On() {
		v.check(c.Auth.Mode != ModeNoAuth || loopback(c.API.Listen), "api.listen", c.API.Listen,
			"a loopback address, as in 127.0.0.1:9776, since auth.mode is noauth; "+
				"'insecure: true' allows any address, on a network where every machine is trusted")
		return
	}
	for _, listen := range []setting{{"api.listen", c.API.Listen}, {"raft.listen", c.Raft.Listen}, {"gossip.listen", c.Gossip.Listen}} {
		v.check(loopback(listen.value), listen.field, listen.value,
			"a loopback address, as in 127.0.0.1:9776, since tls is not set; "+
				"'insecure: true' allows any address, on a network where every machine is trusted")
	}
}

// auth checks how users prove who they are.
func (v *validation) auth(a Auth) {
	v.oneOf("auth.mode", a.Mode, ModeNoAuth, ModeTokens, ModeKeystone)
	v.check(a.Mode != ModeTokens || a.Tokens != "", "auth.tokens", "", "a file of tokens, since auth.mode is tokens")
	v.check(a.Mode == ModeNoAuth || len(a.Admins) == 0, "auth.admins", strings.Join(a.Admins, ", "), "empty, since auth.mode is not noauth: there roles say who is an administrator")
	if a.Mode != ModeKeystone {
		return
	}
	const section = "auth.keystone."
	k := a.Keystone
	u, err := url.Parse(k.AuthURL)
	v.check(err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https"), section+"auth_url", k.AuthURL,
		"the base URL of Keystone, as in https://keystone.example.org:5000/v3")
	for _, s := range []setting{
		{"username", k.Username},
		{"password_file", k.PasswordFile},
		{"user_domain", k.UserDomain},
		{"project", k.Project},
		{"project_domain", k.ProjectDomain},
	} {
		v.check(s.value != "", section+s.field, s.value, "must be set, since auth.mode is keystone")
	}
	v.duration(section+"cache_ttl", k.CacheTTL, 0, time.Hour)
	v.between(section+"cache_size", k.CacheSize, 1, 1_000_000)
	for theirs, ours := range k.Roles {
		for i, role := range ours {
			v.check(slices.Contains(auth.Roles(), role), section+"roles."+theirs+"["+strconv.Itoa(i)+"]", role,
				"one of "+strings.Join(auth.Roles(), ", "))
		}
	}
}

// setting is a value and the field that it stands in.
type setting struct{ field, value string }

// together refuses settings of which some are there and some are not.
func (v *validation) together(allowed string, settings ...setting) {
	if !slices.ContainsFunc(settings, func(s setting) bool { return s.value != "" }) {
		return
	}
	for _, s := range settings {
		v.check(s.value != "", s.field, "", allowed)
	}
}
