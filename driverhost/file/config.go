package file

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Primary is the backend id of the primary site.
const Primary = "default"

// The bounds of Config.BlockSize, in bytes.
const (
	MinBlockSize = 4 << 10
	MaxBlockSize = 16 << 20
)

// Config describes one backend: its sites and how they are kept alike.
type Config struct {
	// Sites maps each backend id to the absolute path of its directory. It
	// must have "default", the primary; the others are replication targets.
	Sites map[string]string `yaml:"sites"`

	// ReplicationInterval is the time from the start of one round of
	// replication to the start of the next. Greater than zero.
	ReplicationInterval time.Duration `yaml:"replication_interval"`

	// BlockSize is the unit of comparison and copying in bytes: a power of two
	// from MinBlockSize to MaxBlockSize. Comparing a volume takes some 40
	// bytes of memory per block that holds data.
	BlockSize int64 `yaml:"block_size"`

	// LastSyncTimeout bounds what a forced failover spends on fencing the old
	// site and on one last copy of it. Zero or more; zero tries neither.
	LastSyncTimeout time.Duration `yaml:"last_sync_timeout"`

	// PromoteDelay is an artificial pause before each promotion, to rehearse
	// a failover in which a node dies while it promotes. Default 0.
	PromoteDelay time.Duration `yaml:"promote_delay"`
}

// DefaultConfig is a configuration that lacks only its sites.
func DefaultConfig() Config {
	return Config{
		ReplicationInterval: time.Second,
		BlockSize:           64 << 10,
		LastSyncTimeout:     5 * time.Second,
	}
}

// Targets lists the replication targets, all sites but the primary, in order.
func (c Config) Targets() []string {
	return slices.DeleteFunc(c.siteIDs(), func(id string) bool { return id == Primary })
}

func (c Config) siteIDs() []string {
	return slices.Sorted(maps.Keys(c.Sites))
}

// Validate says what is wrong with the configuration, naming the field.
func (c Config) Validate() error {
	if err := c.validateSites(); err != nil {
		return err
	}
	switch {
	case c.ReplicationInterval <= 0:
		return fmt.Errorf("replication_interval: %s is not greater than zero", c.ReplicationInterval)
	case c.BlockSize < MinBlockSize, c.BlockSize > MaxBlockSize, c.BlockSize&(c.BlockSize-1) != 0:
		return fmt.Errorf("block_size: %d is not a power of two from %d to %d", c.BlockSize, MinBlockSize, MaxBlockSize)
	case c.LastSyncTimeout < 0:
		return fmt.Errorf("last_sync_timeout: %s is less than zero", c.LastSyncTimeout)
	case c.PromoteDelay < 0:
		return fmt.Errorf("promote_delay: %s is less than zero", c.PromoteDelay)
	}
	return nil
}

func (c Config) validateSites() error {
	if _, ok := c.Sites[Primary]; !ok {
		return fmt.Errorf("sites: there is no %q, the primary; there are %q", Primary, c.siteIDs())
	}
	for _, id := range c.siteIDs() {
		if !validID(id) {
			return fmt.Errorf("sites: %q is not a backend id: 1 to 64 of 0-9 a-z A-Z - _ are allowed", id)
		}
		if dir := c.Sites[id]; !filepath.IsAbs(dir) {
			return fmt.Errorf("sites.%s: %q is not an absolute path", id, dir)
		}
	}
	return c.validateApart()
}

// validateApart refuses sites that share files: one would be its own replica.
func (c Config) validateApart() error {
	ids := c.siteIDs()
	for i, a := range ids {
		for _, b := range ids[i+1:] {
			da, db := filepath.Clean(c.Sites[a]), filepath.Clean(c.Sites[b])
			if within(da, db) || within(db, da) {
				return fmt.Errorf("sites.%s: %q and %q of %s contain each other", b, db, da, a)
			}
		}
	}
	return nil
}

func within(dir, path string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// validID reports whether an id can be part of a file name. Ids of volumes and
// snapshots come from the network.
func validID(id string) bool {
	const longest = 64
	return id != "" && len(id) <= longest && !strings.ContainsFunc(id, func(r rune) bool {
		digit, lower, upper := '0' <= r && r <= '9', 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z'
		return !digit && !lower && !upper && r != '-' && r != '_'
	})
}
