package main

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
)

const (
	ours   = "11111111-1111-4111-8111-111111111111"
	others = "22222222-2222-4222-8222-222222222222"
	theirs = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
)

func TestCompareAnswers(t *testing.T) {
	t.Parallel()
	header := func(kv ...string) http.Header {
		h := http.Header{}
		for i := 0; i < len(kv); i += 2 {
			h.Set(kv[i], kv[i+1])
		}
		return h
	}
	for name, tc := range map[string]struct {
		got, want answer
		differs   string // part of the one difference; empty for none
	}{
		"same":               {got: answer{Status: 200, Body: `{"a": 1}`}, want: answer{Status: 200, Body: `{"a":1}`}},
		"status":             {got: answer{Status: 200}, want: answer{Status: 202}, differs: "status: got 200, want 202"},
		"value":              {got: answer{Body: `{"a": {"b": 1}}`}, want: answer{Body: `{"a":{"b":2}}`}, differs: "body.a.b: got 1, want 2"},
		"number and text":    {got: answer{Body: `{"a": "1"}`}, want: answer{Body: `{"a": 1}`}, differs: `body.a: got "1", want 1`},
		"missing":            {got: answer{Body: `{}`}, want: answer{Body: `{"a": null}`}, differs: "body.a: missing"},
		"too much":           {got: answer{Body: `{"a": null}`}, want: answer{Body: `{}`}, differs: "want none"},
		"order of a list":    {got: answer{Body: `[1, 2, 3]`}, want: answer{Body: `[1, 2, 4]`}, differs: "body[2]"},
		"length of a list":   {got: answer{Body: `[1]`}, want: answer{Body: `[1, 1]`}, differs: "body"},
		"times":              {got: answer{Body: `["2026-01-01T00:00:00.000000"]`}, want: answer{Body: `["2025-01-01T00:00:00.123456"]`}},
		"time and null":      {got: answer{Body: `[null]`}, want: answer{Body: `["2025-01-01T00:00:00.123456"]`}, differs: "body[0]"},
		"ids":                {got: answer{Body: `["` + ours + `"]`}, want: answer{Body: `["` + theirs + `"]`}},
		"ids that change":    {got: answer{Body: `["` + ours + `","` + others + `"]`}, want: answer{Body: `["` + theirs + `","` + theirs + `"]`}, differs: "body[1]"},
		"text is compared":   {got: answer{Body: "a"}, want: answer{Body: "b"}, differs: `got "a", want "b"`},
		"header":             {got: answer{Header: header("Vary", "a")}, want: answer{Header: header("Vary", "b")}, differs: "header Vary"},
		"header missing":     {want: answer{Header: header("Vary", "b")}, differs: "header Vary"},
		"header too much":    {got: answer{Header: header("Vary", "b")}, differs: "want none"},
		"incidental headers": {got: answer{Header: header("Date", "now", "X-Lockstep-Failover-Id", "f", "Location", "/v1/failovers/f")}},
		"another location":   {got: answer{Header: header("Location", "/v3")}, differs: "header Location"},
		"request ids":        {got: answer{Header: header("X-Openstack-Request-Id", "req-"+ours)}, want: answer{Header: header("X-Openstack-Request-Id", "req-"+theirs)}},
		"scheduler":          {got: answer{Body: `{"services":[]}`}, want: answer{Body: `{"services":[{"binary":"cinder-scheduler"}]}`}},
		"any host":           {got: answer{Body: `{"os-vol-host-attr:host":"vol1@aa#aa"}`}, want: answer{Body: `{"os-vol-host-attr:host":"vol3@aa#aa"}`}},
		"no host":            {got: answer{Body: `{"os-vol-host-attr:host":null}`}, want: answer{Body: `{"os-vol-host-attr:host":"vol3@aa#aa"}`}, differs: "host"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			diffs := compareAnswers(newPairs(), tc.got, tc.want)
			switch {
			case tc.differs == "" && len(diffs) > 0:
				t.Errorf("differ: %q", diffs)
			case tc.differs != "" && (len(diffs) != 1 || !strings.Contains(diffs[0], tc.differs)):
				t.Errorf("got %q, want one with %q", diffs, tc.differs)
			}
		})
	}
}

func TestRequestsHaveOurIDs(t *testing.T) {
	t.Parallel()
	p := newPairs()
	p.bind(ours, theirs)
	p.bind(others, theirs) // an id that is known stands
	if got := p.ours("/volumes/" + theirs + "/x"); got != "/volumes/"+ours+"/x" {
		t.Errorf("got %q", got)
	}
}

// A deviation holds only as it is listed.
func TestDeviations(t *testing.T) {
	t.Parallel()
	d := deviations{
		Reasons: map[string]string{"why": "because"},
		Deviations: []deviation{
			{Case: "a", Reason: "why", Differs: []string{"^status: got 400, want 202$", "^header X"}},
			{Case: "u", Reason: "why", Unreachable: true},
		},
	}
	for name, tc := range map[string]struct {
		res  result
		want outcome
	}{
		"as listed":           {result{Name: "a", Differences: []string{"status: got 400, want 202", "header X: got a"}}, deviates},
		"agrees after all":    {result{Name: "a"}, broken},
		"half as listed":      {result{Name: "a", Differences: []string{"status: got 400, want 202"}}, broken},
		"more than is listed": {result{Name: "a", Differences: []string{"status: got 400, want 202", "header X: a", "body: b"}}, broken},
		"not listed":          {result{Name: "b", Differences: []string{"status"}}, differs},
		"agrees":              {result{Name: "b"}, agrees},
		"unreachable":         {result{Name: "u", Unmet: "no"}, deviates},
		"reached":             {result{Name: "u"}, broken},
		"not reached":         {result{Name: "b", Unmet: "no"}, differs},
	} {
		if got := d.judge(tc.res).Outcome; got != tc.want {
			t.Errorf("%s: got %s, want %s", name, got, tc.want)
		}
	}
	rep := &report{results: []result{{Name: "a"}}}
	if unused := d.unused(rep, regexp.MustCompile("")); len(unused) != 1 || unused[0] != "u" {
		t.Errorf("unused: %q", unused)
	}
}

// The list that is shipped can be read.
func TestListOfDeviations(t *testing.T) {
	t.Parallel()
	if _, err := loadDeviations("deviations.yaml"); err != nil {
		t.Error(err)
	}
}
