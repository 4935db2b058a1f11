package file_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/driverhost/file"
)

func TestForcedFailoverWithoutThePrimaryAndFailback(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary, third)
	d1, d2 := b.open("node1", primary), b.open("node2", primary)
	v := replicated("v1")
	create(t, d1, epoch(1), v)
	write(t, b.volume(primary, "v1"), 3*block, pattern(1))
	b.synced(d1, secondary)
	sum, _ := head(t, b.volume(primary, "v1"))
	write(t, b.volume(primary, "v1"), 5*block, pattern(9)) // may be lost

	back := b.away(primary)
	res, err := failover(t.Context(), d2, epoch(2), secondary, v)
	noneFailed(t, res, err)
	if got := res.Volumes[0].ProviderLocation; got != b.volume(secondary, "v1") {
		t.Errorf("provider location is %q", got)
	}
	use(t, secondary, epoch(2), d1, d2)
	write(t, b.volume(secondary, "v1"), 5*block, make([]byte, block)) // whatever was lost
	if got, _ := head(t, b.volume(secondary, "v1")); got != sum {
		t.Error("the promoted volume lacks replicated data")
	}
	create(t, d1, epoch(2), replicated("v2"))
	write(t, b.volume(secondary, "v2"), 0, pattern(2))
	write(t, b.volume(secondary, "v1"), 3*block, pattern(3))

	back()
	b.synced(d1, primary)
	same(t, b.volume(secondary, "v1"), b.replica(primary, "v1"))
	missing(t, b.volume(primary, "v1"))
	late := b.open("late", primary) // a member that missed the failover
	_, err = late.CreateVolume(t.Context(), driverhost.VolumeRequest{Token: epoch(1), Volume: replicated("v3")})
	wantErr(t, err, driverhost.ErrFenced)

	res, err = planned(t.Context(), d1, epoch(3), secondary, primary, v, replicated("v2"))
	noneFailed(t, res, err)
	use(t, primary, epoch(3), d1, d2)
	create(t, d2, epoch(3), replicated("v4"))
	b.synced(d1, secondary)
	same(t, b.volume(primary, "v1"), b.replica(secondary, "v1"))
	same(t, b.volume(primary, "v2"), b.replica(secondary, "v2"))
	if got := readBlock(t, b.volume(primary, "v1"), 3); !bytes.Equal(got, pattern(3)) {
		t.Error("what was written at the secondary did not come back")
	}
}

func TestPlannedRefusesAndUndoesWhenTheSourceIsMissing(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("node1", primary)
	v := replicated("v1")
	create(t, d, epoch(1), v)
	b.synced(d, secondary)
	back := b.away(primary)
	_, err := d.Failover(t.Context(), driverhost.FailoverRequest{
		Token: epoch(2), ID: "f", From: primary, Target: secondary, Planned: true, Volumes: []driverhost.Volume{v},
	})
	wantErr(t, err, driverhost.ErrUnableToFailOver)
	missing(t, b.volume(secondary, "v1"))
	back()
	write(t, b.volume(primary, "v1"), 0, pattern(1))
	create(t, d, epoch(1), replicated("v2"))
	b.synced(d, secondary)
	same(t, b.volume(primary, "v1"), b.replica(secondary, "v1"))
}

// A switchover that was not preceded by a Demote closes the old site itself, and
// opens it again for the members of the old epoch when it has to refuse.
func TestRefusedSwitchoverLeavesTheOldSiteOpen(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("node1", primary)
	create(t, d, epoch(1), replicated("v1"))
	damage := b.path(primary, "meta", "volume-damaged")
	must(t, os.WriteFile(damage, nil, 0o600))
	_, err := d.Failover(t.Context(), driverhost.FailoverRequest{
		Token: epoch(2), ID: "f", From: primary, Target: secondary, Planned: true, Volumes: []driverhost.Volume{replicated("v1")},
	})
	wantErr(t, err, driverhost.ErrUnableToFailOver)
	if got := mode(t, b.volume(primary, "v1")); got != 0o600 {
		t.Errorf("mode at the old site is %o", got)
	}
	create(t, d, epoch(1), replicated("v2"))
	missing(t, b.volume(secondary, "v1"))
	must(t, os.Remove(damage))
	b.synced(d, secondary)
	same(t, b.volume(primary, "v1"), b.replica(secondary, "v1"))
}

