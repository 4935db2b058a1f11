package config

import "slices"

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
	if c.Insecure || c.TLS.On() {
		return
	}
	for _, listen := range []setting{{"api.listen", c.API.Listen}, {"raft.listen", c.Raft.Listen}, {"gossip.listen", c.Gossip.Listen}} {
		v.check(loopback(listen.value), listen.field, listen.value,
			"a loopback address, as in 127.0.0.1:9776, since tls is not set; "+
				"'insecure: true' allows any address, on a network where every machine is trusted")
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
