package process_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/driverhost/process"
)

// TestMain lets the test binary be a driver, an agent, or something that is neither.
func TestMain(m *testing.M) {
	role := ""
	if len(os.Args) > 1 {
		role = os.Args[1]
	}
	switch role {
	case "driver":
		if err := process.Serve(context.Background(), openTested); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "agent":
		runAgent(os.Args[2], os.Args[3])
	case "garbage":
		fmt.Println(strings.Repeat("no driver at all ", 10_000))
		select {} // like something that waits for input
	case "old":
		fmt.Println("1|999|unix|/nowhere|grpc")
		time.Sleep(time.Hour)
	case "exit":
		os.Exit(3)
	case "unreachable":
		fmt.Println("1|1|unix|/nowhere|grpc")
		time.Sleep(time.Hour)
	default:
		os.Exit(m.Run())
	}
}

// testOptions are those of the tested driver.
type testOptions struct {
	Journal string `json:"journal"` // calls are noted here
	Lacks   bool   `json:"lacks"`   // it has none of the optional interfaces
	Refuse  string `json:"refuse"`  // why it does not open
}

// tested is a driver that does what the id of the volume says.
type tested struct {
	opts testOptions
	log  hclog.Logger
	mu   sync.Mutex

	turns int
}

func openTested(_ context.Context, req driverhost.OpenRequest, options []byte) (driverhost.Driver, error) {
	d := &tested{log: req.Logger}
	if err := json.Unmarshal(options, &d.opts); err != nil {
		return nil, err
	}
	if d.opts.Refuse != "" {
		return nil, errors.New(d.opts.Refuse)
	}
	d.log.Warn("opened", "site", req.ActiveBackendID)
	if d.opts.Lacks {
		return d, nil
	}
	return capable{d}, nil
}

