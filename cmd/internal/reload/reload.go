// Package reload reads files again when they change, or when the process is asked
// to.
package reload

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Interval is how often files are looked at.
const Interval = 5 * time.Second

// Source is something that is made of files.
type Source struct {
	Name  string   // for the log
	Files []string // that it is made of
	Load  func() error
}

// Watcher loads sources again whenever one of their files has changed. A source
// that cannot be loaded stays as it is, which is logged once for each change.
type Watcher struct {
	interval time.Duration
	logger   hclog.Logger
	sources  []*watched
}

type watched struct {
	Source

	seen string // of its files, when it was loaded last
}

// New returns a watcher of sources that have just been loaded.
func New(interval time.Duration, logger hclog.Logger, sources ...Source) *Watcher {
	w := &Watcher{interval: interval, logger: logger}
	for _, s := range sources {
		w.sources = append(w.sources, &watched{Source: s, seen: fingerprint(s.Files)})
	}
	return w
}

// Run looks at the files until ctx ends. Whatever comes from ask makes it load all
// sources, changed or not.
func (w *Watcher) Run(ctx context.Context, ask <-chan os.Signal) error {
	tick := time.NewTicker(w.interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			w.look(false)
		case <-ask:
			w.look(true)
		case <-ctx.Done():
			return nil
		}
	}
}

//nolint:revive // all is what was asked for
func (w *Watcher) look(all bool) {
	for _, s := range w.sources {
		// Before the files are read: a change meanwhile is seen the next time.
		now := fingerprint(s.Files)
		if !all && now == s.seen {
			continue
		}
		s.seen = now
		if err := s.Load(); err != nil {
			w.logger.Error("changed files are not used: what was read before stays in use", "files", s.Name, "error", err)
			continue
		}
		w.logger.Info("read again", "files", s.Name)
	}
}

// fingerprint differs when a file has been changed or replaced.
func fingerprint(paths []string) string {
	var b strings.Builder
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			fmt.Fprintf(&b, "%v\n", err)
			continue
		}
		fmt.Fprintf(&b, "%d %d %v %v\n", info.Size(), info.ModTime().UnixNano(), info.Mode(), inode(info))
	}
	return b.String()
}

// inode is another one for a file that was replaced.
func inode(info fs.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Ino
	}
	return 0
}
