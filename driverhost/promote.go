package driverhost

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/lockstep-storage/lockstep/fsm"
)

// promotion is one claimed call of the driver's failover.
type promotion struct {
	task    fsm.Task
	claim   uint64
	held    context.Context //nolint:containedctx // the lease under which it was claimed
	volumes []Volume
	groups  []GroupMove
}

func (p promotion) token() Token { return Token{Epoch: p.task.Epoch, Claim: p.claim} }

// promote claims the attempt, has the driver promote the target and reports what
// came of it. The claim and the call belong to one unbroken lease: one that
// lapses, however shortly, ends the claim.
func (w *worker) promote(ctx context.Context, driver Driver, task fsm.Task) error {
	wanted, stop := w.while(ctx, task)
	defer stop()
	held, err := w.awaitLease(wanted)
	if err != nil {
		return err
	}
	leased, end := under(wanted, held, w.svc.Lease)
	defer end(context.Canceled)
	p, err := w.claim(leased, task)
	if err != nil || p.claim == 0 {
		return err
	}
	p.held = held
	claimed, forget := w.whileClaimed(leased, p)
	defer forget()
	if err := w.mayCall(claimed, p); err != nil {
		return err
	}
	result, reopened, err := w.callFailover(claimed, driver, p)
	return w.reportPromotion(ctx, p, result, reopened, err)
}

// claim goes through the log because only the log can say that this executor has
// not been replaced while it was out of touch.
func (w *worker) claim(ctx context.Context, task fsm.Task) (promotion, error) {
	p := promotion{task: task}
	cmd := fsm.Claim{Failover: task.Failover, Attempt: task.Attempt, Host: w.svc.Host}
	if _, err := w.cfg.Proposer.Propose(ctx, uuid.NewString(), cmd); err != nil {
		if errors.Is(err, fsm.ErrStale) {
			return p, nil
		}
		return p, fmt.Errorf("claim: %w", err)
	}
	s := w.cfg.State.Clone()
	if f, ok := s.Failover(task.Failover); ok && f.Attempt == task.Attempt && f.Executor == w.svc.Host && f.Phase == fsm.Promoting {
		p.claim = f.ClaimIndex
	}
	for v := range s.PromotedVolumes(task.Cluster, task.Group) {
		p.volumes = append(p.volumes, volumeOf(v))
	}
	for m := range s.Moves(task.Cluster, task.Group) {
		p.groups = append(p.groups, GroupMove{ID: m.ID, From: m.From, Target: task.Target})
	}
	return p, nil
}

// mayCall is asked right before each call of a promotion: may the driver still be
// called under this claim? It asks the clock of the lease too: in a process that
// was stopped, the timer that ends a context may come too late.
func (w *worker) mayCall(claimed context.Context, p promotion) error {
	err := context.Cause(claimed)
	if now, _ := w.svc.Lease.Current(); err == nil && now != p.held {
		err = errNoLease
	}
	if err != nil {
		return fmt.Errorf("claim %d: %w", p.claim, err)
	}
	return nil
}

// whileClaimed returns a context that ends when the claim is no longer the one
// that counts.
func (w *worker) whileClaimed(ctx context.Context, p promotion) (context.Context, func()) {
	return w.whileState(ctx, func(s *fsm.State) bool {
		f, ok := s.Failover(p.task.Failover)
		return ok && f.Phase == fsm.Promoting && f.Attempt == p.task.Attempt && f.ClaimIndex == p.claim && !f.Ended
	})
}

// callFailover makes the driver's calls of a promotion. Reopened says that the
// driver has refused and the old site was opened again under the claim.
func (w *worker) callFailover(ctx context.Context, driver Driver, p promotion) (result FailoverResult, reopened bool, err error) {
	call, ok := failoverOf(driver)
	if !ok {
		return result, false, fmt.Errorf("%w: the driver has no failover", ErrUnableToFailOver)
	}
	if mover, ok := driver.(GroupMover); p.task.Group != "" && (!ok || !mover.MovesGroups()) {
		return result, false, fmt.Errorf("%w: the driver does not fail over groups", ErrUnableToFailOver)
	}
	req := FailoverRequest{
		Token: p.token(), ID: p.task.Failover, From: p.task.From, Target: p.task.Target,
		Planned: p.task.Mode == fsm.Planned, Volumes: p.volumes, Group: p.task.Group, Groups: p.groups,
	}
	demoter, demotes := driver.(Demoter)
	if !req.Planned || !demotes {
		result, err = call(ctx, req)
		return result, false, err
	}
	if err = w.demote(ctx, demoter, p, req); err == nil {
		result, err = call(ctx, req)
	}
	if err == nil || !refuses(err) {
		return result, false, err
	}
	// Nothing is promoted: open the old site again before the failover fails.
	back := req
	back.From, back.Target, back.Planned, back.Groups = req.Target, req.From, false, nil
	for _, m := range req.Groups {
		back.Groups = append(back.Groups, GroupMove{ID: m.ID, From: m.Target, Target: m.From})
	}
	backErr := w.mayCall(ctx, p)
	if backErr == nil {
		_, backErr = call(ctx, back)
	}
	if backErr != nil {
		// In words only: the refusal is no longer the driver's last word.
		return FailoverResult{}, false, fmt.Errorf("outcome unknown; opening %q again: %s", req.From, errors.Join(err, backErr).Error())
	}
	return FailoverResult{}, true, err
}

