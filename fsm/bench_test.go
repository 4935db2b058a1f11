package fsm_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/tidwall/btree"

	"github.com/lockstep-storage/lockstep/fsm"
)

// sizes are the numbers of volumes that benchmarks run at.
func sizes(b *testing.B, run func(b *testing.B, volumes int)) {
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("volumes=%d", n), func(b *testing.B) { run(b, n) })
	}
}

// ids names volumes as Cinder does, in random order: as their keys come in life.
type ids struct{ rng *rand.Rand }

func newIDs() *ids { return &ids{rand.New(rand.NewPCG(1, 2))} } //nolint:gosec // names, not secrets

func (g *ids) next() string {
	hi, lo := g.rng.Uint64(), g.rng.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", hi>>32, hi>>16&0xffff, hi&0xfff, lo>>48, lo&0xffffffffffff)
}

// create is a request as the API makes it.
func create(id string, i int) fsm.CreateVolume {
	return fsm.CreateVolume{Volume: fsm.Volume{
		ID: id, ProjectID: "5f4dcc3b5aa765d61d8327deb882cf99", UserID: "e10adc3949ba59abbe56e057f20f883e",
		Name: fmt.Sprintf("database-%07d", i), Size: 100, VolumeType: "replicated-gold",
		Replicated: i%10 != 0, Host: n1,
	}}
}

func location(id, site string) fsm.VolumeUpdate {
	return fsm.VolumeUpdate{ProviderLocation: "/srv/lockstep/sites/" + site + "/volumes/volume-" + id}
}

// commit applies cmd as a node does: from the bytes of its entry.
func (l *log) commit(cmd fsm.Command) {
	l.tb.Helper()
	entry, err := fsm.Encode(fsm.Meta{At: l.now}, cmd)
	if err != nil {
		l.tb.Fatal(err)
	}
	_, decoded, err := fsm.Decode(entry)
	if err != nil {
		l.tb.Fatal(err)
	}
	l.do(decoded)
}

// add creates a volume and ends its creation.
func (l *log) add(id string, i int) {
	l.commit(create(id, i))
	l.commit(fsm.EndOperation{Operation: l.index, Host: n1, Epoch: l.cluster(dev).Epoch, Update: location(id, "default")})
}

// build returns a deployment with volumes, and their ids.
func build(tb testing.TB, volumes int) (*log, []string) {
	tb.Helper()
	l, g := newDeployment(tb), newIDs()
	names := make([]string, volumes)
	for i := range names {
		names[i] = g.next()
		l.add(names[i], i)
	}
	return l, names
}

// built holds what fill has built: benchmarks run one after the other.
var built = map[int]struct {
	l     *log
	names []string
}{}

// fill returns what build does, and builds each only once.
func fill(tb testing.TB, volumes int) (*log, []string) {
	tb.Helper()
	have, ok := built[volumes]
	if !ok {
		have.l, have.names = build(tb, volumes)
		built[volumes] = have
	}
	l := *have.l
	l.tb, l.s = tb, have.l.s.Clone()
	return &l, have.names
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkMemory reports the bytes of heap that one volume takes.
func BenchmarkMemory(b *testing.B) {
	sizes(b, func(b *testing.B, volumes int) {
		for b.Loop() {
			before := heap()
			l, names := build(b, volumes)
			grown := heap() - before - uint64(16*len(names))
			b.ReportMetric(float64(grown)/float64(volumes), "B/volume")
			runtime.KeepAlive(l)
			runtime.KeepAlive(names)
		}
	})
}

// BenchmarkCreate is a volume's creation: the request and the end of the driver's
// call, each decoded from its entry and applied.
func BenchmarkCreate(b *testing.B) {
	sizes(b, func(b *testing.B, volumes int) {
		l, _ := fill(b, volumes)
		g := &ids{rand.New(rand.NewPCG(3, 4))} //nolint:gosec // names, not secrets
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			l.add(g.next(), i)
			i++
		}
	})
}

