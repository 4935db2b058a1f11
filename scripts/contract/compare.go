package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

func decode(body string, into any) error { return json.Unmarshal([]byte(body), into) }

// pairs says which of our ids stands for which recorded one.
type pairs struct {
	toTheirs, toOurs map[string]string
}

func newPairs() *pairs { return &pairs{toTheirs: map[string]string{}, toOurs: map[string]string{}} }

// bind notes that our id stands for theirs. What was noted before stands.
func (p *pairs) bind(ours, theirs string) {
	if _, ok := p.toOurs[theirs]; ok || ours == "" {
		return
	}
	p.toOurs[theirs], p.toTheirs[ours] = ours, theirs
}

// uuids are ids; those of requests begin with req- and are compared by shape.
var uuids = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// stamps are times as Cinder writes them.
var stamps = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}`)

// ours returns a recorded text with our ids in it.
func (p *pairs) ours(text string) string {
	return uuids.ReplaceAllStringFunc(text, func(id string) string {
		if ours, ok := p.toOurs[id]; ok {
			return ours
		}
		return id
	})
}

// same reports whether two texts are equal but for times and ids. Ids that are
// seen for the first time are noted to stand for each other.
func (p *pairs) same(got, want string) bool {
	got, want = stamps.ReplaceAllString(got, "TIME"), stamps.ReplaceAllString(want, "TIME")
	ours, theirs := uuids.FindAllString(got, -1), uuids.FindAllString(want, -1)
	if len(ours) != len(theirs) || uuids.ReplaceAllString(got, "ID") != uuids.ReplaceAllString(want, "ID") {
		return false
	}
	for i := range ours {
		_, known := p.toTheirs[ours[i]]
		if ours[i] != theirs[i] && !known {
			p.bind(ours[i], theirs[i])
		}
		if ours[i] != theirs[i] && p.toTheirs[ours[i]] != theirs[i] {
			return false
		}
	}
	return true
}

// compareAnswers returns in what two answers differ.
func compareAnswers(ids *pairs, got, want answer) []string {
	var diffs []string
	if got.Status != want.Status {
		diffs = append(diffs, fmt.Sprintf("status: got %d, want %d", got.Status, want.Status))
	}
	diffs = append(diffs, compareHeaders(ids, got.Header, want.Header)...)
	var g, w any
	if decode(want.Body, &w) != nil || decode(got.Body, &g) != nil {
		if !ids.same(got.Body, want.Body) {
			diffs = append(diffs, fmt.Sprintf("body: got %q, want %q", got.Body, want.Body))
		}
		return diffs
	}
	c := &comparison{ids: ids}
	c.values("body", g, w)
	return append(diffs, c.diffs...)
}

// incidental reports whether a header differs from run to run.
func incidental(name string) bool {
	switch name {
	case "Date", "Content-Length", "Connection", "Server", "Transfer-Encoding", "Keep-Alive":
		return true
	}
	return false
}

// extra reports whether an answer may have a header that Cinder's has not: one of
// Lockstep's own, and the address of a failover.
func extra(name, value string) bool {
	return strings.HasPrefix(name, "X-Lockstep-") || name == "Location" && strings.HasPrefix(value, "/v1/failovers/")
}

func compareHeaders(ids *pairs, got, want http.Header) []string {
	var diffs []string
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if incidental(name) {
			continue
		}
		g, w := strings.Join(got[name], ", "), strings.Join(want[name], ", ")
		if !sameHeader(ids, name, g, w) {
			diffs = append(diffs, fmt.Sprintf("header %s: got %q, want %q", name, g, w))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, known := want[name]; !known && !incidental(name) && !extra(name, got.Get(name)) {
			diffs = append(diffs, fmt.Sprintf("header %s: got %q, want none", name, got.Get(name)))
		}
	}
	return diffs
}

func sameHeader(ids *pairs, name, got, want string) bool {
	switch name {
	case "X-Compute-Request-Id", "X-Openstack-Request-Id": // of this request alone
		return uuids.ReplaceAllString(got, "ID") == uuids.ReplaceAllString(want, "ID")
	}
	return ids.same(got, want)
}

// comparison compares two JSON values.
type comparison struct {
	ids   *pairs
	diffs []string
}

func (c *comparison) differ(path string, got, want any) {
	c.diffs = append(c.diffs, fmt.Sprintf("%s: got %s, want %s", path, show(got), show(want)))
}

func show(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (c *comparison) values(path string, got, want any) {
	switch w := want.(type) {
	case map[string]any:
		if g, ok := got.(map[string]any); ok {
			c.objects(path, g, w)
			return
		}
	case []any:
		if g, ok := got.([]any); ok {
			c.lists(path, ordered(path, withoutScheduler(g)), ordered(path, withoutScheduler(w)))
			return
		}
	case string:
		if g, ok := got.(string); ok && c.ids.same(g, w) {
			return
		}
	default:
		if got == want {
			return
		}
	}
	c.differ(path, got, want)
}

func (c *comparison) lists(path string, got, want []any) {
	if len(got) != len(want) {
		c.differ(path, got, want)
		return
	}
	for i := range want {
		c.values(fmt.Sprintf("%s[%d]", path, i), got[i], want[i])
	}
}

func (c *comparison) objects(path string, got, want map[string]any) {
	keys := map[string]any{}
	maps.Copy(keys, got)
	maps.Copy(keys, want)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		g, inGot := got[key]
		w, inWant := want[key]
		switch {
		case !inGot && key == "region": // of the recorded replication_device
		case !inGot:
			c.diffs = append(c.diffs, fmt.Sprintf("%s.%s: missing, want %s", path, key, show(w)))
		case !inWant && key == "region":
		case !inWant:
			c.diffs = append(c.diffs, fmt.Sprintf("%s.%s: got %s, want none", path, key, show(g)))
		case chosen(key, g, w) || path == "body.log_levels[0]" && key != "binary": // which loggers a process has is its own business
		default:
			c.values(path+"."+key, g, w)
		}
	}
}

// chosen reports whether a value is one that a scheduler or a driver is free to
// choose, and both answers have one.
func chosen(key string, got, want any) bool {
	g, isText := got.(string)
	w, ok := want.(string)
	if !ok || !isText || g == "" || w == "" {
		return false
	}
	host := regexp.MustCompile(`^vol\d@aa#aa$`)
	switch key {
	case "os-vol-host-attr:host": // any service of the cluster
		return host.MatchString(g) && host.MatchString(w)
	case "service_uuid":
		return uuids.MatchString(g) && uuids.MatchString(w)
	case "device_path": // of the driver
		return strings.HasPrefix(g, "/") && strings.HasPrefix(w, "/")
	}
	return false
}

// ordered sorts rows whose order is that of random ids, since they were made within
// one second of Cinder's clock.
func ordered(path string, rows []any) []any {
	if path != "body.volume_types" && path != "body.group_types" {
		return rows
	}
	name := func(row any) string {
		r, _ := row.(map[string]any)
		text, _ := r["name"].(string)
		return text
	}
	slices.SortStableFunc(rows, func(a, b any) int { return strings.Compare(name(a), name(b)) })
	return rows
}

// withoutScheduler drops the rows of Cinder's scheduler: there is none here.
func withoutScheduler(rows []any) []any {
	return slices.DeleteFunc(slices.Clone(rows), func(row any) bool {
		r, ok := row.(map[string]any)
		return ok && r["binary"] == "cinder-scheduler"
	})
}
