package file

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// A sidecar is what a site remembers of a volume or snapshot besides its bytes. It
// is written before the file that it belongs to, and changes only when the volume
// starts or stops being replicated (see retyped).
type sidecar struct {
	Name       string `json:"name"`   // volume-<id> or snapshot-<id>
	Volume     string `json:"volume"` // id; of a snapshot, of its volume
	Replicated bool   `json:"replicated"`
	Reference  string `json:"reference,omitempty"` // its name in import/ before it was adopted
}

func decodeSidecar(data []byte) (sidecar, error) {
	var m sidecar
	if err := json.Unmarshal(data, &m); err != nil {
		return sidecar{}, fmt.Errorf("damaged sidecar: %w", err)
	}
	if !isName(m.Name) || !validID(m.Volume) {
		return sidecar{}, fmt.Errorf("damaged sidecar: name %q, volume %q", m.Name, m.Volume)
	}
	return m, nil
}

func (s *site) readSidecar(name string) (sidecar, error) {
	data, err := os.ReadFile(s.file("meta", name))
	if err != nil {
		return sidecar{}, err
	}
	m, err := decodeSidecar(data)
	if err == nil && m.Name != name {
		err = fmt.Errorf("damaged sidecar: name %q in the file of %q", m.Name, name)
	}
	return m, err
}

// writeSidecar also takes back a deletion: the id is in use again.
func (s *site) writeSidecar(m sidecar) error {
	for _, peer := range s.peers {
		if err := remove(s.file("deleted", peer, m.Name)); err != nil {
			return err
		}
	}
	if old, err := s.readSidecar(m.Name); err == nil && old == m {
		return nil
	}
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return replaceFile(s.file("meta", m.Name), append(data, '\n'))
}

// discard deletes a volume or snapshot and all that belongs to it. What is
// replicated is first noted as deleted, per site: a replica is deleted because
// of such a note, never because its source cannot be found.
func (s *site) discard(m sidecar) error {
	stored, err := s.readSidecar(m.Name)
	unknown := err != nil && !errors.Is(err, fs.ErrNotExist) // a note too many does no harm
	if m.Replicated || stored.Replicated || unknown {
		if err := s.noteDeleted(m.Name); err != nil {
			return err
		}
	}
	return s.drop(m.Name)
}

func (s *site) noteDeleted(name string) error {
	for _, peer := range s.peers {
		dir := s.file("deleted", peer)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(s.file("deleted", peer, name), nil, 0o600); err != nil {
			return err
		}
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// drop deletes all files of a name.
func (s *site) drop(name string) error {
	path := s.place(name)
	err := remove(path, path+tmpSuffix, s.delta(name), s.replica(name), s.blockMap(name), s.file("meta", name))
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path), s.file("replicas"), s.file("meta"))
}
