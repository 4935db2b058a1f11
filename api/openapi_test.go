package api_test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/lockstep-storage/lockstep/api"
)

// document returns the description that servers here serve.
func document(t *testing.T) *contract {
	t.Helper()
	c, err := described()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheDescriptionIsServed(t *testing.T) {
	t.Parallel()
	s := newServer(t, newNode(t), func(c *api.Config) { c.Authenticator = everyRole() })
	c := &client{t: t, h: checked(t, s.Handler())} // known to nobody
	got := c.do(http.MethodGet, "/v1/openapi.json", nil)
	wantStatus(t, got, http.StatusOK)
	if version := got.at(t, "openapi"); version != "3.1.0" || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("got OpenAPI %v as %s", version, got.header.Get("Content-Type"))
	}
	if strings.Contains(string(got.body), deployment+`"`) || strings.Contains(string(got.body), "vol1") {
		t.Error("it says something of the deployment")
	}
	other := c.with("Accept", "application/openapi+json").do(http.MethodGet, "/v1/openapi.json", nil)
	if other.header.Get("Content-Type") != "application/openapi+json" || string(other.body) != string(got.body) {
		t.Errorf("as it is called: got %s", other.header.Get("Content-Type"))
	}
	tag := got.header.Get("ETag")
	for given, status := range map[string]int{tag: 304, `"x", ` + tag: 304, `"x"`: 200} {
		if again := c.with("If-None-Match", given).do(http.MethodGet, "/v1/openapi.json", nil); again.status != status || again.header.Get("ETag") != tag {
			t.Errorf("If-None-Match %s: got %d with %s, want %d", given, again.status, again.header.Get("ETag"), status)
		}
	}
}

func TestTheDescriptionIsValid(t *testing.T) {
	t.Parallel()
	c := document(t)
	if err := validOpenAPI(t, c.doc); err != nil {
		t.Errorf("%#v", err)
	}
	ids := map[any]string{}
	for at, op := range c.operations() {
		if other, taken := ids[op["operationId"]]; taken {
			t.Errorf("%s and %s have the id %v", at, other, op["operationId"])
		}
		ids[op["operationId"]] = at
	}
	broken, _ := asOf(c.doc, 70).(obj)
	asObj(asObj(asObj(broken["paths"])["/livez"])["get"])["responses"] = "ok"
	if validOpenAPI(t, broken) == nil {
		t.Error("responses that are none are valid")
	}
}

// validOpenAPI checks a document against the schema of OpenAPI 3.1, and every
// schema in its components against that of JSON Schema.
func validOpenAPI(t *testing.T, doc obj) error {
	t.Helper()
	official, err := os.ReadFile("testdata/openapi/schema-3.1.json")
	if err != nil {
		t.Fatal(err)
	}
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(official))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("official.json", schema); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("official.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := compiled.Validate(doc); err != nil {
		return err
	}
	c := &contract{doc: doc, versions: map[int]*jsonschema.Compiler{}, compiled: map[string]*jsonschema.Schema{}}
	schemas, _ := c.at("/components/schemas")
	for name := range schemas {
		for _, version := range []int{0, 70} {
			if _, err := c.schema("/components/schemas/"+escape(name), version); err != nil {
				return err
			}
		}
	}
	return nil
}

// operations returns every operation by its method and path.
func (c *contract) operations() map[string]obj {
	all := map[string]obj{}
	paths, _ := c.doc["paths"].(obj)
	for path, item := range paths {
		for method, op := range asObj(item) {
			all[strings.ToUpper(method)+" "+path], _ = op.(obj)
		}
	}
	return all
}

// lacks says what the description lacks of a use of a route.
func (c *contract) lacks(u api.Use) string {
	var parts []string
	for part := range strings.SplitSeq(u.Path, "/") {
		if name, ok := strings.CutPrefix(part, ":"); ok {
			part = "{" + name + "}"
			if name == "action" && !u.InBody && u.Action != "" {
				part = u.Action
			}
		}
		parts = append(parts, part)
	}
	path := strings.Join(parts, "/")
	op, pointer := c.operation(path, u.Method)
	if op == nil {
		return "no operation " + u.Method + " " + path
	}
	if !u.InBody || u.Action == "" {
		return ""
	}
	body, _ := c.at(pointer + "/requestBody")
	raw, _ := json.Marshal(body)
	for _, ref := range refsIn(body) {
		schema, _ := c.at(strings.TrimPrefix(ref, "#"))
		more, _ := json.Marshal(schema)
		raw = append(raw, more...)
	}
	if !bytes.Contains(raw, []byte(`"`+u.Action+`":`)) {
		return "no action " + u.Action + " of " + u.Method + " " + path
	}
	return ""
}

func refsIn(v any) (refs []string) {
	switch v := v.(type) {
	case []any:
		for _, each := range v {
			refs = append(refs, refsIn(each)...)
		}
	case obj:
		if ref, ok := v["$ref"].(string); ok {
			refs = append(refs, ref)
		}
		for _, each := range v {
			refs = append(refs, refsIn(each)...)
		}
	}
	return refs
}

