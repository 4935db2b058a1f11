package file

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/lockstep-storage/lockstep/driverhost"
)

// A pair is one round of replication from a source to a target, made by the one
// process that holds the target's replication lock.
type pair struct {
	src, dst  *site
	token     driverhost.Token // that the source acts under
	blockSize int64
	log       hclog.Logger

	srcID   string              // of the source's directory
	present map[string]struct{} // replicas at the target, complete ones
	copied  int64               // bytes of data

	*memory
}

// A syncRecord is what a target remembers of its last rounds, so that every
// member can report it.
type syncRecord struct {
	Source   string           `json:"source"` // backend id
	Token    driverhost.Token `json:"token"`  // of the source
	Started  time.Time        `json:"started"`
	Finished time.Time        `json:"finished"`
	Copied   int64            `json:"copied_bytes"` // by the last complete round
	Total    int64            `json:"total_bytes"`  // by all complete rounds
	Tried    time.Time        `json:"tried"`        // start of the last round, complete or not
	Error    string           `json:"error,omitempty"`
}

func decodeSyncRecord(data []byte) (syncRecord, error) {
	var r syncRecord
	if err := json.Unmarshal(data, &r); err != nil {
		return syncRecord{}, fmt.Errorf("damaged: %w", err)
	}
	return r, nil
}

// lastSync reads the record; zero if there was no round yet.
func (s *site) lastSync() (syncRecord, error) {
	data, err := os.ReadFile(s.file("synced"))
	if errors.Is(err, fs.ErrNotExist) {
		return syncRecord{}, nil
	}
	if err != nil {
		return syncRecord{}, err
	}
	return decodeSyncRecord(data)
}

// round makes every replica at the target equal to its source, and says so at
// the target if all of it succeeded. The caller holds the replication lock.
func (p *pair) round(ctx context.Context) error {
	started := time.Now()
	if err := p.prepare(ctx); err != nil {
		return err
	}
	err := p.copyAll(ctx)
	if err == nil {
		err = p.sourceHolds()
	}
	return errors.Join(err, p.finish(ctx, started, err))
}

// prepare makes the target a secondary of the source and ends what a crash of
// an earlier round left half-done.
func (p *pair) prepare(ctx context.Context) error {
	src, err := p.src.state()
	if err != nil {
		return err
	}
	p.srcID = src.ID
	if err := p.onTarget(ctx, func(st siteState) error { return p.follow(ctx, src, st) }); err != nil {
		return err
	}
	return p.deleteNoted(ctx)
}

// follow makes the target, which is in the state st, a secondary of the source.
func (p *pair) follow(ctx context.Context, src, st siteState) error {
	if src.Opened.Less(st.Opened) {
		return fmt.Errorf("source %s was in use until epoch %d, before %s was from epoch %d: %w",
			p.src.id, src.Opened.Epoch, p.dst.id, st.Opened.Epoch, driverhost.ErrFenced)
	}
	was := st
	if st.Role == roleDemoted {
		if err := p.dst.adopt(); err != nil {
			return err
		}
		st.Role = roleSecondary
	}
	if st.Follows.Less(p.token) {
		st.Follows = p.token
	}
	if st != was {
		if err := p.dst.writeState(st); err != nil {
			return err
		}
	}
	return p.clearStaging(ctx)
}

// onTarget has an effect at the target, under its lock, unless the target has
// been promoted or follows a later source.
func (p *pair) onTarget(ctx context.Context, fn func(st siteState) error) error {
	return p.dst.exclusive(ctx, func(st siteState) error {
		if err := st.admitReplica(p.dst.id, p.token); err != nil {
			return err
		}
		return fn(st)
	})
}

// sourceHolds refuses to go on as soon as the source has seen a greater token
// than the one this round acts under.
func (p *pair) sourceHolds() error {
	st, err := p.src.state()
	if err != nil {
		return err
	}
	if p.token.Less(st.Token) || st.ID != p.srcID {
		return fmt.Errorf("source %s has seen epoch %d claim %d meanwhile: %w",
			p.src.id, st.Token.Epoch, st.Token.Claim, driverhost.ErrFenced)
	}
	return nil
}

