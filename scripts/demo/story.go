package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/lockstep-storage/lockstep/api/client"
	"github.com/lockstep-storage/lockstep/scripts/devcluster"
)

// The sites of the story.
const (
	primary = "default"
	second  = "site-b"
)

// demo is one run of the story.
type demo struct {
	out     io.Writer
	details io.Writer
	begin   time.Time
	dir     string

	cluster  *devcluster.Cluster
	returned *devcluster.Process // the killed node, started again
	api      *client.Client
	victim   devcluster.Node // that is killed
	failover client.Failover
	volumes  []*volume
}

// step is one sentence of the story and what makes it true.
type step struct {
	title string // for failures
	do    func(context.Context) (string, error)
}

func (d *demo) story() []step {
	return []step{
		{"start a cluster", d.start},
		{"create volumes", d.createVolumes},
		{"replicate", d.awaitReplicas},
		{"ask for a failover", d.askFailover},
		{"kill the leader", d.killLeader},
		{"take the primary site away", d.takePrimaryAway},
		{"finish the failover", d.finishFailover},
		{"compare every byte", d.compareAt(second)},
		{"ask every member", d.askMembers},
		{"look at the volumes", d.lookAtVolumes},
		{"work at the new site", d.workAtSecond},
		{"restart the killed node", d.restartVictim},
		{"bring the primary site back", d.bringPrimaryBack},
		{"fail back", d.failBack},
		{"compare every byte again", d.compareAt(primary)},
		{"look at the volumes again", d.lookAtVolumesAgain},
		{"read the journals", d.readJournals},
	}
}

// run tells the story, and ends everything that it has started.
func (d *demo) run(ctx context.Context, binary string) (err error) {
	fmt.Fprintf(d.out, "Three nodes, three sites, real files, in %s\n\n", d.dir)
	if err := d.launch(ctx, binary); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.returned.End(), d.cluster.End()) }()
	for _, s := range d.story() {
		said, err := s.do(ctx)
		at := time.Since(d.begin).Seconds()
		if err != nil {
			fmt.Fprintf(d.out, "%6.1fs  FAILED: %s\n", at, s.title)
			if cause := context.Cause(ctx); cause != nil {
				err = fmt.Errorf("%w (%w)", err, cause)
			}
			return err
		}
		fmt.Fprintf(d.out, "%6.1fs  %s\n", at, said)
	}
	return nil
}

