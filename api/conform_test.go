package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/lockstep-storage/lockstep/api"
)

// contract is the description of the API, as a check of what is asked and
// answered.
type contract struct {
	doc obj

	mu       sync.Mutex
	versions map[int]*jsonschema.Compiler // by microversion
	compiled map[string]*jsonschema.Schema
}

// described returns the description that servers here serve.
var described = sync.OnceValues(func() (*contract, error) {
	s, err := api.New(api.Config{Node: &fakeNode{}, Deployment: deployment})
	if err != nil {
		return nil, err
	}
	text, err := s.Description()
	if err != nil {
		return nil, err
	}
	return newContract(text)
})

func newContract(text []byte) (*contract, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	root, _ := doc.(obj)
	return &contract{doc: root, versions: map[int]*jsonschema.Compiler{}, compiled: map[string]*jsonschema.Schema{}}, nil
}

// at returns the object that a pointer leads to, and follows a reference there. It
// returns the pointer to where that led, too.
func (c *contract) at(pointer string) (obj, string) {
	var v any = c.doc
	for step := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		o, _ := v.(obj)
		v = o[strings.NewReplacer("~1", "/", "~0", "~").Replace(step)]
	}
	o, _ := v.(obj)
	if ref, ok := o["$ref"].(string); ok {
		return c.at(strings.TrimPrefix(ref, "#"))
	}
	return o, pointer
}

func asObj(v any) obj {
	o, _ := v.(obj)
	return o
}

func escape(step string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(step) }

// schema returns what is at a pointer as it is at a microversion: without the
// fields that come later, and with the others required.
func (c *contract) schema(pointer string, version int) (*jsonschema.Schema, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := fmt.Sprintf("http://lockstep.invalid/3.%d.json#%s", version, pointer)
	if s, ok := c.compiled[key]; ok {
		return s, nil
	}
	compiler, ok := c.versions[version]
	if !ok {
		compiler = jsonschema.NewCompiler()
		compiler.DefaultDraft(jsonschema.Draft2020)
		compiler.AssertFormat()
		compiler.AssertContent()
		compiler.RegisterFormat(&jsonschema.Format{Name: "uuid", Validate: func(v any) error {
			if text, ok := v.(string); ok {
				return uuid.Validate(text)
			}
			return nil
		}})
		if err := compiler.AddResource(fmt.Sprintf("http://lockstep.invalid/3.%d.json", version), asOf(c.doc, version)); err != nil {
			return nil, err
		}
		c.versions[version] = compiler
	}
	s, err := compiler.Compile(key)
	c.compiled[key] = s
	return s, err
}

// asOf returns a copy of a part of the document as it is at a microversion.
func asOf(v any, version int) any {
	switch v := v.(type) {
	case []any:
		all := make([]any, len(v))
		for i := range v {
			all[i] = asOf(v[i], version)
		}
		return all
	case obj:
		out := obj{}
		for key, value := range v {
			out[key] = asOf(value, version)
		}
		properties, _ := out["properties"].(obj)
		for name, p := range properties {
			since, dated := sinceOf(p)
			switch {
			case dated && since > version:
				delete(properties, name)
			case dated && asObj(p)["x-lockstep-optional"] != true:
				required, _ := out["required"].([]any)
				out["required"] = append(required, name)
			}
		}
		return out
	}
	return v
}

// sinceOf returns the first microversion that has something.
func sinceOf(v any) (minor int, dated bool) {
	o, _ := v.(obj)
	marked, _ := o["x-openstack"].(obj)
	text, ok := marked["min-ver"].(string)
	if !ok {
		return 0, false
	}
	minor, err := strconv.Atoi(strings.TrimPrefix(text, "3."))
	return minor, err == nil
}

// seen is one request and its answer.
type seen struct {
	method string
	url    *url.URL
	body   []byte
	status int
	header http.Header
	answer []byte
}

