package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/lockstep-storage/lockstep/driverhost"
)

// Failover makes req.Target the site in use. The steps:
//
//  1. Raise the token at the target; from now on a promotion with a lower one
//     is refused there, and so are replicas from a source with a lower one.
//  2. Planned: close the old site and copy all that the target lacks, or undo
//     step 1 and refuse. Forced: fence the old site and try a last copy, if
//     that is possible within Config.LastSyncTimeout.
//  3. Under the target's lock: turn replicas into volumes.
//
// Step 3 is the point of no return. A repeated call that finds it begun copies
// nothing, since the volumes may have been written to, and only completes it.
// With the target equal to the site in use, step 3 opens it again after a
// Demote.
//
// Replication groups are sites of their own, and go through every step with the
// backend: all of them have passed step 2, or none goes on to step 3.
func (d *Driver) Failover(ctx context.Context, req driverhost.FailoverRequest) (driverhost.FailoverResult, error) {
	var res driverhost.FailoverResult
	parts, err := d.parts(req)
	if err == nil {
		err = parts.promote(ctx, d.cfg.PromoteDelay, &res)
	}
	if err != nil {
		return driverhost.FailoverResult{}, fmt.Errorf("fail over to %s: %w", req.Target, err)
	}
	return res, nil
}

// A promotion is one call of Failover, about the backend or a group.
type promotion struct {
	d      *Driver
	req    driverhost.FailoverRequest
	group  string
	sites  map[string]*site
	target *site
	from   *site // nil if it is not one of the sites, or is the target

	begun    bool             // an earlier call has passed the point of no return
	closed   bool             // this call, and no Demote, has closed from
	followed driverhost.Token // what bounded replication to the target before
}

// promotions are what one call of Failover is about.
type promotions []*promotion

// parts splits a request: the backend, and each group that has volumes or was ever
// in use.
func (d *Driver) parts(req driverhost.FailoverRequest) (promotions, error) {
	volumes := map[string][]driverhost.Volume{}
	for _, v := range req.Volumes {
		volumes[v.Group] = append(volumes[v.Group], v)
	}
	moves := req.Groups
	if req.Group == "" {
		moves = append([]driverhost.GroupMove{{From: req.From, Target: req.Target}}, moves...)
	}
	var all promotions
	for _, m := range moves {
		part := req
		part.From, part.Target, part.Volumes = m.From, m.Target, volumes[m.ID]
		p := &promotion{d: d, req: part, group: m.ID}
		if err := p.resolve(); err != nil {
			return nil, err
		}
		if m.ID == "" || len(part.Volumes) > 0 || p.known() {
			all = append(all, p)
		}
	}
	return all, nil
}

// known reports whether the group has been in use at either site.
func (p *promotion) known() bool {
	for _, id := range []string{p.req.From, p.req.Target} {
		if s, ok := p.sites[id]; ok {
			if _, err := s.state(); err == nil {
				return true
			}
		}
	}
	return false
}

func (all promotions) promote(ctx context.Context, delay time.Duration, res *driverhost.FailoverResult) error {
	for _, p := range all {
		if err := p.begin(ctx); err != nil {
			return err
		}
	}
	if err := sleep(ctx, delay); err != nil {
		return err
	}
	for _, p := range all {
		if err := p.secure(ctx); err != nil {
			return all.giveUp(ctx, p, err)
		}
	}
	for _, p := range all {
		done, err := p.open(ctx)
		if err != nil {
			return err
		}
		res.Volumes = append(res.Volumes, done.Volumes...)
	}
	return nil
}

// secure gets the last data across.
func (p *promotion) secure(ctx context.Context) error {
	if p.req.Planned && p.from != nil && !p.begun {
		return p.handOver(ctx)
	}
	return p.salvage(ctx)
}

