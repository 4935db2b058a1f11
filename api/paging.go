package api

import (
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/lockstep-storage/lockstep/fsm"
)

// maxLimit is how many rows a list has at most, as Cinder's osapi_max_limit.
const maxLimit = 1000

// page is the part of a list that a request asks for.
type page struct {
	limit, offset int
	marker        string
	count         bool // say how many there are in all
	filters       map[string]string
}

// notFilters are the parameters of a list that are none.
func notFilters() []string {
	return []string{"limit", "marker", "offset", "sort", "sort_key", "sort_dir", "all_tenants", "with_count", "consistency"}
}

// page reads the parameters that every list has. Lists are ordered by creation,
// newest first; no other order is served.
func (x *exchange) page() (page, error) {
	p := page{limit: maxLimit, marker: x.query.Get("marker"), filters: map[string]string{}}
	var err error
	if p.limit, err = x.number("limit", maxLimit); err != nil {
		return p, err
	}
	if p.offset, err = x.number("offset", 0); err != nil {
		return p, err
	}
	p.limit = min(p.limit, maxLimit)
	if err := x.checkOrder(); err != nil {
		return p, err
	}
	if x.version >= withCount && x.query.Has("with_count") {
		if p.count, err = parseBool("with_count", x.query.Get("with_count")); err != nil {
			return p, err
		}
	}
	for key, values := range x.query {
		if !slices.Contains(notFilters(), key) {
			p.filters[key] = values[len(values)-1]
		}
	}
	if p.filters["project_id"] != "" {
		return p, nil
	}
	everyone := false
	if x.query.Has("all_tenants") {
		if everyone, err = parseBool("all_tenants", x.query.Get("all_tenants")); err != nil {
			return p, err
		}
	}
	if !everyone {
		p.filters["project_id"] = x.project
	}
	return p, nil
}

func (x *exchange) number(name string, def int) (int, error) {
	text := x.query.Get(name)
	if !x.query.Has(name) {
		return def, nil
	}
	n, err := strconv.Atoi(text)
	switch {
	case err != nil:
		return 0, fieldFault(name, text, name+" param must be an integer")
	case n < 0:
		return 0, fieldFault(name, text, name+" param must be positive")
	}
	return n, nil
}

func (x *exchange) checkOrder() error {
	if x.query.Has("sort") && (x.query.Has("sort_key") || x.query.Has("sort_dir")) {
		return badRequest("The 'sort_key' and 'sort_dir' parameters are deprecated and cannot be used with the 'sort' parameter.")
	}
	allowed := map[string][]string{
		"sort": {"", "created_at", "created_at:desc"}, "sort_key": {"", "created_at"}, "sort_dir": {"", "desc"},
	}
	for _, name := range []string{"sort", "sort_key", "sort_dir"} {
		if got := x.query.Get(name); !slices.Contains(allowed[name], got) {
			return fieldFault(name, got, fmt.Sprintf("Invalid %s %s: lists are ordered by created_at:desc.", name, got), allowed[name][1:]...)
		}
	}
	return nil
}

// lister is one kind of record that is listed.
type lister[V any] struct {
	noun    string // in the plural, as in the answer
	marker  func(state *fsm.State, id string) (index uint64, err error)
	rows    func(before uint64) iter.Seq[V]
	id      func(V) string
	filters map[string]func(V) any
	row     func(V) map[string]any
}

// list answers with a page of records.
func list[V any](x *exchange, p page, state *fsm.State, l lister[V]) error {
	before := uint64(0)
	if p.marker != "" {
		var err error
		if before, err = l.marker(state, p.marker); err != nil {
			return err
		}
	}
	rows, last := l.page(p, before)
	answer := map[string]any{l.noun: rows}
	if p.limit > 0 && len(rows) == p.limit {
		answer[l.noun+"_links"] = []any{map[string]string{"rel": "next", "href": x.next(p.limit, last)}}
	}
	if p.count {
		answer["count"] = l.total(p.filters)
	}
	x.json(http.StatusOK, typeJSON, answer)
	return nil
}

// page returns the rows of a page and the id of the last one.
func (l lister[V]) page(p page, before uint64) (rows []any, last string) {
	rows = []any{}
	skip := p.offset
	for v := range l.rows(before) {
		if len(rows) == p.limit {
			break
		}
		if !l.matches(v, p.filters) {
			continue
		}
		if skip > 0 {
			skip--
			continue
		}
		rows, last = append(rows, l.row(v)), l.id(v)
	}
	return rows, last
}

func (l lister[V]) total(filters map[string]string) int {
	total := 0
	for v := range l.rows(0) {
		if l.matches(v, filters) {
			total++
		}
	}
	return total
}

// matches compares as text. A filter that there is not matches nothing, as an
// administrator of Cinder sees it.
func (l lister[V]) matches(v V, filters map[string]string) bool {
	for name, want := range filters {
		value, ok := l.filters[name]
		if !ok {
			return false
		}
		switch got := value(v).(type) {
		case func(string) bool:
			if !got(want) {
				return false
			}
		case string:
			if got != want {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// next returns the address of the next page.
func (x *exchange) next(limit int, marker string) string {
	query := url.Values{}
	for key, values := range x.query {
		if key != "offset" {
			query[key] = values
		}
	}
	query.Set("limit", strconv.Itoa(limit))
	query.Set("marker", marker)
	path := "/v3"
	if x.project != "" {
		path += "/" + x.project
	}
	return x.base() + path + x.r.URL.Path[len("/v3"):] + "?" + query.Encode()
}

// object returns links to a record of the project.
func (x *exchange) links(noun, id string) []any {
	path := "/" + x.project + "/" + noun + "/" + id
	return []any{
		map[string]string{"rel": "self", "href": x.base() + "/v3" + path},
		map[string]string{"rel": "bookmark", "href": x.base() + path},
	}
}

// metadata writes a record's metadata.
func metadata(pairs []fsm.KeyValue) map[string]string {
	m := make(map[string]string, len(pairs))
	for _, kv := range pairs {
		m[kv.Key] = kv.Value
	}
	return m
}
