package file_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/driverhost/file"
)

// A volume is created at the primary, and is there after a switchover.
func ExampleNew() {
	dir, err := os.MkdirTemp("", "sites")
	check(err)
	defer func() { check(os.RemoveAll(dir)) }()
	cfg := file.DefaultConfig()
	cfg.Sites = map[string]string{file.Primary: filepath.Join(dir, "a"), "site-b": filepath.Join(dir, "b")}
	open, err := file.New(cfg)
	check(err)
	ctx := context.Background()
	d, err := open(ctx, driverhost.OpenRequest{Node: "node1", Host: "node1@files", ActiveBackendID: file.Primary})
	check(err)
	defer func() { check(d.Close()) }()

	v := driverhost.Volume{ID: "0b5f", SizeGiB: 1, Replicated: true}
	_, err = d.CreateVolume(ctx, driverhost.VolumeRequest{Token: driverhost.Token{Epoch: 1}, Volume: v})
	check(err)

	token := driverhost.Token{Epoch: 2, Claim: 17}
	aa, ok := d.(driverhost.ActiveActive)
	fmt.Println("active/active:", ok)
	res, err := aa.Failover(ctx, driverhost.FailoverRequest{
		Token: token, ID: "f1", From: file.Primary, Target: "site-b", Planned: true, Volumes: []driverhost.Volume{v},
	})
	check(err)
	check(aa.FailoverCompleted(ctx, driverhost.FailoverCompletedRequest{Token: token, ActiveBackendID: "site-b"}))
	path, err := filepath.Rel(dir, res.Volumes[0].ProviderLocation)
	check(err)
	fmt.Println(path)

	// Output:
	// active/active: true
	// b/volumes/volume-0b5f
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
