package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// exchange is a request and the answer that Cinder gave to it.
type exchange struct {
	Request struct {
		Method  string      `json:"method"`
		Path    string      `json:"path"`
		Headers [][2]string `json:"headers"`
		Body    *string     `json:"body"`
	} `json:"request"`
	Response struct {
		Status  int         `json:"status"`
		Headers [][2]string `json:"headers"`
		Body    string      `json:"body"`
	} `json:"response"`
}

// call is a request whose answer was not recorded.
type call struct {
	Method       string          `json:"method"`
	Path         string          `json:"path"`
	Microversion string          `json:"microversion"`
	Body         json.RawMessage `json:"body"`
}

// step is one line of a sequence.
type step struct {
	Case          string            `json:"case"`
	Binds         map[string]string `json:"binds"` // ids that the answer made
	Auth          string            `json:"auth"`
	Reset         bool              `json:"reset"`
	Settle        bool              `json:"settle"`
	SettleVolumes bool              `json:"settle_volumes"`
	WaitSeconds   float64           `json:"wait_s"`
	Call          *call             `json:"call"`
	ForceState    map[string]string `json:"force_state"`
	Note          string            `json:"note"`
}

// sequence is one recording: what was asked in which order.
type sequence struct {
	name  string // of its directory
	steps []step
}

// title is how a case is called in reports and in the list of deviations.
func (s sequence) title(file string) string {
	return s.name + "/" + strings.TrimSuffix(filepath.Base(file), ".json")
}

func loadSequences(dir string) ([]sequence, error) {
	var all []sequence
	for _, name := range []string{"services", "volumes"} {
		s := sequence{name: name}
		if err := loadJSON(filepath.Join(dir, "sequence-"+name+".json"), &s.steps); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func (s sequence) load(dir, file string) (exchange, error) {
	var x exchange
	return x, loadJSON(filepath.Join(dir, s.name, filepath.Base(file)), &x)
}

func loadJSON(path string, into any) error {
	content, err := os.ReadFile(path) //nolint:gosec // a file of the recordings
	if err != nil {
		return err
	}
	if err := json.Unmarshal(content, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// answer is one answer in the form in which answers are compared.
type answer struct {
	Status int         `json:"status"`
	Header http.Header `json:"header"`
	Body   string      `json:"body"`
}

func (x exchange) answer() answer {
	a := answer{Status: x.Response.Status, Header: http.Header{}, Body: x.Response.Body}
	for _, kv := range x.Response.Headers {
		a.Header.Add(kv[0], kv[1])
	}
	return a
}
