package file_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/lockstep-storage/lockstep/driverhost"
)

const group = "0c1d"

// grouped is a volume of the group, which is at a site.
func grouped(id, site string) driverhost.Volume {
	v := replicated(id)
	v.Group, v.Site = group, site
	return v
}

// in is the path of the volume g1 of the group at a site.
func (b *backend) in(site string) string {
	return b.path(site, "groups", group, "volumes", "volume-g1")
}

func (b *backend) replicaIn(site string) string {
	return b.path(site, "groups", group, "replicas", "volume-g1")
}

// moveGroup asks for a failover of the group alone.
func moveGroup(token driverhost.Token, from, target string, vs ...driverhost.Volume) driverhost.FailoverRequest {
	return driverhost.FailoverRequest{
		Token: token, ID: "group", From: from, Target: target, Volumes: vs, Group: group,
		Groups: []driverhost.GroupMove{{ID: group, From: from, Target: target}},
	}
}

// alike waits until two files have the same bytes.
func alike(t *testing.T, a, c string) {
	t.Helper()
	want, size := head(t, a)
	eventually(t, c+" is like "+a, func() bool {
		if _, err := os.Stat(c); err != nil {
			return false
		}
		got, length := head(t, c)
		return got == want && length == size
	})
}

// A failover of a group moves its volumes, byte by byte, and nothing else: the others go
// on being served where they were, under the new epoch, and the group comes back the
// same way.
func TestGroupFailover(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary, third)
	d1, d2 := b.open("node1", primary), b.open("node2", primary)
	g, v := grouped("g1", primary), replicated("v1")
	create(t, d1, epoch(1), g)
	create(t, d2, epoch(1), v)
	write(t, b.in(primary), 3*block, pattern(1))
	write(t, b.volume(primary, "v1"), 3*block, pattern(2))
	alike(t, b.in(primary), b.replicaIn(secondary))
	b.synced(d1, secondary)

	res, err := d2.Failover(t.Context(), moveGroup(epoch(2), primary, secondary, g))
	noneFailed(t, res, err)
	if got := res.Volumes[0].ProviderLocation; len(res.Volumes) != 1 || got != b.in(secondary) {
		t.Errorf("results: %+v", res.Volumes)
	}
	if !bytes.Equal(readBlock(t, b.in(secondary), 3), pattern(1)) {
		t.Error("the group's volume has other bytes at the secondary")
	}
	missing(t, b.volume(secondary, "v1"))
	missing(t, b.in(third))

	// A member of the old epoch cannot touch the group at the old site.
	err = d1.ExtendVolume(t.Context(), driverhost.ExtendVolumeRequest{Token: epoch(1), Volume: g, NewSizeGiB: 2})
	wantErr(t, err, driverhost.ErrFenced)
	// Both are told the epoch, whose site has not changed, and serve each where it is.
	use(t, primary, epoch(2), d1, d2)
	there := grouped("g1", secondary)
	must(t, d1.ExtendVolume(t.Context(), driverhost.ExtendVolumeRequest{Token: epoch(2), Volume: there, NewSizeGiB: 2}))
	must(t, d2.ExtendVolume(t.Context(), driverhost.ExtendVolumeRequest{Token: epoch(2), Volume: v, NewSizeGiB: 2}))
	must(t, d2.CreateSnapshot(t.Context(), driverhost.SnapshotRequest{Token: epoch(2), Snapshot: driverhost.Snapshot{ID: "s1", Volume: there}}))
	create(t, d1, epoch(2), grouped("g2", secondary))
	write(t, b.in(secondary), 5*block, pattern(3))
	alike(t, b.in(secondary), b.replicaIn(primary))
	alike(t, b.in(secondary), b.replicaIn(third))

	req := moveGroup(epoch(3), secondary, primary, there, grouped("g2", secondary))
	req.Planned = true
	must(t, d1.Demote(t.Context(), driverhost.DemoteRequest{
		Token: req.Token, ID: req.ID, From: req.From, Target: req.Target, Volumes: req.Volumes, Group: req.Group, Groups: req.Groups,
	}))
	res, err = d1.Failover(t.Context(), req)
	noneFailed(t, res, err)
	for at, want := range map[int64][]byte{3: pattern(1), 5: pattern(3)} {
		if !bytes.Equal(readBlock(t, b.in(primary), at), want) {
			t.Errorf("block %d is other at the primary", at)
		}
	}
}

