package api

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/lockstep-storage/lockstep/fsm"
)

// maxLimit is how many rows a list has at most, as Cinder's osapi_max_limit.
const maxLimit = 1000

// page is the part of a list that a request asks for.
type page struct {
	limit, offset int
	marked        bool
	marker        string // the record that the page follows, if marked
	count         bool   // say how many there are in all
	orders        []order
	filters       map[string]string
}

// notFilters are the parameters of a list that are none.
func notFilters() []string {
	return []string{"limit", "marker", "offset", "sort", "sort_key", "sort_dir", "all_tenants", "with_count", "consistency"}
}

// page reads the parameters that every list has.
func (x *exchange) page() (page, error) {
	p := page{limit: maxLimit, marked: x.query.Has("marker"), marker: x.query.Get("marker"), filters: map[string]string{}}
	var err error
	if p.limit, err = x.number("limit", maxLimit); err != nil {
		return p, err
	}
	if p.offset, err = x.number("offset", 0); err != nil {
		return p, err
	}
	p.limit = min(p.limit, maxLimit)
	if p.orders, err = x.orders(); err != nil {
		return p, err
	}
	if x.version >= withCount && x.query.Has("with_count") {
		if p.count, err = parseBool("with_count", x.query.Get("with_count")); err != nil {
			return p, err
		}
	}
	return p, x.filter(&p)
}

// uncounted makes with_count what it is in lists that have no count: a filter that
// there is not.
func (p *page) uncounted(x *exchange) {
	p.count = false
	if x.query.Has("with_count") {
		p.filters["with_count"] = x.query.Get("with_count")
	}
}

// filter reads what a list is filtered by: always by the project, unless an
// administrator asks for all. Before lists counted, with_count was a filter.
func (x *exchange) filter(p *page) error {
	for key, values := range x.query {
		if !slices.Contains(notFilters(), key) || key == "with_count" && x.version < withCount {
			p.filters[key] = values[len(values)-1]
		}
	}
	if p.filters["project_id"] != "" && x.admin {
		return nil
	}
	var err error
	everyone := false
	if x.query.Has("all_tenants") && x.admin {
		if everyone, err = parseBool("all_tenants", x.query.Get("all_tenants")); err != nil {
			return err
		}
	}
	if !everyone {
		p.filters["project_id"] = x.project
	}
	return nil
}

func (x *exchange) number(name string, def int) (int, error) {
	text := x.query.Get(name)
	if !x.query.Has(name) {
		return def, nil
	}
	n, err := strconv.Atoi(text)
	switch {
	case name == "offset" && err != nil:
		return 0, fieldFault(name, text, "offset must be an integer")
	case name == "offset" && n < 0:
		return 0, fieldFault(name, text, "offset must be >= 0")
	case name == "offset" && n > maxSize:
		return 0, fieldFault(name, text, fmt.Sprintf("offset must be <= %d", int64(maxSize)))
	case err != nil:
		return 0, fieldFault(name, text, name+" param must be an integer")
	case n < 0:
		return 0, fieldFault(name, text, name+" param must be positive")
	}
	return n, nil
}

// order is one key that a list is sorted by.
type order struct {
	key  string
	desc bool
}

// orders reads what a list is sorted by: nothing for the usual order, by creation,
// newest first.
func (x *exchange) orders() ([]order, error) {
	if !x.query.Has("sort") && !x.query.Has("sort_key") && !x.query.Has("sort_dir") {
		return nil, nil
	}
	all, err := x.ordersBy("created_at", func(_, dir string) error {
		if dir != "asc" && dir != "desc" {
			return fieldFault("sort", dir, prefixInvalid+"Unknown sort direction, must be 'desc' or 'asc'.", "asc", "desc")
		}
		return nil
	})
	if len(all) == 1 && all[0] == (order{"created_at", true}) {
		return nil, err
	}
	return all, err
}

// ordersBy reads what a list is sorted by, a key def unless another one is asked
// for, and the larger first.
func (x *exchange) ordersBy(def string, check func(key, dir string) error) ([]order, error) {
	if x.query.Has("sort") && (x.query.Has("sort_key") || x.query.Has("sort_dir")) {
		return nil, badRequest("The 'sort_key' and 'sort_dir' parameters are deprecated and cannot be used with the 'sort' parameter.")
	}
	asked := x.query.Get("sort")
	if !x.query.Has("sort") {
		if x.query.Has("sort_key") {
			def = x.query.Get("sort_key")
		}
		asked = def + ":" + x.query.Get("sort_dir")
	}
	var all []order
	for part := range strings.SplitSeq(strings.TrimSpace(asked), ",") {
		key, dir, _ := strings.Cut(part, ":")
		key, dir = strings.TrimSpace(key), cmp.Or(strings.TrimSpace(dir), "desc")
		if err := check(key, dir); err != nil {
			return nil, err
		}
		all = append(all, order{key: key, desc: dir != "asc"})
	}
	return all, nil
}

// lister is one kind of record that is listed.
type lister[V any] struct {
	noun    string // in the plural, as in the answer
	links   string // what links to the next page are called, if not after the noun
	alone   bool   // pages have no links
	rows    func(before uint64) iter.Seq[V]
	get     func(id string) (V, bool)
	missing func(id string) error
	id      func(V) string
	index   func(V) uint64 // grows with the time of creation
	filters map[string]func(V) any
	open    []string // filters that everybody may use, below those of administrators
	sorts   map[string]func(a, b V) int
	row     func(V) map[string]any
}

