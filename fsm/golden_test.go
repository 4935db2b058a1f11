package fsm_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/lockstep-storage/lockstep/fsm"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The golden files hold what format 1 has written: every kind of command, as hex
// with the term of its entry before it, and the digest that they lead to. They
// are never written anew once a release has written them.
const (
	goldenLog      = "testdata/log-1.txt"
	goldenSnapshot = "testdata/snapshot-1.cbor"
)

// kinds are the types of all commands.
func kinds() []string {
	var names []string
	for _, cmd := range []fsm.Command{
		fsm.RegisterNode{},
		fsm.RemoveNode{},
		fsm.RegisterService{},
		fsm.DeleteService{},
		fsm.SetServiceDisabled{},
		fsm.SetClusterDisabled{},
		fsm.SetFrozen{},
		fsm.FreezeReported{},
		fsm.RequestFailover{},
		fsm.AbortFailover{},
		fsm.MemberDrained{},
		fsm.Assign{},
		fsm.Claim{},
		fsm.StageResults{},
		fsm.FailoverCompleted{},
		fsm.FailoverRefused{},
		fsm.AttemptEnded{},
		fsm.GiveUp{},
		fsm.MemberSwitched{},
		fsm.FinishFailover{},
		fsm.SettleResults{},
		fsm.CreateVolume{},
		fsm.DeleteVolume{},
		fsm.ExtendVolume{},
		fsm.CreateSnapshot{},
		fsm.DeleteSnapshot{},
		fsm.EndOperation{},
		fsm.MoveOperations{},
		fsm.CreateVolumeType{},
		fsm.DeleteVolumeType{},
		fsm.EditVolume{},
		fsm.EditSnapshot{},
		fsm.ResetVolume{},
		fsm.ResetSnapshot{},
		fsm.MoveAttaching{},
		fsm.CreateAttachment{},
		fsm.UpdateAttachment{},
		fsm.DeleteAttachments{},
		fsm.SetQuota{},
		fsm.SetExtraSpecs{},
		fsm.EditVolumeType{},
		fsm.ReportStuck{},
		fsm.ManageVolume{},
		fsm.UnmanageVolume{},
		fsm.RetypeVolume{},
		fsm.CreateGroupType{},
		fsm.EditGroupType{},
		fsm.DeleteGroupType{},
		fsm.CreateGroup{},
		fsm.EditGroup{},
		fsm.ResetGroup{},
		fsm.DeleteGroup{},
		fsm.SetGroupReplication{},
	} {
		names = append(names, fmt.Sprintf("%T", cmd))
	}
	return names
}