func (d *demo) start(ctx context.Context) (string, error) {
	if err := d.cluster.Ready(ctx); err != nil {
		return "", err
	}
	if err := d.connect(""); err != nil {
		return "", err
	}
	status, err := d.api.Status(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("Started %d nodes, together the cluster %s. %s leads. It works on site %q and copies to site-b and site-c.",
		len(d.cluster.Nodes), d.cluster.Name, status.Leader, primary), nil
}

func (d *demo) askFailover(ctx context.Context) (string, error) {
	status, err := d.api.Status(ctx)
	if err != nil {
		return "", err
	}
	if d.victim, err = d.cluster.Node(status.Leader); err != nil {
		return "", err
	}
	d.failover, err = d.api.RequestFailover(ctx, client.FailoverRequest{
		Cluster: d.cluster.Name, BackendID: second, Mode: client.Forced, Reason: "demo",
	}, "")
	if err != nil {
		return "", err
	}
	err = devcluster.Await(ctx, "the storage is asked to promote "+second, func() error {
		return d.promotionBegan(second, d.failover.ID)
	})
	if err != nil {
		return "", err
	}
	f, err := d.api.Failover(ctx, d.failover.ID)
	if err != nil {
		return "", err
	}
	if err := same("phase of the failover", f.Phase, client.PhasePromoting); err != nil {
		return "", err
	}
	return fmt.Sprintf("Asked for a failover to %s. %s has begun to promote it.", second, f.Executor), nil
}

func (d *demo) killLeader(context.Context) (string, error) {
	if err := kill(d.victim.PID); err != nil {
		return "", err
	}
	if err := d.connect(d.victim.Name); err != nil {
		return "", err
	}
	return fmt.Sprintf("Killed %s, the leader, with kill -9 in the middle of the promotion.", d.victim.Name), nil
}

// away is where the primary site is while it is lost.
func (d *demo) away() string { return d.cluster.Sites[primary] + ".away" }

func (d *demo) takePrimaryAway(context.Context) (string, error) {
	if err := os.Rename(d.cluster.Sites[primary], d.away()); err != nil {
		return "", err
	}
	return "Took the primary site away: its directory is gone.", nil
}

func (d *demo) finishFailover(ctx context.Context) (string, error) {
	begin := time.Now()
	f, err := d.finish(ctx, d.failover.ID)
	if err != nil {
		return "", err
	}
	status, err := d.api.Status(ctx)
	if err != nil {
		return "", err
	}
	if status.Leader == d.victim.Name {
		return "", fmt.Errorf("leader: got %s, which is dead", status.Leader)
	}
	d.failover = f
	return fmt.Sprintf("The failover is done, %.1fs after the kill: %s leads now, %s promoted %s in attempt %d.",
		time.Since(begin).Seconds(), status.Leader, f.Executor, second, f.Attempt), nil
}

// finish waits for the end of a failover, which must be a good one.
func (d *demo) finish(ctx context.Context, id string) (client.Failover, error) {
	var last client.Failover
	ctx, cancel := context.WithTimeoutCause(ctx, devcluster.Patience, errors.New("the failover did not end in time"))
	defer cancel()
	for f, err := range d.api.FollowFailover(ctx, id) {
		if err != nil {
			return last, fmt.Errorf("failover %s, last seen %s (%s): %w", id, last.Phase, last.Error, err)
		}
		last = f
		fmt.Fprintf(d.details, "           %s attempt %d by %s %s\n", f.Phase, f.Attempt, f.Executor, f.Error)
	}
	return last, same("phase of the failover", last.Phase, client.PhaseDone, last.Error)
}

func (d *demo) askMembers(ctx context.Context) (string, error) {
	cl, err := d.api.Cluster(ctx, d.cluster.Name)
	if err != nil {
		return "", err
	}
	if err := same("site of the cluster", cl.ActiveBackendID, second); err != nil {
		return "", err
	}
	for _, m := range cl.Members {
		fmt.Fprintf(d.details, "           %s %s, reports epoch %d on %s\n", m.Host, m.State, m.Reported.Epoch, m.Reported.ActiveBackendID)
		want := member{client.StateCurrent, cl.Epoch, second}
		if m.Node == d.victim.Name {
			want = member{client.StateDown, cl.Epoch - 1, primary}
		}
		if err := same("state, epoch and site of "+m.Host, member{m.State, m.Reported.Epoch, m.Reported.ActiveBackendID}, want); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("Every live member reports epoch %d on %s. %s is down and was on epoch %d.",
		cl.Epoch, second, d.victim.Name, cl.Epoch-1), nil
}

type member struct {
	State string
	Epoch uint64
	Site  string
}

// restartVictim starts the killed node and watches it: it is ready only once it has
// told its driver of the new site, and its report of that is committed.
func (d *demo) restartVictim(ctx context.Context) (string, error) {
	restarted := time.Now()
	var err error
	if d.returned, err = devcluster.StartProcess(ctx, d.victim.Argv, d.victim.Dir+"/log"); err != nil {
		return "", err
	}
	own, err := client.New([]string{d.victim.API}, client.Options{Patience: -1})
	if err != nil {
		return "", err
	}
	if err := devcluster.Await(ctx, d.victim.Name+" is ready", func() error { return own.Ready(ctx) }); err != nil {
		return "", err
	}
	ready := time.Now()
	cl, err := own.Cluster(ctx, d.cluster.Name)
	if err != nil {
		return "", err
	}
	if err := d.converged(cl, restarted, ready); err != nil {
		return "", err
	}
	if err := d.connect(""); err != nil {
		return "", err
	}
	return fmt.Sprintf("Restarted %s. It told its driver of %s before it was ready, after %.1fs.", d.victim.Name, second, ready.Sub(restarted).Seconds()), nil
}

// converged is nil once the killed node has reported the new site, after its
// restart and not later than it was ready.
func (d *demo) converged(cl client.Cluster, restarted, ready time.Time) error {
	for _, m := range cl.Members {
		if m.Node != d.victim.Name {
			continue
		}
		if at := m.Reported.At; at.Before(restarted) || at.After(ready) {
			return fmt.Errorf("report of %s: got one of %v, want one between its restart at %v and its first readyz at %v", m.Host, at, restarted, ready)
		}
		return same("state, epoch and site of "+m.Host,
			member{m.State, m.Reported.Epoch, m.Reported.ActiveBackendID}, member{client.StateCurrent, cl.Epoch, second})
	}
	return fmt.Errorf("members of %s: got none on %s", cl.Name, d.victim.Name)
}

func (d *demo) bringPrimaryBack(context.Context) (string, error) {
	if err := os.Rename(d.away(), d.cluster.Sites[primary]); err != nil {
		return "", err
	}
	return "Brought the primary site back, with its old data.", nil
}

func (d *demo) failBack(ctx context.Context) (string, error) {
	begin := time.Now()
	f, err := d.api.RequestFailover(ctx, client.FailoverRequest{
		Cluster: d.cluster.Name, BackendID: primary, Mode: client.Planned, Reason: "demo",
	}, "")
	if err != nil {
		return "", err
	}
	if f, err = d.finish(ctx, f.ID); err != nil {
		return "", err
	}
	cl, err := d.api.Cluster(ctx, d.cluster.Name)
	if err != nil {
		return "", err
	}
	got := fmt.Sprintf("%s, settled %v, disabled %v", cl.ActiveBackendID, cl.Settled(), cl.Disabled)
	if err := same("the cluster", got, primary+", settled true, disabled false"); err != nil {
		return "", err
	}
	return fmt.Sprintf("Failed back in %.1fs: what was written at %s was copied back first; all %d members report epoch %d on %q.",
		time.Since(begin).Seconds(), second, len(cl.Members), f.Epoch, primary), nil
}
