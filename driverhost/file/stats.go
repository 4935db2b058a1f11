package file

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lockstep-storage/lockstep/driverhost"
)

// Stats measures the file system of the site in use, and how well every other
// site follows it. With an error, which is about the site in use, come the
// targets nevertheless: that is when they matter.
func (d *Driver) Stats(_ context.Context) (driverhost.Stats, error) {
	s := d.current()
	out := driverhost.Stats{At: time.Now()}
	for _, id := range s.peers {
		out.Targets = append(out.Targets, d.targetStats(s, d.sites[id], out.At))
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(s.dir, &fs); err != nil {
		return out, fmt.Errorf("stats of site %s: %w", s.id, err)
	}
	out.TotalCapacityGiB = float64(fs.Blocks) * float64(fs.Bsize) / gib
	out.FreeCapacityGiB = float64(fs.Bavail) * float64(fs.Bsize) / gib
	return out, nil
}

// overdue is the number of intervals without a complete round, and the least
// time, after which a target no longer counts as healthy.
const (
	overdueIntervals = 10
	overdueAtLeast   = 30 * time.Second
)

func (d *Driver) targetStats(src, dst *site, now time.Time) driverhost.TargetStats {
	t := driverhost.TargetStats{BackendID: dst.id, Lag: -1}
	r, err := d.readTarget(src, dst)
	if err == nil && !r.Started.IsZero() {
		t.LastSync, t.Lag = r.Started, max(0, now.Sub(r.Started))
	}
	limit := max(overdueAtLeast, overdueIntervals*d.cfg.ReplicationInterval)
	switch fault := d.faults.get(dst.id); {
	case err != nil:
		t.Error = err.Error()
	case r.Error != "":
		t.Error = r.Error
	case fault != "":
		t.Error = fault
	case t.LastSync.IsZero():
		t.Error = "no complete copy yet"
	case t.Lag > limit:
		t.Error = fmt.Sprintf("no complete round of replication for %s", t.Lag.Round(time.Second))
	}
	t.Healthy = t.Error == ""
	return t
}

// readTarget reads what a target knows of its rounds from the source. What it
// remembers of another source says nothing about this one.
func (d *Driver) readTarget(src, dst *site) (syncRecord, error) {
	st, err := dst.state()
	if err != nil {
		return syncRecord{}, err
	}
	if st.opened() {
		return syncRecord{}, fmt.Errorf("site %s is %s and follows no other", dst.id, st.Role)
	}
	r, err := dst.lastSync()
	if err != nil {
		return syncRecord{}, fmt.Errorf("site %s: %s: %w", dst.id, dst.file("synced"), err)
	}
	if r.Source != src.id {
		return syncRecord{}, nil
	}
	return r, nil
}
