package fsm

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"
	"github.com/tidwall/btree"
)

// A snapshot is a CBOR sequence (RFC 8742): a preamble, then every section as its
// head and its records in the order of their keys, then the end. What can be
// derived, such as orders and indexes, is not written.

const snapshotMagic = "lockstep snapshot"

// bufferSize is for streams whose own buffers are small, as those of Raft's
// snapshot stores are.
const bufferSize = 64 << 10

type preamble struct {
	Magic  string `cbor:"1,keyasint"`
	Format uint8  `cbor:"2,keyasint"`
	Index  uint64 `cbor:"3,keyasint"`
}

// section numbers the kinds of records in a snapshot: append only.
type section uint8

const (
	sectionNodes section = iota + 1
	sectionServices
	sectionClusters
	sectionFailovers
	sectionStages
	sectionResults
	sectionVolumeTypes
	sectionVolumes
	sectionSnapshots
	sectionOperations
	sectionRequests
	sectionEnd
	sectionAttachments
	sectionQuotas
	sectionGroupTypes
	sectionGroups
)

type sectionHead struct {
	Section section `cbor:"1,keyasint"`
	Count   uint64  `cbor:"2,keyasint"`
}

type stagedResult struct {
	Cluster string       `cbor:"1,keyasint"`
	Result  VolumeResult `cbor:"2,keyasint"`
}

type requestRecord struct {
	ID      string  `cbor:"1,keyasint"`
	Outcome outcome `cbor:"2,keyasint"`
}

// WriteTo writes s as a snapshot, as a stream: it needs memory for one record.
// Equal states write equal bytes.
func (s *State) WriteTo(w io.Writer) (int64, error) {
	counter := &countingWriter{w: w}
	buffered := bufio.NewWriterSize(counter, bufferSize)
	err := s.encode(cbor.NewEncoder(buffered))
	if err == nil {
		err = buffered.Flush()
	}
	if err != nil {
		return counter.n, fmt.Errorf("write snapshot: %w", err)
	}
	return counter.n, nil
}

