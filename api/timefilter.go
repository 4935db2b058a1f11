package api

import (
	"strings"
	"time"

	"github.com/lockstep-storage/lockstep/fsm"
)

// What a list can be filtered by that is a time.
const (
	createdAt = "created_at"
	updatedAt = "updated_at"
)

// timeFilter is what a time must be: for each operator, how it compares with what.
type timeFilter map[string]time.Time

// timeFilters reads the filters by time of a list, by name. Before there were any,
// they are ignored.
func (x *exchange) timeFilters(filters map[string]string) (map[string]timeFilter, error) {
	all := map[string]timeFilter{}
	for _, name := range []string{createdAt, updatedAt} {
		asked, ok := filters[name]
		if !ok {
			continue
		}
		if x.version < withTimeFilters {
			delete(filters, name)
			continue
		}
		var err error
		if all[name], err = parseTimeFilter(asked); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// parseTimeFilter reads comparisons as gt:2026-01-02T03:04:05,lt:2026-02-01. Of two with
// the same operator the last counts.
func parseTimeFilter(asked string) (timeFilter, error) {
	f := timeFilter{}
	for part := range strings.SplitSeq(asked, ",") {
		operator, text, found := strings.Cut(part, ":")
		if _, ok := compareTimes(operator, time.Time{}, time.Time{}); !ok {
			return nil, badRequest("Invalid %s operator", cut(operator))
		}
		if !found {
			text = operator
		}
		at, ok := parseTime(text)
		if !ok {
			return nil, badRequest("Invalid %s value", cut(text))
		}
		f[operator] = at
	}
	return f, nil
}

// parseTime reads a time of ISO 8601, which is one of UTC if it says nothing else.
func parseTime(text string) (at time.Time, ok bool) {
	for _, layout := range []string{"2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05", "2006-01-02T15:04Z07:00", "2006-01-02T15:04", "2006-01-02"} {
		if at, err := time.Parse(layout, strings.Replace(text, " ", "T", 1)); err == nil {
			return at, true
		}
	}
	return time.Time{}, false
}

// of returns whether a time passes, as a filter of lists. One that is not set does not.
func (f timeFilter) of(t fsm.Time) func(string) bool {
	return func(string) bool {
		for operator, than := range f {
			if holds, _ := compareTimes(operator, t.Time(), than); !holds || t == 0 {
				return false
			}
		}
		return true
	}
}

// compareTimes compares by the name of an operator; ok is false if there is no such one.
func compareTimes(operator string, t, than time.Time) (holds, ok bool) {
	switch c := t.Compare(than); operator {
	case "gt":
		return c > 0, true
	case "gte":
		return c >= 0, true
	case "eq":
		return c == 0, true
	case "neq":
		return c != 0, true
	case "lt":
		return c < 0, true
	case "lte":
		return c <= 0, true
	}
	return false, false
}
