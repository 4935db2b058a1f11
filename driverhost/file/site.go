package file

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lockstep-storage/lockstep/driverhost"
)

// A site is one directory. It keeps nothing in memory: other processes work on
// it at the same time.
type site struct {
	id    string
	dir   string
	turn  chan struct{} // one goroutine of this driver at a time tries for the lock
	peers []string      // the ids of the other sites
}

func newSites(cfg Config) map[string]*site { return newSitesIn(cfg, "") }

// newSitesIn returns the sites in a directory of each of the configured ones.
func newSitesIn(cfg Config, sub string) map[string]*site {
	sites := make(map[string]*site, len(cfg.Sites))
	for _, id := range cfg.siteIDs() {
		peers := slices.DeleteFunc(cfg.siteIDs(), func(other string) bool { return other == id })
		sites[id] = &site{id: id, dir: filepath.Join(cfg.Sites[id], sub), turn: make(chan struct{}, 1), peers: peers}
	}
	return sites
}

func (s *site) file(elem ...string) string { return filepath.Join(append([]string{s.dir}, elem...)...) }

const (
	volumePrefix   = "volume-"
	snapshotPrefix = "snapshot-"
)

// place is where the volume or snapshot of the name is when the site is in use.
func (s *site) place(name string) string {
	if strings.HasPrefix(name, snapshotPrefix) {
		return s.file("snapshots", name)
	}
	return s.file("volumes", name)
}

func (s *site) replica(name string) string { return s.file("replicas", name) }
func (s *site) delta(name string) string   { return s.file("staging", name+".delta") }
func (s *site) blockMap(name string) string {
	return s.file("maps", name)
}

// isName reports whether a file name is that of a volume or a snapshot.
func isName(name string) bool {
	id, ok := strings.CutPrefix(name, volumePrefix)
	if !ok {
		id, ok = strings.CutPrefix(name, snapshotPrefix)
	}
	return ok && validID(id)
}

// exclusive calls fn under the site's lock, unless the lease has ended by then: the
// wait for the lock may be long. A mutating call has its check of the token and its
// effect in one fn; exclusive locks keep it easy to see that none is under way when
// a promotion raises the token.
func (s *site) exclusive(ctx context.Context, fn func(st siteState) error) (err error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return fmt.Errorf("site %s: %w", s.id, ctx.Err())
	}
	l, err := waitLock(ctx, s.file("lock"))
	if err != nil {
		return fmt.Errorf("site %s: %w", s.id, err)
	}
	defer func() { err = errors.Join(err, l.unlock()) }()
	st, err := s.state()
	if err != nil {
		return err
	}
	if err := driverhost.Allowed(ctx); err != nil {
		return fmt.Errorf("site %s: %w", s.id, err)
	}
	return fn(st)
}

// prepareSites makes new sites out of directories. Sites of a backend that was
// in use before are never made anew: an empty directory where a site should be
// is one whose storage is gone. Only a backend without any site gets missing
// directories made, and only its primary starts as the site in use.
func prepareSites(ctx context.Context, sites map[string]*site, ids []string) error {
	known := slices.ContainsFunc(ids, func(id string) bool {
		_, err := sites[id].state()
		return err == nil
	})
	if !known {
		for _, id := range ids {
			if err := os.MkdirAll(sites[id].dir, 0o700); err != nil {
				return fmt.Errorf("new backend: site %s: %w", id, err)
			}
		}
	}
	// The primary first: once another site is prepared it is too late for it.
	if err := sites[Primary].prepare(ctx, sites); err != nil && !known {
		return fmt.Errorf("new backend: site %s: %w", Primary, err)
	}
	for _, id := range ids {
		if err := sites[id].prepare(ctx, sites); err != nil && !known {
			return fmt.Errorf("new backend: site %s: %w", id, err)
		}
	}
	return nil
}

// prepare makes a site of an existing directory that is none yet.
func (s *site) prepare(ctx context.Context, sites map[string]*site) (err error) {
	if _, err := s.state(); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Stat(s.dir); err != nil {
		return err
	}
	f, err := os.OpenFile(s.file("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	l, err := waitLock(ctx, s.file("lock"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.unlock()) }()
	if _, err := s.state(); !errors.Is(err, fs.ErrNotExist) {
		return err // another process was faster
	}
	role := roleSecondary
	if s.id == Primary && s.alone(sites) {
		role = roleActive
	}
	return s.begin(role)
}

// begin makes a site of a directory, under its lock.
func (s *site) begin(r role) error {
	if err := s.makeDirs(); err != nil {
		return err
	}
	return s.writeState(siteState{ID: rand.Text(), Role: r})
}

// alone reports whether no other site of the backend exists.
func (s *site) alone(sites map[string]*site) bool {
	return !slices.ContainsFunc(s.peers, func(id string) bool {
		_, err := sites[id].state()
		return err == nil
	})
}

func (s *site) makeDirs() error {
	for _, dir := range []string{"volumes", "snapshots", "meta", "replicas", "maps", "staging", importDir} {
		if err := os.MkdirAll(s.file(dir), 0o700); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(s.file("replication"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return closeSynced(f, nil)
}

// setMode sets the mode of all volumes in place, replicated or not.
func (s *site) setMode(mode fs.FileMode) error {
	names, err := listNames(s.file("volumes"), isName)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := os.Chmod(s.file("volumes", name), mode); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return syncDir(s.file("volumes"))
}

const (
	modeWritable fs.FileMode = 0o600
	modeReadOnly fs.FileMode = 0o400
)
