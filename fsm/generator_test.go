package fsm_test

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/lockstep-storage/lockstep/fsm"
)

// generator makes commands from a seed: most of them plausible in the state it
// looks at, and some not.
type generator struct {
	rng  *rand.Rand
	term uint64
	now  fsm.Time
	made int // ids given so far
}

func newGenerator(seed uint64) *generator {
	return &generator{rng: rand.New(rand.NewPCG(seed, 1)), term: 1, now: noon} //nolint:gosec // reproducible on purpose
}

func pick[T any](g *generator, of ...T) T { return of[g.rng.IntN(len(of))] }

// odds is true once in n times.
func (g *generator) odds(n int) bool { return g.rng.IntN(n) == 0 }

func (g *generator) host() string {
	return pick(g, n1, n1, n2, n2, n3, "node4@files", lone, lone, "nobody@files")
}
func (g *generator) group() string  { return pick(g, dev, dev, dev, lone, "nobody@files") }
func (g *generator) target() string { return pick(g, "default", "site-b", "site-c", "site-x", "") }
func (g *generator) volume() string { return fmt.Sprint("v", g.rng.IntN(12)) }
func (g *generator) snap() string   { return fmt.Sprint("s", g.rng.IntN(6)) }

// off is n, and once in a while a number beside it.
func (g *generator) off(n uint64) uint64 {
	if g.odds(12) {
		return n + uint64(g.rng.IntN(3)) - 1
	}
	return n
}

// next returns a command for a state.
func (g *generator) next(s *fsm.State) fsm.Command {
	g.now += fsm.Time(g.rng.IntN(3)) * second
	if g.odds(20) {
		g.term++
	}
	switch n := g.rng.IntN(100); {
	case n < 12:
		return g.admin(s)
	case n < 45:
		return g.storage(s)
	case n < 52:
		return g.request(s)
	case n < 66:
		if cmds := s.Plan(g.observe(s)); len(cmds) > 0 {
			return pick(g, cmds...)
		}
	case n < 80:
		if cmd := g.member(s); cmd != nil {
			return cmd
		}
	}
	return g.step(s)
}

// request asks for a failover of a cluster, or of a group that there is.
func (g *generator) request(s *fsm.State) fsm.Command {
	g.made++
	c := fsm.RequestFailover{
		ID: fmt.Sprint("f", g.made-g.rng.IntN(2)), Cluster: g.group(), Target: g.target(), Mode: pick(g, fsm.Forced, fsm.Planned), Attached: !g.odds(4),
	}
	for group := range s.Groups(0) {
		if group.ReplicationStatus != fsm.ReplicationDisabled && !g.odds(3) {
			c.Cluster, c.Group = group.Cluster, group.ID
		}
	}
	return c
}

// observe is what a leader may see.
func (g *generator) observe(s *fsm.State) fsm.Observation {
	o := fsm.Observation{
		Term: g.off(g.term), Now: g.now, Node: "node1", Live: map[string]bool{}, Gone: map[string]bool{}, Limits: fsm.DefaultLimits(),
	}
	for svc := range s.Services() {
		switch {
		case g.odds(6):
			o.Gone[svc.Host] = true
		case !g.odds(6):
			o.Live[svc.Host] = true
		}
	}
	return o
}

func (g *generator) admin(s *fsm.State) fsm.Command {
	switch g.rng.IntN(11) {
	case 10:
		return fsm.ReportStuck{Host: g.host(), Stuck: g.odds(2)}
	case 0:
		return fsm.RegisterNode{Node: fsm.Node{ID: fmt.Sprint("node", g.rng.IntN(4))}}
	case 1:
		return fsm.RemoveNode{ID: fmt.Sprint("node", g.rng.IntN(4))}
	case 2, 3:
		host := g.host()
		cluster := dev
		if host == lone {
			cluster = ""
		}
		return fsm.RegisterService{Host: host, Node: host[:5], Cluster: cluster, Targets: []string{"site-b", "site-c"}}
	case 4:
		return fsm.DeleteService{Host: g.host(), Term: g.off(g.term)}
	case 5:
		return fsm.SetServiceDisabled{Host: g.host(), Disabled: g.odds(2), Reason: "x"}
	case 6:
		return fsm.SetClusterDisabled{Cluster: g.group(), Disabled: g.odds(4), Reason: "x"}
	case 7:
		return fsm.SetFrozen{Cluster: g.group(), Frozen: g.odds(3), Owner: g.host()}
	case 8:
		cl, _ := s.Cluster(dev)
		return fsm.FreezeReported{Cluster: dev, Host: cl.FreezeOwner, Frozen: cl.Frozen}
	default:
		if g.odds(2) {
			return fsm.DeleteVolumeType{ID: fmt.Sprint("t", g.rng.IntN(3))}
		}
		return fsm.CreateVolumeType{Type: fsm.VolumeType{ID: fmt.Sprint("t", g.rng.IntN(3)), Name: fmt.Sprint("n", g.rng.IntN(3))}}
	}
}

