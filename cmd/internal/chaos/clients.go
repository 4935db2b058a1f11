package chaos

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/lockstep-storage/lockstep/api/client"
	"github.com/lockstep-storage/lockstep/cmd/internal/chaos/evidence"
	"github.com/lockstep-storage/lockstep/cmd/internal/chaos/lab"
	"github.com/lockstep-storage/lockstep/cmd/internal/history"
)

// clientsPerNode make requests at each node.
const clientsPerNode = 2

// mostVolumes is how many volumes clients create before they only delete.
const mostVolumes = 40

// user is a client of one node that manages volumes and looks around.
type user struct {
	w    *world
	id   int
	node int // index
	api  *client.Client
	rnd  *rand.Rand
}

func (w *world) newUser(id int) *user {
	node := id % len(w.nodes)
	return &user{w: w, id: id, node: node, api: w.nodes[node], rnd: newRand(w.seen.Run.Seed, uint64(1000+id))} //nolint:gosec // few
}

// run makes one request after the other until the context ends.
func (u *user) run(ctx context.Context) {
	for wait(ctx, between(u.rnd, 20*time.Millisecond, 300*time.Millisecond)) {
		u.request(ctx)
	}
}

func (u *user) request(ctx context.Context) {
	switch roll := u.rnd.IntN(100); {
	case roll < 14:
		u.createVolume(ctx)
	case roll < 22:
		u.deleteVolume(ctx)
	case roll < 32:
		u.extendVolume(ctx)
	case roll < 38:
		u.createSnapshot(ctx)
	case roll < 44:
		u.deleteSnapshot(ctx)
	case roll < 64:
		u.readVolume(ctx)
	case roll < 84:
		u.readCluster(ctx)
	default:
		u.readStale(ctx)
	}
}

// ask makes one request and records it. The call fills in what it learns.
func (u *user) ask(ctx context.Context, name string, r history.Request, call func(context.Context, *history.Operation) error) history.Operation {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), attempt)
	defer cancel()
	op := history.Operation{Client: u.id, Request: r, Note: fmt.Sprintf("at node%d", u.node+1)}
	begin := evidence.Now()
	if err := call(ctx, &op); err != nil {
		op.Answer = answer(err)
		op.Note += ": " + err.Error()
	}
	u.w.record(op, begin, name)
	return op
}

func ok(op history.Operation) bool { return !op.Answer.Unknown && op.Answer.Code == "" }

func (u *user) name(what string) string { return fmt.Sprintf("%s-%d-%d", what, u.id, u.rnd.Int64()) }

func (u *user) createVolume(ctx context.Context) {
	u.w.mu.Lock()
	many := len(u.w.volumes) >= mostVolumes
	u.w.mu.Unlock()
	if many {
		u.deleteVolume(ctx)
		return
	}
	r := client.VolumeRequest{Name: u.name("volume"), Size: 1 + u.rnd.Int64N(2)}
	if u.rnd.IntN(4) > 0 {
		r.VolumeType = replicatedType
	}
	op := u.ask(ctx, r.Name, history.Request{Kind: history.CreateVolume, Size: r.Size}, func(ctx context.Context, op *history.Operation) error {
		v, err := u.api.CreateVolume(ctx, r)
		op.Request.ID = v.ID
		return err
	})
	if ok(op) {
		u.w.mu.Lock()
		defer u.w.mu.Unlock()
		u.w.volumes = append(u.w.volumes, &known{id: op.Request.ID, size: r.Size})
	}
}

// pick returns a volume that clients know of.
func (u *user) pick() (known, bool) {
	u.w.mu.Lock()
	defer u.w.mu.Unlock()
	if len(u.w.volumes) == 0 {
		return known{}, false
	}
	v := *u.w.volumes[u.rnd.IntN(len(u.w.volumes))]
	v.snapshots = slices.Clone(v.snapshots)
	return v, true
}

// change changes what clients know of a volume.
func (u *user) change(id string, with func(*known)) {
	u.w.mu.Lock()
	defer u.w.mu.Unlock()
	for _, v := range u.w.volumes {
		if v.id == id {
			with(v)
		}
	}
}