// everything applies every kind of command, and ends in a state that has some of
// every kind of record.
func (l *log) everything() {
	l.do(fsm.RegisterNode{Node: fsm.Node{ID: "node1", Raft: "10.0.0.1:9777", API: "http://10.0.0.1:9776", Gossip: "10.0.0.1:9778", Release: "1.0.0", Format: 1}},
		fsm.RegisterNode{Node: fsm.Node{ID: "node9"}}, fsm.RemoveNode{ID: "node9"},
		fsm.RegisterService{Host: "node9@files", Node: "node9", Cluster: dev}, fsm.DeleteService{Host: "node9@files", Term: l.term},
		fsm.CreateVolumeType{Type: fsm.VolumeType{ID: "t1", Name: "gold", ExtraSpecs: []fsm.KeyValue{{Key: "replication_enabled", Value: "<is> True"}}}},
		fsm.CreateVolumeType{Type: fsm.VolumeType{ID: "t2", Name: "tin"}}, fsm.DeleteVolumeType{ID: "t2"},
		fsm.SetServiceDisabled{Host: n3, Disabled: true, Reason: "disk swap"}, fsm.SetClusterDisabled{Cluster: dev},
		fsm.SetFrozen{Cluster: dev, Frozen: true, Owner: n2}, fsm.FreezeReported{Cluster: dev, Host: n2, Frozen: true}, fsm.SetFrozen{Cluster: dev})
	for i, replicated := range []bool{true, true, false} {
		l.volume(fmt.Sprint("v", i), replicated)
	}
	l.snapshot("s0", "v0")
	l.snapshot("s1", "v2")
	l.do(fsm.DeleteSnapshot{ID: "s1"})
	l.finishOps(n1)
	l.ask("aborted", "site-b")
	l.do(fsm.AbortFailover{ID: "aborted"})
	l.claimed("failed", "site-b")
	l.do(l.driverRefuses("failed", fsm.InvalidReplicationTarget))
	l.ask("given-up", "site-c")
	l.do(l.giveUp("given-up"))
	l.claimed("done", "site-b")
	l.do(l.ended("done"))
	l.assign("done", n2)
	l.claim("done")
	l.stage("done", fsm.VolumeResult{VolumeID: "v0", VolumeUpdate: fsm.VolumeUpdate{ProviderLocation: "/b/v0", ReplicationDriverData: "d"}},
		fsm.VolumeResult{VolumeID: "v1", Failed: true})
	l.do(l.completed("done", 2))
	l.tell()
	l.do(l.switched(n2, "no route"), fsm.FinishFailover{Failover: "done", Attempt: 2, Term: l.term})
	l.settle()
	l.do(fsm.SetClusterDisabled{Cluster: dev})
	_ = l.request("request-1", fsm.ExtendVolume{ID: "v0", Size: 2, Host: n1})
	_ = l.request("request-2", fsm.ExtendVolume{ID: "nobody", Size: 2})
	l.do(fsm.MoveOperations{From: n1, To: n3, Term: l.term},
		fsm.CreateVolume{Volume: fsm.Volume{
			ID: "v3", Name: "café", Size: 7, Host: n2, Replicated: true, VolumeType: "gold", ProjectID: "p", UserID: "u",
			Description: "d", Metadata: []fsm.KeyValue{{Key: "k", Value: "v"}},
		}}, fsm.DeleteVolume{ID: "v1"})
	l.describes()
	l.adopts()
	l.groups()
	l.claimed("promoting", "site-c")
	l.stage("promoting", fsm.VolumeResult{VolumeID: "v0", Failed: true})
	l.do(fsm.ReportStuck{Host: n1, Stuck: true}, fsm.ReportStuck{Host: n3, Stuck: true}, fsm.ReportStuck{Host: n3})
}

// describes applies every command that changes what records say of themselves.
func (l *log) describes() {
	name, yes := "renamed", true
	l.volume("v4", true)
	l.snapshot("s4", "v4")
	l.finishOps(n1)
	l.do(fsm.EditVolume{ID: "v4", Edit: fsm.Edit{Name: &name, Metadata: []fsm.KeyValue{{Key: "a", Value: "1"}}}, Bootable: &yes, Readonly: &yes},
		fsm.EditSnapshot{ID: "s4", Edit: fsm.Edit{Description: &name}},
		fsm.ResetVolume{ID: "v4", Status: fsm.StatusError, MigrationStatus: "starting"},
		fsm.ResetVolume{ID: "v4", Status: fsm.StatusAvailable},
		fsm.ResetSnapshot{ID: "s4", Status: fsm.StatusError},
		fsm.MoveAttaching{VolumeID: "v4", Step: fsm.StepReserve}, fsm.MoveAttaching{VolumeID: "v4", Step: fsm.StepUnreserve},
		fsm.CreateAttachment{Attachment: fsm.Attachment{ID: "a1", VolumeID: "v4", ProjectID: "p"}},
		fsm.UpdateAttachment{ID: "a1", HostName: "h", Mountpoint: "/dev/vdb", Mode: "rw"},
		fsm.DeleteAttachments{VolumeID: "v4", ID: "a1"},
		fsm.CreateAttachment{Attachment: fsm.Attachment{ID: "a2", VolumeID: "v4", Mode: "ro", Status: fsm.AttachAttached}},
		fsm.SetQuota{ProjectID: "p", Limits: []fsm.Limit{{Resource: "volumes", Max: 20}, {Resource: "gigabytes", Max: -1}}},
		fsm.SetExtraSpecs{ID: "t1", Set: []fsm.KeyValue{{Key: "k", Null: true}, {Key: "b", Value: "c"}}, Drop: "b"},
		fsm.EditVolumeType{ID: "t1", Description: &name})
}

