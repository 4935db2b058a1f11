package config

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// DriverFile is the driver that this program brings along.
const DriverFile = "file"

// maxName bounds names, in bytes.
const maxName = 128

// nameRunes are what names are made of.
const nameRunes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"

// FieldError is a value that cannot be.
type FieldError struct {
	Field   string // as in backends[0].cluster
	Value   string // empty when it is missing
	Allowed string // what may be there
}

// Error implements error.
func (e *FieldError) Error() string {
	if e.Value == "" {
		return fmt.Sprintf("%s is missing: %s", e.Field, e.Allowed)
	}
	return fmt.Sprintf("%s: %q is not allowed: %s", e.Field, e.Value, e.Allowed)
}

// Validate returns all that is wrong, each a [*FieldError], joined.
func (c Config) Validate() error { return errors.Join(c.problems()...) }

func (c Config) problems() []error {
	v := &validation{}
	v.name("node", c.Node, "a name for this node")
	v.name("deployment", c.Deployment, "a name for the deployment, the same on all its nodes")
	v.check(c.DataDir != "", "data_dir", "", "a directory of this node alone")
	v.oneOf("log_level", c.LogLevel, "trace", "debug", "info", "warn", "error")
	v.between("bootstrap_expect", c.BootstrapExpect, 0, 7)
	v.between("voters", c.Voters, 1, 7)
	v.check(c.BootstrapExpect <= c.Voters, "bootstrap_expect", strconv.Itoa(c.BootstrapExpect),
		"at most voters, which is "+strconv.Itoa(c.Voters))
	v.endpoint("api", c.API.Endpoint())
	v.endpoint("raft", c.Raft.Endpoint())
	v.endpoint("gossip", c.Gossip.Endpoint())
	v.security(c)
	v.distinct(c)
	v.oneOf("raft.log_store", c.Raft.LogStore, "wal", "boltdb")
	for i, address := range c.Gossip.Join {
		v.address(fmt.Sprintf("gossip.join[%d]", i), address)
	}
	v.check(c.BootstrapExpect == 1 || len(c.Gossip.Join) > 0, "gossip.join", "",
		"the gossip address of at least one other node, unless bootstrap_expect is 1")
	v.timing(c)
	v.lease(c.Lease)
	v.limits(c.Failover)
	v.backends(c.Backends)
	return v.found
}

// validation gathers what is wrong.
type validation struct {
	found []error
}

// check notes a problem unless what must hold does.
//
//nolint:revive // the flag is what was found, not what to do
func (v *validation) check(holds bool, field, value, allowed string) {
	if !holds {
		v.found = append(v.found, &FieldError{Field: field, Value: value, Allowed: allowed})
	}
}

func (v *validation) name(field, value, what string) {
	if value == "" {
		v.check(false, field, "", what)
		return
	}
	strange := func(r rune) bool { return !strings.ContainsRune(nameRunes, r) }
	v.check(!strings.ContainsFunc(value, strange) && len(value) <= maxName, field, value,
		fmt.Sprintf("1 to %d letters, digits, '.', '-' and '_'", maxName))
}

func (v *validation) oneOf(field, value string, allowed ...string) {
	v.check(slices.Contains(allowed, value), field, value, "one of "+strings.Join(allowed, ", "))
}

func (v *validation) between(field string, value, least, most int) {
	v.check(value >= least && value <= most, field, strconv.Itoa(value), fmt.Sprintf("%d to %d", least, most))
}

func (v *validation) duration(field string, value, least, most time.Duration) {
	v.check(value >= least && value <= most, field, value.String(), fmt.Sprintf("%v to %v", least, most))
}

func (v *validation) address(field, value string) bool {
	host, port, err := net.SplitHostPort(value)
	n, errPort := strconv.ParseUint(port, 10, 16)
	ok := err == nil && host != "" && errPort == nil && n > 0
	v.check(ok, field, value, "host:port, as in 192.0.2.7:9776")
	return ok
}

func (v *validation) endpoint(section string, e Endpoint) {
	if !v.address(section+".listen", e.Listen) {
		return
	}
	if e.Advertise != "" {
		v.address(section+".advertise", e.Advertise)
		return
	}
	host, _, _ := net.SplitHostPort(e.Listen)
	ip := net.ParseIP(host)
	v.check(ip == nil || !ip.IsUnspecified(), section+".advertise", "",
		"the address by which other nodes reach this one, since "+section+".listen is all addresses")
}

// distinct refuses one address for two purposes.
func (v *validation) distinct(c Config) {
	fields := []string{"api.listen", "raft.listen", "gossip.listen"}
	values := []string{c.API.Listen, c.Raft.Listen, c.Gossip.Listen}
	for i, value := range values {
		if first := slices.Index(values, value); first < i {
			v.check(false, fields[i], value, "an address of its own; "+fields[first]+" has this one")
		}
	}
}

