package chaos

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lockstep-storage/lockstep/api/client"
	"github.com/lockstep-storage/lockstep/cmd/internal/chaos/evidence"
	"github.com/lockstep-storage/lockstep/cmd/internal/chaos/lab"
	"github.com/lockstep-storage/lockstep/driverhost"
)

const (
	hosts          = 2 // that write data
	volumesPerHost = 2
	slots          = 6 // of each volume that are written to
	slotBytes      = 512
	slotStep       = 100 << 20 // from one slot to the next: blocks of their own
	replicatedType = "replicated"
)

// host uses some volumes, as a machine would that they are attached to. It is
// attached to the site that the cluster works on, and goes on with it for as long
// as the site lets it, whoever leads or not.
//
// A site admits its reads and writes under the lock that every driver call takes,
// as the array that the directories stand for would: that is what makes it exact
// which writes came before the site was closed.
type host struct {
	w       *world
	id      int
	volumes []string
	site    string // that it is attached to; empty: none
	epoch   uint64
	fresh   map[slot]bool // slots that were read since it was attached
	seq     int64
}

type slot struct {
	volume string
	number int
}

// siteToken is the part of a site's token file that a host looks at.
type siteToken struct {
	Role  string           `json:"role"`
	Token driverhost.Token `json:"token"`
}

// roleActive is the role of a site in use.
const roleActive = "active"

var errClosed = errors.New("the site is closed")

func (h *host) run(ctx context.Context) {
	rnd := newRand(h.w.seen.Run.Seed, uint64(2000+h.id)) //nolint:gosec // few
	for wait(ctx, between(rnd, 5*time.Millisecond, 60*time.Millisecond)) {
		if h.site == "" && !h.attach(ctx) {
			continue
		}
		s := slot{h.volumes[rnd.IntN(len(h.volumes))], rnd.IntN(slots)}
		err := h.use(ctx, s, rnd.IntN(3) > 0)
		if errors.Is(err, errClosed) {
			h.site = ""
		}
	}
}

// attach finds the site in use.
func (h *host) attach(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	cl, err := h.w.all.Cluster(ctx, lab.Cluster)
	if err != nil || cl.Held {
		return false
	}
	h.site, h.epoch, h.fresh = cl.ActiveBackendID, cl.Epoch, map[slot]bool{}
	return true
}

// use reads a slot, and writes to it if it has been read since the host was
// attached.
func (h *host) use(ctx context.Context, s slot, write bool) error {
	a := access{evidence.Access{Volume: s.volume, Slot: s.number, Site: h.site, Write: write && h.fresh[s]}}
	dir := h.w.lab.SiteDir(h.site)
	err := underLock(ctx, dir, func(t siteToken) error {
		if t.Role != roleActive || t.Token.Epoch > h.epoch {
			return errClosed
		}
		a.Epoch, a.Begin = t.Token.Epoch, evidence.Now()
		if a.Write {
			h.seq++
			a.Seq = h.seq
		}
		return a.perform(dir)
	})
	a.End = evidence.Now()
	switch {
	case a.Begin == 0, err != nil && !a.Write: // nothing was done
		return err
	case err != nil:
		a.Failed = err.Error()
	default:
		h.fresh[s] = true
	}
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.w.seen.Data = append(h.w.seen.Data, a.Access)
	return err
}

// access is one read or write.
type access struct{ evidence.Access }

// perform reads or writes the slot at a site.
func (a *access) perform(dir string) (err error) {
	mode := os.O_RDONLY
	if a.Write {
		mode = os.O_WRONLY
	}
	f, err := os.OpenFile(filepath.Join(dir, "volumes", "volume-"+a.Volume), mode, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	at := int64(a.Slot) * slotStep
	if !a.Write {
		content := make([]byte, slotBytes)
		if _, err := f.ReadAt(content, at); err != nil {
			return err
		}
		a.Seq = decodeSlot(a.Volume, a.Slot, content)
		return nil
	}
	if _, err := f.WriteAt(encodeSlot(a.Volume, a.Slot, a.Seq), at); err != nil {
		return err
	}
	return f.Sync()
}

// encodeSlot is the content of a slot: its number and that of the write, and bytes
// that follow from these and the volume.
func encodeSlot(volume string, number int, seq int64) []byte {
	content := binary.BigEndian.AppendUint64(nil, uint64(seq)) //nolint:gosec // counts from 1
	for i := 0; len(content) < slotBytes; i++ {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %d %d", volume, number, seq, i))
		content = append(content, sum[:]...)
	}
	return content[:slotBytes]
}

// decodeSlot returns the number of the write that a slot holds.
func decodeSlot(volume string, number int, content []byte) int64 {
	seq := int64(binary.BigEndian.Uint64(content)) //nolint:gosec // as it was written, or Torn
	switch string(content) {
	case string(make([]byte, slotBytes)):
		return 0
	case string(encodeSlot(volume, number, seq)):
		return seq
	}
	return evidence.Torn
}

// lockPatience is how long a host waits for the lock of a site: a driver that is
// stopped may hold it.
const lockPatience = 500 * time.Millisecond

// underLock calls do while the site's lock is held, shared with other hosts.
func underLock(ctx context.Context, dir string, do func(siteToken) error) (err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	err = awaitEvery(ctx, time.Millisecond, lockPatience, func(context.Context) error {
		return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	})
	if err != nil {
		return err
	}
	t, err := readToken(dir)
	if err != nil {
		return err
	}
	return do(t)
}

func readToken(dir string) (t siteToken, err error) {
	content, err := os.ReadFile(filepath.Join(dir, "token"))
	if err != nil {
		return t, err
	}
	return t, json.Unmarshal(content, &t)
}

func decodeClusters(content []byte) ([]client.Cluster, error) {
	var body struct {
		Clusters []client.Cluster `json:"clusters"`
	}
	err := json.Unmarshal(content, &body)
	return body.Clusters, err
}

// lookEvery is how often the record of replication at each site is looked at.
const lookEvery = 25 * time.Millisecond

// syncedFile is the part of a site's record of replication that says whether a
// round was completed.
type syncedFile struct {
	Source  string           `json:"source"`
	Token   driverhost.Token `json:"token"`
	Started time.Time        `json:"started"`
}

// watchRounds notes each complete round of replication, until the context ends.
func (w *world) watchRounds(ctx context.Context) {
	last, looked := map[string]syncedFile{}, map[string]int64{}
	for wait(ctx, lookEvery) {
		for _, site := range lab.Sites() {
			before := looked[site]
			looked[site] = evidence.Now()
			now, err := readSynced(w.lab.SiteDir(site))
			if err != nil || now == last[site] {
				continue
			}
			last[site] = now
			w.mu.Lock()
			w.seen.Rounds = append(w.seen.Rounds, evidence.Round{
				Site: site, Source: now.Source, Token: now.Token, After: before, By: evidence.Now(),
			})
			w.mu.Unlock()
		}
	}
}

func readSynced(dir string) (s syncedFile, err error) {
	content, err := os.ReadFile(filepath.Join(dir, "synced"))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	err = json.Unmarshal(content, &s)
	s.Started = s.Started.Round(0)
	return s, err
}