// list answers with a page of records.
func list[V any](x *exchange, p page, l lister[V]) error {
	if err := l.check(x, &p); err != nil {
		return err
	}
	var from *V
	if p.marked {
		v, ok := l.get(p.marker)
		if !ok {
			return l.missing(p.marker)
		}
		from = &v
	}
	found := l.page(p, from)
	rows := make([]any, 0, len(found))
	for _, v := range found {
		rows = append(rows, l.row(v))
	}
	answer := map[string]any{l.noun: rows}
	if p.limit > 0 && len(rows) == p.limit && !l.alone {
		answer[cmp.Or(l.links, l.noun+"_links")] = []any{map[string]string{"rel": "next", "href": x.next(p.limit, l.id(found[len(found)-1]))}}
	}
	if p.count {
		answer["count"] = l.total(p.filters)
	}
	x.json(http.StatusOK, typeJSON, answer)
	return nil
}

// check refuses what a list cannot be sorted by, and what a user who is no
// administrator must not filter by. What Cinder ignores is dropped.
func (l lister[V]) check(x *exchange, p *page) error {
	for _, o := range p.orders {
		if _, ok := l.sorts[o.key]; !ok {
			return fieldFault("sort", o.key, prefixInvalid+"Invalid sort key", slices.Sorted(maps.Keys(l.sorts))...)
		}
	}
	var invalid []string
	for _, name := range queryKeys(x.r.URL.RawQuery) {
		if _, ok := p.filters[name]; !ok || name == "project_id" {
			continue
		}
		if strings.HasSuffix(name, "~") && x.version < withLikeFilters {
			delete(p.filters, name)
		} else if !x.admin && !slices.Contains(l.open, name) {
			invalid = append(invalid, name)
		}
	}
	if invalid != nil {
		return badRequest("Invalid filters %s are found in query options.", strings.Join(invalid, ","))
	}
	return nil
}

// maxOffset bounds what a sorted list has to keep in mind.
const maxOffset = 10_000

// page returns the records of a page. In the usual order they are just read off;
// any other one needs a look at all of them, and keeps no more than the page.
func (l lister[V]) page(p page, from *V) []V {
	var before uint64
	if from != nil && p.orders == nil {
		before = l.index(*from)
	}
	keep := p.limit + min(p.offset, maxOffset)
	compare := l.comparison(p.orders)
	var found []V
	for v := range l.rows(before) {
		if len(found) == keep && p.orders == nil {
			break
		}
		if !l.matches(v, p.filters) || p.orders != nil && from != nil && compare(v, *from) <= 0 {
			continue
		}
		at := len(found)
		if p.orders != nil {
			at, _ = slices.BinarySearchFunc(found, v, compare)
		}
		if at < keep {
			found = slices.Insert(found, at, v)[:min(len(found)+1, keep)]
		}
	}
	return found[min(min(p.offset, maxOffset), len(found)):]
}

// comparison compares by the keys asked for, and at last by creation, in the
// direction of the first key.
func (l lister[V]) comparison(orders []order) func(a, b V) int {
	directed := func(desc bool, c int) int {
		if desc {
			return -c
		}
		return c
	}
	return func(a, b V) int {
		for _, o := range orders {
			if c := l.sorts[o.key](a, b); c != 0 {
				return directed(o.desc, c)
			}
		}
		return directed(len(orders) == 0 || orders[0].desc, cmp.Compare(l.index(a), l.index(b)))
	}
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
		name, like := strings.CutSuffix(name, "~")
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
			if got != want && (!like || !strings.Contains(got, want)) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// next returns the address of the next page: the parameters that were given, in
// their order, with another marker.
func (x *exchange) next(limit int, marker string) string {
	given := map[string]string{"limit": strconv.Itoa(limit), "marker": marker}
	var parts []string
	for _, key := range append(queryKeys(x.r.URL.RawQuery), "limit", "marker") {
		value, own := given[key]
		if !own {
			value = x.query.Get(key)
		}
		part := url.QueryEscape(key) + "=" + url.QueryEscape(value)
		if key != "offset" && !slices.Contains(parts, part) {
			parts = append(parts, part)
		}
	}
	path := "/v3"
	if x.project != "" {
		path += "/" + x.project
	}
	return x.base() + path + x.r.URL.Path[len("/v3"):] + "?" + strings.Join(parts, "&")
}

// links returns links to a record of the project.
func (x *exchange) links(noun, id string) []any {
	path := "/" + x.project + "/" + noun + "/" + id
	return []any{
		map[string]string{"rel": "self", "href": x.base() + "/v3" + path},
		map[string]string{"rel": "bookmark", "href": x.base() + path},
	}
}

// metadata writes a record's metadata.
func metadata(pairs []fsm.KeyValue) map[string]any {
	m := make(map[string]any, len(pairs))
	for _, kv := range pairs {
		m[kv.Key] = kv.Value
		if kv.Null {
			m[kv.Key] = nil
		}
	}
	return m
}

// pairFilter filters by metadata, written as a Python dictionary.
func pairFilter(pairs []fsm.KeyValue) func(want string) bool {
	return func(want string) bool {
		wanted, ok := pyDict(want)
		if !ok {
			return false
		}
		has := metadata(pairs)
		for key, value := range wanted {
			if has[key] != any(value) {
				return false
			}
		}
		return true
	}
}