// stopwatch keeps the longest time of each of several things, by the clock and by
// the processor.
type stopwatch map[string]time.Duration

func (w stopwatch) time(what string, do func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start, used := time.Now(), cpuTime()
	do()
	w[what+"-max-ms"] = max(w[what+"-max-ms"], time.Since(start))
	w[what+"-max-cpu-ms"] = max(w[what+"-max-cpu-ms"], cpuTime()-used)
}

func (w stopwatch) report(b *testing.B) {
	for what, d := range w {
		b.ReportMetric(float64(d.Microseconds())/1000, what)
	}
}

// BenchmarkFailover is a failover whose driver reports on some volumes or on all
// of them. It gives the longest apply of each kind: as long do others wait.
func BenchmarkFailover(b *testing.B) {
	sizes(b, func(b *testing.B, volumes int) {
		for _, results := range []int{1_000, volumes} {
			b.Run(fmt.Sprintf("results=%d", results), func(b *testing.B) {
				l, names := fill(b, volumes)
				w := stopwatch{}
				n := 0
				for b.Loop() {
					n++
					l.failoverWithResults(fmt.Sprintf("f%d", n), []string{"site-b", "default"}[(n+1)%2], names[:results], w)
				}
				w.report(b)
			})
		}
	})
}

func (l *log) failoverWithResults(id, target string, names []string, w stopwatch) {
	l.claimed(id, target)
	f := l.failover(id)
	for rest := names; len(rest) > 0; {
		chunk := rest[:min(len(rest), fsm.MaxStagedResults)]
		rest = rest[len(chunk):]
		results := make([]fsm.VolumeResult, len(chunk))
		for i, name := range chunk {
			results[i] = fsm.VolumeResult{VolumeID: name, Failed: i%100 == 0, VolumeUpdate: location(name, target)}
		}
		cmd := fsm.StageResults{Failover: id, Attempt: f.Attempt, ClaimIndex: f.ClaimIndex, Results: results}
		w.time("stage", func() { l.do(cmd) })
	}
	w.time("completed", func() { l.do(l.completed(id, uint64(len(names)))) })
	l.tell()
	l.do(fsm.FinishFailover{Failover: id, Attempt: f.Attempt, Term: l.term})
	for {
		cmds := l.s.Plan(l.sees())
		if len(cmds) == 0 {
			return
		}
		w.time("settle", func() { l.do(cmds...) })
	}
}

// BenchmarkClone is what a snapshot costs the goroutine that applies.
func BenchmarkClone(b *testing.B) {
	sizes(b, func(b *testing.B, volumes int) {
		l, _ := fill(b, volumes)
		for b.Loop() {
			runtime.KeepAlive(l.s.Clone())
		}
	})
}

// BenchmarkSnapshot writes the whole state.
func BenchmarkSnapshot(b *testing.B) {
	sizes(b, func(b *testing.B, volumes int) {
		l, _ := fill(b, volumes)
		for b.Loop() {
			n, err := l.s.WriteTo(io.Discard)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(n)
		}
	})
}

