package driverhost

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"
)

// backoff paces retries: doubling from first, up to 32 times that.
type backoff struct {
	first time.Duration
	shift uint
}

func newBackoff(first time.Duration) *backoff { return &backoff{first: first} }

func (b *backoff) reset() { b.shift = 0 }

func (b *backoff) next() time.Duration {
	d := b.first << b.shift
	b.shift = min(b.shift+1, 5)
	return d
}

func (b *backoff) wait(ctx context.Context) {
	timer := time.NewTimer(b.next())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// maxText bounds what of a driver's words is committed, in bytes.
const maxText = 1000

// text makes a driver's words fit for the log: a log entry has a limit, and holds
// nothing that is not UTF-8, which the name of a file need not be.
func text(words string) string {
	words = strings.ToValidUTF8(words, string(utf8.RuneError))
	if len(words) <= maxText {
		return words
	}
	return strings.ToValidUTF8(words[:maxText], "") + "..."
}