// operation returns the operation of a path and a method, and the pointer to it.
func (c *contract) operation(path, method string) (op obj, pointer string) {
	segments := strings.Split(path, "/")
	best := -1
	paths, _ := c.doc["paths"].(obj)
	for template, item := range paths {
		parts := strings.Split(template, "/")
		if len(parts) != len(segments) {
			continue
		}
		literal := 0
		for i, part := range parts {
			switch {
			case part == segments[i]:
				literal++
			case !strings.HasPrefix(part, "{"), segments[i] == "", part == "{project_id}" && strings.Trim(segments[i], "0123456789abcdef-") != "":
				literal = -len(parts)
			}
		}
		if _, ok := asObj(item)[strings.ToLower(method)]; literal > best && (ok || literal >= len(parts)-1) {
			best = literal
			op, pointer = c.at("/paths/" + escape(template) + "/" + strings.ToLower(method))
		}
	}
	return op, pointer
}

// violations says where an exchange is not as the description has it.
func (c *contract) violations(x seen) []string {
	op, pointer := c.operation(x.url.Path, x.method)
	if op == nil {
		if x.status/100 == 2 && x.method != http.MethodOptions && x.header.Get("X-Auth-Token") == "" {
			return []string{fmt.Sprintf("answered %d, but is not described", x.status)}
		}
		return nil
	}
	version := 70
	if text, ok := strings.CutPrefix(x.header.Get("OpenStack-API-Version"), "volume 3."); ok {
		if minor, err := strconv.Atoi(text); err == nil {
			version = min(minor, 70)
		}
	}
	var problems []string
	if since, dated := sinceOf(op); dated && version < since && x.status/100 == 2 && x.status != http.StatusNoContent {
		problems = append(problems, fmt.Sprintf("answered %d at 3.%d, but is there from 3.%d on", x.status, version, since))
	}
	if x.status < 300 && x.header.Get("X-Auth-Token") == "" { // which says that nobody asked yet
		problems = append(problems, c.badRequest(x, op, pointer, version)...)
	}
	responses, _ := op["responses"].(obj)
	code := strconv.Itoa(x.status)
	if responses[code] == nil && responses["default"] != nil {
		code = "default"
	}
	if responses[code] == nil {
		return append(problems, fmt.Sprintf("answered %d; described are %v", x.status, slices.Sorted(maps.Keys(responses))))
	}
	response, at := c.at(pointer + "/responses/" + code)
	return append(problems, c.badAnswer(x, response, at, version)...)
}

// badRequest says in what a request that was accepted is not as described.
func (c *contract) badRequest(x seen, op obj, pointer string, version int) []string {
	var problems []string
	known, free := map[string]string{}, false
	params, _ := op["parameters"].([]any)
	for i := range params {
		ref, _ := asObj(params[i])["$ref"].(string)
		p, at := c.at(strings.TrimPrefix(ref, "#"))
		name, _ := p["name"].(string)
		if p["in"] == "query" {
			known[name] = at
			free = free || p["explode"] == true
		}
	}
	for name, values := range x.url.Query() {
		at, ok := known[name]
		switch {
		case !ok && !free:
			problems = append(problems, fmt.Sprintf("the parameter %q is not described", name))
		case ok:
			problems = append(problems, c.check(at+"/schema", version, fmt.Sprintf("parameter %s=%q", name, values[0]), valueOf(values[0]), values[0])...)
		}
	}
	if op["requestBody"] == nil {
		return problems
	}
	body, at := c.at(pointer + "/requestBody")
	content, _ := body["content"].(obj)
	if content["application/json"] == nil {
		return problems
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(x.body))
	if err != nil {
		return append(problems, fmt.Sprintf("accepted a body that is no JSON: %.200q", x.body))
	}
	return append(problems, c.check(at+"/content/"+escape("application/json")+"/schema", version, "request body", doc)...)
}

// valueOf reads a parameter as a number if it is one.
func valueOf(text string) any {
	if _, err := strconv.ParseUint(text, 10, 64); err == nil {
		return json.Number(text)
	}
	return text
}