// BenchmarkRestore reads a whole state.
func BenchmarkRestore(b *testing.B) {
	sizes(b, func(b *testing.B, volumes int) {
		l, _ := fill(b, volumes)
		var snapshot bytes.Buffer
		if _, err := l.s.WriteTo(&snapshot); err != nil {
			b.Fatal(err)
		}
		l.s = nil
		b.SetBytes(int64(snapshot.Len()))
		for b.Loop() {
			if _, err := fsm.ReadState(bytes.NewReader(snapshot.Bytes())); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkSnapshotStall applies while a snapshot is written from a clone, and
// gives the longest apply.
func BenchmarkSnapshotStall(b *testing.B) {
	sizes(b, func(b *testing.B, volumes int) {
		l, _ := fill(b, volumes)
		g := &ids{rand.New(rand.NewPCG(5, 6))} //nolint:gosec // names, not secrets
		w, applies := stopwatch{}, 0
		for b.Loop() {
			var clone *fsm.State
			w.time("clone", func() { clone = l.s.Clone() })
			written := make(chan error, 1)
			go func() {
				_, err := clone.WriteTo(io.Discard)
				written <- err
			}()
			for writing := true; writing; applies++ {
				select {
				case err := <-written:
					if err != nil {
						b.Fatal(err)
					}
					writing = false
				default:
					w.time("apply", func() { l.add(g.next(), applies) })
					time.Sleep(100 * time.Microsecond) // a log that commits 10,000 times a second
				}
			}
		}
		w.report(b)
		b.ReportMetric(float64(applies)/float64(b.N), "applies/op")
	})
}

// BenchmarkPlan is one look of the leader at a state with nothing to do.
func BenchmarkPlan(b *testing.B) {
	for _, clusters := range []int{1, 100, 300} {
		b.Run(fmt.Sprintf("clusters=%d", clusters), func(b *testing.B) {
			l := newLog(b)
			for c := range clusters {
				for node := range 3 {
					l.do(fsm.RegisterService{
						Host: fmt.Sprintf("node%d@b%d", node, c), Node: fmt.Sprintf("node%d", node), Cluster: fmt.Sprintf("c@b%d", c),
					})
				}
			}
			o := l.sees()
			for b.Loop() {
				l.s.Plan(o)
			}
		})
	}
}

// BenchmarkCodec encodes and decodes a request in CBOR, as the log does, and in
// JSON.
func BenchmarkCodec(b *testing.B) {
	cmd := create(newIDs().next(), 1)
	entry, err := fsm.Encode(fsm.Meta{Request: "r", At: noon}, cmd)
	if err != nil {
		b.Fatal(err)
	}
	text, err := json.Marshal(cmd)
	if err != nil {
		b.Fatal(err)
	}
	for _, bc := range []struct {
		name string
		size int
		run  func() error
	}{
		{"cbor/encode", len(entry), func() error { _, err := fsm.Encode(fsm.Meta{Request: "r", At: noon}, cmd); return err }},
		{"cbor/decode", len(entry), func() error { _, _, err := fsm.Decode(entry); return err }},
		{"json/encode", len(text), func() error { _, err := json.Marshal(cmd); return err }},
		{"json/decode", len(text), func() error { var c fsm.CreateVolume; return json.Unmarshal(text, &c) }},
	} {
		b.Run(bc.name, func(b *testing.B) {
			b.ReportAllocs()
			b.ReportMetric(float64(bc.size), "B")
			for b.Loop() {
				if err := bc.run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkStore compares the tree that holds the records with a plain map: a
// write, and the pause that a consistent copy means for the writer.
func BenchmarkStore(b *testing.B) {
	const volumes = 1_000_000
	g := newIDs()
	names := make([]string, volumes)
	for i := range names {
		names[i] = g.next()
	}
	b.Run("btree/set", func(b *testing.B) {
		var tree btree.Map[string, *fsm.Volume]
		i := 0
		for b.Loop() {
			tree.Set(names[i%volumes], &fsm.Volume{})
			i++
		}
	})
	b.Run("map/set", func(b *testing.B) {
		plain := map[string]*fsm.Volume{}
		i := 0
		for b.Loop() {
			plain[names[i%volumes]] = &fsm.Volume{}
			i++
		}
	})
	b.Run("btree/copy", func(b *testing.B) {
		var tree btree.Map[string, *fsm.Volume]
		for _, name := range names {
			tree.Set(name, nil)
		}
		for b.Loop() {
			tree.Copy()
		}
	})
	b.Run("map/copy", func(b *testing.B) {
		plain := map[string]*fsm.Volume{}
		for _, name := range names {
			plain[name] = nil
		}
		for b.Loop() {
			values := make([]*fsm.Volume, 0, len(plain))
			for _, v := range plain {
				values = append(values, v)
			}
			runtime.KeepAlive(values)
		}
	})
}
