package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/lockstep-storage/lockstep/api/client"
)

// progress shows a failover as it goes on.
type progress interface {
	show(f client.Failover, elapsed time.Duration)
}

// progress is a bar for each member on a terminal, and lines for what has changed
// elsewhere. It goes to standard error: the result alone is on standard output.
func (a *app) progress() progress {
	if fd, ok := terminal(a.Err); ok {
		return &bars{w: a.Err, width: func() int { return columns(fd) }}
	}
	return &lines{w: a.Err, states: map[string]string{}}
}

func columns(fd int) int {
	width, _, err := term.GetSize(fd)
	if err != nil || width < 20 {
		return 80
	}
	return width
}

// redraw is how often the clock of the bars moves.
const redraw = 200 * time.Millisecond

// follow shows a failover until it has ended, and returns what it was last.
func follow(ctx context.Context, c *client.Client, id string, p progress) (client.Failover, error) {
	ctx, cancel := context.WithCancel(ctx)
	changes := make(chan change)
	go changesOf(ctx, c, id, changes)
	defer func() {
		cancel()
		for range changes { // until the goroutine has ended
		}
	}()
	begin := time.Now()
	ticker := time.NewTicker(redraw)
	defer ticker.Stop()
	var last client.Failover
	for {
		select {
		case next, more := <-changes:
			if !more {
				return last, context.Cause(ctx)
			}
			if next.err != nil {
				return last, next.err
			}
			last = next.f
		case <-ticker.C:
		}
		p.show(last, time.Since(begin))
		if last.Finished() {
			return last, nil
		}
	}
}

// change is a failover as it is now, or why that is not known.
type change struct {
	f   client.Failover
	err error
}

// changesOf sends all changes of a failover, and then closes the channel.
func changesOf(ctx context.Context, c *client.Client, id string, changes chan<- change) {
	defer close(changes)
	for f, err := range c.FollowFailover(ctx, id) {
		select {
		case changes <- change{f, err}:
		case <-ctx.Done():
			return
		}
	}
}

// lines says each change in a line.
type lines struct {
	w      io.Writer
	phase  string
	states map[string]string // by host
}

func (l *lines) show(f client.Failover, elapsed time.Duration) {
	if f.ID == "" {
		return // not known yet
	}
	at := fmt.Sprintf("%7.3fs", elapsed.Seconds())
	if phase := phaseText(f); phase != l.phase {
		l.phase = phase
		fmt.Fprintf(l.w, "%s  %s  %s\n", at, f.Subject(), phase)
	}
	for _, m := range f.Members {
		state := memberText(m)
		if l.states[m.Host] == state {
			continue
		}
		l.states[m.Host] = state
		fmt.Fprintf(l.w, "%s  %s  %s\n", at, m.Host, state)
	}
}

func phaseText(f client.Failover) string {
	text := f.Phase
	switch f.Phase {
	case client.PhaseDraining:
		text = "draining: members end their running calls on " + f.From
	case client.PhasePromoting:
		text = fmt.Sprintf("promoting %s: %s does, attempt %d", f.Target, or(f.Executor, "somebody"), f.Attempt)
	case client.PhaseSwitching:
		text = fmt.Sprintf("switching: %s is committed, epoch %d; members tell their drivers", f.Target, f.Epoch)
	}
	if f.Error != "" {
		text += " (" + f.Error + ")"
	}
	return text
}

func memberText(m client.FailoverMember) string {
	text := m.State
	if m.Error != "" {
		text += ": " + m.Error
	}
	if m.Up != nil && !*m.Up {
		text += " (down)"
	}
	return text
}

// bars redraws one bar for each member.
type bars struct {
	w     io.Writer
	width func() int
	drawn int // lines
}

// Fewer cells than this tell nothing.
const barCells = 20

func (b *bars) show(f client.Failover, elapsed time.Duration) {
	if f.ID == "" {
		return // not known yet
	}
	rows := []string{fmt.Sprintf("%s  %s  %.1fs", f.Subject(), phaseText(f), elapsed.Seconds())}
	longest := 0
	for _, m := range f.Members {
		longest = max(longest, len(m.Host))
	}
	for _, m := range f.Members {
		done := barCells * steps(f, m) / allSteps
		bar := strings.Repeat("#", done) + strings.Repeat(".", barCells-done)
		rows = append(rows, fmt.Sprintf("  %-*s [%s] %s", longest, m.Host, bar, memberText(m)))
	}
	var out strings.Builder
	if b.drawn > 0 {
		fmt.Fprintf(&out, "\x1b[%dA", b.drawn)
	}
	for _, row := range rows {
		out.WriteString("\r\x1b[K" + clip(row, b.width()-1) + "\n")
	}
	out.WriteString("\x1b[J")
	b.drawn = len(rows)
	fmt.Fprint(b.w, out.String())
}

// clip cuts a line that would wrap.
func clip(line string, width int) string {
	runes := []rune(line)
	if len(runes) <= width {
		return line
	}
	return string(runes[:max(width-1, 0)]) + "…"
}

// allSteps are those of a member: drain, wait for the promotion, switch.
const allSteps = 3

func steps(f client.Failover, m client.FailoverMember) int {
	switch {
	case m.State == client.MemberSwitched || f.Phase == client.PhaseDone && m.State != client.MemberError:
		return allSteps
	case f.Phase == client.PhaseSwitching:
		return 2
	case m.State == client.MemberDrained:
		return 1
	}
	return 0
}