// badAnswer says in what an answer is not as described.
func (c *contract) badAnswer(x seen, response obj, at string, version int) []string {
	var problems []string
	headers, _ := response["headers"].(obj)
	for name := range headers {
		if header, _ := c.at(at + "/headers/" + escape(name)); header["required"] == true && x.header.Get(name) == "" {
			problems = append(problems, fmt.Sprintf("the header %s is missing", name))
		}
	}
	content, _ := response["content"].(obj)
	switch {
	case len(content) == 0 && len(x.answer) > 0:
		return append(problems, fmt.Sprintf("%d has no body, but this was there: %.200q", x.status, x.answer))
	case len(content) == 0, len(x.answer) == 0 && response["x-lockstep-may-be-empty"] == true:
		return problems
	}
	media, _, err := mime.ParseMediaType(x.header.Get("Content-Type"))
	if err != nil || content[media] == nil {
		return append(problems, fmt.Sprintf("answered with %q; described are %v", x.header.Get("Content-Type"), slices.Sorted(maps.Keys(content))))
	}
	at += "/content/" + escape(media)
	if media == "text/event-stream" {
		return append(problems, c.badEvents(x.answer, at)...)
	}
	if asObj(content[media])["schema"] == nil {
		return problems
	}
	var body any = string(x.answer)
	if strings.HasSuffix(media, "json") {
		if body, err = jsonschema.UnmarshalJSON(bytes.NewReader(x.answer)); err != nil {
			return append(problems, fmt.Sprintf("the answer is no JSON: %.200q", x.answer))
		}
	}
	return append(problems, c.check(at+"/schema", version, fmt.Sprintf("answer %d %.300s", x.status, x.answer), body)...)
}

// badEvents says which events are not as described.
func (c *contract) badEvents(stream []byte, at string) []string {
	var problems []string
	whole := stream[:max(bytes.LastIndex(stream, []byte("\n\n")), 0)]
	for text := range strings.SplitSeq(string(whole), "\n\n") {
		name, data := "", ""
		for line := range strings.SplitSeq(text, "\n") {
			if v, ok := strings.CutPrefix(line, "event: "); ok {
				name = v
			}
			if v, ok := strings.CutPrefix(line, "data: "); ok {
				data = v
			}
		}
		if name == "" {
			continue // a comment
		}
		_, schema := c.at(at + "/x-lockstep-events/" + name)
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(data))
		if err != nil {
			problems = append(problems, fmt.Sprintf("event %s is no JSON: %.200q", name, data))
			continue
		}
		problems = append(problems, c.check(schema, 70, "event "+name, doc)...)
	}
	return problems
}

// check says in what a value, in one of its readings, is not as a schema has it.
func (c *contract) check(pointer string, version int, what string, readings ...any) []string {
	s, err := c.schema(pointer, version)
	if err != nil {
		return []string{fmt.Sprintf("%s: %v", pointer, err)}
	}
	for _, v := range readings {
		if err = s.Validate(v); err == nil {
			return nil
		}
	}
	return []string{fmt.Sprintf("%s: %v", what, err)}
}

// recorder keeps what passes through a handler.
type recorder struct {
	http.ResponseWriter
	seen
}

// Unwrap is for [http.ResponseController].
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status, r.header = status, r.Header().Clone()
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status, r.header = http.StatusOK, r.Header().Clone()
	}
	r.answer = append(r.answer, p...)
	return r.ResponseWriter.Write(p)
}

// checked returns a handler whose every answer must be as the description has it.
func checked(t *testing.T, h http.Handler) http.Handler {
	t.Helper()
	c, err := described()
	if err != nil {
		t.Fatal(err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &recorder{ResponseWriter: w, seen: seen{method: r.Method, url: r.URL}}
		var body bytes.Buffer
		r.Body = io.NopCloser(io.TeeReader(r.Body, &body))
		h.ServeHTTP(rec, r)
		if rec.status == 0 { // the client had gone
			return
		}
		rec.body = body.Bytes()
		for _, problem := range c.violations(rec.seen) {
			t.Errorf("%s %s %.200s\nis not as described: %s", r.Method, r.URL, body.Bytes(), problem)
		}
	})
}