// copyAll brings all replicas up to date. An error with one does not keep the
// others from it.
func (p *pair) copyAll(ctx context.Context) error {
	if err := p.recallRetypes(); err != nil {
		return err
	}
	names, damaged := p.src.replicated(p.known)
	present, err := listNames(p.dst.file("replicas"), isName)
	if err != nil {
		return err
	}
	p.present = make(map[string]struct{}, len(present))
	for _, name := range present {
		p.present[name] = struct{}{}
	}
	const most = 3 // errors that are worth reporting
	errs := []error{damaged}
	for _, name := range names {
		err := p.sync(ctx, name)
		if errors.Is(err, driverhost.ErrFenced) || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if err != nil && len(errs) <= most {
			errs = append(errs, fmt.Errorf("replicate %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// finish notes at the target how the round ended.
func (p *pair) finish(ctx context.Context, started time.Time, failed error) error {
	return p.onTarget(ctx, func(siteState) error {
		r, err := p.dst.lastSync()
		if err != nil {
			r = syncRecord{}
		}
		r.Source, r.Token, r.Tried, r.Error = p.src.id, p.token, started, ""
		if failed != nil {
			r.Error = outcome(failed)
		} else {
			r.Started, r.Finished, r.Copied, r.Total = started, time.Now(), p.copied, r.Total+p.copied
		}
		data, err := json.Marshal(r)
		if err != nil {
			return err
		}
		return replaceFile(p.dst.file("synced"), append(data, '\n'))
	})
}

// recallRetypes forgets which names are replicated when that may have changed.
func (p *pair) recallRetypes() error {
	note, err := p.src.retypes()
	if err != nil {
		return err
	}
	if note != p.retyped {
		p.known, p.retyped = make(map[string]bool), note
	}
	return nil
}

// replicated lists the volumes and snapshots of a site that are to be
// replicated, and says which sidecar it could not read, if any. Known spares
// reading them again as long as none of them changes.
func (s *site) replicated(known map[string]bool) (list []string, damaged error) {
	names, err := listNames(s.file("meta"), isName)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		wanted, ok := known[name]
		if !ok {
			m, err := s.readSidecar(name)
			if errors.Is(err, fs.ErrNotExist) {
				continue // deleted meanwhile
			}
			if err != nil {
				damaged = fmt.Errorf("site %s: %s: %w", s.id, name, err)
				continue
			}
			wanted = m.Replicated
			known[name] = wanted
		}
		if wanted {
			list = append(list, name)
		}
	}
	return list, damaged
}

// adopt turns the volumes of a demoted site into replicas. Their maps and deltas
// are of an earlier time, and go first; those of other replicas stay.
func (s *site) adopt() error {
	names, err := s.replicated(make(map[string]bool))
	if err != nil {
		return err
	}
	var placed []string
	for _, name := range names {
		here, err := exists(s.place(name))
		if err != nil {
			return err
		}
		if !here {
			continue
		}
		if err := remove(s.blockMap(name), s.delta(name)); err != nil {
			return err
		}
		placed = append(placed, name)
	}
	if err := syncDir(s.file("maps"), s.file("staging")); err != nil {
		return err
	}
	for _, name := range placed {
		if err := os.Rename(s.place(name), s.replica(name)); err != nil {
			return err
		}
	}
	return syncDir(s.file("volumes"), s.file("snapshots"), s.file("replicas"))
}

// clearStaging drops copies that were not committed and applies deltas that
// were. A damaged delta may have been applied in part: its replica is of no use
// and is copied anew.
func (p *pair) clearStaging(ctx context.Context) error {
	names, err := listNames(p.dst.file("staging"), func(string) bool { return true })
	if err != nil {
		return err
	}
	for _, file := range names {
		name, ok := strings.CutSuffix(file, ".delta")
		if !ok || !isName(name) {
			err = remove(p.dst.file("staging", file))
		} else if err = p.dst.redo(ctx, name); errors.Is(err, errDelta) {
			p.log.Error("replica is copied anew", "site", p.dst.id, "replica", name, "error", err)
			err = remove(p.dst.blockMap(name), p.dst.replica(name), p.dst.delta(name))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// deleteNoted deletes the replicas whose volumes were deleted. The notes are read
// under the source's lock: a note without it may be of a deletion under way,
// whose volume would be copied again after its note is gone.
func (p *pair) deleteNoted(ctx context.Context) error {
	dir := p.src.file("deleted", p.dst.id)
	var names []string
	err := p.src.exclusive(ctx, func(siteState) (err error) {
		names, err = listNames(dir, isName)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // nothing was ever deleted
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := p.onTarget(ctx, func(siteState) error { return p.dst.drop(name) }); err != nil {
			return err
		}
		delete(p.seen, name)
		delete(p.known, name)
		if err := remove(p.src.file("deleted", p.dst.id, name)); err != nil {
			return err
		}
	}
	return nil
}
