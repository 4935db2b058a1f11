package chaos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/lockstep-storage/lockstep/api/client"
	"github.com/lockstep-storage/lockstep/cmd/internal/chaos/evidence"
	"github.com/lockstep-storage/lockstep/cmd/internal/chaos/lab"
	"github.com/lockstep-storage/lockstep/cmd/internal/history"
	"github.com/lockstep-storage/lockstep/fsm"
)

// convergeWithin is how long the deployment has, once nothing is broken any more,
// to end every failover and every operation, and to tell every member.
const convergeWithin = 90 * time.Second

// finish waits until the deployment has converged, and looks at what is left.
func (w *world) finish(ctx context.Context, all []*host) {
	began := time.Now()
	final := &w.seen.Final
	if err := w.converge(ctx); err != nil {
		final.Converged = err.Error()
	}
	final.Took = time.Since(began)
	w.say("converged after %v %s", final.Took.Round(10*time.Millisecond), final.Converged)
	if err := w.look(ctx, final); err != nil {
		final.Converged += " look: " + err.Error()
	}
	w.resolve()
	for _, h := range all {
		h.readAll(ctx)
	}
}

// converge waits, and first opens the gates if a failover has left them closed, as
// it is the operator's to do.
func (w *world) converge(ctx context.Context) error {
	for _, n := range w.lab.Nodes {
		n.Signal(syscall.SIGCONT, lab.Agent|lab.Drivers)
		if err := n.Start(ctx); err != nil {
			return err
		}
	}
	if err := await(ctx, convergeWithin, w.ended); err != nil {
		return err
	}
	cl, err := w.all.Cluster(ctx, lab.Cluster)
	if err != nil {
		return err
	}
	if cl.Held {
		f, err := w.settle(ctx, cl.ActiveBackendID, client.Forced, convergeWithin)
		w.seen.Final.Reopened = fmt.Sprintf("%s: %s %s", f.ID, f.Phase, f.Error)
		if err != nil {
			return fmt.Errorf("open the gates: %w", err)
		}
	}
	if cl.Frozen {
		if err := w.all.Thaw(ctx, client.Subject{Cluster: lab.Cluster}); err != nil {
			return fmt.Errorf("thaw: %w", err)
		}
	}
	return await(ctx, convergeWithin, w.settled)
}

// ended is nil once no failover is unfinished.
func (w *world) ended(ctx context.Context) error {
	cl, err := w.all.Cluster(ctx, lab.Cluster)
	if err != nil {
		return err
	}
	if cl.Failover != "" {
		return fmt.Errorf("failover %s is unfinished", cl.Failover)
	}
	return nil
}

// settled is nil once every member was told, every node knows, and no volume is
// under way.
func (w *world) settled(ctx context.Context) error {
	cl, err := w.all.Cluster(ctx, lab.Cluster)
	if err != nil {
		return err
	}
	for _, m := range cl.Members {
		if m.State != client.StateCurrent {
			return fmt.Errorf("%s is %s: %s", m.Host, m.State, m.Reported.Error)
		}
	}
	for i := range w.nodes {
		if v := w.view(ctx, i); v.Ready != "" || v.Epoch != cl.Epoch {
			return fmt.Errorf("%s is at epoch %d, not %d: %s", v.Node, v.Epoch, cl.Epoch, v.Ready)
		}
	}
	for v, err := range w.all.Volumes(ctx) {
		if err != nil {
			return err
		}
		switch fsm.VolumeStatus(v.Status) { //nolint:exhaustive // the others are ends
		case fsm.StatusCreating, fsm.StatusDeleting, fsm.StatusExtending:
			return fmt.Errorf("volume %s is %s", v.ID, v.Status)
		}
	}
	return nil
}

// view is what one node, by its index, knows.
func (w *world) view(ctx context.Context, i int) evidence.NodeView {
	v := evidence.NodeView{Node: w.lab.Nodes[i].Name}
	if err := w.nodes[i].Ready(ctx); err != nil {
		v.Ready = err.Error()
	}
	all, _, err := w.stale(ctx, i)
	if err != nil {
		v.Ready += " " + err.Error()
	}
	for _, cl := range all {
		v.Epoch, v.Site = cl.Epoch, cl.ActiveBackendID
	}
	return v
}

// look reads all there is to know.
func (w *world) look(ctx context.Context, final *evidence.Final) (err error) {
	if final.Cluster, err = w.all.Cluster(ctx, lab.Cluster); err != nil {
		return err
	}
	for i := range w.nodes {
		final.Nodes = append(final.Nodes, w.view(ctx, i))
	}
	for f, err := range w.all.Failovers(ctx, "") {
		if err != nil {
			return err
		}
		final.Failovers = append(final.Failovers, f)
	}
	for v, err := range w.all.Volumes(ctx) {
		if err != nil {
			return err
		}
		final.Volumes = append(final.Volumes, v)
		final.Files = append(final.Files, w.file(v.ID))
	}
	for s, err := range w.all.Snapshots(ctx) {
		if err != nil {
			return err
		}
		final.Snapshots = append(final.Snapshots, s)
	}
	return nil
}

// file is the file of a volume at the site in use.
func (w *world) file(volume string) evidence.File {
	fi, err := os.Stat(filepath.Join(w.lab.SiteDir(w.seen.Final.Cluster.ActiveBackendID), "volumes", "volume-"+volume))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			w.say("%v", err)
		}
		return evidence.File{Volume: volume, Bytes: -1}
	}
	return evidence.File{Volume: volume, Bytes: fi.Size()}
}

// resolve finds out which object each request was about of whose end its client
// never heard. What is not found had no effect that anybody has seen.
func (w *world) resolve() {
	ids := map[string]string{}
	for _, f := range w.seen.Final.Failovers {
		ids[f.Reason] = f.ID
	}
	for _, v := range w.seen.Final.Volumes {
		ids[v.Name] = v.ID
	}
	for _, s := range w.seen.Final.Snapshots {
		ids[s.Name] = s.ID
	}
	var known []history.Operation
	for i, op := range w.seen.Operations {
		name, unknown := w.named[i]
		if !unknown {
			known = append(known, op)
			continue
		}
		if id, found := ids[name]; found {
			op.Request.ID = id
			known = append(known, op)
		}
	}
	w.seen.Operations = known
}

// readAll reads every slot at the site in use.
func (h *host) readAll(ctx context.Context) {
	if !h.attach(ctx) {
		return
	}
	for _, v := range h.volumes {
		for number := range slots {
			if err := h.use(ctx, slot{v, number}, false); err != nil {
				h.w.assert("data", "volume "+v, "slot %d cannot be read at %s: %v", number, h.site, err)
			}
		}
	}
}

// phase is the phase of a failover as the history has it.
func phase(f client.Failover) fsm.Phase { return fsm.Phase(f.Phase) }
