package openapi

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// expander turns the short forms of the files into what OpenAPI has for them.
type expander struct {
	schemas node
}

// schema expands a schema. A name stands for a schema of the components, a list of
// one for an array; see record.
func (e expander) schema(v any) any {
	switch v := v.(type) {
	case string:
		return refTo("schemas", v)
	case []any:
		if len(v) == 1 {
			return node{"type": "array", "items": e.schema(v[0])}
		}
		return v
	case node:
		return e.object(v)
	}
	return v
}

func (e expander) object(v node) node {
	out := node{}
	for key, value := range v {
		switch key {
		case "record", "extends":
		case "since":
			out["x-openstack"] = node{"min-ver": value}
		case "is":
			maps.Copy(out, asNode(e.schema(value)))
		case "items", "additionalProperties", "propertyNames":
			out[key] = e.schema(value)
		case "anyOf", "oneOf", "allOf":
			out[key] = each(value, e.schema)
		case "properties", "patternProperties", "$defs":
			all := node{}
			for name, property := range asNode(value) {
				all[name] = e.schema(property)
			}
			out[key] = all
		default:
			out[key] = value
		}
	}
	if fields, ok := v["record"].(node); ok {
		e.record(out, e.inherited(v, fields))
	}
	return out
}

// inherited returns the fields of a record and of the one that it extends.
func (e expander) inherited(v, fields node) node {
	name, ok := v["extends"].(string)
	if !ok {
		return fields
	}
	base := asNode(e.schemas[name])
	all := node{}
	if theirs, ok := base["record"].(node); ok {
		maps.Copy(all, e.inherited(base, theirs))
	} else {
		maps.Copy(all, fieldsOf(base))
	}
	maps.Copy(all, fields)
	return all
}

// fieldsOf returns the fields of a record that is expanded already.
func fieldsOf(schema node) node {
	required, _ := schema["required"].([]any)
	fields := node{}
	for name, property := range asNode(schema["properties"]) {
		_, dated := asNode(property)["x-openstack"]
		if !slices.Contains(required, any(name)) && !dated || asNode(property)["x-lockstep-optional"] == true {
			name += "?"
		}
		fields[name] = property
	}
	return fields
}

// record makes an object that has these fields and no others. All are required but
// those whose name ends with a question mark, and those that only later
// microversions have.
func (e expander) record(out, fields node) {
	properties, required := node{}, []string{}
	for name, value := range fields {
		name, optional := strings.CutSuffix(name, "?")
		property := asNode(e.schema(value))
		_, dated := property["x-openstack"]
		switch {
		case !optional && !dated:
			required = append(required, name)
		case optional && dated:
			property["x-lockstep-optional"] = true
		}
		properties[name] = property
	}
	slices.Sort(required)
	out["type"], out["properties"], out["additionalProperties"] = "object", properties, false
	if len(required) > 0 {
		out["required"] = each(required, func(name any) any { return name })
	}
}

func asNode(v any) node {
	n, _ := v.(node)
	return n
}

// each returns what fn makes of every element of a list.
func each(list any, fn func(any) any) []any {
	var out []any
	switch list := list.(type) {
	case []any:
		for _, v := range list {
			out = append(out, fn(v))
		}
	case []string:
		for _, v := range list {
			out = append(out, fn(v))
		}
	}
	return out
}

// content expands the schemas in a response or a request body that is written out.
func (e expander) content(v any) any {
	for _, media := range asNode(asNode(v)["content"]) {
		if m := asNode(media); m["schema"] != nil {
			m["schema"] = e.schema(m["schema"])
		}
	}
	return v
}

// operation expands an operation, and adds what follows from its path and from the
// router.
func (e expander) operation(method, at string, v any, facts Facts) (node, error) {
	short, ok := v.(node)
	if !ok || short["summary"] == nil {
		return nil, errors.New("a summary is required")
	}
	op := node{"operationId": operationID(method, at)}
	for key, value := range short {
		switch key {
		case "query", "body", "answers", "responses":
		default:
			op[key] = value
		}
	}
	if body, ok := short["body"]; ok {
		op["requestBody"] = node{"required": true, "content": node{"application/json": node{"schema": e.body(body)}}}
	}
	if raw, ok := short["requestBody"]; ok {
		op["requestBody"] = e.content(raw)
	}
	if params := parameters(method, at, short["query"]); params != nil {
		op["parameters"] = params
	}
	var err error
	if op["responses"], err = e.responses(method, at, short); err != nil {
		return nil, err
	}
	addFacts(op, facts)
	return op, nil
}