// adopts applies every command about volumes that were there before.
func (l *log) adopts() {
	l.do(fsm.ManageVolume{Volume: fsm.Volume{ID: "m1", Host: n1, Reference: "lun-1", ProjectID: "p", VolumeType: fsm.DefaultTypeName}},
		fsm.ManageVolume{Volume: fsm.Volume{ID: "m2", Host: n1, Reference: "lun-2", ProjectID: "p", Replicated: true, VolumeType: "gold"}})
	for _, op := range l.s.Owed(n1, 100) {
		end := l.end(op, "")
		end.Size = 3
		l.do(end)
	}
	l.do(fsm.RetypeVolume{ID: "m1", Type: "t1", Host: n1}, fsm.UnmanageVolume{ID: "m2", Host: n1})
	l.finishOps(n1)
	l.do(fsm.RetypeVolume{ID: "m1", Type: fsm.DefaultTypeName, Host: n2}, fsm.ResetSnapshot{ID: "s4", Status: fsm.StatusDeleting},
		fsm.ManageVolume{Volume: fsm.Volume{ID: "m3", Host: n2, Reference: "lun-3"}})
}

// groups applies every command about groups, and leaves one that has a site of its own.
func (l *log) groups() {
	l.replicationGroup("g1", "gv0", "gv1")
	l.group("g2", "plain")
	l.do(fsm.CreateGroupType{Type: fsm.GroupType{ID: "gt9", Name: "gone"}}, fsm.DeleteGroupType{ID: "gt9"},
		fsm.EditGroupType{ID: "replicating", Name: new("r"), Set: []fsm.KeyValue{{Key: "k", Value: "v"}}},
		fsm.EditGroup{ID: "g2", Name: new("two"), Add: []string{"v4"}},
		fsm.ResetGroup{ID: "g2", Status: fsm.GroupError})
	l.group("g3", "plain")
	l.do(fsm.DeleteGroup{ID: "g3"})
	l.claimedGroup("group", "default")
	l.stage("group", fsm.VolumeResult{VolumeID: "gv1", Failed: true}, fsm.VolumeResult{VolumeID: "v0", Failed: true})
	l.do(l.completed("group", 2))
	l.tell()
	l.do(fsm.FinishFailover{Failover: "group", Attempt: 1, Term: l.term})
	l.settle()
}

func TestGolden(t *testing.T) {
	t.Parallel()
	if *update {
		writeGolden(t)
	}
	text, err := os.ReadFile(goldenLog)
	if err != nil {
		t.Fatal(err)
	}
	l := newLog(t)
	missing, want := map[string]bool{}, ""
	for _, kind := range kinds() {
		missing[kind] = true
	}
	for line := range strings.Lines(string(text)) {
		first, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if first == "digest" {
			want = rest
			break
		}
		entry, err := hex.DecodeString(rest)
		if err != nil {
			t.Fatal(err)
		}
		m, cmd, err := fsm.Decode(entry)
		if err != nil {
			t.Fatal(err)
		}
		l.index++
		m.Index = l.index
		if _, err := fmt.Sscan(first, &m.Term); err != nil {
			t.Fatal(err)
		}
		if err := l.s.Apply(m, cmd); err == nil {
			delete(missing, fmt.Sprintf("%T", cmd))
		}
	}
	equal(t, "digest of the log", digest(t, l.s), want)
	if len(missing) > 0 {
		t.Errorf("the log has none of %v: run with -update", missing)
	}
	snapshot, err := os.ReadFile(goldenSnapshot)
	if err != nil {
		t.Fatal(err)
	}
	s, err := fsm.ReadState(bytes.NewReader(snapshot))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "digest of the snapshot", digest(t, s), want)
}

func writeGolden(t *testing.T) {
	t.Helper()
	var text strings.Builder
	l := newLog(t)
	l.seen = func(m fsm.Meta, cmd fsm.Command) {
		entry, err := fsm.Encode(m, cmd)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "%d %x\n", m.Term, entry)
	}
	for _, host := range []string{n1, n2, n3} {
		l.do(fsm.RegisterService{Host: host, Node: host[:5], Cluster: dev, Targets: []string{"site-b", "site-c"}})
	}
	l.do(fsm.RegisterService{Host: lone, Node: "node1", Targets: []string{"site-b"}})
	l.everything()
	fmt.Fprintf(&text, "digest %s\n", digest(t, l.s))
	var snapshot bytes.Buffer
	if _, err := l.s.WriteTo(&snapshot); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{goldenLog: []byte(text.String()), goldenSnapshot: snapshot.Bytes()} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
