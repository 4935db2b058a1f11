package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/lockstep-storage/lockstep/api/client"
	"github.com/lockstep-storage/lockstep/cmd/internal/chaos/evidence"
	"github.com/lockstep-storage/lockstep/cmd/internal/chaos/lab"
	"github.com/lockstep-storage/lockstep/cmd/internal/history"
)

// operatorID is the client of the operator in the history.
const operatorID = 900

// operator fails over back and forth, freezes and thaws, and gives up some of what
// it has asked for.
type operator struct {
	w   *world
	rnd *rand.Rand
}

func (w *world) newOperator() *operator {
	return &operator{w: w, rnd: newRand(w.seen.Run.Seed, 3000)}
}

func (o *operator) run(ctx context.Context) {
	for wait(ctx, between(o.rnd, 300*time.Millisecond, 3*time.Second)) {
		switch roll := o.rnd.IntN(100); {
		case roll < 80:
			o.failover(ctx)
		case roll < 90:
			o.freeze(ctx)
		default:
			o.enable(ctx)
		}
	}
}

// request is a random failover.
func (o *operator) request() client.FailoverRequest {
	r := client.FailoverRequest{
		BackendID: lab.Sites()[o.rnd.IntN(len(lab.Sites()))],
		Mode:      []string{client.Forced, client.Planned}[o.rnd.IntN(2)],
		Reason:    "chaos " + uuid.NewString(),
	}
	if o.rnd.IntN(3) == 0 {
		n := o.w.lab.Nodes[o.rnd.IntN(len(o.w.lab.Nodes))]
		r.Host = n.Name + "@" + lab.Backend
	} else {
		r.Cluster = lab.Cluster
	}
	return r
}

func (o *operator) failover(ctx context.Context) {
	r := o.request()
	giveUp := o.rnd.IntN(6) == 0
	f, err := o.w.requestFailover(ctx, r)
	if err != nil {
		return
	}
	if giveUp {
		o.abort(ctx, f.ID)
	}
	if o.follow(ctx, f.ID) && o.rnd.IntN(5) > 0 {
		o.enable(ctx)
	}
}

// requestFailover asks for a failover at all nodes until one answers, always with
// the same key, and records it.
func (w *world) requestFailover(ctx context.Context, r client.FailoverRequest) (client.Failover, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	op := history.Operation{
		Client:  operatorID,
		Request: history.Request{Kind: history.RequestFailover, Cluster: lab.Cluster, Target: r.BackendID},
		Note:    r.Mode,
	}
	begin := evidence.Now()
	f, err := w.all.RequestFailover(ctx, r, uuid.NewString())
	op.Request.ID, op.Answer = f.ID, answer(err)
	if err != nil {
		op.Note += ": " + err.Error()
	}
	w.record(op, begin, r.Reason)
	return f, err
}

func (o *operator) abort(ctx context.Context, id string) {
	wait(ctx, between(o.rnd, time.Millisecond, 100*time.Millisecond))
	o.act(ctx, history.Request{Kind: history.AbortFailover, Cluster: lab.Cluster, ID: id}, func(ctx context.Context) error {
		_, err := o.w.all.AbortFailover(ctx, id)
		return err
	})
}

// act makes one request at one node and records it.
func (o *operator) act(ctx context.Context, r history.Request, call func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), attempt)
	defer cancel()
	op, begin := history.Operation{Client: operatorID, Request: r}, evidence.Now()
	if err := call(ctx); err != nil {
		op.Answer, op.Note = answer(err), err.Error()
	}
	o.w.record(op, begin, "")
}

// followAtMost is how long the operator watches one failover.
const followAtMost = 20 * time.Second

// follow reads a failover until it has ended, and reports whether it has.
func (o *operator) follow(ctx context.Context, id string) bool {
	ctx, cancel := context.WithTimeout(ctx, followAtMost)
	defer cancel()
	for wait(ctx, between(o.rnd, 10*time.Millisecond, 300*time.Millisecond)) {
		f, err := o.w.readFailover(ctx, o.w.nodes[o.rnd.IntN(len(o.w.nodes))], id)
		if err == nil && f.Finished() {
			return true
		}
	}
	return false
}

// readFailover reads a failover and records it.
func (w *world) readFailover(ctx context.Context, at *client.Client, id string) (client.Failover, error) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	op, begin := history.Operation{Client: operatorID, Request: history.Request{Kind: history.ReadFailover, ID: id}}, evidence.Now()
	f, err := at.Failover(ctx, id)
	op.Answer = answer(err)
	if err == nil {
		op.Answer.Phase = phase(f)
	}
	w.record(op, begin, "")
	return f, err
}

// freeze freezes the cluster and thaws it soon after, at any node.
func (o *operator) freeze(ctx context.Context) {
	for _, frozen := range []bool{true, false} {
		at := o.w.nodes[o.rnd.IntN(len(o.w.nodes))]
		if !frozen {
			wait(ctx, between(o.rnd, 100*time.Millisecond, 2*time.Second))
			at = o.w.all
		}
		o.act(ctx, history.Request{Kind: history.SetFrozen, Cluster: lab.Cluster, Frozen: frozen}, func(ctx context.Context) error {
			if frozen {
				return at.Freeze(ctx, client.Subject{Cluster: lab.Cluster})
			}
			return at.Thaw(ctx, client.Subject{Cluster: lab.Cluster})
		})
	}
}

// enable lets a cluster that was failed over take volumes again.
func (o *operator) enable(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), attempt)
	defer cancel()
	_ = o.w.all.EnableCluster(ctx, lab.Cluster) // the next time, then
}

// settle asks for a failover and waits until it has ended.
func (w *world) settle(ctx context.Context, target, mode string, within time.Duration) (client.Failover, error) {
	f, err := w.requestFailover(ctx, client.FailoverRequest{Cluster: lab.Cluster, BackendID: target, Mode: mode, Reason: "chaos " + uuid.NewString()})
	if err != nil {
		return f, err
	}
	return w.awaitFailover(ctx, f.ID, within)
}

// awaitFailover waits until a failover has ended.
func (w *world) awaitFailover(ctx context.Context, id string, within time.Duration) (f client.Failover, err error) {
	err = await(ctx, within, func(ctx context.Context) error {
		if f, err = w.readFailover(ctx, w.all, id); err != nil {
			return err
		}
		if !f.Finished() {
			return fmt.Errorf("failover %s to %s is %s in attempt %d: %s", f.ID, f.Target, f.Phase, f.Attempt, f.Error)
		}
		return nil
	})
	return f, err
}