// Every route of the router, every action of a path or of a body that is served,
// and both forms of a path of Cinder's API.
func TestEveryRouteIsDescribed(t *testing.T) {
	t.Parallel()
	c := document(t)
	h, s := handler(t, nil)
	for _, u := range s.Uses() {
		if strings.HasSuffix(u.Path, "/:action") && u.Action == "" {
			continue // below, by what is served
		}
		if w := use(t, h, u, "admin:"+ourProject); strings.Contains(w.Body.String(), "There is no such action") || strings.Contains(w.Body.String(), "Unknown action") {
			continue // of Cinder, and not here
		}
		if problem := c.lacks(u); problem != "" {
			t.Errorf("the description has %s", problem)
		}
		if rest, ok := strings.CutPrefix(u.Path, "/v3/"); ok && rest != "" {
			u.Path = "/v3/:project_id/" + rest
			if problem := c.lacks(u); problem != "" {
				t.Errorf("the description has %s", problem)
			}
		}
	}
	for _, action := range []string{"enable", "disable"} {
		if problem := c.lacks(api.Use{Method: "PUT", Path: "/v3/clusters/" + action}); problem != "" {
			t.Errorf("the description has %s", problem)
		}
	}
	if c.lacks(api.Use{Method: "GET", Path: "/v3/forgotten"}) == "" || c.lacks(api.Use{Method: "POST", Path: "/v3/volumes/:id/action", Action: "os-forgotten", InBody: true}) == "" {
		t.Error("a route that is forgotten is not noticed")
	}
}

// Every operation of the description gets to a handler. That it names a route, the
// server has checked when it made the description.
func TestEveryOperationIsServed(t *testing.T) {
	t.Parallel()
	h, _ := handler(t, nil)
	for at := range document(t).operations() {
		method, path, _ := strings.Cut(at, " ")
		path = strings.NewReplacer("{id}", ourVolume, "{name}", "mycluster@aa", "{alias}", "os-services", "{project}", ourProject, "{project_id}", ourProject,
			"{key}", "k", "{host}", "vol1@aa", "{method}", "term", "{class}", "default").Replace(path)
		w := use(t, h, api.Use{Method: method, Path: path}, "admin:"+ourProject)
		if w.Code == http.StatusMethodNotAllowed || strings.Contains(w.Body.String(), "The resource could not be found") || strings.Contains(w.Body.String(), "Unknown action") {
			t.Errorf("%s: got %d %s", at, w.Code, w.Body)
		}
	}
	got := slices.Collect(maps.Keys(document(t).operations()))
	if len(got) < 100 {
		t.Errorf("got only %d operations", len(got))
	}
}

// The words of the state machine are all in the description, each where it belongs.
func TestTheWordsAreThoseOfTheStateMachine(t *testing.T) {
	t.Parallel()
	c := document(t)
	words := wordsOf(t, "../fsm")
	for kind, more := range wordsOf(t, ".") {
		words[kind] = append(words[kind], more...)
	}
	for kind, pointer := range map[string]string{
		"GroupStatus":       "/components/schemas/group/properties/status",
		"VolumeStatus":      "/components/schemas/volume_status",
		"ReplicationStatus": "/components/schemas/replication_status /components/schemas/group_replication",
		"AttachStatus":      "/components/schemas/attachment_status",
		"Phase":             "/components/schemas/phase",
		"Mode":              "/components/schemas/mode",
		"MemberState":       "/components/schemas/failover_member/properties/state",
		"memberState":       "/components/schemas/member_state",
		"Code":              "/components/schemas/problem_code",
	} {
		var listed []any
		for at := range strings.FieldsSeq(pointer) {
			schema, _ := c.at(at)
			words, _ := schema["enum"].([]any)
			listed = append(listed, words...)
		}
		if len(words[kind]) == 0 {
			t.Errorf("no constants of type %s", kind)
		}
		for _, word := range words[kind] {
			if !slices.Contains(listed, any(word)) {
				t.Errorf("%s has no %q, which a %s can be: %v", pointer, word, kind, listed)
			}
		}
	}
}

// wordsOf returns the values of the typed string constants in a directory, by type.
func wordsOf(t *testing.T, dir string) map[string][]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	words := map[string][]string{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) == 0 {
				return true
			}
			kind := spec.Type
			if qualified, ok := kind.(*ast.SelectorExpr); ok {
				kind = qualified.Sel
			}
			name, isNamed := kind.(*ast.Ident)
			value, isLiteral := spec.Values[0].(*ast.BasicLit)
			if isNamed && isLiteral && value.Kind == token.STRING {
				word, err := strconv.Unquote(value.Value)
				if err != nil {
					t.Fatal(err)
				}
				words[name.Name] = append(words[name.Name], word)
			}
			return true
		})
	}
	return words
}
