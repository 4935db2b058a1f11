package evidence

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/driverhost/file"
)

// line is one line of a journal, and where it is.
type line struct {
	file.JournalEntry

	site   string
	number int
}

func (l line) where() string { return fmt.Sprintf("sites/%s/journal:%d", l.site, l.number) }

func (l line) token() driverhost.Token { return driverhost.Token{Epoch: l.Epoch, Claim: l.Claim} }

func (l line) ok() bool { return l.Outcome == file.OutcomeOK }

func (l line) starts() bool {
	return l.Call == file.CallPromote && l.Phase == file.PhaseStart && l.ok()
}

func (l line) ends() bool { return l.Call == file.CallPromote && l.Phase == file.PhaseEnd }

// undone reports whether the line is the driver's word that nothing is promoted.
func (l line) undone() bool {
	return l.ends() && l.Outcome == driverhost.ErrUnableToFailOver.Error()
}

// lines are the lines of all journals in the order of time. All nodes run on one
// machine and so have one clock.
func (e *Evidence) lines() []line {
	var all []line
	for site, entries := range e.Journals {
		for i, entry := range entries {
			if !entry.Torn {
				all = append(all, line{entry, site, i + 1})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b line) int {
		return cmp.Or(cmp.Compare(a.MonoNS, b.MonoNS), cmp.Compare(a.site, b.site), cmp.Compare(a.number, b.number))
	})
	return all
}

// checkJournals judges G3, G16 and the tokens by the journals of the sites.
func (e *Evidence) checkJournals() []Violation {
	lines := e.lines()
	found := singleSite(lines)
	found = append(found, oneExecutor(lines)...)
	for site := range e.Journals {
		found = append(found, tokensGrow(site, lines)...)
	}
	return found
}

// singleSite is G3: from the start of a promotion to an epoch no call of an older
// one is made at any site, not even one that the storage refuses, until the driver
// has said that nothing is promoted.
func singleSite(lines []line) []Violation {
	var found []Violation
	promoted := map[string]line{} // by failover: the first start that was not undone
	for _, l := range lines {
		switch {
		case l.starts():
			if _, begun := promoted[l.Failover]; !begun {
				promoted[l.Failover] = l
			}
		case l.undone():
			delete(promoted, l.Failover)
		}
		for _, p := range promoted {
			if l.Epoch < p.Epoch {
				found = append(found, Violation{
					Check: "G3", Where: l.where(),
					Says: fmt.Sprintf("%s of epoch %d by %s (%s), %d ms after the promotion to epoch %d began (%s)",
						l.Call, l.Epoch, l.Host, l.Outcome, (l.MonoNS-p.MonoNS)/1e6, p.Epoch, p.where()),
				})
			}
		}
	}
	return found
}

// oneExecutor is G16: no promotion has effect once a later claim has begun one.
func oneExecutor(lines []line) []Violation {
	var found []Violation
	var latest line
	for _, l := range lines {
		if l.Call != file.CallPromote || !l.ok() {
			continue
		}
		if l.token().Less(latest.token()) {
			found = append(found, Violation{
				Check: "G16", Where: l.where(),
				Says: fmt.Sprintf("promotion by %s under epoch %d claim %d has effect after one under epoch %d claim %d began (%s)",
					l.Host, l.Epoch, l.Claim, latest.Epoch, latest.Claim, latest.where()),
			})
		}
		if latest.token().Less(l.token()) {
			latest = l
		}
	}
	return found
}

// tokensGrow says that no call has effect at a site below a token that was raised
// there. A planned switchover that was undone has raised none.
func tokensGrow(site string, lines []line) []Violation {
	undone := map[string]bool{}
	for _, l := range lines {
		if l.undone() {
			undone[l.Failover] = true
		}
	}
	var found []Violation
	var raised line
	for _, l := range lines {
		if l.site != site || !l.ok() || undone[l.Failover] && l.Failover != "" {
			continue
		}
		if l.token().Less(raised.token()) {
			found = append(found, Violation{
				Check: "fencing token", Where: l.where(),
				Says: fmt.Sprintf("%s by %s has effect under epoch %d claim %d, below epoch %d claim %d (%s)",
					l.Call, l.Host, l.Epoch, l.Claim, raised.Epoch, raised.Claim, raised.where()),
			})
			continue
		}
		raised = l
	}
	return found
}
