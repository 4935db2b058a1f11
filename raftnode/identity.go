package raftnode

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/lockstep-storage/lockstep/fsm"
)

// identityFormat is the newest layout of a data directory that this build reads.
const identityFormat = 1

// maxName bounds the name of a deployment and of a node, in bytes, so that both
// fit into a handshake and into gossip.
const maxName = 128

// identity is the claim of this process on its data directory: the directory
// belongs to one node of one deployment for ever, and to one process at a time.
type identity struct {
	lock      *os.File
	directory fsm.Directory // in this start
}

// identityRecord is the content of DIR/identity.json.
type identityRecord struct {
	Format     int    `json:"format"`
	Deployment string `json:"deployment"`
	Node       string `json:"node"`
	Directory  string `json:"directory"` // a random id of this directory
	Start      uint64 `json:"start"`     // how often it was opened
}

// openIdentity takes dir for this process. The first start writes down whose it
// is; a later start with another deployment or another node name is refused,
// because a Raft server that changes its name votes twice.
func openIdentity(dir, deployment, node string) (*identity, error) {
	err := errors.Join(validateName("deployment", deployment), validateName("node", node))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	want := identityRecord{Format: identityFormat, Deployment: deployment, Node: node}
	is, err := claimDir(dir, want)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &identity{lock: lock, directory: fsm.Directory{ID: is.Directory, Start: is.Start, Nonce: newID()}}, nil
}

// Close lets another process have the directory. Call it last, after the stores
// are closed.
func (i *identity) Close() error {
	if err := i.lock.Close(); err != nil {
		return fmt.Errorf("unlock data directory: %w", err)
	}
	return nil
}

// validateName refuses what could not be told apart in a log line, a host name
// (node@backend) or a path.
func validateName(field, value string) error {
	if value == "" || len(value) > maxName {
		return fmt.Errorf("%s %q: must be 1 to %d bytes long", field, value, maxName)
	}
	for _, r := range value {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		case r == '.', r == '-', r == '_':
		default:
			return fmt.Errorf("%s %q: only letters, digits, '.', '-' and '_' are allowed", field, value)
		}
	}
	return nil
}

// lockDir takes an exclusive lock that the kernel releases when the process
// ends, however it ends.
func lockDir(dir string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return lock, nil
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errors.New("another process uses it; stop that one or give each node a directory of its own")
	}
	return nil, errors.Join(fmt.Errorf("lock data directory %s: %w", dir, err), lock.Close())
}

// claimDir compares DIR/identity.json with want, or creates it, and counts the
// start: whoever restores a copy of the directory starts it for the second time.
func claimDir(dir string, want identityRecord) (identityRecord, error) {
	path := filepath.Join(dir, "identity.json")
	content, err := os.ReadFile(path)
	switch {
	case err == nil:
		found, err := compareIdentity(path, content, want)
		if err != nil {
			return identityRecord{}, err
		}
		want.Directory, want.Start = found.Directory, found.Start
	case !errors.Is(err, fs.ErrNotExist):
		return identityRecord{}, fmt.Errorf("identity: %w", err)
	default:
		if _, err := os.Stat(filepath.Join(dir, stableFile)); err == nil {
			return identityRecord{}, fmt.Errorf("%s is missing but %s holds the data of a node: restore the file from a backup, "+
				"or start with an empty directory and let the node join again", path, dir)
		}
	}
	if want.Directory == "" {
		want.Directory = newID()
	}
	want.Start++
	content, err = json.Marshal(want)
	if err != nil {
		return identityRecord{}, fmt.Errorf("encode identity: %w", err)
	}
	return want, writeDurably(path, append(content, '\n'))
}

func compareIdentity(path string, content []byte, want identityRecord) (found identityRecord, err error) {
	if err := json.Unmarshal(content, &found); err != nil {
		return found, fmt.Errorf("%s is damaged (%w): restore it from a backup, "+
			"or start with an empty directory and let the node join again", path, err)
	}
	switch {
	case found.Format > identityFormat:
		return found, fmt.Errorf("%s has format %d and this release reads up to %d: start a release that is at least as new as the last one",
			path, found.Format, identityFormat)
	case found.Format < 1 || found.Deployment == "" || found.Node == "":
		return found, fmt.Errorf("%s is damaged (format, deployment or node is missing): restore it from a backup, "+
			"or start with an empty directory and let the node join again", path)
	case found.Deployment != want.Deployment:
		return found, fmt.Errorf("%s belongs to deployment %q, the configuration says %q: correct the deployment or use another data directory",
			path, found.Deployment, want.Deployment)
	case found.Node != want.Node:
		return found, fmt.Errorf("%s belongs to node %q, the configuration says %q: a node keeps its name; correct it or use another data directory",
			path, found.Node, want.Node)
	}
	return found, nil
}

// writeDurably creates path so that after a power loss it is complete or absent.
func writeDurably(path string, content []byte) error {
	temp := path + ".tmp"
	if err := writeSynced(temp, content); err != nil {
		return fmt.Errorf("write %s: %w", temp, err)
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	// The directory itself may be new too, so its own entry is made durable.
	dir := filepath.Dir(path)
	return errors.Join(syncDir(dir), syncDir(filepath.Dir(dir)))
}

func writeSynced(path string, content []byte) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// syncDir makes the entries of dir survive a power loss.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}