// Digest returns the SHA-256 of the snapshot of s: equal on replicas that have
// applied the same log.
func (s *State) Digest() ([sha256.Size]byte, error) {
	h := sha256.New()
	buffered := bufio.NewWriter(h)
	if err := errors.Join(s.encode(cbor.NewEncoder(buffered)), buffered.Flush()); err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("digest: %w", err)
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

func (s *State) encode(enc *cbor.Encoder) error {
	steps := [...]func() error{
		func() error { return enc.Encode(preamble{snapshotMagic, Format, s.index}) },
		func() error { return encodeSection(enc, sectionNodes, &s.nodes) },
		func() error { return encodeSection(enc, sectionServices, &s.services) },
		func() error { return encodeSection(enc, sectionClusters, &s.clusters) },
		func() error { return encodeSection(enc, sectionFailovers, &s.failovers) },
		func() error { return encodeSection(enc, sectionStages, &s.staged) },
		func() error { return s.encodeResults(enc) },
		func() error { return encodeSection(enc, sectionVolumeTypes, &s.volumeTypes) },
		func() error { return s.encodeVolumes(enc) },
		func() error { return encodeSection(enc, sectionSnapshots, &s.snapshots) },
		func() error { return encodeOptional(enc, sectionAttachments, &s.attachments) },
		func() error { return encodeOptional(enc, sectionQuotas, &s.quotas) },
		func() error { return encodeOptional(enc, sectionGroupTypes, &s.groupTypes) },
		func() error { return encodeOptional(enc, sectionGroups, &s.groups) },
		func() error { return encodeSection(enc, sectionOperations, &s.operations) },
		func() error { return s.encodeRequests(enc) },
		func() error { return enc.Encode(sectionHead{Section: sectionEnd}) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// encodeOptional writes a section unless it is empty, as in every snapshot that was
// written before there was such a section.
func encodeOptional[K cmp.Ordered, V any](enc *cbor.Encoder, kind section, m *btree.Map[K, V]) error {
	if m.Len() == 0 {
		return nil
	}
	return encodeSection(enc, kind, m)
}

func encodeSection[K cmp.Ordered, V any](enc *cbor.Encoder, kind section, m *btree.Map[K, V]) error {
	err := enc.Encode(sectionHead{kind, uint64(m.Len())})
	m.Scan(func(_ K, v V) bool {
		if err == nil {
			err = enc.Encode(v)
		}
		return err == nil
	})
	return err
}

func (s *State) encodeVolumes(enc *cbor.Encoder) error {
	err := enc.Encode(sectionHead{sectionVolumes, uint64(s.volumes.Len())})
	s.volumes.Scan(func(_ string, r *record) bool {
		if err == nil {
			err = enc.Encode(new(r.unpack()))
		}
		return err == nil
	})
	return err
}

func (s *State) encodeResults(enc *cbor.Encoder) error {
	var count uint64
	s.staged.Scan(func(_ string, st *stage) bool { count += uint64(st.results.Len()); return true })
	err := enc.Encode(sectionHead{sectionResults, count})
	s.staged.Scan(func(cluster string, st *stage) bool {
		st.results.Scan(func(_ string, r VolumeResult) bool {
			if err == nil {
				err = enc.Encode(stagedResult{cluster, r})
			}
			return err == nil
		})
		return err == nil
	})
	return err
}

func (s *State) encodeRequests(enc *cbor.Encoder) error {
	err := enc.Encode(sectionHead{sectionRequests, uint64(s.requests.Len())})
	s.requests.Scan(func(id string, o outcome) bool {
		if err == nil {
			err = enc.Encode(requestRecord{id, o})
		}
		return err == nil
	})
	return err
}

// ReadState reads what [State.WriteTo] wrote. A snapshot that is torn, damaged or
// of a newer format is an error; no input makes it panic, or makes a state on which
// a command would.
func ReadState(r io.Reader) (*State, error) {
	dec := cbor.NewDecoder(bufio.NewReaderSize(r, bufferSize))
	var pre preamble
	if err := dec.Decode(&pre); err != nil {
		return nil, fmt.Errorf("read snapshot: %w", noEOF(err))
	}
	if pre.Magic != snapshotMagic || pre.Format == 0 || pre.Format > Format {
		return nil, fmt.Errorf("read snapshot: %q of format %d is not a snapshot that this build reads (up to %d): %w",
			pre.Magic, pre.Format, Format, ErrInvalid)
	}
	s := NewState()
	s.index = pre.Index
	for {
		var head sectionHead
		if err := dec.Decode(&head); err != nil {
			return nil, fmt.Errorf("read snapshot: %w", noEOF(err))
		}
		if head.Section == sectionEnd {
			if err := s.whole(); err != nil {
				return nil, err
			}
			return s, nil
		}
		if err := s.decodeSection(dec, head); err != nil {
			return nil, fmt.Errorf("read section %d of the snapshot: %w", head.Section, noEOF(err))
		}
	}
}

// whole refuses a snapshot that lacks what the rules take for granted: every
// service, and every failover that is not over, has its cluster.
func (s *State) whole() error {
	for svc := range s.Services() {
		if _, ok := s.clusters.Get(svc.Group()); !ok {
			return fmt.Errorf("read snapshot: service %q without its cluster: %w", svc.Host, ErrInvalid)
		}
	}
	for f := range values(&s.failovers) {
		if _, ok := s.clusters.Get(f.Cluster); !ok && !f.Phase.Terminal() {
			return fmt.Errorf("read snapshot: failover %q without its cluster: %w", f.ID, ErrInvalid)
		}
	}
	return nil
}

func (s *State) decodeSection(dec *cbor.Decoder, head sectionHead) error {
	switch head.Section {
	case sectionNodes:
		return decodeSection(dec, head, func(v *Node) { s.nodes.Set(v.ID, v) })
	case sectionServices:
		return decodeSection(dec, head, s.restoreService)
	case sectionClusters:
		return decodeSection(dec, head, func(v *Cluster) { s.clusters.Set(v.Name, v) })
	case sectionFailovers:
		return decodeSection(dec, head, func(v *Failover) {
			s.failovers.Set(v.ID, v)
			s.failoverOrder.Set(v.RequestedIn, v.ID)
		})
	case sectionStages:
		return decodeSection(dec, head, func(v *stage) { s.staged.Set(v.Cluster, v) })
	case sectionResults:
		return decodeSection(dec, head, func(v *stagedResult) {
			if st, ok := s.staged.Get(v.Cluster); ok {
				st.results.Set(v.Result.VolumeID, v.Result)
			}
		})
	case sectionVolumeTypes:
		return decodeSection(dec, head, func(v *VolumeType) { s.volumeTypes.Set(v.ID, v) })
	case sectionVolumes:
		return decodeSection(dec, head, s.restoreVolume)
	case sectionSnapshots:
		return decodeSection(dec, head, s.restoreSnapshot)
	case sectionOperations:
		return decodeSection(dec, head, func(v *Operation) {
			s.operations.Set(v.ID, v)
			s.owed.Set(under(v.Host, indexKey(v.ID)), v.ID)
		})
	case sectionRequests:
		return decodeSection(dec, head, func(v *requestRecord) {
			s.requests.Set(v.ID, v.Outcome)
			s.requestOrder.Set(v.Outcome.Index, v.ID)
		})
	case sectionAttachments:
		return decodeSection(dec, head, s.putAttachment)
	case sectionQuotas:
		return decodeSection(dec, head, func(v *Quota) { s.quotas.Set(v.ProjectID, v) })
	case sectionGroupTypes:
		return decodeSection(dec, head, func(v *GroupType) { s.groupTypes.Set(v.ID, v) })
	case sectionGroups:
		return decodeSection(dec, head, s.addGroup)
	case sectionEnd:
	}
	return ErrInvalid
}

func decodeSection[V any](dec *cbor.Decoder, head sectionHead, put func(*V)) error {
	for range head.Count {
		v := new(V)
		if err := dec.Decode(v); err != nil {
			return err
		}
		put(v)
	}
	return nil
}

func (s *State) restoreVolume(v *Volume) {
	v.ProjectID, v.UserID, v.VolumeType = intern(v.ProjectID), intern(v.UserID), intern(v.VolumeType)
	v.Host, v.Cluster, v.BackendID, v.GroupID = intern(v.Host), intern(v.Cluster), intern(v.BackendID), intern(v.GroupID)
	v.Status, v.PreviousStatus = VolumeStatus(intern(string(v.Status))), VolumeStatus(intern(string(v.PreviousStatus)))
	s.addVolume(v)
}

func (s *State) restoreSnapshot(v *Snapshot) {
	v.ProjectID, v.UserID = intern(v.ProjectID), intern(v.UserID)
	v.Status = VolumeStatus(intern(string(v.Status)))
	s.addSnapshot(v)
}

// noEOF tells a snapshot that ends too early from one that is read to its end.
func noEOF(err error) error {
	if err == io.EOF { //nolint:errorlint // the decoder returns it bare at the end of the stream
		return io.ErrUnexpectedEOF
	}
	return err
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
