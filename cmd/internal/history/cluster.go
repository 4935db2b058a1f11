package history

import "github.com/lockstep-storage/lockstep/fsm"

// failover is one failover. The zero value was not asked for.
type failover struct {
	phase   fsm.Phase
	claimed bool // an executor has begun
}

func (f failover) next() []state {
	switch f.phase {
	case fsm.Draining:
		return []state{failover{phase: fsm.Promoting}, failover{phase: fsm.Failed}}
	case fsm.Promoting:
		if !f.claimed {
			return []state{failover{fsm.Promoting, true}, failover{phase: fsm.Failed}}
		}
		return []state{failover{fsm.Switching, true}, failover{fsm.Failed, true}}
	case fsm.Switching:
		return []state{failover{fsm.Done, true}}
	case fsm.Done, fsm.Failed, fsm.Aborted:
	}
	return nil
}

func (f failover) accept(r Request, a Answer) (state, bool) {
	switch r.Kind {
	case RequestFailover:
		// One to the site that is active is done at once. Which it was, the first
		// read will tell.
		return failover{phase: fsm.Draining}, f.phase == "" && (a.Phase == "" || a.Phase == fsm.Draining)
	case AbortFailover:
		if f.phase == fsm.Aborted {
			return f, true
		}
		return failover{phase: fsm.Aborted}, f.phase == fsm.Draining || f.phase == fsm.Promoting && !f.claimed
	case ReadFailover:
		return f, f.phase != "" && f.phase == a.Phase
	case CreateVolume, DeleteVolume, ExtendVolume, ReadVolume, CreateSnapshot, DeleteSnapshot, ReadSnapshot, SetFrozen, ReadCluster:
	}
	return f, false
}

func (f failover) refuse(r Request, code fsm.Code) bool {
	switch {
	case r.Kind == RequestFailover:
		return f.phase == ""
	case code == fsm.ErrNotFound:
		return f.phase == ""
	case r.Kind == AbortFailover:
		return f.claimed || f.phase == fsm.Done || f.phase == fsm.Failed || f.phase == fsm.Switching
	}
	return false
}

// cluster is a cluster, with its latest failover that was to change something.
type cluster struct {
	epoch    uint64
	active   string
	frozen   bool
	held     bool // nobody knows which site is promoted
	failover string
	target   string
	phase    fsm.Phase // of the failover
}

func (c cluster) failing() bool { return c.phase == fsm.Draining || c.phase == fsm.Promoting }

func (c cluster) next() []state {
	at := func(phase fsm.Phase) cluster {
		c := c
		c.phase = phase
		return c
	}
	switch c.phase {
	case fsm.Draining:
		return []state{at(fsm.Promoting), at(fsm.Failed)}
	case fsm.Promoting:
		switched := at(fsm.Switching)
		switched.epoch, switched.active, switched.held = c.epoch+1, c.target, false
		failed := at(fsm.Failed)
		held, reopened, both := failed, failed, failed
		held.held, both.held = true, true
		reopened.epoch, both.epoch = c.epoch+1, c.epoch+1
		return []state{switched, failed, held, reopened, both}
	case fsm.Switching:
		return []state{at(fsm.Done)}
	case fsm.Done, fsm.Failed, fsm.Aborted:
	}
	return nil
}

func (c cluster) accept(r Request, a Answer) (state, bool) {
	switch r.Kind {
	case RequestFailover:
		if c.failing() || c.phase == fsm.Switching {
			return c, false
		}
		if r.Target == c.active && !c.held {
			return c, true // done at once
		}
		c.failover, c.target, c.phase = r.ID, r.Target, fsm.Draining
		return c, true
	case AbortFailover:
		if r.ID != c.failover || c.phase == fsm.Aborted {
			return c, true // one that was aborted before
		}
		ok := c.failing()
		c.phase = fsm.Aborted
		return c, ok
	case SetFrozen:
		c.frozen = r.Frozen
		return c, true
	case ReadCluster:
		return c, c.seenAs(a)
	case CreateVolume, DeleteVolume, ExtendVolume, ReadVolume, CreateSnapshot, DeleteSnapshot, ReadSnapshot, ReadFailover:
	}
	return c, false
}

func (c cluster) seenAs(a Answer) bool {
	switch {
	case a.Epoch != 0 && a.Epoch != c.epoch, a.Active != "" && a.Active != c.active,
		a.Frozen != nil && *a.Frozen != c.frozen, a.Failover != "" && a.Failover != c.failover,
		a.Phase != "" && a.Phase != c.phase:
		return false
	case a.Status == "":
		return true
	}
	return c.failing() == (fsm.ReplicationStatus(a.Status) == fsm.ReplicationFailingOver)
}

func (c cluster) refuse(r Request, code fsm.Code) bool {
	if r.Kind == RequestFailover && code == fsm.ErrFailingOver {
		return c.failing() || c.phase == fsm.Switching
	}
	return r.Kind != ReadCluster
}