func (g *generator) storage(s *fsm.State) fsm.Command {
	switch g.rng.IntN(18) {
	case 16, 17:
		return g.groups(s)
	case 8, 9:
		return g.describe(s)
	case 10:
		return g.attach(s)
	case 11:
		return g.adopt(s)
	case 0, 1:
		return fsm.CreateVolume{Volume: fsm.Volume{
			ID: g.volume(), Size: int64(g.rng.IntN(4)), Host: g.host(), Replicated: !g.odds(3), Name: "vol", GroupID: pick(g, "", g.groupIn(s)),
			ProjectID: pick(g, "", "p", "q"), VolumeType: pick(g, "", "n0", "n1"),
			SourceVolumeID: pick(g, "", "", "", "", "", "", g.volume()), SnapshotID: pick(g, "", "", "", "", "", "", g.snap()),
		}}
	case 2:
		return fsm.DeleteVolume{ID: g.volume(), Host: g.host(), Cascade: g.odds(4), Force: g.odds(6)}
	case 3:
		return fsm.ExtendVolume{ID: g.volume(), Size: int64(g.rng.IntN(9)), Host: g.host(), InUse: g.odds(2)}
	case 4:
		return fsm.CreateSnapshot{Snapshot: fsm.Snapshot{ID: g.snap(), VolumeID: g.volumeOf(s), ProjectID: pick(g, "", "p", "q")}, Host: g.host()}
	case 5:
		return fsm.DeleteSnapshot{ID: g.snapOf(s), Host: g.host()}
	default:
		host := g.host()
		for _, op := range s.Owed(host, 1+g.rng.IntN(3)) {
			cl, _ := s.Cluster(op.Cluster)
			return fsm.EndOperation{
				Operation: g.off(op.ID), Host: host, Epoch: g.off(cl.Epoch), Error: pick(g, "", "", "broken"),
				Update: fsm.VolumeUpdate{ProviderLocation: pick(g, "", "/a", "/b"), ReplicationDriverData: pick(g, "", "d")},
				Size:   int64(g.rng.IntN(3)),
			}
		}
		return fsm.MoveOperations{From: host, To: g.host(), Term: g.off(g.term)}
	}
}

func (g *generator) groupID() string { return fmt.Sprint("g", g.rng.IntN(4)) }

// groupIn is a group that there is, mostly.
func (g *generator) groupIn(s *fsm.State) string {
	id := pick(g, "", "", g.groupID())
	for group := range s.Groups(0) {
		id = pick(g, id, group.ID)
	}
	return id
}

// groups changes groups and what they are of.
func (g *generator) groups(s *fsm.State) fsm.Command {
	id := g.groupID()
	for group := range s.Groups(0) {
		id = pick(g, id, group.ID)
	}
	gt := fmt.Sprint("gt", g.rng.IntN(3))
	var specs []fsm.KeyValue
	if gt != "gt0" {
		specs = []fsm.KeyValue{{Key: "group_replication_enabled", Value: "<is> True"}}
	}
	switch g.rng.IntN(16) {
	case 0, 1:
		return fsm.CreateGroupType{Type: fsm.GroupType{ID: gt, Name: pick(g, gt, "n"), Specs: specs}}
	case 2:
		return fsm.EditGroupType{ID: gt, Set: []fsm.KeyValue{{Key: "k", Value: "v"}}, Drop: pick(g, "", "k", "l"), Private: new(g.odds(2))}
	case 3:
		return fsm.DeleteGroupType{ID: gt}
	case 4, 5, 6, 7:
		return fsm.CreateGroup{Group: fsm.Group{ID: g.groupID(), GroupType: gt, VolumeTypes: []string{"mirrored"}, Cluster: g.group(), ProjectID: "p"}}
	case 8:
		return fsm.EditGroup{ID: id, Add: pick(g, nil, []string{g.volume()}), Remove: pick(g, nil, nil, []string{g.volume()})}
	case 9:
		return fsm.ResetGroup{ID: id, Status: pick(g, fsm.GroupAvailable, fsm.GroupAvailable, fsm.GroupError, fsm.GroupDeleting)}
	case 10:
		return fsm.DeleteGroup{ID: id, Volumes: !g.odds(3), Host: g.host()}
	default:
		return fsm.SetGroupReplication{ID: id, Enabled: !g.odds(5)}
	}
}