// note writes a line with the time of the machine.
func (d *tested) note(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := os.OpenFile(d.opts.Journal, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	now, _ := driverhost.BootTime()
	_, _ = fmt.Fprintf(f, "%d %d %s\n", now, os.Getpid(), line)
	_ = f.Close()
}

func (d *tested) CreateVolumeFrom(_ context.Context, req driverhost.CopyRequest) (driverhost.VolumeUpdate, error) {
	d.note(fmt.Sprintf("copy %+v", req))
	return driverhost.VolumeUpdate{ProviderLocation: "copy"}, nil
}

func (d *tested) CreateVolume(ctx context.Context, req driverhost.VolumeRequest) (driverhost.VolumeUpdate, error) {
	id := req.Volume.ID
	d.log.Debug("asked for a volume", "id", id)
	d.note("begin " + id)
	defer d.note("end " + id)
	switch id {
	case "wait": // as a driver should
		<-ctx.Done()
		return driverhost.VolumeUpdate{}, context.Cause(ctx)
	case "late": // answers long after it was cancelled
		<-ctx.Done()
		d.note("cancelled")
		time.Sleep(300 * time.Millisecond)
		return driverhost.VolumeUpdate{}, context.Cause(ctx)
	case "busy":
		for n := 0; ; n++ {
			d.turns = n
		}
	case "work": // makes requests to the storage without a look at the context
		for {
			if err := driverhost.Allowed(ctx); err != nil {
				return driverhost.VolumeUpdate{}, err
			}
			d.note("request")
			time.Sleep(time.Millisecond)
		}
	case "crash":
		os.Exit(7)
	case "leave": // leaves something behind that nobody can kill through the group
		cmd := exec.CommandContext(context.WithoutCancel(ctx), "sleep", "3600")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		cmd.ExtraFiles = []*os.File{os.Stderr} // takes the place of the lock
		if err := cmd.Start(); err != nil {
			return driverhost.VolumeUpdate{}, err
		}
		return driverhost.VolumeUpdate{ProviderID: fmt.Sprint(cmd.Process.Pid)}, nil
	case "huge":
		return driverhost.VolumeUpdate{ReplicationDriverData: strings.Repeat("x", 2<<20)}, nil
	case "failing":
		return driverhost.VolumeUpdate{}, fmt.Errorf("array says \xff: %w and %w", driverhost.ErrFenced, driverhost.ErrBusy)
	case "long":
		select {
		case <-time.After(time.Duration(req.Volume.SizeGiB) * time.Millisecond):
		case <-ctx.Done():
			return driverhost.VolumeUpdate{}, context.Cause(ctx)
		}
	}
	return driverhost.VolumeUpdate{ProviderLocation: fmt.Sprintf("%s@%d.%d", id, req.Token.Epoch, req.Token.Claim)}, driverhost.Allowed(ctx)
}

func (d *tested) FreezeBackend(context.Context, driverhost.Token) error { return nil }
func (d *tested) ThawBackend(context.Context, driverhost.Token) error   { return nil }
func (d *tested) DeleteVolume(_ context.Context, req driverhost.VolumeRequest) error {
	d.note(fmt.Sprintf("delete %+v", req))
	return nil
}

func (d *tested) ExtendVolume(_ context.Context, req driverhost.ExtendVolumeRequest) error {
	d.note(fmt.Sprintf("extend %+v", req))
	return nil
}

func (d *tested) CreateSnapshot(_ context.Context, req driverhost.SnapshotRequest) error {
	d.note(fmt.Sprintf("snapshot %+v", req))
	return nil
}

func (d *tested) DeleteSnapshot(_ context.Context, req driverhost.SnapshotRequest) error {
	d.note(fmt.Sprintf("unsnapshot %+v", req))
	return nil
}

func (d *tested) Stats(context.Context) (driverhost.Stats, error) {
	return driverhost.Stats{
		At: time.Unix(1, 2), TotalCapacityGiB: 3,
		Targets: []driverhost.TargetStats{{BackendID: "site-b", Lag: -1, Error: "not \xff copied"}},
	}, errors.New("half measured")
}

func (d *tested) Close() error {
	d.note("close")
	return nil
}

type capable struct{ *tested }

func (c capable) ManageVolume(_ context.Context, req driverhost.ManageVolumeRequest) (driverhost.ManagedVolume, error) {
	c.note(fmt.Sprintf("manage %+v", req))
	return driverhost.ManagedVolume{SizeGiB: 3, VolumeUpdate: driverhost.VolumeUpdate{ProviderID: "p"}}, nil
}

func (c capable) UnmanageVolume(_ context.Context, req driverhost.VolumeRequest) error {
	c.note(fmt.Sprintf("unmanage %+v", req))
	return nil
}

func (c capable) ManageableVolumes(context.Context) ([]driverhost.Manageable, error) {
	var all []driverhost.Manageable
	for i := range 12_000 { // more than fit into one message
		all = append(all, driverhost.Manageable{Reference: fmt.Sprintf("lun-%0200d\xff", i), SizeGiB: 1, Unsafe: "busy"})
	}
	return all, nil
}

func (c capable) RetypeVolume(_ context.Context, req driverhost.RetypeVolumeRequest) error {
	c.note(fmt.Sprintf("retype %+v", req))
	return nil
}

// Failover answers for every volume, and fails those whose name says so.
func (c capable) Failover(_ context.Context, req driverhost.FailoverRequest) (driverhost.FailoverResult, error) {
	switch req.ID {
	case "refused":
		return driverhost.FailoverResult{}, fmt.Errorf("no: %w", driverhost.ErrUnableToFailOver)
	case "nothing":
		return driverhost.FailoverResult{}, nil
	}
	var out driverhost.FailoverResult
	for _, v := range req.Volumes {
		r := driverhost.VolumeResult{VolumeID: v.ID, Failed: v.Name == "fails", Error: v.Name}
		r.ProviderLocation = v.ReplicationDriverData
		out.Volumes = append(out.Volumes, r)
	}
	return out, nil
}

func (c capable) FailoverCompleted(_ context.Context, req driverhost.FailoverCompletedRequest) error {
	c.note(fmt.Sprintf("completed %+v", req))
	return nil
}

func (c capable) Demote(_ context.Context, req driverhost.DemoteRequest) error {
	c.note(fmt.Sprintf("demote %s %s>%s %d", req.ID, req.From, req.Target, len(req.Volumes)))
	return nil
}

// lease is a lease that the test moves.
type lease struct {
	span    time.Duration // that it had at first
	mu      sync.Mutex
	until   time.Duration
	renewed chan struct{}
}

func leased(d time.Duration) *lease {
	l := &lease{span: d, renewed: make(chan struct{})}
	l.renew(d)
	return l
}

// keep renews the lease until stop is called, a last time then.
func (l *lease) keep() (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(l.span / 5)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				l.renew(l.span)
			case <-done:
				l.renew(l.span)
				return
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}

// renew makes the lease last for d from now.
func (l *lease) renew(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, _ := driverhost.BootTime()
	l.until = now + d
	close(l.renewed)
	l.renewed = make(chan struct{})
}

func (l *lease) Deadline() (time.Duration, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now, _ := driverhost.BootTime(); l.until <= now {
		return 0, l.renewed
	}
	return l.until, l.renewed
}

// end returns when the lease ends, or has ended.
func (l *lease) end() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.until
}

// killAfter is K of the tests.
const killAfter = 800 * time.Millisecond

// runAgent is an agent with one driver and one call in flight, under a lease of two
// seconds that it renews as long as it runs.
func runAgent(dir, volume string) {
	open, err := process.New(config(dir, ""))
	if err == nil {
		var d driverhost.Driver
		l := leased(2 * time.Second)
		defer l.keep()()
		if d, err = open(context.Background(), request(l, nil, hclog.NewNullLogger())); err == nil {
			_, err = d.CreateVolume(context.Background(), driverhost.VolumeRequest{Volume: driverhost.Volume{ID: volume}})
		}
	}
	fmt.Fprintln(os.Stderr, err)
	time.Sleep(time.Hour)
}

func config(dir, more string) process.Config {
	return process.Config{
		Command: []string{os.Args[0], "driver"}, Options: fmt.Appendf(nil, `{"journal": %q%s}`, dir+"/journal", more),
		Lock: dir + "/drivers/lock", Kill: killAfter, StartTimeout: 5 * time.Second,
	}
}

func request(l driverhost.Deadline, onStuck func(bool), logger hclog.Logger) driverhost.OpenRequest {
	return driverhost.OpenRequest{
		Node: "n1", Host: "n1@aa", Cluster: "c@aa", ActiveBackendID: "default", Token: driverhost.Token{Epoch: 1},
		Logger: logger, Lease: l, OnStuck: onStuck,
	}
}
