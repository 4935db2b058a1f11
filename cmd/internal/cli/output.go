package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/goccy/go-yaml"
)

// The ways to print.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatYAML  = "yaml"
)

func formats() []string { return []string{formatTable, formatJSON, formatYAML} }

// table is what a person sees. Without a header it is a list of keys and values.
type table struct {
	header []string
	rows   [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) print(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(t.header) > 0 {
		fmt.Fprintln(tw, strings.Join(t.header, "\t"))
	}
	for _, row := range t.rows {
		for i, cell := range row {
			if cell == "" {
				row[i] = "-"
			}
		}
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	return tw.Flush()
}

// show prints v as the output flag says; the table is made from it by person.
func (a *app) show(v any, person func(io.Writer) error) error {
	if a.output == formatTable {
		return person(a.Out)
	}
	encoded, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	if a.output == formatYAML {
		encoded, err = yaml.JSONToYAML(encoded)
		if err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	_, err = fmt.Fprintln(a.Out, strings.TrimRight(string(encoded), "\n"))
	return err
}

// said prints what was done, for people only.
func (a *app) said(format string, args ...any) {
	if a.output == formatTable {
		fmt.Fprintf(a.Out, format+"\n", args...)
	}
}

func yesNo(yes bool) string { //nolint:revive // it is what is shown
	if yes {
		return "yes"
	}
	return "no"
}

// known shows what nobody may be able to say.
func known(yes *bool) string {
	if yes == nil {
		return "?"
	}
	return yesNo(*yes)
}

// or returns text, or instead if there is none.
func or(text, instead string) string {
	if text == "" {
		return instead
	}
	return text
}

func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}
