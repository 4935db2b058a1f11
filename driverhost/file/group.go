package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/lockstep-storage/lockstep/driverhost"
)

// groupsDir is where a site has the sites of replication groups.
const groupsDir = "groups"

// MovesGroups implements [driverhost.GroupMover].
func (d *Driver) MovesGroups() bool { return true }

// sitesOf returns the sites of a replication group, each a directory in a site of the
// backend and like it in everything: with a token, a lock, a role and a journal of its
// own. Without a group it returns those of the backend.
func (d *Driver) sitesOf(group string) (map[string]*site, error) {
	if group == "" {
		return d.sites, nil
	}
	if err := checkID("group", group); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	sites, ok := d.groups[group]
	if !ok {
		sites = newSitesIn(d.cfg, groupsDir+"/"+group)
		d.groups[group] = sites
	}
	return sites, nil
}

// siteFor returns the site that calls about a volume go to: the one in use, or that of
// its group.
func (d *Driver) siteFor(v driverhost.Volume) (*site, error) {
	if v.Group == "" {
		return d.current(), nil
	}
	sites, err := d.sitesOf(v.Group)
	if err != nil {
		return nil, err
	}
	s, ok := sites[v.Site]
	if !ok {
		return nil, fmt.Errorf("site %q of volume %s is none of %q", v.Site, v.ID, d.cfg.siteIDs())
	}
	return s, nil
}

// onVolume makes one mutating call at the site of a volume.
func (d *Driver) onVolume(ctx context.Context, v driverhost.Volume, token driverhost.Token, e JournalEntry, effect func(s *site) error) error {
	s, err := d.siteFor(v)
	if err != nil {
		return err
	}
	return d.callAt(ctx, s, token, e, effect)
}

// siteToCreate returns the site that a new volume is made at. The first volume of a
// group makes the group's site there, the one in use: that the group is there is what
// the caller knows from a state that is no older than its token, and a caller whose
// token the backend's site has seen a greater one than is refused.
func (d *Driver) siteToCreate(ctx context.Context, v driverhost.Volume, token driverhost.Token) (*site, error) {
	s, err := d.siteFor(v)
	if err != nil || v.Group == "" {
		return s, err
	}
	if _, err := s.state(); !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	return s, d.beginGroup(ctx, s, token, roleActive)
}

// beginGroup makes a site of a group, unless it is there.
func (d *Driver) beginGroup(ctx context.Context, s *site, token driverhost.Token, r role) error {
	return d.sites[s.id].exclusive(ctx, func(st siteState) error {
		if token.Less(st.Token) {
			return fmt.Errorf("site %s: %w", s.id, driverhost.ErrFenced)
		}
		if _, err := s.state(); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.MkdirAll(s.dir, 0o700); err != nil {
			return err
		}
		f, err := os.OpenFile(s.file("lock"), os.O_RDWR|os.O_CREATE, 0o600)
		if err := closeCreated(f, err); err != nil {
			return err
		}
		return s.begin(r)
	})
}

// knownGroups lists the groups that have a site at any site of the backend.
func (d *Driver) knownGroups() []string {
	known := map[string]bool{}
	for _, s := range d.sites {
		entries, err := os.ReadDir(s.file(groupsDir))
		if err != nil {
			continue // it cannot be reached, or has none
		}
		for _, e := range entries {
			if validID(e.Name()) {
				known[e.Name()] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(known))
}

// replicateGroups brings the sites that groups have at dst up to date, each from where
// the group is in use: at the one of its sites that was opened last.
func (d *Driver) replicateGroups(ctx context.Context, dst *site, memories map[string]*memory) error {
	var errs []error
	for _, group := range d.knownGroups() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		m, ok := memories[group]
		if !ok {
			m = newMemory()
			memories[group] = m
		}
		if err := d.replicateGroup(ctx, group, dst.id, m); err != nil {
			errs = append(errs, fmt.Errorf("group %s: %w", group, err))
		}
	}
	return errors.Join(errs...)
}

func (d *Driver) replicateGroup(ctx context.Context, group, target string, m *memory) error {
	sites, err := d.sitesOf(group)
	if err != nil {
		return err
	}
	var src *site
	var from siteState
	for _, id := range d.cfg.siteIDs() {
		st, err := sites[id].state()
		if err == nil && st.Role == roleActive && (src == nil || from.Token.Less(st.Token)) {
			src, from = sites[id], st
		}
	}
	dst := sites[target]
	if src == nil || src == dst {
		return nil
	}
	if _, err := dst.state(); errors.Is(err, fs.ErrNotExist) {
		parent, err := d.sites[target].state()
		if err != nil {
			return err
		}
		if err := d.beginGroup(ctx, dst, parent.Token, roleSecondary); err != nil {
			return err
		}
	}
	return d.replicateFrom(ctx, src, dst, m, sites)
}