// body refers to the schemas of request bodies: one, or any of a list.
func (e expander) body(v any) any {
	switch v := v.(type) {
	case string:
		return refTo("schemas", requestPrefix+v)
	case []any:
		return node{"anyOf": each(v, e.body)}
	}
	return e.schema(v)
}

func operationID(method, at string) string {
	words := strings.FieldsFunc(at, func(r rune) bool { return strings.ContainsRune("/{}_-.", r) })
	if strings.HasSuffix(at, "/") { // the same path has an item without it, too
		words = append(words, "root")
	}
	return strings.Join(append([]string{method}, words...), "_")
}

// parameters returns those of a path, those of its surface, and those in the query.
func parameters(method, at string, query any) []any {
	var all []any
	for part := range strings.SplitSeq(at, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			all = append(all, refTo("parameters", "path_"+strings.TrimSuffix(name, "}")))
		}
	}
	if strings.HasPrefix(at, "/v3") {
		all = append(all, refTo("parameters", "microversion"))
	}
	if changes(method) && !strings.HasPrefix(at, "/internal/") {
		all = append(all, refTo("parameters", "idempotency_key"))
	}
	return append(all, each(query, func(name any) any { return refTo("parameters", fmt.Sprint(name)) })...)
}

func changes(method string) bool { return method == "post" || method == "put" || method == "delete" }

// responses returns the answers of an operation and the refusals of its surface.
func (e expander) responses(method, at string, short node) (node, error) {
	all := node{}
	for code, schema := range asNode(short["answers"]) {
		status, err := strconv.Atoi(code)
		if err != nil {
			return nil, fmt.Errorf("answers %s: want a status", code)
		}
		response := node{"description": http.StatusText(status) + "."}
		if schema != nil {
			response["content"] = node{"application/json": node{"schema": e.schema(schema)}}
		}
		all[code] = response
	}
	for code, response := range asNode(short["responses"]) {
		all[code] = e.content(response)
	}
	if len(all) == 0 {
		return nil, errors.New("answers are required")
	}
	surface, codes := refusals(method, at)
	if short["body"] != nil && surface != "" {
		codes = append(codes, "415")
	}
	for _, code := range codes {
		if _, said := all[code]; !said {
			all[code] = refTo("responses", surface+"_"+code)
		}
	}
	return all, nil
}

// refusals are what every operation of a surface may answer.
func refusals(method, at string) (surface string, codes []string) {
	switch {
	case strings.HasPrefix(at, "/v3"):
		surface, codes = "v3", []string{"204", "400", "401", "403", "404", "406", "500", "503"}
	case at == "/": // where Cinder looks at the version, and at nothing else
		return "v3", []string{"400", "406"}
	case strings.HasPrefix(at, "/v1"):
		surface, codes = "v1", []string{"400", "401", "403", "404", "500", "503"}
		if changes(method) {
			codes = append(codes, "507")
		}
	default:
		return "", nil
	}
	if changes(method) {
		codes = append(codes, "409", "413")
	}
	return surface, codes
}

// addFacts adds what the router knows.
func addFacts(op node, facts Facts) {
	if facts.Since != "" && op["x-openstack"] == nil {
		op["x-openstack"] = node{"min-ver": facts.Since}
	}
	if since, ok := op["since"]; ok {
		op["x-openstack"] = node{"min-ver": since}
		delete(op, "since")
	}
	if facts.Public {
		op["security"] = []any{}
		return
	}
	if len(facts.Policies) > 0 {
		op["x-lockstep-policies"] = each(facts.Policies, func(name any) any { return name })
	}
	if len(facts.Actions) > 0 {
		byAction := node{}
		for action, policies := range facts.Actions {
			byAction[action] = each(policies, func(name any) any { return name })
		}
		op["x-lockstep-policies"] = byAction
	}
	if len(facts.Roles) > 0 {
		op["x-lockstep-roles"] = each(facts.Roles, func(name any) any { return name })
	}
}
