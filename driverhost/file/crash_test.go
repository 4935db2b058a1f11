package file_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/driverhost/file"
)

// crashDir names the directory of the sites in the environment of a process
// that is there to be killed.
const crashDir = "LOCKSTEP_FILE_TEST_SITES"

// crashBlocks is the number of blocks that each generation of the data changes.
const crashBlocks = 64

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		fmt.Fprintln(os.Stderr, replicateUntilKilled(context.Background(), dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func crashConfig(dir string) file.Config {
	cfg := file.DefaultConfig()
	cfg.BlockSize = block
	cfg.Sites = map[string]string{primary: dir + "/a", secondary: dir + "/b"}
	return cfg
}

// replicateUntilKilled writes one generation of data after the other, each to
// all blocks, and replicates each in a round of its own. It says so before each.
func replicateUntilKilled(ctx context.Context, dir string) error {
	open, err := file.New(crashConfig(dir))
	if err != nil {
		return err
	}
	opened, err := open(ctx, driverhost.OpenRequest{Node: "node1", ActiveBackendID: primary})
	if err != nil {
		return err
	}
	d, ok := opened.(*file.Driver)
	if !ok {
		return fmt.Errorf("driver is a %T", opened)
	}
	if err := d.Close(); err != nil { // no rounds but ours: they would see half a generation
		return err
	}
	up, err := d.CreateVolume(ctx, driverhost.VolumeRequest{Token: epoch(1), Volume: replicated("v1")})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(up.ProviderLocation, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	for generation := 1; ; generation++ {
		if _, err := f.WriteAt(bytes.Repeat(pattern(byte(generation)), crashBlocks), 0); err != nil {
			return err
		}
		fmt.Println(generation)
		if err := d.Round(ctx, primary, secondary, epoch(1)); err != nil {
			return err
		}
	}
}

// A process is killed somewhere in a round. What is promoted then is one whole
// generation: that of the round, or the one before.
func TestKilledWhileReplicating(t *testing.T) {
	t.Parallel()
	for kill := range 10 {
		t.Run(fmt.Sprint(kill), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			last := killWhenReplicating(t, dir, kill+2)
			b := &backend{t: t, cfg: crashConfig(dir)}
			b.cfg.LastSyncTimeout = 0
			d := b.open("node2", secondary)
			res, err := failover(t.Context(), d, epoch(2), secondary, replicated("v1"))
			noneFailed(t, res, err)
			first := readBlock(t, b.volume(secondary, "v1"), 0)
			for i := range int64(crashBlocks) {
				if !bytes.Equal(readBlock(t, b.volume(secondary, "v1"), i), first) {
					t.Fatalf("block %d is of another generation than block 0", i)
				}
			}
			if now, before := pattern(byte(last)), pattern(byte(last-1)); !bytes.Equal(first, now) && !bytes.Equal(first, before) {
				t.Errorf("the volume is neither of generation %d nor of the one before", last)
			}
		})
	}
}

// killWhenReplicating starts a process and kills it in or after the given round.
// It returns the last one that the process began.
func killWhenReplicating(t *testing.T, dir string, round int) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	last := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		last, err = strconv.Atoi(lines.Text())
		must(t, err)
		if last == round {
			must(t, cmd.Process.Kill())
		}
	}
	if err := cmd.Wait(); err == nil || last < round {
		t.Fatalf("the process ended by itself in round %d: %v", last, err)
	}
	return last
}
