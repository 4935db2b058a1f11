package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// result is one step and what became of it.
type result struct {
	Stage   string  `json:"stage"`
	Client  string  `json:"client"`
	Version string  `json:"version,omitempty"` // microversion
	Command string  `json:"command"`
	Seconds float64 `json:"seconds"`
	Times   int     `json:"times"` // it was run
	Error   string  `json:"error,omitempty"`
	Node    string  `json:"node,omitempty"` // that was asked, if there is an error
	Stdout  string  `json:"stdout,omitempty"`
	Stderr  string  `json:"stderr,omitempty"`
}

// report is what a run has found.
type report struct {
	begin   time.Time
	took    time.Duration
	results []result
}

func (r *report) failed() (n int) {
	for _, res := range r.results {
		if res.Error != "" {
			n++
		}
	}
	return n
}

func (r *report) ok() bool { return r.failed() == 0 && len(r.results) > 0 }

func (r *report) write(w io.Writer, format string) error {
	if format == "json" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", " ")
		enc.SetEscapeHTML(false)
		return enc.Encode(map[string]any{
			"ok": r.ok(), "seconds": r.took.Seconds(), "steps": len(r.results), "failed": r.failed(), "results": r.results,
		})
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CLIENT\tVERSION\tCOMMAND\tSECONDS\tRESULT")
	for _, res := range r.results {
		verdict := "as expected"
		if res.Error != "" {
			verdict = "DIFFERS"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%.1f\t%s\n", res.Client, res.Version, shorten(res.Command, 90), res.Seconds, verdict)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, res := range r.results {
		if res.Error != "" {
			fmt.Fprintf(w, "\n--- %s: %s %s, at %s\n%s\n", res.Stage, res.Client, res.Command, res.Node, res.Error)
		}
	}
	verdict := "OK"
	if !r.ok() {
		verdict = "FAILED"
	}
	_, err := fmt.Fprintf(w, "\nclients: %d steps, %d differ, in %.0f s\nclients: %s\n", len(r.results), r.failed(), r.took.Seconds(), verdict)
	return err
}

func shorten(text string, most int) string {
	text = strings.ReplaceAll(text, "\n", `\n`)
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}