func TestFailedDemoteIsOpenedAgain(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("node1", primary)
	v := replicated("v1")
	create(t, d, epoch(1), v)
	damage := b.path(primary, "meta", "volume-damaged")
	must(t, os.WriteFile(damage, nil, 0o600))
	if _, err := planned(t.Context(), d, epoch(2), primary, secondary, v); err == nil || errors.Is(err, driverhost.ErrFenced) {
		t.Fatalf("demote without a complete copy: %v", err)
	}
	_, err := d.CreateVolume(t.Context(), driverhost.VolumeRequest{Token: epoch(1), Volume: v})
	wantErr(t, err, driverhost.ErrFenced)

	res, err := reopen(t.Context(), d, epoch(2), primary, secondary, v)
	noneFailed(t, res, err)
	create(t, d, epoch(2), replicated("v2"))
	must(t, os.Remove(damage))
	write(t, b.volume(primary, "v1"), 0, pattern(1))
	b.synced(d, secondary)
	same(t, b.volume(primary, "v1"), b.replica(secondary, "v1"))
}

func TestDemoteDoesNotBeginWithoutItsTarget(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("node1", primary)
	v := replicated("v1")
	create(t, d, epoch(1), v)
	back := b.away(secondary)
	demote := driverhost.DemoteRequest{Token: epoch(2), ID: "p", From: primary, Target: secondary}
	wantErr(t, d.Demote(t.Context(), demote), fs.ErrNotExist)
	create(t, d, epoch(1), replicated("v2"))
	if got := mode(t, b.volume(primary, "v1")); got != 0o600 {
		t.Errorf("mode is %o", got)
	}
	back()
	must(t, d.Demote(t.Context(), demote))
	b.away(secondary)
	wantErr(t, d.Demote(t.Context(), demote), driverhost.ErrTargetUnreachable) // somebody may have promoted it
}

// The old primary is back, but has not followed yet, when a failback to it is
// given up. Its old data must not come to the site that is opened again.
func TestGivenUpFailbackBringsNoOldData(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	b.cfg.LastSyncTimeout = time.Minute
	d := b.open("node1", primary)
	v := replicated("v1")
	create(t, d, epoch(1), v)
	write(t, b.volume(primary, "v1"), 0, pattern(1))
	b.synced(d, secondary)
	must(t, d.Close())
	back := b.away(primary)
	res, err := failover(t.Context(), d, epoch(2), secondary, v)
	noneFailed(t, res, err)
	write(t, b.volume(secondary, "v1"), 0, pattern(2))
	back()

	f, err := os.OpenFile(b.path(primary, "replication"), os.O_RDWR, 0)
	must(t, err)
	must(t, syscall.Flock(int(f.Fd()), syscall.LOCK_EX))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := planned(ctx, d, epoch(3), secondary, primary, v)
		ended <- err
	}()
	eventually(t, "the secondary is demoted", func() bool { return len(b.journal(secondary, file.CallDemote)) == 1 })
	cancel()
	wantErr(t, <-ended, context.Canceled)
	must(t, f.Close())
	res, err = reopen(t.Context(), d, epoch(3), secondary, primary, v)
	noneFailed(t, res, err)
	checkVolume(t, b.volume(secondary, "v1"), gib, 2)
	must(t, d.Round(t.Context(), secondary, primary, epoch(3)))
	checkVolume(t, b.replica(primary, "v1"), gib, 2)
}