// timing repeats the bounds of [raftnode.Timing], to name the line in the file.
func (v *validation) timing(c Config) {
	const section = "raft.timing."
	t := c.Raft.Timing
	v.duration(section+"heartbeat", t.Heartbeat, 50*time.Millisecond, time.Minute)
	v.duration(section+"election", t.Election, t.Heartbeat, time.Minute)
	v.duration(section+"leader_lease", t.LeaderLease, 10*time.Millisecond, t.Heartbeat)
	v.duration(section+"commit", t.Commit, time.Millisecond, time.Second)
	v.duration(section+"snapshot_interval", t.SnapshotInterval, time.Second, 24*time.Hour)
	v.between(section+"max_append_entries", t.MaxAppendEntries, 1, 1024)
	n := t.SnapshotThreshold
	v.check(n >= 1 && n <= 1<<32, section+"snapshot_threshold", strconv.FormatUint(n, 10), "1 to 4294967296")
	// More than a leader that is cut off may take before it knows: whoever has more
	// behind a snapshot that nobody else has is sent the snapshot for ever.
	n = t.TrailingLogs
	v.check(n >= 1000 && n <= 1<<32, section+"trailing_logs", strconv.FormatUint(n, 10), "1000 to 4294967296")
}

// lease checks that a service has surely stopped when the leader counts it as
// gone: section 5 of docs/design.md.
func (v *validation) lease(l Lease) {
	v.duration("lease.duration", l.Duration, 100*time.Millisecond, time.Minute)
	v.duration("lease.kill", l.Kill, 10*time.Millisecond, time.Minute)
	if l.ClockError < 0 || l.ClockError > 0.1 {
		v.check(false, "lease.clock_error", strconv.FormatFloat(l.ClockError, 'g', -1, 64), "0 to 0.1")
		return
	}
	t := l.Timing()
	least := t.LeastGrace(t.Span()).Truncate(time.Millisecond) + time.Millisecond
	v.check(l.Grace >= least, "lease.grace", l.Grace.String(),
		fmt.Sprintf("at least %v, which is duration and kill with the clock error", least))
}

// optionError is a driver's word on its options.
type optionError struct {
	field string
	err   error
}

func (e *optionError) Error() string { return e.field + ": " + e.err.Error() }

// place is the field that the driver names before the first colon.
func (e *optionError) place() string {
	name, _, _ := strings.Cut(e.err.Error(), ":")
	return e.field + "." + name
}
func (e *optionError) Unwrap() error { return e.err }

func (v *validation) limits(l FailoverLimits) {
	v.duration("failover.drain", l.Drain, 100*time.Millisecond, time.Hour)
	v.duration("failover.promote", l.Promote, 100*time.Millisecond, 24*time.Hour)
	v.duration("failover.switch", l.Switch, 100*time.Millisecond, time.Hour)
	v.duration("failover.backoff", l.Backoff, time.Millisecond, time.Minute)
	v.check(l.Attempts >= 1 && l.Attempts <= 1000, "failover.attempts", strconv.FormatUint(l.Attempts, 10), "1 to 1000")
}

func (v *validation) backends(backends []Backend) {
	seen := map[string]bool{}
	for i, b := range backends {
		field := fmt.Sprintf("backends[%d]", i)
		v.name(field+".name", b.Name, "a name for the backend; its service is called node@name")
		v.check(!seen[b.Name], field+".name", b.Name, "a name that no other backend of the node has")
		seen[b.Name] = true
		v.cluster(field+".cluster", b)
		v.driver(field, b)
	}
}

func (v *validation) cluster(field string, b Backend) {
	if b.Cluster == "" {
		return
	}
	name, backend, found := strings.Cut(b.Cluster, "@")
	if !found || name == "" || backend != b.Name {
		v.check(false, field, b.Cluster, "something@"+b.Name+", or nothing for a service outside clusters")
		return
	}
	v.name(field, name, "")
}

// knownDrivers says what a driver may be.
const knownDrivers = DriverFile + ", or the absolute path of a program that is a driver"

// program checks a driver that is a program. Its options are its own business.
func (v *validation) program(field string, b Backend) {
	v.check(filepath.IsAbs(b.Driver), field+".driver", b.Driver, knownDrivers)
	for i, target := range b.Targets {
		at := fmt.Sprintf("%s.targets[%d]", field, i)
		v.name(at, target, "a backend id")
		v.check(target != "default", at, target, "the backend id of a secondary site: default is the primary")
		v.check(slices.Index(b.Targets, target) == i, at, target, "a backend id that is not in the list yet")
	}
	if _, err := b.Options.JSON(); err != nil {
		v.check(false, field+".options", "", "keys and values that can be written as JSON: "+err.Error())
	}
}

func (v *validation) driver(field string, b Backend) {
	if b.Driver == "" {
		v.check(false, field+".driver", "", knownDrivers)
		return
	}
	if b.Driver != DriverFile {
		v.program(field, b)
		return
	}
	v.check(len(b.Targets) == 0, field+".targets", strings.Join(b.Targets, ", "), "nothing: those of the file driver are its sites")
	cfg, err := b.File()
	if err == nil {
		err = cfg.Validate()
	}
	if err == nil {
		return
	}
	if _, placed := errors.AsType[yaml.Error](err); placed {
		v.found = append(v.found, err)
		return
	}
	if _, placed := errors.AsType[durationError](err); placed {
		v.found = append(v.found, err)
		return
	}
	v.found = append(v.found, &optionError{field: field + ".options", err: err})
}
