package file

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/lockstep-storage/lockstep/driverhost"
)

// faults is what this driver last met at each target; empty if all is well.
type faults struct {
	mu   sync.Mutex
	text map[string]string
}

func newFaults() *faults { return &faults{text: make(map[string]string)} }

// set notes how a round ended and reports whether that is news.
func (f *faults) set(target string, err error) bool {
	text := ""
	if err != nil {
		text = err.Error()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	news := f.text[target] != text
	f.text[target] = text
	return news
}

func (f *faults) get(target string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text[target]
}

// A memory is what one driver knows of one pair from its last rounds. It holds
// as long as source, target and token are the same.
type memory struct {
	from, to string // random ids of the directories
	at       driverhost.Token
	seen     map[string]stamp // of sources whose replica is equal
	known    map[string]bool  // whether a name is replicated
	retyped  string           // what the source's note on retypes held when that was learnt
}

func newMemory() *memory {
	return &memory{seen: make(map[string]stamp), known: make(map[string]bool)}
}

// replicateTo brings dst up to date, again and again, whenever another site is
// in use. All members do; the replication lock lets one at a time.
func (d *Driver) replicateTo(ctx context.Context, dst *site) {
	log := d.log.With("site", dst.id)
	m, ofGroups := newMemory(), map[string]*memory{}
	for {
		started := time.Now()
		err := errors.Join(d.replicateOnce(ctx, dst, m), d.replicateGroups(ctx, dst, ofGroups))
		if ctx.Err() != nil {
			return
		}
		if news := d.faults.set(dst.id, err); news && err != nil {
			log.Warn("replication", "error", err)
		} else if news {
			log.Info("replication works again")
		}
		if sleep(ctx, d.cfg.ReplicationInterval-time.Since(started)) != nil {
			return
		}
	}
}

func (d *Driver) replicateOnce(ctx context.Context, dst *site, m *memory) error {
	src := d.current()
	if src == dst {
		return nil
	}
	return d.replicateFrom(ctx, src, dst, m, d.sites)
}

// replicateFrom makes one round from src to dst, which are of sites, unless another
// member has made one a moment ago.
func (d *Driver) replicateFrom(ctx context.Context, src, dst *site, m *memory, sites map[string]*site) error {
	from, to, err := d.look(ctx, src, dst, sites)
	if err != nil {
		return err
	}
	if from.Role != roleActive || dst.fresh(src, from, d.cfg.ReplicationInterval) {
		return nil
	}
	l, err := tryLock(dst.file("replication"))
	if errors.Is(err, errLocked) {
		return nil // another member is at it
	}
	if err != nil {
		return err
	}
	if !dst.fresh(src, from, d.cfg.ReplicationInterval) {
		m.recall(from, to)
		err = d.pair(src, dst, from.Token, m).round(ctx)
	}
	return errors.Join(err, l.unlock())
}

// look reads the state of both sites, prepares a target that is new, and fences
// the one that was left behind by a failover while it could not be reached.
func (d *Driver) look(ctx context.Context, src, dst *site, sites map[string]*site) (from, to siteState, err error) {
	if from, err = src.state(); err != nil {
		return from, to, err
	}
	if err = dst.prepare(ctx, sites); err != nil {
		return from, to, err
	}
	if to, err = dst.state(); err != nil {
		return from, to, err
	}
	switch {
	case to.staleTo(from):
		err = d.fenceStale(ctx, dst, from)
	case from.staleTo(to):
		err = d.fenceStale(ctx, src, to)
	default:
		return from, to, nil
	}
	if err == nil {
		from, err = src.state()
	}
	return from, to, err
}

// staleTo reports whether the other site was promoted after this one.
func (st siteState) staleTo(other siteState) bool {
	if !st.opened() || other.Role != roleActive {
		return false
	}
	return st.Token.Less(other.Token) || st.Role == roleOpening && st.Token == other.Token
}

// fenceStale fences a site that is still stale once its lock is held.
func (d *Driver) fenceStale(ctx context.Context, s *site, later siteState) error {
	return s.exclusive(ctx, func(st siteState) error {
		if !st.staleTo(later) {
			return nil
		}
		return d.fenceLocked(s, st, d.entry(CallFence, later.Token), later.Token)
	})
}

// fresh reports whether some member made a round less than an interval ago.
func (s *site) fresh(src *site, from siteState, interval time.Duration) bool {
	r, err := s.lastSync()
	if err != nil || r.Source != src.id || r.Token != from.Token {
		return false
	}
	age := time.Since(r.Tried)
	return age >= 0 && age < interval*9/10
}

func (d *Driver) pair(src, dst *site, token driverhost.Token, m *memory) *pair {
	return &pair{src: src, dst: dst, token: token, blockSize: d.cfg.BlockSize, log: d.log, memory: m}
}

// recall forgets what is not about this pair in its present state.
func (m *memory) recall(from, to siteState) {
	if m.from != from.ID || m.to != to.ID || m.at != from.Token {
		*m = *newMemory()
		m.from, m.to, m.at = from.ID, to.ID, from.Token
	}
}
