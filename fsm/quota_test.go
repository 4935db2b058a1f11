package fsm_test

import (
	"fmt"
	"testing"

	"github.com/lockstep-storage/lockstep/fsm"
)

// Limits are those of the project, else those set for all, else Cinder's.
func TestQuotas(t *testing.T) {
	t.Parallel()
	volume := func(size int64) func(i int) fsm.Command {
		return func(i int) fsm.Command {
			return fsm.CreateVolume{Volume: fsm.Volume{ID: fmt.Sprint("v", i), Size: size, Host: n1, ProjectID: "p", VolumeType: "gold"}}
		}
	}
	snapshot := func(i int) fsm.Command {
		return fsm.CreateSnapshot{Snapshot: fsm.Snapshot{ID: fmt.Sprint("s", i), VolumeID: "base", ProjectID: "p"}, Host: n1}
	}
	extend := func(i int) fsm.Command { return fsm.ExtendVolume{ID: "base", Size: int64(2 + i), Host: n1} }
	limits := func(project string, all ...fsm.Limit) fsm.Command {
		return fsm.SetQuota{ProjectID: project, Limits: all}
	}
	for name, tc := range map[string]struct {
		given   []fsm.Command
		ask     func(i int) fsm.Command
		granted int
		field   string
		message string
	}{
		"volumes by default": {nil, volume(1), 9, "volumes", "VolumeLimitExceeded: Maximum number of volumes allowed (10) exceeded for quota 'volumes'."},
		"gigabytes by default": {nil, volume(300), 3, "gigabytes", "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota." +
			" Requested 300G, quota is 1000G and 901G has been consumed."},
		"snapshots by default": {nil, snapshot, 10, "snapshots", "SnapshotLimitExceeded: Maximum number of snapshots allowed (10) exceeded"},
		"volumes of all": {
			[]fsm.Command{limits(fsm.DefaultQuota, fsm.Limit{Resource: "volumes", Max: 2})},
			volume(1), 1, "volumes",
			"VolumeLimitExceeded: Maximum number of volumes allowed (2) exceeded for quota 'volumes'.",
		},
		"volumes of the project before those of all": {
			[]fsm.Command{limits(fsm.DefaultQuota, fsm.Limit{Resource: "volumes", Max: 2}), limits("p", fsm.Limit{Resource: "volumes", Max: 3})},
			volume(1), 2, "volumes",
			"VolumeLimitExceeded: Maximum number of volumes allowed (3) exceeded for quota 'volumes'.",
		},
		"without limit": {[]fsm.Command{limits("p", fsm.Limit{Resource: "volumes", Max: -1})}, volume(1), 20, "", ""},
		"forgotten": {
			[]fsm.Command{limits("p", fsm.Limit{Resource: "volumes", Max: 2}), limits("p")},
			volume(1), 9, "volumes",
			"VolumeLimitExceeded: Maximum number of volumes allowed (10) exceeded for quota 'volumes'.",
		},
		"volumes of a type": {
			[]fsm.Command{limits("p", fsm.Limit{Resource: "volumes_gold", Max: 1})},
			volume(1), 1, "volumes_gold",
			"VolumeLimitExceeded: Maximum number of volumes allowed (1) exceeded for quota 'volumes_gold'.",
		},
		"gigabytes of a type": {
			[]fsm.Command{limits("p", fsm.Limit{Resource: "gigabytes_gold", Max: 5})},
			volume(3), 1, "gigabytes_gold",
			"VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes_gold quota. Requested 3G, quota is 5G and 3G has been consumed.",
		},
		"snapshots of a type": {
			[]fsm.Command{limits("p", fsm.Limit{Resource: "snapshots_tin", Max: 2})},
			snapshot, 2, "snapshots_tin",
			"SnapshotLimitExceeded: Maximum number of snapshots allowed (2) exceeded",
		},
		"size of a volume": {
			[]fsm.Command{limits("p", fsm.Limit{Resource: "per_volume_gigabytes", Max: 2})},
			volume(3), 0, "per_volume_gigabytes",
			"VolumeSizeExceedsLimit: Requested volume size 3G is larger than maximum allowed limit 2G.",
		},
		"size of a volume that grows": {
			[]fsm.Command{limits("p", fsm.Limit{Resource: "per_volume_gigabytes", Max: 3})},
			extend, 2, "per_volume_gigabytes",
			"VolumeSizeExceedsLimit: Requested volume size 4G is larger than maximum allowed limit 3G.",
		},
		"growth": {
			[]fsm.Command{limits("p", fsm.Limit{Resource: "gigabytes", Max: 2})},
			extend, 1, "gigabytes",
			"VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. Requested 1G, quota is 2G and 2G has been consumed.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newDeployment(t)
			l.do(tc.given...)
			l.do(fsm.CreateVolume{Volume: fsm.Volume{ID: "base", Size: 1, Host: n1, ProjectID: "p", VolumeType: "tin"}})
			l.finishOps(n1)
			for i := range tc.granted {
				l.do(tc.ask(i))
				l.finishOps(n1)
			}
			if tc.field == "" {
				return
			}
			err := l.s.Apply(fsm.Meta{Index: l.index, Term: l.term, At: noon}, tc.ask(tc.granted))
			equal(t, "code", fsm.CodeOf(err), fsm.ErrOverQuota)
			equal(t, "message", fmt.Sprint(err), tc.message)
		})
	}
}
