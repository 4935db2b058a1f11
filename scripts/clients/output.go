package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// output is what a client has said.
type output struct {
	code           int // of its exit; -1: it could not be run
	stdout, stderr string
}

// row is a line of a list, or the properties of one record, by their names. JSON
// that is no text is as it is in JSON.
type row map[string]string

// rows reads a list: a table with lines around it, or JSON.
func (o output) rows() ([]row, error) {
	if text := strings.TrimSpace(o.stdout); strings.HasPrefix(text, "[") {
		var list []map[string]any
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			return nil, fmt.Errorf("standard output is no JSON list: %w", err)
		}
		var rows []row
		for _, record := range list {
			rows = append(rows, plain(record))
		}
		return rows, nil
	}
	return o.table()
}

// table reads the first table.
func (o output) table() (rows []row, err error) {
	var names []string
	for line := range strings.Lines(o.stdout) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case names == nil:
			names = cells
		case len(cells) != len(names):
			return nil, fmt.Errorf("line %q has %d columns, want %d", line, len(cells), len(names))
		default:
			r := row{}
			for i, name := range names {
				r[name] = cells[i]
			}
			rows = append(rows, r)
		}
	}
	if names == nil {
		return nil, errors.New("standard output has no table")
	}
	return rows, nil
}

// record reads the properties of one record: a table of two columns, or JSON.
func (o output) record() (row, error) {
	if text := strings.TrimSpace(o.stdout); strings.HasPrefix(text, "{") {
		var fields map[string]any
		if err := json.Unmarshal([]byte(text), &fields); err != nil {
			return nil, fmt.Errorf("standard output is no JSON object: %w", err)
		}
		return plain(fields), nil
	}
	rows, err := o.table()
	if err != nil {
		return nil, err
	}
	r := row{}
	for _, line := range rows {
		for _, name := range []string{"Property", "Name", "Volume stats"} {
			if _, ok := line[name]; ok && len(line) == 2 {
				r[line[name]] = line["Value"]
			}
		}
	}
	return r, nil
}

func plain(fields map[string]any) row {
	r := row{}
	for name, value := range fields {
		if text, ok := value.(string); ok {
			r[name] = text
			continue
		}
		var text strings.Builder
		enc := json.NewEncoder(&text)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(value) // it was JSON a moment ago
		r[name] = strings.TrimSpace(text.String())
	}
	return r
}

// requestID is what clients add to what the server has said.
var requestID = regexp.MustCompile(` \(Request-ID: req-[0-9a-f-]{36}\)`)

// complaint is what a client says of an answer that it does not like, without the
// request's id, which it must have.
func (o output) complaint() (string, error) {
	text := strings.TrimPrefix(strings.TrimSpace(o.stderr), "ERROR: ")
	if !requestID.MatchString(text) {
		return "", fmt.Errorf("standard error has no id of the request: %q", text)
	}
	return requestID.ReplaceAllString(text, ""), nil
}