func TestDemoteClosesTheSiteInUse(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("node1", primary)
	plain := driverhost.Volume{ID: "plain", SizeGiB: 1}
	create(t, d, epoch(1), replicated("v1"))
	create(t, d, epoch(1), plain)
	write(t, b.volume(primary, "v1"), 0, pattern(7)) // not replicated yet
	must(t, d.Demote(t.Context(), driverhost.DemoteRequest{Token: epoch(2), ID: "f", From: primary, Target: secondary}))
	same(t, b.volume(primary, "v1"), b.replica(secondary, "v1"))
	for _, id := range []string{"v1", "plain"} {
		if got := mode(t, b.volume(primary, id)); got != 0o400 {
			t.Errorf("mode of %s is %o", id, got)
		}
	}
	for _, token := range []driverhost.Token{epoch(1), epoch(2)} {
		err := d.DeleteVolume(t.Context(), driverhost.VolumeRequest{Token: token, Volume: plain})
		wantErr(t, err, driverhost.ErrFenced)
	}
	res, err := failover(t.Context(), d, epoch(2), primary)
	noneFailed(t, res, err)
	for _, id := range []string{"v1", "plain"} {
		if got := mode(t, b.volume(primary, id)); got != 0o600 {
			t.Errorf("mode of %s after it was opened again is %o", id, got)
		}
	}
}

func TestForcedFailoverFencesAndSavesWhatItCan(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	b.cfg.ReplicationInterval = time.Hour // so that only the last copy can bring it
	d := b.open("node1", primary)
	create(t, d, epoch(1), replicated("v1"))
	write(t, b.volume(primary, "v1"), 2*block, pattern(4))
	res, err := failover(t.Context(), d, epoch(2), secondary, replicated("v1"))
	noneFailed(t, res, err)
	same(t, b.volume(primary, "v1"), b.volume(secondary, "v1"))
	if got := mode(t, b.volume(primary, "v1")); got != 0o400 {
		t.Errorf("mode at the old site is %o", got)
	}
	_, err = d.CreateVolume(t.Context(), driverhost.VolumeRequest{Token: epoch(1), Volume: replicated("v2")})
	wantErr(t, err, driverhost.ErrFenced)
	use(t, secondary, epoch(2), d)
	_, err = d.CreateVolume(t.Context(), driverhost.VolumeRequest{Token: epoch(1), Volume: replicated("v2")})
	wantErr(t, err, driverhost.ErrFenced)
	if lines := b.journal(primary, file.CallFence); len(lines) != 1 || lines[0].Outcome != file.OutcomeOK || lines[0].Epoch != 2 {
		t.Errorf("fence at the old site: %+v", lines)
	}
	if lines := b.journal(secondary, file.CallCreateVolume); len(lines) != 1 || lines[0].Outcome != file.OutcomeFenced {
		t.Errorf("refused call at the new site: %+v", lines)
	}
}

func TestFailoverRefusals(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		req  driverhost.FailoverRequest
		away string
		want error
	}{
		"unknown target":          {req: driverhost.FailoverRequest{From: primary, Target: "site-x"}, want: driverhost.ErrInvalidReplicationTarget},
		"no target":               {req: driverhost.FailoverRequest{From: primary}, want: driverhost.ErrInvalidReplicationTarget},
		"target gone":             {req: driverhost.FailoverRequest{From: primary, Target: secondary}, away: secondary, want: driverhost.ErrTargetUnreachable},
		"planned, target gone":    {req: driverhost.FailoverRequest{From: primary, Target: secondary, Planned: true}, away: secondary, want: driverhost.ErrTargetUnreachable},
		"planned, unknown source": {req: driverhost.FailoverRequest{From: "site-x", Target: secondary, Planned: true}, want: driverhost.ErrUnableToFailOver},
		"planned, idle source":    {req: driverhost.FailoverRequest{From: third, Target: secondary, Planned: true}, want: driverhost.ErrUnableToFailOver},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t, secondary, third)
			d := b.open("node1", primary)
			if tt.away != "" {
				b.away(tt.away)
			}
			tt.req.Token, tt.req.ID = epoch(2), "f"
			_, err := d.Failover(t.Context(), tt.req)
			wantErr(t, err, tt.want)
			create(t, d, epoch(1), replicated("v1"))
		})
	}
}

func TestPlannedRefusesVolumesThatAreNotReplicated(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("node1", primary)
	create(t, d, epoch(1), driverhost.Volume{ID: "plain", SizeGiB: 1})
	_, err := planned(t.Context(), d, epoch(2), primary, secondary, replicated("plain"))
	wantErr(t, err, driverhost.ErrUnableToFailOver)
}