// demote closes the site in use. If that fails while the claim holds, nothing is
// promoted by this attempt, so the failover can be refused once the site is open
// again; unless another member might get further.
func (w *worker) demote(ctx context.Context, demoter Demoter, p promotion, req FailoverRequest) error {
	err := demoter.Demote(ctx, DemoteRequest{Token: req.Token, ID: req.ID, From: req.From, Target: req.Target, Volumes: req.Volumes, Group: req.Group, Groups: req.Groups})
	if lost := w.mayCall(ctx, p); lost != nil {
		return errors.Join(lost, err)
	}
	if err == nil || refuses(err) || errors.Is(err, ErrTargetUnreachable) || errors.Is(err, ErrFenced) {
		return err
	}
	return fmt.Errorf("%w: demote: %w", ErrUnableToFailOver, err)
}

// failoverOf returns the call that promotes: failover, or failover_host for a
// driver outside clusters that has only that.
func failoverOf(driver Driver) (func(context.Context, FailoverRequest) (FailoverResult, error), bool) {
	if d, ok := driver.(ActiveActive); ok {
		return d.Failover, true
	}
	if d, ok := driver.(HostFailover); ok {
		return d.FailoverHost, true
	}
	return nil, false
}

// refuses reports whether err is the driver's word that nothing is promoted.
func refuses(err error) bool {
	return errors.Is(err, ErrInvalidReplicationTarget) || errors.Is(err, ErrUnableToFailOver)
}

func (w *worker) reportPromotion(ctx context.Context, p promotion, result FailoverResult, reopened bool, failure error) error {
	id, attempt := p.task.Failover, p.task.Attempt
	switch {
	case failure == nil:
		return w.complete(ctx, p, result)
	case refuses(failure):
		refusal := fsm.UnableToFailOver
		if errors.Is(failure, ErrInvalidReplicationTarget) {
			refusal = fsm.InvalidReplicationTarget
		}
		w.logger.Warn("the driver refuses to fail over", "failover", id, "error", failure)
		return w.report(ctx, fsm.FailoverRefused{
			Failover: id, Attempt: attempt, ClaimIndex: p.claim, Refusal: refusal, Error: text(failure.Error()), Reopened: reopened,
		})
	}
	w.logger.Warn("promotion ended, outcome unknown", "failover", id, "attempt", attempt, "error", failure)
	return w.endAttempt(ctx, p, failure)
}

func (w *worker) endAttempt(ctx context.Context, p promotion, failure error) error {
	return w.report(ctx, fsm.AttemptEnded{
		Failover: p.task.Failover, Attempt: p.task.Attempt, ClaimIndex: p.claim, Error: text(failure.Error()),
	})
}

// stageChunk keeps a command with results of the usual size under the limit of an
// entry.
const stageChunk = 1000

// complete stages the results that differ and commits the switch. Results that the
// state does not take end the attempt: the same call again would bring the same.
func (w *worker) complete(ctx context.Context, p promotion, result FailoverResult) error {
	results := resultsOf(result)
	for chunk := range slices.Chunk(results, stageChunk) {
		if err := w.stage(ctx, p, chunk); err != nil {
			w.logger.Error("the results of a promotion were not staged", "failover", p.task.Failover, "error", err)
			if code := fsm.CodeOf(err); code == fsm.ErrTooLarge || code == fsm.ErrInvalid {
				return w.endAttempt(ctx, p, err)
			}
			return err
		}
	}
	return w.report(ctx, fsm.FailoverCompleted{
		Failover: p.task.Failover, Attempt: p.task.Attempt, ClaimIndex: p.claim, Results: uint64(len(results)),
	})
}

// stage commits results, in smaller chunks if they are too large for one entry.
func (w *worker) stage(ctx context.Context, p promotion, results []fsm.VolumeResult) error {
	err := w.report(ctx, fsm.StageResults{
		Failover: p.task.Failover, Attempt: p.task.Attempt, ClaimIndex: p.claim, Results: results,
	})
	if half := len(results) / 2; half > 0 && errors.Is(err, fsm.ErrTooLarge) {
		if err = w.stage(ctx, p, results[:half]); err == nil {
			err = w.stage(ctx, p, results[half:])
		}
		return err
	}
	if err != nil {
		return fmt.Errorf("stage results: %w", err)
	}
	return nil
}

// resultsOf returns one result per volume: of a driver that says two things about
// one, the last counts.
func resultsOf(result FailoverResult) []fsm.VolumeResult {
	at := make(map[string]int, len(result.Volumes))
	var results []fsm.VolumeResult
	for _, r := range result.Volumes {
		update := updateOf(r.VolumeUpdate)
		if r.Error != "" && update.ReplicationExtendedStatus == "" {
			update.ReplicationExtendedStatus = text(r.Error)
		}
		next := fsm.VolumeResult{VolumeID: r.VolumeID, Failed: r.Failed, VolumeUpdate: update}
		if i, again := at[r.VolumeID]; again {
			results[i] = next
			continue
		}
		at[r.VolumeID] = len(results)
		results = append(results, next)
	}
	return results
}

func volumeOf(v fsm.Volume) Volume {
	return Volume{
		ID: v.ID, Name: v.Name, SizeGiB: v.Size, Replicated: v.Replicated, ProviderID: v.ProviderID,
		ProviderLocation: v.ProviderLocation, ReplicationDriverData: v.ReplicationDriverData,
		Group: v.ReplicaGroup, Site: v.Site,
	}
}

func updateOf(u VolumeUpdate) fsm.VolumeUpdate {
	for _, s := range []*string{&u.ProviderID, &u.ProviderLocation, &u.ReplicationExtendedStatus, &u.ReplicationDriverData} {
		*s = strings.ToValidUTF8(*s, string(utf8.RuneError))
	}
	return fsm.VolumeUpdate(u)
}