func (u *user) deleteVolume(ctx context.Context) {
	v, found := u.pick()
	if !found {
		return
	}
	op := u.ask(ctx, "", history.Request{Kind: history.DeleteVolume, ID: v.id}, func(ctx context.Context, _ *history.Operation) error {
		return u.api.DeleteVolume(ctx, v.id)
	})
	if ok(op) {
		u.w.mu.Lock()
		defer u.w.mu.Unlock()
		u.w.volumes = slices.DeleteFunc(u.w.volumes, func(k *known) bool { return k.id == v.id })
	}
}

func (u *user) extendVolume(ctx context.Context) {
	v, found := u.pick()
	if !found {
		return
	}
	size := v.size + u.rnd.Int64N(3)
	op := u.ask(ctx, "", history.Request{Kind: history.ExtendVolume, ID: v.id, Size: size}, func(ctx context.Context, _ *history.Operation) error {
		return u.api.ExtendVolume(ctx, v.id, size)
	})
	if ok(op) {
		u.change(v.id, func(k *known) { k.size = max(k.size, size) })
	}
}

func (u *user) createSnapshot(ctx context.Context) {
	v, found := u.pick()
	if !found || len(v.snapshots) > 2 {
		return
	}
	name := u.name("snapshot")
	op := u.ask(ctx, name, history.Request{Kind: history.CreateSnapshot}, func(ctx context.Context, op *history.Operation) error {
		s, err := u.api.CreateSnapshot(ctx, v.id, name)
		op.Request.ID = s.ID
		return err
	})
	if ok(op) {
		u.change(v.id, func(k *known) { k.snapshots = append(k.snapshots, op.Request.ID) })
	}
}

func (u *user) deleteSnapshot(ctx context.Context) {
	v, found := u.pick()
	if !found || len(v.snapshots) == 0 {
		return
	}
	id := v.snapshots[u.rnd.IntN(len(v.snapshots))]
	op := u.ask(ctx, "", history.Request{Kind: history.DeleteSnapshot, ID: id}, func(ctx context.Context, _ *history.Operation) error {
		return u.api.DeleteSnapshot(ctx, id)
	})
	if ok(op) {
		u.change(v.id, func(k *known) {
			k.snapshots = slices.DeleteFunc(k.snapshots, func(s string) bool { return s == id })
		})
	}
}

func (u *user) readVolume(ctx context.Context) {
	v, found := u.pick()
	if !found {
		return
	}
	u.ask(ctx, "", history.Request{Kind: history.ReadVolume, ID: v.id}, func(ctx context.Context, op *history.Operation) error {
		got, err := u.api.Volume(ctx, v.id)
		op.Answer = history.Answer{Status: got.Status, Size: got.Size}
		return err
	})
}

func (u *user) readCluster(ctx context.Context) {
	u.ask(ctx, "", history.Request{Kind: history.ReadCluster, Cluster: lab.Cluster}, func(ctx context.Context, op *history.Operation) error {
		got, err := u.api.Cluster(ctx, lab.Cluster)
		op.Answer = history.Answer{
			Epoch: got.Epoch, Active: got.ActiveBackendID, Frozen: &got.Frozen, Status: got.ReplicationStatus, Failover: got.Failover,
		}
		return err
	})
}

// readStale asks the node for what it knows. The level of consistency and how
// stale the answer is are in the request and in its header, so it is made by hand.
func (u *user) readStale(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), attempt)
	defer cancel()
	node := u.w.lab.Nodes[u.node]
	read := evidence.StaleRead{Node: node.ID, Life: node.Starts(), Begin: evidence.Now()}
	all, says, err := u.w.stale(ctx, u.node)
	if err != nil || len(all) != 1 || node.Starts() != read.Life {
		return
	}
	read.End, read.Epoch, read.Site, read.Says = evidence.Now(), all[0].Epoch, all[0].ActiveBackendID, says
	u.w.mu.Lock()
	defer u.w.mu.Unlock()
	u.w.seen.Stale = append(u.w.seen.Stale, read)
}

// stale asks a node, by its index, what it knows of the cluster, and reports
// whether it said how stale that is.
func (w *world) stale(ctx context.Context, node int) (all []client.Cluster, says bool, err error) {
	url := w.nodes[node].Address() + "/v1/clusters?consistency=" + string(client.Stale)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, false, err
	}
	response, err := onceOnly().Do(request)
	if err != nil {
		return nil, false, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, false, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, false, fmt.Errorf("%s: %s", url, response.Status)
	}
	all, err = decodeClusters(content)
	return all, response.Header.Get("X-Lockstep-Applied-Index") != "", err
}
