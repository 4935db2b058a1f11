package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/lockstep-storage/lockstep/driverhost"
)

// open turns the replicas of the target into its volumes, under its lock. It can
// be repeated after a crash at any point: a volume is either still a replica or
// already in place, and one in place is not touched.
func (p *promotion) open(ctx context.Context) (driverhost.FailoverResult, error) {
	var res driverhost.FailoverResult
	err := p.target.exclusive(ctx, func(st siteState) error {
		e := p.entry(PhaseEnd)
		if st.Token != p.req.Token {
			return p.end(e, p.fenced(st))
		}
		err := p.moveAll(ctx, st, &e, &res)
		return p.end(e, err)
	})
	return res, err
}

func (p *promotion) moveAll(ctx context.Context, st siteState, e *JournalEntry, res *driverhost.FailoverResult) error {
	s := p.target
	if st.Role != roleActive {
		st.Role, st.Reserved, st.Follows, st.Opened = roleOpening, false, st.Token, st.Token
		if err := s.writeState(st); err != nil {
			return err
		}
	}
	for _, v := range p.req.Volumes {
		if err := driverhost.Allowed(ctx); err != nil {
			return err
		}
		moved, err := s.promoteVolume(ctx, v)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if moved {
			e.Promoted++
		}
		r := driverhost.VolumeResult{VolumeID: v.ID}
		if err != nil {
			r.Failed, r.Error = true, err.Error()
			e.Failed++
		} else {
			r.VolumeUpdate = s.update(v)
		}
		res.Volumes = append(res.Volumes, r)
	}
	if err := p.moveSnapshots(ctx); err != nil {
		return err
	}
	return s.finishOpening(st)
}

// promoteVolume makes one replica a volume and reports whether it had to be
// moved. The volume is at least as large as recorded: an extension that was not
// replicated yet is made up for.
func (s *site) promoteVolume(ctx context.Context, v driverhost.Volume) (moved bool, err error) {
	name := volumePrefix + v.ID
	moved, err = s.promoteName(ctx, name)
	if err != nil {
		return moved, err
	}
	fi, err := os.Lstat(s.place(name))
	if err != nil || fi.Size() >= v.SizeGiB*gib {
		return moved, err
	}
	if err := os.Chmod(s.place(name), modeWritable); err != nil {
		return moved, err
	}
	return moved, growFile(s.place(name), v.SizeGiB*gib)
}

// promoteName moves a replica into place unless something is there.
func (s *site) promoteName(ctx context.Context, name string) (moved bool, err error) {
	if placed, err := exists(s.place(name)); err != nil || placed {
		return false, err
	}
	if err := s.redo(ctx, name); err != nil {
		return false, err
	}
	err = os.Rename(s.replica(name), s.place(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("%s has no complete replica at %s", name, s.id)
	}
	return err == nil, err
}

// moveSnapshots promotes the replicas of the volumes' snapshots. One that did not
// get here whole is no reason to fail the promotion.
func (p *promotion) moveSnapshots(ctx context.Context) error {
	names, err := listNames(p.target.file("replicas"), func(name string) bool {
		return isName(name) && strings.HasPrefix(name, snapshotPrefix)
	})
	if err != nil || len(names) == 0 {
		return err
	}
	wanted := make(map[string]bool, len(p.req.Volumes))
	for _, v := range p.req.Volumes {
		wanted[v.ID] = true
	}
	for _, name := range names {
		if err := driverhost.Allowed(ctx); err != nil {
			return err
		}
		m, err := p.target.readSidecar(name)
		if err == nil && !wanted[m.Volume] {
			continue
		}
		if err == nil {
			_, err = p.target.promoteName(ctx, name)
		}
		if err != nil {
			p.d.log.Warn("snapshot not promoted", "failover", p.req.ID, "snapshot", name, "error", err)
		}
	}
	return nil
}

// finishOpening makes the moves durable, then the site the one in use. Deltas
// that were applied must not come back after a loss of power.
func (s *site) finishOpening(st siteState) error {
	if err := syncDir(s.file("staging"), s.file("replicas"), s.file("snapshots")); err != nil {
		return err
	}
	if err := s.setMode(modeWritable); err != nil { // syncs volumes/
		return err
	}
	// What the site once was in step with is of no account any more.
	if err := remove(s.file("synced")); err != nil {
		return err
	}
	st.Role, st.Follows, st.Opened = roleActive, st.Token, st.Token
	return s.writeState(st)
}
