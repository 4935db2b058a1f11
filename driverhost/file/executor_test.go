package file_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/driverhost/file"
)

func TestRepeatedFailoverLosesNoWriteAtThePromotedSite(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"active", "opening"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t, secondary)
			d1, d2 := b.open("node1", primary), b.open("node2", primary)
			v1, v2 := replicated("v1"), replicated("v2")
			create(t, d1, epoch(1), v1)
			create(t, d1, epoch(1), v2)
			b.synced(d1, secondary)
			// The first attempt dies between the two volumes.
			res, err := failover(t.Context(), d1, epoch(2), secondary, v1)
			noneFailed(t, res, err)
			b.setRole(secondary, role)
			write(t, b.volume(secondary, "v1"), block, pattern(5))

			again := driverhost.Token{Epoch: 2, Claim: 101}
			for range 2 {
				res, err = failover(t.Context(), d2, again, secondary, v1, v2)
				noneFailed(t, res, err)
			}
			if got := readBlock(t, b.volume(secondary, "v1"), 1); !bytes.Equal(got, pattern(5)) {
				t.Error("the write at the promoted site is lost")
			}
			var promoted []int
			for _, e := range b.journal(secondary, file.CallPromote) {
				if e.Phase == file.PhaseEnd {
					promoted = append(promoted, e.Promoted)
				}
			}
			if len(promoted) != 3 || promoted[0] != 1 || promoted[1] != 1 || promoted[2] != 0 {
				t.Errorf("volumes moved per call: %v, want 1, 1, 0", promoted)
			}
			_, err = failover(t.Context(), d1, epoch(2), secondary, v1, v2)
			wantErr(t, err, driverhost.ErrFenced) // the first executor wakes
		})
	}
}

func TestFailoverOfALostExecutorIsTakenOver(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	quick := b.open("node2", primary)
	b.cfg.PromoteDelay = time.Hour
	slow := b.open("node1", primary)
	v := replicated("v1")
	create(t, slow, epoch(1), v)
	b.synced(slow, secondary)
	ctx, kill := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := failover(ctx, slow, epoch(2), secondary, v)
		ended <- err
	}()
	eventually(t, "the promotion has begun", func() bool { return len(b.journal(secondary, file.CallPromote)) == 1 })
	eventually(t, "replicas of the old epoch are refused", func() bool {
		stats, err := quick.Stats(t.Context())
		must(t, err)
		return strings.Contains(stats.Targets[0].Error, driverhost.ErrFenced.Error())
	})
	b.away(primary)
	kill()
	wantErr(t, <-ended, context.Canceled)
	missing(t, b.volume(secondary, "v1"))
	res, err := failover(t.Context(), quick, driverhost.Token{Epoch: 2, Claim: 101}, secondary, v)
	noneFailed(t, res, err)
}

func TestRepeatedSwitchoverOnlyCompletesTheFirst(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("node1", primary)
	v := replicated("v1")
	create(t, d, epoch(1), v)
	res, err := planned(t.Context(), d, epoch(2), primary, secondary, v)
	noneFailed(t, res, err)
	write(t, b.volume(secondary, "v1"), 0, pattern(2))
	res, err = planned(t.Context(), d, driverhost.Token{Epoch: 2, Claim: 101}, primary, secondary, v)
	noneFailed(t, res, err)
	checkVolume(t, b.volume(secondary, "v1"), gib, 2)
	// Another failover finds its target in use, and copies nothing over it.
	err = d.Demote(t.Context(), driverhost.DemoteRequest{Token: epoch(3), ID: "other", From: primary, Target: secondary})
	wantErr(t, err, driverhost.ErrFenced)
	missing(t, b.replica(secondary, "v1"))
}

func TestReplacedExecutorPromotesNothing(t *testing.T) {
	t.Parallel()
	again := driverhost.Token{Epoch: 2, Claim: 101}
	tests := map[string]struct {
		next func(t *testing.T, b *backend, d *file.Driver)
		ends int // of promotions at the secondary
	}{
		"by one that promotes the same site": {func(t *testing.T, b *backend, d *file.Driver) {
			b.away(primary)
			res, err := failover(t.Context(), d, again, secondary, replicated("v1"))
			noneFailed(t, res, err)
		}, 1},
		"by one that opens the old site": {func(t *testing.T, _ *backend, d *file.Driver) {
			res, err := failover(t.Context(), d, again, primary, replicated("v1"))
			noneFailed(t, res, err)
		}, 0},
	}
	for name, tt := range tests {
		t.Run("replaced "+name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t, secondary)
			d := b.open("node1", primary)
			create(t, d, epoch(1), replicated("v1"))
			b.synced(d, secondary)
			b.cfg.LastSyncTimeout = time.Hour
			slow := b.open("node2", primary)
			must(t, d.Close()) // its rounds only; calls can still be made
			must(t, slow.Close())
			// The executor gets as far as the last copy, and no further.
			f, err := os.OpenFile(b.path(secondary, "replication"), os.O_RDWR, 0)
			must(t, err)
			must(t, syscall.Flock(int(f.Fd()), syscall.LOCK_EX))
			ended := make(chan error)
			go func() {
				_, err := failover(t.Context(), slow, epoch(2), secondary, replicated("v1"))
				ended <- err
			}()
			eventually(t, "the old site is fenced", func() bool { return len(b.journal(primary, file.CallFence)) == 1 })
			tt.next(t, b, d)
			must(t, f.Close())
			wantErr(t, <-ended, driverhost.ErrFenced)
			_, err = failover(t.Context(), slow, epoch(2), secondary, replicated("v1"))
			wantErr(t, err, driverhost.ErrFenced)
			ends := 0
			for _, e := range b.journal(secondary, file.CallPromote) {
				if e.Phase == file.PhaseEnd && e.Outcome == file.OutcomeOK {
					ends++
				}
			}
			if ends != tt.ends {
				t.Errorf("%d promotions ended well, want %d", ends, tt.ends)
			}
		})
	}
}

