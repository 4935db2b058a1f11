package main

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
)

const (
	tableOut = `+------+---------+
| Name | Status  |
+------+---------+
| a    | enabled |
| b    | -       |
+------+---------+
`
	recordOut = `+----------+-------+
| Property | Value |
+----------+-------+
| name     | a     |
| frozen   | False |
+----------+-------+
`
	listJSON = `[{"Name": "a", "Status": "enabled", "Hosts": 3, "Reason": null}, {"Name": "b"}]`
	showJSON = `{"name": "a", "frozen": false, "properties": {"k": "<v>"}}`
	request  = " (Request-ID: req-1218fb84-e06d-4229-80e3-cede4a9791f2)"
)

// A check that cannot fail would make the story worthless: each is shown what it
// takes and what it refuses.
func TestChecks(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		step  step
		out   output
		wrong string // part of what is wrong; empty: nothing
	}{
		"exit code":                {cinder("3.0", "x"), output{}, ""},
		"another exit code":        {cinder("3.0", "x"), output{code: 1}, "exit code\n got: 1"},
		"it could not be run":      {cinder("3.0", "x").ends(1), output{code: -1}, "exit code\n got: -1"},
		"a row":                    {cinder("3.0", "x").has(row{"Name": "a", "Status": "enabled"}), output{stdout: tableOut}, ""},
		"a value in another row":   {cinder("3.0", "x").has(row{"Name": "b", "Status": "enabled"}), output{stdout: tableOut}, "want: one with"},
		"a column that is missing": {cinder("3.0", "x").has(row{"Name": "a", "Frozen": ""}), output{stdout: tableOut}, "want: one with"},
		"no table":                 {cinder("3.0", "x").count(0), output{}, "no table"},
		"a torn table":             {cinder("3.0", "x").count(2), output{stdout: "| a | b |\n| 1 |\n"}, "has 1 columns, want 2"},
		"rows":                     {cinder("3.0", "x").count(2), output{stdout: tableOut}, ""},
		"too many rows":            {cinder("3.0", "x").count(1), output{stdout: tableOut}, "got: 2"},
		"a row in JSON":            {openstack("3.0", "x").has(row{"Name": "a", "Hosts": "3", "Reason": "null"}), output{stdout: listJSON}, ""},
		"no row in JSON":           {openstack("3.0", "x").has(row{"Name": "c"}), output{stdout: listJSON}, "want: one with"},
		"half of JSON":             {openstack("3.0", "x").count(2), output{stdout: listJSON[:20]}, "no JSON list"},
		"a record":                 {cinder("3.0", "x").shows(row{"name": "a", "frozen": "False"}), output{stdout: recordOut}, ""},
		"another record":           {cinder("3.0", "x").shows(row{"frozen": "True"}), output{stdout: recordOut}, "want: map[frozen:True]"},
		"a record in JSON":         {openstack("3.0", "x").shows(row{"frozen": "false", "properties": `{"k":"<v>"}`}), output{stdout: showJSON}, ""},
		"another record in JSON":   {openstack("3.0", "x").shows(row{"frozen": "true"}), output{stdout: showJSON}, "want: map[frozen:true]"},
		"nothing to remember":      {cinder("3.0", "x").saves("id", "id"), output{stdout: recordOut}, `one called "id"`},
		"silence":                  {cinder("3.0", "x").silent(), output{stdout: "\n"}, ""},
		"no silence":               {cinder("3.0", "x").silent(), output{stdout: "a\n"}, "want: nothing"},
		"words":                    {cinder("3.0", "x").says("b c"), output{stderr: "a b c"}, ""},
		"other words":              {cinder("3.0", "x").says("d"), output{stderr: "a b c"}, `want: "d"`},
		"failure":                  {cinder("3.0", "x").fails(2, "usage"), output{code: 2, stderr: "usage: x"}, ""},
		"no failure":               {cinder("3.0", "x").fails(2, ""), output{}, "exit code"},
		"refusal":                  {cinder("3.0", "x").refused(400, "No."), output{code: 1, stderr: "ERROR: No. (HTTP 400)" + request + "\n"}, ""},
		"refusal by openstack":     {openstack("3.0", "x").refused(400, "No."), output{code: 1, stderr: "No. (HTTP 400)" + request + "\n"}, ""},
		"another status":           {cinder("3.0", "x").refused(400, "No."), output{code: 1, stderr: "ERROR: No. (HTTP 404)" + request}, "got: No. (HTTP 404)"},
		"more words":               {cinder("3.0", "x").refused(400, "No."), output{code: 1, stderr: "ERROR: No. No. (HTTP 400)" + request}, "got: No. No."},
		"no id of the request":     {cinder("3.0", "x").refused(400, "No."), output{code: 1, stderr: "ERROR: No. (HTTP 400)"}, "no id of the request"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := tt.step.judge(tt.out, newMemory())
			switch {
			case tt.wrong == "" && err != nil:
				t.Error(err)
			case tt.wrong != "" && (err == nil || !strings.Contains(err.Error(), tt.wrong)):
				t.Errorf("got %v, want %q in it", err, tt.wrong)
			}
		})
	}
}

