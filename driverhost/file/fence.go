package file

import (
	"context"
	"errors"
	"fmt"

	"github.com/lockstep-storage/lockstep/driverhost"
)

// fence raises the token of a site and, if it is in use, makes it refuse writes.
// It returns the state before.
func (d *Driver) fence(ctx context.Context, s *site, e JournalEntry, token driverhost.Token) (was siteState, err error) {
	err = s.exclusive(ctx, func(st siteState) error {
		was = st
		return d.fenceLocked(s, st, e, token)
	})
	return was, err
}

func (d *Driver) fenceLocked(s *site, st siteState, e JournalEntry, token driverhost.Token) error {
	err := s.demote(st, token)
	e.Outcome = outcome(err)
	return errors.Join(err, s.record(e))
}

// demote raises the token first: from then on every call of an older one is
// refused, whatever becomes of the files.
func (s *site) demote(st siteState, token driverhost.Token) error {
	if token.Less(st.Token) {
		return fmt.Errorf("site %s has seen epoch %d claim %d: %w", s.id, st.Token.Epoch, st.Token.Claim, driverhost.ErrFenced)
	}
	st.Token, st.Reserved = token, false
	if st.opened() {
		st.Role = roleDemoted
	}
	if st.Role == roleDemoted {
		st.Follows = token
	}
	if err := s.writeState(st); err != nil {
		return err
	}
	if st.Role != roleDemoted {
		return nil
	}
	return s.setMode(modeReadOnly)
}

// Demote closes the site in use for writes and for calls below the token, and
// copies to the target what it lacks. With a target that cannot be reached it
// does not begin.
func (d *Driver) Demote(ctx context.Context, req driverhost.DemoteRequest) error {
	for _, id := range []string{req.From, req.Target} {
		if err := d.checkSite(id); err != nil {
			return fmt.Errorf("demote: %w", err)
		}
	}
	parts, err := d.parts(driverhost.FailoverRequest{
		Token: req.Token, ID: req.ID, From: req.From, Target: req.Target, Volumes: req.Volumes, Group: req.Group, Groups: req.Groups,
	})
	if err != nil {
		return fmt.Errorf("demote: %w", err)
	}
	for _, p := range parts {
		if p.from == nil { // it is at the target
			continue
		}
		if err := p.prepareTarget(ctx); p.group != "" && err != nil {
			d.log.Debug("no site for the group at the target", "group", p.group, "error", err) // the demotion says what comes of it
		}
		if err := d.demote(ctx, req, p.from, p.target); err != nil {
			return fmt.Errorf("demote %s: %w", p.from.id, err)
		}
	}
	return nil
}

func (d *Driver) demote(ctx context.Context, req driverhost.DemoteRequest, from, target *site) error {
	to, unreachable := target.state()
	e := d.entry(CallDemote, req.Token)
	e.Failover = req.ID
	var was siteState
	err := from.exclusive(ctx, func(st siteState) error {
		was = st
		again := st.Role == roleDemoted && st.Failover == req.ID
		switch {
		case st.Role != roleActive && st.Role != roleDemoted:
			return fmt.Errorf("site %s is %s, not in use", from.id, st.Role)
		case unreachable != nil && again: // and may have promoted the target
			return fmt.Errorf("%w: %w", driverhost.ErrTargetUnreachable, unreachable)
		case unreachable != nil:
			return unreachable
		}
		st.Failover = req.ID
		return d.fenceLocked(from, st, e, req.Token)
	})
	if err != nil {
		return err
	}
	if to.opened() && to.Failover == req.ID {
		return nil // an earlier attempt got further
	}
	if err := d.fenceReopened(ctx, target, was, req.Token); err != nil {
		return err
	}
	return d.lastRound(ctx, from, target, req.Token)
}

// fenceReopened fences a target whose promotion was given up: its old site was
// opened again, under a later token.
func (d *Driver) fenceReopened(ctx context.Context, target *site, old siteState, token driverhost.Token) error {
	return target.exclusive(ctx, func(st siteState) error {
		if !st.staleTo(old) {
			return nil
		}
		return d.fenceLocked(target, st, d.entry(CallFence, token), token)
	})
}

// lastRound copies all that the target lacks. It waits for a round under way.
func (d *Driver) lastRound(ctx context.Context, from, target *site, token driverhost.Token) error {
	l, err := waitLock(ctx, target.file("replication"))
	if err != nil {
		return err
	}
	return errors.Join(d.pair(from, target, token, newMemory()).round(ctx), l.unlock())
}