// volumeOf is mostly a volume that there is, and snapOf a snapshot.
func (g *generator) volumeOf(s *fsm.State) string {
	id := g.volume()
	for v := range s.Volumes(0) {
		id = pick(g, id, v.ID)
	}
	return id
}

func (g *generator) snapOf(s *fsm.State) string {
	id := g.snap()
	for sn := range s.Snapshots(0) {
		id = pick(g, id, sn.ID)
	}
	return id
}

// describe changes what a record says of itself.
func (g *generator) describe(s *fsm.State) fsm.Command {
	snap := g.snapOf(s)
	statuses := []fsm.VolumeStatus{"", fsm.StatusAvailable, fsm.StatusError, fsm.StatusInUse, fsm.StatusCreating, fsm.StatusDeleting}
	edit := fsm.Edit{Metadata: []fsm.KeyValue{{Key: pick(g, "a", "b"), Value: "1"}}, Replace: g.odds(4), Drop: pick(g, "", "", "a")}
	switch g.rng.IntN(6) {
	case 0:
		return fsm.EditVolume{ID: g.volume(), Edit: edit}
	case 1:
		return fsm.EditSnapshot{ID: snap, Edit: edit}
	case 2:
		return fsm.ResetVolume{ID: g.volume(), Status: pick(g, statuses...), MigrationStatus: pick(g, "", "none", "error"), Detached: g.odds(3)}
	case 3:
		return fsm.ResetSnapshot{ID: snap, Status: pick(g, statuses[1:]...)}
	case 4:
		return fsm.SetQuota{ProjectID: pick(g, "p", "q", fsm.DefaultQuota), Limits: []fsm.Limit{{Resource: pick(g, "volumes", "snapshots", "gigabytes_n0"), Max: int64(g.rng.IntN(3))}}[g.rng.IntN(2):]}
	default:
		if g.odds(2) {
			return fsm.EditVolumeType{ID: fmt.Sprint("t", g.rng.IntN(3)), Name: pick(g, nil, new(fmt.Sprint("n", g.rng.IntN(4)))), Private: new(g.odds(2))}
		}
		return fsm.SetExtraSpecs{ID: fmt.Sprint("t", g.rng.IntN(3)), Set: edit.Metadata, Drop: edit.Drop}
	}
}

// adopt asks for a volume to be taken over, given back, or of another type.
func (g *generator) adopt(s *fsm.State) fsm.Command {
	switch g.rng.IntN(3) {
	case 0:
		return fsm.ManageVolume{Volume: fsm.Volume{
			ID: g.volume(), Host: g.host(), ProjectID: pick(g, "p", "q"), Reference: pick(g, "lun", "lun", ""), Replicated: g.odds(2), VolumeType: pick(g, "n0", "n1"),
		}}
	case 1:
		return fsm.UnmanageVolume{ID: g.volumeOf(s), Host: g.host()}
	default:
		return fsm.RetypeVolume{ID: g.volumeOf(s), Host: g.host(), Type: pick(g, "n0", "n1", "n2", fsm.DefaultTypeName)}
	}
}

// attach makes a step of attaching or detaching a volume.
func (g *generator) attach(s *fsm.State) fsm.Command {
	id := fmt.Sprint("a", g.rng.IntN(9))
	for a := range s.EveryAttachment(0) {
		id = pick(g, id, a.ID)
	}
	switch g.rng.IntN(5) {
	case 0, 1:
		return fsm.CreateAttachment{Attachment: fsm.Attachment{ID: id, VolumeID: g.volumeOf(s), Status: pick(g, fsm.AttachReserved, fsm.AttachAttached)}}
	case 2:
		return fsm.UpdateAttachment{ID: id, Complete: g.odds(2), Mode: "rw"}
	case 3:
		return fsm.DeleteAttachments{VolumeID: g.volumeOf(s), ID: pick(g, "", id, id, id)}
	default:
		return fsm.MoveAttaching{VolumeID: g.volume(), Step: fsm.AttachStep(g.rng.IntN(6))} //nolint:gosec // small
	}
}