// A failover of the backend takes every group along, wherever it is.
func TestFailoverTakesGroupsAlong(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary, third)
	d := b.open("node1", primary)
	g, v := grouped("g1", primary), replicated("v1")
	create(t, d, epoch(1), g)
	create(t, d, epoch(1), v)
	write(t, b.in(primary), 3*block, pattern(1))
	alike(t, b.in(primary), b.replicaIn(secondary))
	res, err := d.Failover(t.Context(), moveGroup(epoch(2), primary, secondary, g))
	noneFailed(t, res, err)
	use(t, primary, epoch(2), d)
	write(t, b.in(secondary), 4*block, pattern(2))
	alike(t, b.in(secondary), b.replicaIn(third))
	b.synced(d, third)

	res, err = d.Failover(t.Context(), driverhost.FailoverRequest{
		Token: epoch(3), ID: "all", From: primary, Target: third, Volumes: []driverhost.Volume{v, grouped("g1", secondary)},
		Groups: []driverhost.GroupMove{{ID: group, From: secondary, Target: third}, {ID: "empty", From: primary, Target: third}},
	})
	noneFailed(t, res, err)
	if len(res.Volumes) != 2 || !bytes.Equal(readBlock(t, b.in(third), 4), pattern(2)) {
		t.Errorf("results: %+v", res.Volumes)
	}
	for _, site := range []string{primary, secondary} {
		err := d.ExtendVolume(t.Context(), driverhost.ExtendVolumeRequest{Token: epoch(2), Volume: grouped("g1", site), NewSizeGiB: 2})
		wantErr(t, err, driverhost.ErrFenced)
	}
}

// If one part of a planned failover refuses, no part is promoted, and all are opened
// again where they were.
func TestOneGroupRefusesForAll(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("node1", primary)
	g, v := grouped("g1", primary), replicated("v1")
	create(t, d, epoch(1), g)
	create(t, d, epoch(1), v)
	alike(t, b.in(primary), b.replicaIn(secondary))
	damage := b.path(primary, "groups", group, "meta", "volume-damaged")
	must(t, os.WriteFile(damage, nil, 0o600))
	_, err := d.Failover(t.Context(), driverhost.FailoverRequest{
		Token: epoch(2), ID: "all", From: primary, Target: secondary, Planned: true, Volumes: []driverhost.Volume{v, g},
		Groups: []driverhost.GroupMove{{ID: group, From: primary, Target: secondary}},
	})
	wantErr(t, err, driverhost.ErrUnableToFailOver)
	missing(t, b.volume(secondary, "v1"))
	missing(t, b.in(secondary))
	create(t, d, epoch(1), replicated("v2"))
	create(t, d, epoch(1), grouped("g2", primary))
}

// Copies are made where the group is.
func TestCopiesOfGroups(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("node1", primary)
	create(t, d, epoch(1), replicated("v1"))
	write(t, b.volume(primary, "v1"), 3*block, pattern(1))
	_, err := d.CreateVolumeFrom(t.Context(), driverhost.CopyRequest{Token: epoch(1), Volume: grouped("g1", primary), SourceVolume: "v1"})
	must(t, err)
	_, err = d.CreateVolumeFrom(t.Context(), driverhost.CopyRequest{Token: epoch(1), Volume: replicated("v2"), SourceVolume: "g1", SourceGroup: group})
	must(t, err)
	same(t, b.volume(primary, "v1"), b.in(primary))
	same(t, b.in(primary), b.volume(primary, "v2"))
	must(t, d.DeleteVolume(t.Context(), driverhost.VolumeRequest{Token: epoch(1), Volume: grouped("g1", primary)}))
	missing(t, b.in(primary))
}
