package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/lockstep-storage/lockstep/api/client"
	"github.com/lockstep-storage/lockstep/driverhost/file"
	"github.com/lockstep-storage/lockstep/scripts/devcluster"
)

// promoteDelay is how long a promotion is held up, so that there is a middle of it
// to kill the leader in.
const promoteDelay = time.Second

// launch starts lockstep dev.
func (d *demo) launch(ctx context.Context, binary string) (err error) {
	d.cluster, err = devcluster.Launch(ctx, binary, d.dir, "--promote-delay", promoteDelay.String())
	return err
}

// connect makes a client of all nodes but the one left out.
func (d *demo) connect(except string) (err error) {
	d.api, err = client.New(d.cluster.Addrs(except), client.Options{Patience: devcluster.Patience})
	return err
}

// same compares what is with what must be.
func same[T comparable](what string, got, want T, more ...string) error {
	if got == want {
		return nil
	}
	return fmt.Errorf("%s\n got: %v\nwant: %v %s", what, got, want, strings.Join(more, " "))
}

func kill(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill -9 %d: %w", pid, err)
	}
	return nil
}

func (d *demo) journal(siteDir string) ([]file.JournalEntry, error) {
	entries, err := file.ReadJournal(filepath.Join(siteDir, "journal"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}

// promotionBegan is nil once the journal of a site says that its promotion began.
func (d *demo) promotionBegan(site, failover string) error {
	entries, err := d.journal(d.cluster.Sites[site])
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Call == file.CallPromote && e.Phase == file.PhaseStart && e.Failover == failover {
			return nil
		}
	}
	f := fmt.Sprintf("no promotion in the journal of %s, which has %d lines", site, len(entries))
	return errors.New(f)
}

// readJournals checks that no call of an older epoch had effect at any site after a
// promotion began.
func (d *demo) readJournals(context.Context) (string, error) {
	var all []file.JournalEntry
	for _, dir := range d.cluster.Sites {
		entries, err := d.journal(dir)
		if err != nil {
			return "", err
		}
		all = append(all, entries...)
	}
	for _, p := range all {
		if p.Call != file.CallPromote || p.Phase != file.PhaseStart || p.Outcome != file.OutcomeOK {
			continue
		}
		for _, e := range all {
			if e.MonoNS > p.MonoNS && e.Epoch < p.Epoch && e.Outcome == file.OutcomeOK {
				return "", fmt.Errorf("%s of epoch %d by %s at %v\n got: it had effect\nwant: none after the promotion of epoch %d began at %v",
					e.Call, e.Epoch, e.Host, e.Wall, p.Epoch, p.Wall)
			}
		}
	}
	return fmt.Sprintf("The journals of all sites, %d calls, agree: none of an older epoch had effect after a promotion began.", len(all)), nil
}
