package fsm_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/lockstep-storage/lockstep/fsm"
)

// goldenEntries are the entries of the golden log.
func goldenEntries(tb testing.TB) [][]byte {
	tb.Helper()
	text, err := os.ReadFile(goldenLog)
	if err != nil {
		tb.Fatal(err)
	}
	var entries [][]byte
	for line := range strings.Lines(string(text)) {
		first, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if first == "digest" {
			break
		}
		entry, err := hex.DecodeString(rest)
		if err != nil {
			tb.Fatal(err)
		}
		entries = append(entries, entry)
	}
	return entries
}

func goldenState(tb testing.TB) []byte {
	tb.Helper()
	snapshot, err := os.ReadFile(goldenSnapshot)
	if err != nil {
		tb.Fatal(err)
	}
	return snapshot
}

// FuzzDecode offers bytes to the decoder. What it reads must apply, and must be
// the same command after another round.
func FuzzDecode(f *testing.F) {
	for _, entry := range goldenEntries(f) {
		f.Add(entry)
	}
	snapshot := goldenState(f)
	f.Fuzz(func(t *testing.T, entry []byte) {
		m, cmd, err := fsm.Decode(entry)
		if err != nil {
			if !errors.Is(err, fsm.ErrInvalid) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		again, err := fsm.Encode(m, cmd)
		if errors.Is(err, fsm.ErrTooLarge) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		m2, cmd2, err := fsm.Decode(again)
		if err != nil || m2 != m {
			t.Fatalf("%v after another round: %v", m2, err)
		}
		third, err := fsm.Encode(m2, cmd2)
		if err != nil || !bytes.Equal(third, again) {
			t.Fatalf("%x is %x after another round: %v", again, third, err)
		}
		for _, s := range []*fsm.State{fsm.NewState(), read(t, snapshot)} {
			m.Index, m.Term = s.Index()+1, 1
			_ = s.Apply(m, cmd) // a refusal is as good
			if digest(t, restored(t, s)) != digest(t, s) {
				t.Fatal("the snapshot of the state restores to another one")
			}
		}
	})
}

func read(tb testing.TB, snapshot []byte) *fsm.State {
	tb.Helper()
	s, err := fsm.ReadState(bytes.NewReader(snapshot))
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// FuzzReadState offers bytes as a snapshot. What is read must be usable.
func FuzzReadState(f *testing.F) {
	f.Add(goldenState(f))
	var empty bytes.Buffer
	if _, err := fsm.NewState().WriteTo(&empty); err != nil {
		f.Fatal(err)
	}
	f.Add(empty.Bytes())
	entries := goldenEntries(f)
	f.Fuzz(func(t *testing.T, snapshot []byte) {
		s, err := fsm.ReadState(bytes.NewReader(snapshot))
		if err != nil {
			return
		}
		l := &log{tb: t, s: s, index: s.Index(), term: 1, now: noon}
		s.Plan(l.sees())
		for svc := range s.Services() {
			s.Todo(svc.Host, 1)
		}
		for _, entry := range entries {
			m, cmd, err := fsm.Decode(entry)
			if err != nil {
				t.Fatal(err)
			}
			l.index++
			m.Index, m.Term = l.index, 1
			_ = s.Apply(m, cmd) // a refusal is as good
		}
		digest(t, s)
	})
}

func TestDecodeSurvivesHostileBytes(t *testing.T) {
	t.Parallel()
	const create = 22 // the kind of CreateVolume
	huge := binary.BigEndian.AppendUint64([]byte{1, create, 0xa0, 0x9b}, 1<<62)
	for name, entry := range map[string][]byte{
		"nothing":                     nil,
		"no kind":                     {1},
		"no header":                   {1, create},
		"format 0":                    {0, create, 0xa0, 0xa0},
		"a newer format":              {fsm.Format + 1, create, 0xa0, 0xa0},
		"kind 0":                      {1, 0, 0xa0, 0xa0},
		"a kind nobody knows":         {1, 255, 0xa0, 0xa0},
		"an array of a huge size":     huge,
		"a map of a huge size":        append([]byte{1, create, 0xa0, 0xbb}, huge[4:]...),
		"a string of a huge size":     append([]byte{1, create, 0xa0, 0xa1, 1, 0x7b}, huge[4:]...),
		"deep nesting":                append([]byte{1, create, 0xa0}, bytes.Repeat([]byte{0x81}, 1<<16)...),
		"deep nesting in the header":  append([]byte{1, create}, bytes.Repeat([]byte{0xa1, 1}, 1<<16)...),
		"deep nesting of tags":        append([]byte{1, create, 0xa0}, bytes.Repeat([]byte{0xc1}, 1<<16)...),
		"a body of another type":      {1, create, 0xa0, 0x01},
		"bytes after the body":        {1, create, 0xa0, 0xa0, 0xa0},
		"text that is no UTF-8":       {1, create, 0xa0, 0xa1, 1, 0xa1, 1, 0x62, 0xff, 0xfe},
		"more than an entry may have": make([]byte, fsm.MaxEntry+1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, cmd, err := fsm.Decode(entry); !errors.Is(err, fsm.ErrInvalid) {
				t.Errorf("got %v, %v", cmd, err)
			}
		})
	}
	for _, entry := range goldenEntries(t) {
		for n := range entry {
			if _, _, err := fsm.Decode(entry[:n]); !errors.Is(err, fsm.ErrInvalid) {
				t.Fatalf("the first %d bytes of %x: %v", n, entry, err)
			}
		}
	}
}

func TestAnUnknownFieldIsIgnored(t *testing.T) {
	t.Parallel()
	const abort = 10 // the kind of AbortFailover
	_, cmd, err := fsm.Decode([]byte{1, abort, 0xa0, 0xa2, 1, 0x61, 'f', 0x18, 99, 0x81, 1})
	if err != nil || cmd != (fsm.AbortFailover{ID: "f"}) {
		t.Errorf("got %v, %v", cmd, err)
	}
}

func TestAnEntryIsBounded(t *testing.T) {
	t.Parallel()
	_, err := fsm.Encode(fsm.Meta{}, fsm.AbortFailover{ID: strings.Repeat("x", fsm.MaxEntry)})
	if !errors.Is(err, fsm.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

func TestReadStateRefusesATornSnapshot(t *testing.T) {
	t.Parallel()
	snapshot := goldenState(t)
	for n := range snapshot {
		if _, err := fsm.ReadState(bytes.NewReader(snapshot[:n])); err == nil {
			t.Fatalf("the first %d of %d bytes are read as a whole snapshot", n, len(snapshot))
		}
	}
	for i := range snapshot {
		damaged := bytes.Clone(snapshot)
		damaged[i] ^= 0xff
		if s, err := fsm.ReadState(bytes.NewReader(damaged)); err == nil {
			digest(t, s) // read or not: no panic
		}
	}
}

func TestReadStateNeedsLittleMemoryForHostileCounts(t *testing.T) {
	t.Parallel()
	preamble := append([]byte{0xa3, 1, 0x71}, "lockstep snapshot"...)
	preamble = append(preamble, 2, 1, 3, 0)
	count := binary.BigEndian.AppendUint64([]byte{0x1b}, 1<<62)
	head := append([]byte{0xa2, 1, 8, 2}, count...)
	for name, tail := range map[string][]byte{
		"records":        head,
		"section":        {0xa2, 1, 99, 2, 1},
		"array":          append([]byte{0x9b}, count[1:]...),
		"string":         append([]byte{0xa1, 1, 0x7b}, count[1:]...),
		"deep nesting":   bytes.Repeat([]byte{0x81}, 1<<16),
		"lone service":   {0xa2, 1, 2, 2, 1, 0xa1, 1, 0x61, 'x', 0xa1, 1, 12},
		"lone failover":  {0xa2, 1, 4, 2, 1, 0xa1, 1, 0x61, 'x', 0xa1, 1, 12},
		"another format": nil,
	} {
		t.Run(name, func(t *testing.T) {
			snapshot := append(bytes.Clone(preamble), tail...)
			if name == "another format" {
				snapshot[len(preamble)-3] = fsm.Format + 1
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := fsm.ReadState(bytes.NewReader(snapshot)); err == nil {
				t.Error("it is read as a whole snapshot")
			}
			runtime.ReadMemStats(&after)
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
				t.Errorf("takes %d bytes", grown)
			}
		})
	}
}
