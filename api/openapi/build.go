package openapi

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

//go:embed *.yaml
var files embed.FS

// Facts are what the router knows of an operation.
type Facts struct {
	Since    string              // the first microversion that has it; empty: always
	Public   bool                // for everyone, known or not
	Policies []string            // all of which must allow it
	Actions  map[string][]string // the same by the action that the body names
	Roles    []string            // that may use it by the default policies
}

// Source is what a description is made of, besides the files of this package.
type Source struct {
	// Requests has the JSON Schemas of request bodies, as NAME.json. They refer
	// to each other by file.
	Requests fs.FS

	// Route returns what is known of an operation, by its method and path as
	// they are here. It says no if there is no such route.
	Route func(method, path string) (Facts, bool)
}

// node is an object of the description.
type node = map[string]any

// Build returns the description. An error is a fault of the sources.
func Build(src Source) (map[string]any, error) {
	doc, err := read(files)
	if err != nil {
		return nil, err
	}
	schemas, err := section(doc, "components", "schemas")
	if err != nil {
		return nil, err
	}
	if err := addRequests(schemas, src.Requests); err != nil {
		return nil, err
	}
	e := expander{schemas: schemas}
	for name, schema := range schemas {
		schemas[name] = e.schema(schema)
	}
	for _, response := range asNode(lookup(doc, "components", "responses")) {
		e.content(response)
	}
	for _, parameter := range asNode(lookup(doc, "components", "parameters")) {
		asNode(parameter)["schema"] = e.schema(asNode(parameter)["schema"])
	}
	paths, err := section(doc, "paths")
	if err != nil {
		return nil, err
	}
	for _, at := range slices.Sorted(maps.Keys(paths)) {
		if err := e.item(at, asNode(paths[at]), src.Route); err != nil {
			return nil, err
		}
		addProject(doc, paths, at)
	}
	return doc, dangling(doc)
}

// item expands the operations of a path.
func (e expander) item(at string, item node, route func(method, at string) (Facts, bool)) error {
	for method, short := range item {
		facts, ok := route(strings.ToUpper(method), at)
		if !ok {
			return fmt.Errorf("%s %s: there is no such route", method, at)
		}
		op, err := e.operation(method, at, short, facts)
		if err != nil {
			return fmt.Errorf("%s %s: %w", method, at, err)
		}
		item[method] = op
	}
	return nil
}

// read merges the files. Nothing may be said twice.
func read(files fs.FS) (node, error) {
	doc := node{}
	names, err := fs.Glob(files, "*.yaml")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		var part node
		if err := yaml.Unmarshal(content, &part); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		tag, _ := part["tag"].(string)
		delete(part, "tag")
		if paths, ok := part["paths"].(node); ok {
			tagAll(paths, tag)
		}
		if err := merge(doc, part, ""); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return doc, nil
}

// tagAll gives every operation the tag of its file.
func tagAll(paths node, tag string) {
	for _, item := range paths {
		operations, _ := item.(node)
		for _, op := range operations {
			if op, ok := op.(node); ok {
				op["tags"] = []any{tag}
			}
		}
	}
}

func merge(into, from node, at string) error {
	for key, value := range from {
		old, exists := into[key]
		if !exists {
			into[key] = value
			continue
		}
		both, ok := old.(node)
		more, isNode := value.(node)
		if !ok || !isNode {
			return fmt.Errorf("%s/%s is said twice", at, key)
		}
		if err := merge(both, more, at+"/"+key); err != nil {
			return err
		}
	}
	return nil
}

func lookup(doc any, keys ...string) any {
	for _, key := range keys {
		obj, _ := doc.(node)
		doc = obj[key]
	}
	return doc
}

func section(doc node, keys ...string) (node, error) {
	found, ok := lookup(doc, keys...).(node)
	if !ok {
		return nil, fmt.Errorf("there is no object %s", strings.Join(keys, "/"))
	}
	return found, nil
}

// requestPrefix keeps the schemas of request bodies apart from those of answers.
const requestPrefix = "request."

// addRequests takes the schemas of request bodies into the document.
func addRequests(schemas node, requests fs.FS) error {
	names, err := fs.Glob(requests, "*.json")
	if err != nil {
		return err
	}
	for _, name := range names {
		content, err := fs.ReadFile(requests, name)
		if err != nil {
			return err
		}
		var schema any
		if err := json.Unmarshal(content, &schema); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		schemas[requestPrefix+strings.TrimSuffix(name, ".json")] = moved(schema, name)
	}
	return nil
}

// moved returns a schema of a file with its references as they are in the
// document.
func moved(schema any, file string) any {
	switch v := schema.(type) {
	case []any:
		for i := range v {
			v[i] = moved(v[i], file)
		}
	case node:
		for key, value := range v {
			ref, isText := value.(string)
			if key != "$ref" || !isText {
				v[key] = moved(value, file)
				continue
			}
			other, fragment, _ := strings.Cut(ref, "#")
			if other == "" {
				other = file
			}
			v[key] = "#/components/schemas/" + requestPrefix + strings.TrimSuffix(path.Base(other), ".json") + fragment
		}
	}
	return schema
}

func refTo(kind, name string) node {
	return node{"$ref": "#/components/" + kind + "/" + name}
}

// addProject adds the form of a path of Cinder's API with the project in it. What
// the two have in common moves into the components, so that it stands there once.
func addProject(doc, paths node, at string) {
	const v3 = "/v3/"
	rest, ok := strings.CutPrefix(at, v3)
	if !ok || rest == "" {
		return
	}
	item := node{}
	for method, v := range asNode(paths[at]) {
		op := asNode(v)
		id, _ := op["operationId"].(string)
		if body := asNode(op["requestBody"]); body != nil {
			op["requestBody"] = component(doc, "requestBodies", id, body)
		}
		responses := asNode(op["responses"])
		for code, response := range responses {
			responses[code] = component(doc, "responses", id+"_"+code, asNode(response))
		}
		in := maps.Clone(op)
		in["operationId"] = id + "_in_project"
		params, _ := op["parameters"].([]any)
		in["parameters"] = slices.Concat([]any{refTo("parameters", "path_project_id")}, params)
		item[method] = in
	}
	paths[v3+"{project_id}/"+rest] = item
}

// component moves an object into the components, unless it is a reference already,
// and returns a reference to it.
func component(doc node, kind, name string, v node) node {
	if v["$ref"] != nil {
		return v
	}
	components := asNode(doc["components"])
	if components[kind] == nil {
		components[kind] = node{}
	}
	asNode(components[kind])[name] = v
	return refTo(kind, name)
}

// dangling says which references lead nowhere.
func dangling(doc node) error {
	var missing []string
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, each := range v {
				walk(each)
			}
		case node:
			for key, value := range v {
				if ref, ok := value.(string); ok && key == "$ref" && !leads(doc, ref) {
					missing = append(missing, ref)
				}
				walk(value)
			}
		}
	}
	walk(doc)
	if missing == nil {
		return nil
	}
	slices.Sort(missing)
	return fmt.Errorf("there is no %s", strings.Join(slices.Compact(missing), ", "))
}

// leads reports whether a reference within the document leads somewhere.
func leads(doc node, ref string) bool {
	pointer, ok := strings.CutPrefix(ref, "#/")
	if !ok {
		return false
	}
	var at any = doc
	for step := range strings.SplitSeq(pointer, "/") {
		obj, _ := at.(node)
		if at, ok = obj[strings.NewReplacer("~1", "/", "~0", "~").Replace(step)]; !ok {
			return false
		}
	}
	return true
}