func TestLaterStepsKnowWhatEarlierOnesSaw(t *testing.T) {
	t.Parallel()
	known := newMemory()
	if err := cinder("3.0", "x").saves("volume", "name").judge(output{stdout: recordOut}, known); err != nil {
		t.Fatal(err)
	}
	if err := openstack("3.0", "x").has(row{"Name": "{volume}"}).judge(output{stdout: listJSON}, known); err != nil {
		t.Error(err)
	}
	if got := split(known.expand("type create --property 'replication_enabled=<is> True' {volume}")); !slices.Equal(got, []string{
		"type", "create", "--property", "replication_enabled=<is> True", "a",
	}) {
		t.Errorf("arguments %q", got)
	}
}

func TestGophercloudComplainsAsTheOthersDo(t *testing.T) {
	t.Parallel()
	header := map[string][]string{"X-Openstack-Request-Id": {"req-1218fb84-e06d-4229-80e3-cede4a9791f2"}}
	err := gophercloud.ErrUnexpectedResponseCode{Actual: 400, Body: []byte(`{"badRequest": {"code": 400, "message": "No."}}`), ResponseHeader: header}
	s := gopher("x", func(context.Context, *gophercloud.ServiceClient, *memory) (any, error) { return nil, err })
	if err := s.refused(400, "No.").judge(output{code: 1, stderr: complain(err)}, newMemory()); err != nil {
		t.Error(err)
	}
}

func TestTheStoryIsWhole(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	short := 0
	for _, st := range story() {
		for _, s := range st.steps {
			used[s.client] = true
			if !s.long {
				short++
			}
			if s.again && s.exit == 0 && len(s.checks) == 0 {
				t.Errorf("%s: %s is repeated until nothing in particular", st.title, s.command)
			}
		}
	}
	if len(used) != 4 || short < 25 {
		t.Errorf("clients %v, %d steps in the short story", used, short)
	}
	users := map[string]bool{}
	for _, st := range (&keystone{dir: t.TempDir()}).story() {
		for _, s := range st.steps {
			users[s.name()] = true
			if s.exit == 0 && len(s.checks) == 0 && (s.again || s.token != "") {
				t.Errorf("%s: nothing is expected of %s", st.title, s.command)
			}
		}
	}
	if len(users) != 6 {
		t.Errorf("users %v", users)
	}
	for _, args := range [][]string{{"-o", "xml"}, {"-run", "("}, {"more"}, {"-nope"}} {
		if code := run(args, io.Discard, io.Discard); code != exitUsage {
			t.Errorf("%q: exit code %d", args, code)
		}
	}
}