// giveUp ends a promotion of which one part refuses. It has undone itself; that nothing
// is promoted can be said only when all others have been undone as well.
func (all promotions) giveUp(ctx context.Context, refusing *promotion, err error) error {
	if !errors.Is(err, driverhost.ErrUnableToFailOver) {
		return err
	}
	for _, p := range all {
		if p == refusing || p.from == nil { // it is at the target anyway
			continue
		}
		undo := errors.New("a part of it is promoted already")
		if !p.begun {
			undo = p.undo(ctx)
		}
		if undo != nil { // in words only: the refusal is no longer the last word
			return fmt.Errorf("outcome unknown: %s", errors.Join(err, undo).Error())
		}
	}
	return err
}

func (p *promotion) resolve() (err error) {
	if p.sites, err = p.d.sitesOf(p.group); err != nil {
		return fmt.Errorf("%w: %w", err, driverhost.ErrUnableToFailOver)
	}
	if err = p.d.checkSite(p.req.Target); err != nil {
		return err
	}
	p.target = p.sites[p.req.Target]
	if p.req.From != p.req.Target {
		p.from = p.sites[p.req.From]
		if p.from == nil && p.req.Planned {
			return fmt.Errorf("from %q is none of %q: %w", p.req.From, p.d.cfg.siteIDs(), driverhost.ErrUnableToFailOver)
		}
	}
	for _, v := range p.req.Volumes {
		if err := checkID("volume", v.ID); err != nil {
			return fmt.Errorf("%w: %w", err, driverhost.ErrUnableToFailOver)
		}
	}
	return nil
}

// prepareTarget makes the group's site at the target, where no replica may have come
// to yet.
func (p *promotion) prepareTarget(ctx context.Context) error {
	if _, err := p.target.state(); p.group == "" || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return p.d.beginGroup(ctx, p.target, p.req.Token, roleSecondary)
}

// begin raises the token at the target and finds out how far earlier calls got.
func (p *promotion) begin(ctx context.Context) error {
	var old siteState
	if p.from != nil {
		old, _ = p.from.state() // a site that cannot be read was not opened again
	}
	if err := p.prepareTarget(ctx); err != nil {
		if errors.Is(err, driverhost.ErrFenced) {
			return err
		}
		return fmt.Errorf("%w: %w", driverhost.ErrTargetUnreachable, err)
	}
	return p.target.exclusive(ctx, func(st siteState) error {
		if p.req.Token.Less(st.Token) {
			return p.end(p.entry(PhaseStart), p.fenced(st))
		}
		if st.staleTo(old) { // promoted by a failover that was given up since
			if err := p.target.demote(st, p.req.Token); err != nil {
				return p.end(p.entry(PhaseStart), err)
			}
			st.Role, st.Follows = roleDemoted, old.Token
		}
		p.begun, p.followed = st.opened(), st.Follows
		st.Token, st.Failover, st.Reserved = p.req.Token, p.req.ID, !p.begun
		return p.end(p.entry(PhaseStart), p.target.writeState(st))
	})
}

func (p *promotion) entry(phase string) JournalEntry {
	e := p.d.entry(CallPromote, p.req.Token)
	e.Failover, e.Phase = p.req.ID, phase
	return e
}

// end writes a line to the target's journal, under its lock, and passes the
// error on.
func (p *promotion) end(e JournalEntry, err error) error {
	e.Outcome = outcome(err)
	if jerr := p.target.record(e); jerr != nil {
		return errors.Join(err, jerr)
	}
	return err
}

func (p *promotion) fenced(st siteState) error {
	return fmt.Errorf("site %s has seen epoch %d claim %d: %w",
		p.target.id, st.Token.Epoch, st.Token.Claim, driverhost.ErrFenced)
}

// salvage fences the old site, and any other that was opened, and makes a last
// copy of the old one. Nothing of that must hold up a forced failover: only a
// site that has seen a greater token ends it.
func (p *promotion) salvage(ctx context.Context) error {
	short, cancel := context.WithTimeout(ctx, p.d.cfg.LastSyncTimeout)
	defer cancel()
	err := p.fenceOthers(short)
	if errors.Is(err, driverhost.ErrFenced) {
		return err
	}
	if err == nil && p.from != nil && !p.begun {
		err = p.lastCopy(short)
	}
	if err != nil {
		p.d.log.Warn("old site not fenced or not copied to the end",
			"failover", p.req.ID, "site", p.req.From, "error", err)
	}
	return ctx.Err()
}

