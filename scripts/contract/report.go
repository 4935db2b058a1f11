package main

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"
)

// outcome is what became of one exchange.
type outcome string

const (
	agrees   outcome = "agrees"
	differs  outcome = "DIFFERS"  // and is not listed
	deviates outcome = "deviates" // as listed
	broken   outcome = "BROKEN"   // listed, but does not deviate as the list says
)

// result is one exchange and what became of it.
type result struct {
	Name        string   `json:"name"`
	Outcome     outcome  `json:"outcome"`
	Reason      string   `json:"reason,omitempty"` // of a deviation
	Request     string   `json:"request"`
	Body        string   `json:"request_body,omitempty"`
	Unmet       string   `json:"unmet,omitempty"` // why it could not be asked
	Differences []string `json:"differences,omitempty"`
	Got         answer   `json:"got"`
	Want        answer   `json:"want"`
}

// report is what a run has found.
type report struct {
	begin   time.Time
	took    time.Duration
	results []result
	failed  int
	unused  []string // deviations that no exchange has
}

func (r *report) add(res result, only *regexp.Regexp) {
	if !only.MatchString(res.Name) {
		return
	}
	r.results = append(r.results, res)
	if res.Outcome == differs || res.Outcome == broken {
		r.failed++
	}
}

func (r *report) ok() bool { return r.failed == 0 && len(r.unused) == 0 && len(r.results) > 0 }

func (r *report) count(o outcome) (n int) {
	for _, res := range r.results {
		if res.Outcome == o {
			n++
		}
	}
	return n
}

func (r *report) write(w io.Writer, o options) error {
	if o.output == "json" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", " ")
		return enc.Encode(map[string]any{
			"ok": r.ok(), "seconds": r.took.Seconds(), "exchanges": len(r.results), "agree": r.count(agrees),
			"deviate": r.count(deviates), "differ": r.failed, "unused_deviations": r.unused, "results": r.results,
		})
	}
	r.table(w)
	r.failures(w, o.shown)
	for _, name := range r.unused {
		fmt.Fprintf(w, "\n%s is listed as a deviation, but there is no such exchange\n", name)
	}
	fmt.Fprintf(w, "\ncontract: %d exchanges, %d agree, %d deviate as listed, %d differ, in %.0f s\n",
		len(r.results), r.count(agrees), r.count(deviates), r.failed, r.took.Seconds())
	verdict := "OK"
	if !r.ok() {
		verdict = "FAILED"
	}
	fmt.Fprintf(w, "contract: %s\n", verdict)
	return nil
}

func (r *report) table(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, res := range r.results {
		if res.Outcome == agrees {
			continue
		}
		note := res.Reason
		if note == "" && len(res.Differences) > 0 {
			note = shorten(res.Differences[0], 110)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", res.Outcome, res.Name, note)
	}
	_ = t.Flush() // standard output: nobody is left to tell
}

// failures shows the first failures in full.
func (r *report) failures(w io.Writer, most int) {
	for _, res := range r.results {
		if res.Outcome != differs && res.Outcome != broken || most == 0 {
			continue
		}
		most--
		fmt.Fprintf(w, "\n--- %s\n%s\n", res.Name, res.Request)
		if res.Body != "" {
			fmt.Fprintln(w, shorten(res.Body, 400))
		}
		for _, d := range res.Differences {
			fmt.Fprintf(w, "  %s\n", shorten(d, 600))
		}
	}
}

func shorten(text string, most int) string {
	text = strings.ReplaceAll(text, "\n", `\n`)
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}