// A target whose promotion was given up has old volumes. They are not what a
// later failover promotes.
func TestTargetOfAFailoverThatWasGivenUp(t *testing.T) {
	t.Parallel()
	ways := map[string]func(context.Context, *file.Driver, driverhost.Volume) (driverhost.FailoverResult, error){
		"forced": func(ctx context.Context, d *file.Driver, v driverhost.Volume) (driverhost.FailoverResult, error) {
			return failover(ctx, d, epoch(4), secondary, v)
		},
		"planned": func(ctx context.Context, d *file.Driver, v driverhost.Volume) (driverhost.FailoverResult, error) {
			return planned(ctx, d, epoch(4), primary, secondary, v)
		},
	}
	for name, again := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t, secondary)
			d := b.open("node1", primary)
			v := replicated("v1")
			create(t, d, epoch(1), v)
			must(t, d.Close()) // no rounds but those of the failovers
			res, err := failover(t.Context(), d, epoch(2), secondary, v)
			noneFailed(t, res, err)
			back := b.away(secondary)
			res, err = failover(t.Context(), d, epoch(3), primary, v)
			noneFailed(t, res, err)
			write(t, b.volume(primary, "v1"), 0, pattern(3))
			back()
			res, err = again(t.Context(), d, v)
			noneFailed(t, res, err)
			checkVolume(t, b.volume(secondary, "v1"), gib, 3)
		})
	}
}

// Opening the old site again closes the one that was opened in its stead.
func TestNeverBothSites(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("node1", primary)
	v := replicated("v1")
	create(t, d, epoch(1), v)
	must(t, d.Close())
	res, err := failover(t.Context(), d, epoch(2), secondary, v)
	noneFailed(t, res, err)
	res, err = failover(t.Context(), d, epoch(3), primary, v)
	noneFailed(t, res, err)
	if got := mode(t, b.volume(secondary, "v1")); got != 0o400 {
		t.Errorf("mode at the site that was given up is %o", got)
	}
	use(t, secondary, epoch(2), d)
	_, err = d.CreateVolume(t.Context(), driverhost.VolumeRequest{Token: epoch(2), Volume: replicated("v2")})
	wantErr(t, err, driverhost.ErrFenced)
}

// A site that was opened and given up while it could not be reached is fenced
// when it is back, also if both were opened under one token.
func TestGivenUpSiteIsFencedWhenItIsBack(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("node1", primary)
	v := replicated("v1")
	create(t, d, epoch(1), v)
	res, err := failover(t.Context(), d, epoch(2), secondary, v)
	noneFailed(t, res, err)
	b.setRole(secondary, "opening")
	back := b.away(secondary)
	res, err = failover(t.Context(), d, epoch(2), primary, v)
	noneFailed(t, res, err)
	write(t, b.volume(primary, "v1"), 0, pattern(2))
	back()
	b.synced(d, secondary)
	checkVolume(t, b.replica(secondary, "v1"), gib, 2)
}

// A member that still uses a site that nobody could fence does it itself when it
// sees the one that was promoted.
func TestStaleSiteInUseIsFenced(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("node1", primary)
	v := replicated("v1")
	create(t, d, epoch(1), v)
	b.synced(d, secondary)
	b.cfg.LastSyncTimeout = 0
	res, err := failover(t.Context(), b.open("node2", primary), epoch(2), secondary, v)
	noneFailed(t, res, err)
	eventually(t, "the old site is fenced", func() bool { return len(b.journal(primary, file.CallFence)) == 1 })
	_, err = d.CreateVolume(t.Context(), driverhost.VolumeRequest{Token: epoch(1), Volume: v})
	wantErr(t, err, driverhost.ErrFenced)
}

// A fading context ends when it has been asked for its error so many times.
type fading struct {
	context.Context

	left *atomic.Int64
}

func (f fading) Err() error {
	if f.left.Add(-1) < 0 {
		return context.Canceled
	}
	return f.Context.Err()
}

// A failover that is no longer wanted ends anywhere. It then says so, and the
// next one completes it.
func TestFailoverCancelledAnywhere(t *testing.T) {
	t.Parallel()
	vs := []driverhost.Volume{replicated("v1"), replicated("v2"), replicated("v3")}
	for asked := range int64(40) {
		t.Run(fmt.Sprint(asked), func(t *testing.T) {
			t.Parallel()
			b := newBackend(t, secondary)
			d := b.open("node1", primary)
			must(t, d.Close())
			for i, v := range vs {
				create(t, d, epoch(1), v)
				write(t, b.volume(primary, v.ID), 0, pattern(byte(i+1)))
			}
			left := &atomic.Int64{}
			left.Store(asked)
			res, err := failover(fading{t.Context(), left}, d, epoch(2), secondary, vs...)
			if err == nil && len(res.Volumes) != len(vs) {
				t.Fatalf("success with %d of %d volumes", len(res.Volumes), len(vs))
			}
			if err != nil {
				wantErr(t, err, context.Canceled)
			}
			res, err = failover(t.Context(), d, driverhost.Token{Epoch: 2, Claim: 101}, secondary, vs...)
			noneFailed(t, res, err)
			for i, v := range vs {
				checkVolume(t, b.volume(secondary, v.ID), gib, byte(i+1))
			}
		})
	}
}