func (p *promotion) fenceOthers(ctx context.Context) error {
	var errs []error
	for _, id := range p.target.peers {
		s := p.sites[id]
		st, err := s.state()
		if err == nil && (s == p.from || st.opened() || st.Reserved) {
			e := p.d.entry(CallFence, p.req.Token)
			e.Failover = p.req.ID
			_, err = p.d.fence(ctx, s, e, p.req.Token)
		} else if s != p.from {
			err = nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// lastCopy copies from the old site, if it is one that was in use.
func (p *promotion) lastCopy(ctx context.Context) error {
	st, err := p.from.state()
	if err != nil {
		return err
	}
	if st.Role != roleDemoted {
		return fmt.Errorf("site %s is %s, not in use", p.from.id, st.Role)
	}
	return p.d.lastRound(ctx, p.from, p.target, p.req.Token)
}

// handOver closes the old site and copies all of it, or undoes everything.
func (p *promotion) handOver(ctx context.Context) error {
	err := p.closeOld(ctx)
	if err == nil {
		err = p.d.lastRound(ctx, p.from, p.target, p.req.Token)
	}
	if err == nil {
		err = p.complete()
	}
	if err == nil || ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	if undo := p.undo(ctx); undo != nil {
		return errors.Join(err, undo)
	}
	if errors.Is(err, driverhost.ErrFenced) {
		return err
	}
	return fmt.Errorf("%w: %w", err, driverhost.ErrUnableToFailOver)
}

// closeOld makes the old site refuse writes if no Demote has. It does not raise
// the token there: a refusal has to leave the members as they were.
func (p *promotion) closeOld(ctx context.Context) error {
	return p.from.exclusive(ctx, func(st siteState) error {
		switch {
		case p.req.Token.Less(st.Token):
			return fmt.Errorf("site %s: %w", p.from.id, driverhost.ErrFenced)
		case st.Role == roleDemoted:
			return nil
		case st.Role != roleActive:
			return fmt.Errorf("site %s is %s, not in use", p.from.id, st.Role)
		}
		p.closed = true
		e := p.d.entry(CallDemote, p.req.Token)
		e.Failover = p.req.ID
		return p.d.fenceLocked(p.from, st, e, st.Token)
	})
}

// complete makes sure that every volume that the old site has is at the target.
func (p *promotion) complete() error {
	for _, v := range p.req.Volumes {
		there, err := exists(p.from.place(volumePrefix + v.ID))
		if err != nil {
			return err
		}
		here, err := exists(p.target.replica(volumePrefix + v.ID))
		if err != nil {
			return err
		}
		if there && !here {
			return fmt.Errorf("volume %s has no complete replica at %s", v.ID, p.target.id)
		}
	}
	return nil
}

// undo opens the old site again if this call has closed it, and gives the target
// back to replication.
func (p *promotion) undo(ctx context.Context) error {
	if p.closed {
		if err := p.from.exclusive(ctx, p.reopenOld); err != nil {
			return err
		}
	}
	return p.target.exclusive(ctx, func(st siteState) error {
		if st.Token != p.req.Token {
			return p.fenced(st)
		}
		st.Reserved, st.Follows = false, p.followed
		if err := p.target.writeState(st); err != nil {
			return err
		}
		e := p.entry(PhaseEnd)
		e.Outcome = outcome(driverhost.ErrUnableToFailOver)
		return p.target.record(e)
	})
}

func (p *promotion) reopenOld(st siteState) error {
	if p.req.Token.Less(st.Token) || st.Role != roleDemoted {
		return fmt.Errorf("site %s changed meanwhile: %w", p.from.id, driverhost.ErrFenced)
	}
	if err := p.from.setMode(modeWritable); err != nil {
		return err
	}
	st.Role = roleActive
	return p.from.writeState(st)
}