func TestVolumeWithoutReplicaFailsAlone(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("node1", primary)
	create(t, d, epoch(1), replicated("v1"))
	b.synced(d, secondary)
	b.away(primary)
	large := replicated("v1")
	large.SizeGiB = 2 // extended after the last round
	res, err := failover(t.Context(), d, epoch(2), secondary, large, replicated("v2"))
	must(t, err)
	if len(res.Volumes) != 2 || res.Volumes[0].Failed || !res.Volumes[1].Failed || res.Volumes[1].Error == "" {
		t.Fatalf("results are %+v", res.Volumes)
	}
	if _, size := head(t, b.volume(secondary, "v1")); size != 2*gib {
		t.Errorf("size of the promoted volume is %d", size)
	}
}

func TestFailoverCompletedAndOpenTakeOnlyKnownSites(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("node1", primary)
	for _, id := range []string{"", "site-x"} {
		err := d.FailoverCompleted(t.Context(), driverhost.FailoverCompletedRequest{Token: epoch(2), ActiveBackendID: id})
		wantErr(t, err, driverhost.ErrInvalidReplicationTarget)
		opener, err := file.New(b.cfg)
		must(t, err)
		_, err = opener(t.Context(), driverhost.OpenRequest{ActiveBackendID: id})
		wantErr(t, err, driverhost.ErrInvalidReplicationTarget)
	}
	create(t, d, epoch(1), replicated("v1")) // it still uses the primary
}

func TestOpenWithoutThePrimaryMakesNoNewOne(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	b.open("node1", primary)
	back := b.away(primary)
	d := b.open("node2", primary)
	_, err := d.CreateVolume(t.Context(), driverhost.VolumeRequest{Token: epoch(1), Volume: replicated("v1")})
	wantErr(t, err, fs.ErrNotExist)
	missing(t, b.path(primary))
	// An empty directory, as a mount point whose file system is gone, takes no calls either.
	must(t, os.Mkdir(b.path(primary), 0o700))
	late := b.open("node3", primary)
	if _, err = late.CreateVolume(t.Context(), driverhost.VolumeRequest{Token: epoch(1), Volume: replicated("v1")}); err == nil {
		t.Error("a volume was created where the primary is missing")
	}
	must(t, os.RemoveAll(b.path(primary)))
	back()
	create(t, late, epoch(1), replicated("v1"))
}

// ended is a lease that is over, although no context has ended.
type ended struct{}

func (ended) Deadline() (time.Duration, <-chan struct{}) { return 0, nil }

func TestG4_NothingIsDoneAfterTheLease(t *testing.T) {
	t.Parallel()
	b := newBackend(t, "site-b")
	d := b.open("node1", primary)
	v := replicated("v1")
	create(t, d, epoch(1), v)
	b.synced(d, "site-b")
	ctx := driverhost.WithDeadline(t.Context(), ended{})
	for name, call := range map[string]func() error{
		"create": func() error {
			_, err := d.CreateVolume(ctx, driverhost.VolumeRequest{Token: epoch(1), Volume: replicated("v2")})
			return err
		},
		"delete": func() error { return d.DeleteVolume(ctx, driverhost.VolumeRequest{Token: epoch(1), Volume: v}) },
		"extend": func() error {
			return d.ExtendVolume(ctx, driverhost.ExtendVolumeRequest{Token: epoch(1), Volume: v, NewSizeGiB: 2})
		},
		"snapshot": func() error {
			return d.CreateSnapshot(ctx, driverhost.SnapshotRequest{Token: epoch(1), Snapshot: driverhost.Snapshot{ID: "s1", Volume: v}})
		},
		"demote": func() error {
			return d.Demote(ctx, driverhost.DemoteRequest{Token: epoch(2), ID: "p", From: primary, Target: "site-b", Volumes: []driverhost.Volume{v}})
		},
		"failover": func() error {
			_, err := failover(ctx, d, epoch(2), "site-b", v)
			return err
		},
	} {
		if err := call(); !errors.Is(err, driverhost.ErrLeaseEnded) {
			t.Errorf("%s: %v", name, err)
		}
	}
	missing(t, b.volume(primary, "v2"))
	must(t, d.ExtendVolume(t.Context(), driverhost.ExtendVolumeRequest{Token: epoch(1), Volume: v, NewSizeGiB: 2})) // no token was raised
}
