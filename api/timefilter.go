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

// timeFilter is what a time must be, by operator.
type timeFilter map[string]timeBound

// timeBound is how a time must compare with another one.
type timeBound struct {
	holds func(c int) bool // of what Compare returns
	than  time.Time
}

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
		holds := comparison(operator)
		if holds == nil {
			return nil, badRequest("Invalid %s operator", cut(operator))
		}
		if !found {
			text = operator
		}
		at, ok := parseTime(text)
		if !ok {
			return nil, badRequest("Invalid %s value", cut(text))
		}
		f[operator] = timeBound{holds, at}
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
		for _, bound := range f {
			if t == 0 || !bound.holds(t.Time().Compare(bound.than)) {
				return false
			}
		}
		return true
	}
}

// comparison returns what an operator wants of a comparison; nil if there is no such one.
func comparison(operator string) (holds func(c int) bool) {
	switch operator {
	case "gt":
		return func(c int) bool { return c > 0 }
	case "gte":
		return func(c int) bool { return c >= 0 }
	case "eq":
		return func(c int) bool { return c == 0 }
	case "neq":
		return func(c int) bool { return c != 0 }
	case "lt":
		return func(c int) bool { return c < 0 }
	case "lte":
		return func(c int) bool { return c <= 0 }
	}
	return nil
}