// member is a report that a member owes.
func (g *generator) member(s *fsm.State) fsm.Command {
	host := g.host()
	task, _ := s.Todo(host, g.off(1))
	switch task.Kind {
	case fsm.TaskDrain:
		return fsm.MemberDrained{Failover: task.Failover, Attempt: g.off(task.Attempt), Host: host}
	case fsm.TaskPromote:
		return fsm.Claim{Failover: task.Failover, Attempt: g.off(task.Attempt), Host: host}
	case fsm.TaskSwitch:
		return fsm.MemberSwitched{Host: host, Epoch: g.off(task.Epoch), ActiveBackendID: task.Target, Error: pick(g, "", "", "no route")}
	case fsm.TaskFreeze, fsm.TaskThaw:
		return fsm.FreezeReported{Cluster: task.Cluster, Host: host, Frozen: task.Kind == fsm.TaskFreeze}
	}
	return nil
}

// step is a step of an unfinished failover, or of one that is over.
func (g *generator) step(s *fsm.State) fsm.Command {
	var f fsm.Failover
	for _, cluster := range []string{dev, lone} {
		if open, ok := s.Unfinished(cluster); ok && (f.ID == "" || g.odds(2)) {
			f = open
		}
	}
	if f.ID == "" || g.odds(20) {
		f, _ = s.Failover(fmt.Sprint("f", g.rng.IntN(g.made+1)))
	}
	attempt, claim := g.off(f.Attempt), g.off(f.ClaimIndex)
	switch g.rng.IntN(14) {
	case 0:
		return fsm.AbortFailover{ID: f.ID}
	case 1, 2:
		return fsm.Assign{Failover: f.ID, Attempt: attempt, ClaimIndex: claim, Executor: g.host(), Term: g.off(g.term)}
	case 3, 4:
		return fsm.Claim{Failover: f.ID, Attempt: attempt, Host: f.Executor}
	case 5, 6:
		results := make([]fsm.VolumeResult, g.rng.IntN(4))
		for i := range results {
			results[i] = fsm.VolumeResult{VolumeID: g.volume(), Failed: g.odds(3), VolumeUpdate: fsm.VolumeUpdate{ProviderLocation: pick(g, "", "/c")}}
		}
		return fsm.StageResults{Failover: f.ID, Attempt: attempt, ClaimIndex: claim, Results: results}
	case 7, 8, 9:
		return fsm.FailoverCompleted{Failover: f.ID, Attempt: attempt, ClaimIndex: claim, Results: pick[uint64](g, 0, 0, 0, 1, 2)}
	case 10:
		return fsm.FailoverRefused{
			Failover: f.ID, Attempt: attempt, ClaimIndex: claim, Error: "no", Reopened: g.odds(3),
			Refusal: pick(g, fsm.InvalidReplicationTarget, fsm.UnableToFailOver, "Timeout"),
		}
	case 11:
		return fsm.AttemptEnded{Failover: f.ID, Attempt: attempt, ClaimIndex: claim, Error: "lost"}
	case 12:
		if g.odds(3) {
			return fsm.GiveUp{Failover: f.ID, Attempt: attempt, ClaimIndex: claim, Term: g.off(g.term), Error: "enough"}
		}
		return fsm.MemberDrained{Failover: f.ID, Attempt: attempt, Host: g.host()}
	default:
		if g.odds(2) {
			return fsm.FinishFailover{Failover: f.ID, Attempt: attempt, Term: g.off(g.term), Silent: []string{g.host()}}
		}
		return fsm.SettleResults{Cluster: f.Cluster, Epoch: g.off(f.Epoch), Term: g.off(g.term)}
	}
}

// busy are the statuses that announce an operation.
func busy(status fsm.VolumeStatus, byHand bool) bool {
	return !byHand && slices.Contains([]fsm.VolumeStatus{
		fsm.StatusCreating, fsm.StatusExtending, fsm.StatusDeleting, fsm.StatusRetyping, fsm.StatusUnmanaging,
	}, status)
}
