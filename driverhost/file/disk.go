package file

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// tmpSuffix marks files that are being written. No name of ours contains a dot,
// so they are never taken for a volume.
const tmpSuffix = ".tmp"

// replaceFile makes data the content of path, all or nothing, also across a loss
// of power. The caller holds the lock that orders the writers of path.
func replaceFile(path string, data []byte) error {
	tmp := path + tmpSuffix
	if err := writeSynced(tmp, data); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return closeSynced(f, err)
}

// closeSynced closes f and, if nothing went wrong before, makes it durable.
func closeSynced(f *os.File, err error) error {
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncDir makes the names in directories durable.
func syncDir(dirs ...string) error {
	for _, dir := range dirs {
		f, err := os.Open(dir)
		if err != nil {
			return err
		}
		if err := closeSynced(f, nil); err != nil {
			return err
		}
	}
	return nil
}

// remove deletes files; one that does not exist is success.
func remove(paths ...string) error {
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// listNames returns the names in a directory that pass keep, unsorted.
func listNames(dir string, keep func(string) bool) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	all, err := f.Readdirnames(-1)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	var names []string
	for _, name := range all {
		if keep(name) {
			names = append(names, name)
		}
	}
	return names, nil
}
