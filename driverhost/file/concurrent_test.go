package file_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/driverhost/file"
)

// G3: from the moment a promotion starts, no call of an older epoch has effect
// at the promoted site, nor at the old one once it is fenced.
func TestNoCallOfAnOlderEpochAfterThePromotionStarts(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary, third)
	var members []*file.Driver
	for i := range 3 {
		members = append(members, b.open(fmt.Sprintf("node%d", i+1), primary))
	}
	v := replicated("kept")
	create(t, members[0], epoch(1), v)
	b.synced(members[0], secondary)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i, d := range members {
		for j := range 3 {
			wg.Go(func() { busy(ctx, t, d, fmt.Sprintf("v-%d-%d", i, j)) })
		}
	}
	calls := func(site string) int { return len(b.journal(site, file.CallDeleteVolume)) }
	eventually(t, "all members work", func() bool { return calls(primary) > 30 })
	res, err := failover(t.Context(), members[1], epoch(2), secondary, v)
	noneFailed(t, res, err)
	use(t, secondary, epoch(2), members...) // the busy ones still come with epoch 1
	refused := calls(secondary)
	eventually(t, "all members are refused", func() bool { return calls(secondary) > refused+30 })
	stop()
	wg.Wait()
	noOlder(t, b.journal(secondary, ""), file.CallPromote)
	noOlder(t, b.journal(primary, ""), file.CallFence)
	create(t, members[2], epoch(2), replicated("new"))
}

// busy creates and deletes a volume under epoch 1 until the context ends.
func busy(ctx context.Context, t *testing.T, d *file.Driver, id string) {
	for ctx.Err() == nil {
		req := driverhost.VolumeRequest{Token: epoch(1), Volume: driverhost.Volume{ID: id, SizeGiB: 1, Replicated: true}}
		_, cerr := d.CreateVolume(ctx, req)
		for _, err := range []error{cerr, d.DeleteVolume(ctx, req)} {
			if err != nil && !errors.Is(err, driverhost.ErrFenced) && ctx.Err() == nil {
				t.Errorf("%s: %v", id, err)
			}
		}
	}
}

// noOlder checks a journal from the first line of the call on.
func noOlder(t *testing.T, journal []file.JournalEntry, call string) {
	t.Helper()
	newest, older := driverhost.Token{}, 0
	for _, e := range journal {
		token := driverhost.Token{Epoch: e.Epoch, Claim: e.Claim}
		if e.Call == call && newest.Less(token) {
			newest = token
		}
		if token.Less(newest) && e.Outcome == file.OutcomeOK {
			t.Errorf("after epoch %d: %+v", newest.Epoch, e)
		}
		if token.Less(newest) {
			older++
		}
	}
	if newest == (driverhost.Token{}) || older == 0 {
		t.Errorf("nothing was tested: %s reached epoch %d, %d older calls followed", call, newest.Epoch, older)
	}
}

// Members that promote at the same time, under different claims: the greater
// claim wins, and nothing is promoted twice.
func TestConcurrentPromotions(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("node0", primary)
	vs := make([]driverhost.Volume, 20)
	for i := range vs {
		vs[i] = replicated(fmt.Sprintf("v%d", i))
		create(t, d, epoch(1), vs[i])
	}
	b.synced(d, secondary)
	b.away(primary)
	const executors = 4
	var wg sync.WaitGroup
	errs := make([]error, executors)
	for i := range executors {
		m := b.open(fmt.Sprintf("node%d", i+1), primary)
		token := driverhost.Token{Epoch: 2, Claim: uint64(i)}
		wg.Go(func() { _, errs[i] = failover(t.Context(), m, token, secondary, vs...) })
	}
	wg.Wait()
	must(t, errs[executors-1])
	for _, err := range errs {
		if err != nil && !errors.Is(err, driverhost.ErrFenced) {
			t.Error(err)
		}
	}
	moved := 0
	for _, e := range b.journal(secondary, file.CallPromote) {
		moved += e.Promoted
	}
	if moved != len(vs) {
		t.Errorf("%d volumes were moved, want %d", moved, len(vs))
	}
}

func TestMembersMakeOneNewBackend(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			opener, err := file.New(b.cfg)
			if err != nil {
				t.Error(err)
				return
			}
			d, err := opener(t.Context(), driverhost.OpenRequest{Node: fmt.Sprint(i), ActiveBackendID: primary})
			if err != nil {
				t.Error(err)
				return
			}
			_, err = d.CreateVolume(t.Context(), driverhost.VolumeRequest{Token: epoch(1), Volume: replicated(fmt.Sprint(i))})
			if err := errors.Join(err, d.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := len(b.journal(primary, file.CallCreateVolume)); got != 8 {
		t.Errorf("%d volumes were created, want 8", got)
	}
}
