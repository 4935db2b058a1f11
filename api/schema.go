package api

import (
	"bytes"
	"cmp"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	neturl "net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/lockstep-storage/lockstep/fsm"
)

// schemaFiles are the JSON Schemas (draft 2020-12) of request bodies.
//
//go:embed schemas/*.json
var schemaFiles embed.FS

// schemas are the schemas by name: as they are compiled, and as they are written.
type schemas struct {
	compiled map[string]*jsonschema.Schema
	written  map[string]any
}

// compileSchemas compiles what is embedded. An error is a fault of this package.
func compileSchemas() (*schemas, error) {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	registerFormats(c)
	all := &schemas{compiled: map[string]*jsonschema.Schema{}, written: map[string]any{}}
	files, err := fs.Glob(schemaFiles, "schemas/*.json")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		content, err := schemaFiles.ReadFile(file)
		if err != nil {
			return nil, err
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(content))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all.written[schemaBase+path.Base(file)] = doc
		if err := c.AddResource(schemaBase+path.Base(file), doc); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	for _, file := range files {
		name := strings.TrimSuffix(path.Base(file), ".json")
		if all.compiled[name], err = c.Compile(schemaBase + name + ".json"); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	return all, nil
}

// registerFormats adds the formats that Cinder has.
func registerFormats(c *jsonschema.Compiler) {
	registerText(c, "uuid", uuid.Validate)
	registerText(c, formatName, func(text string) error {
		if text != "" && strings.TrimSpace(text) == "" {
			return errors.New("blank")
		}
		return nil
	})
	registerText(c, "group_type", func(text string) error {
		if n := utf8.RuneCountInString(strings.TrimSpace(text)); n < 1 || n > 255 {
			return errors.New("not 1 to 255 characters")
		}
		return nil
	})
	registerText(c, "disabled_reason", func(text string) error {
		if text != "" && strings.TrimSpace(text) == "" || utf8.RuneCountInString(text) > 255 {
			return errors.New("it is empty or too long")
		}
		return nil
	})
}

// formatName is the format of names. Cinder speaks of them in a sentence of its own.
const formatName = "name"

const msgBlankName = "An invalid 'name' value was provided. The 'name' can not be empty."

// registerText adds a format of strings.
func registerText(c *jsonschema.Compiler, name string, validate func(string) error) {
	c.RegisterFormat(&jsonschema.Format{Name: name, Validate: func(v any) error {
		if text, ok := v.(string); ok {
			return validate(text)
		}
		return nil
	}})
}

// schemaBase is where the schemas would be, if they were anywhere but here.
const schemaBase = "http://lockstep.invalid/schemas/"

// validate checks a value against a schema. Its messages are Cinder's, which come
// from Python's jsonschema; scripts match them.
func (all *schemas) validate(name string, raw json.RawMessage) error {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return newFault(http.StatusBadRequest, "Malformed request body")
	}
	err = all.compiled[name].Validate(doc)
	if err == nil {
		return nil
	}
	invalid, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return fmt.Errorf("schema %s: %w", name, err)
	}
	found := all.problemsOf(invalid, raw)
	slices.SortStableFunc(found, func(a, b problemAt) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), slices.Compare(a.at, b.at))
	})
	first := found[0]
	value := valueAt(raw, first.at)
	field := ""
	if len(first.at) > 0 {
		field = first.at[len(first.at)-1]
	}
	problem := schemaFault(field, value, first.message)
	if first.message == msgBlankName {
		problem = fieldFault(field, pyStr(value), first.message)
	}
	if f, ok := errors.AsType[*fault](problem); ok {
		f.Allowed = first.allowed
	}
	return problem
}

// problemAt is one thing that is wrong, and where.
type problemAt struct {
	at      []string
	rank    int // what Cinder would find first comes first
	message string
	allowed []string // fields, where there was one too many
}

// problemsOf returns what is wrong. Alternatives count as one: nobody can tell
// which of them was meant.
func (all *schemas) problemsOf(err *jsonschema.ValidationError, raw json.RawMessage) []problemAt {
	_, anyOf := err.ErrorKind.(*kind.AnyOf)
	_, oneOf := err.ErrorKind.(*kind.OneOf)
	_, names := err.ErrorKind.(*kind.PropertyNames)
	if len(err.Causes) == 0 || anyOf || oneOf || names {
		value := valueAt(raw, err.InstanceLocation)
		rank, message := pyMessage(err.ErrorKind, value)
		switch k := err.ErrorKind.(type) {
		case *kind.PropertyNames:
			message = badKey(k.Property, err.Causes)
		case *kind.Type:
			message = pyRepr(value) + " is not of type " + quoteAll(all.typesAt(err.SchemaURL))
		}
		problem := problemAt{at: err.InstanceLocation, rank: rank, message: message}
		if _, ok := err.ErrorKind.(*kind.AdditionalProperties); ok {
			fields, _ := all.writtenAt(err.SchemaURL)["properties"].(map[string]any)
			problem.allowed = slices.Sorted(maps.Keys(fields))
		}
		return []problemAt{problem}
	}
	var found []problemAt
	for _, cause := range err.Causes {
		found = append(found, all.problemsOf(cause, raw)...)
	}
	return found
}

// typesAt returns the types that a schema allows, in the order in which it names
// them, which the validator does not keep.
func (all *schemas) typesAt(url string) (types []string) {
	switch t := all.writtenAt(url)["type"].(type) {
	case string:
		return []string{t}
	case []any:
		for _, name := range t {
			types = append(types, fmt.Sprint(name))
		}
	}
	return types
}

// writtenAt returns a schema as it is written.
func (all *schemas) writtenAt(url string) map[string]any {
	base, pointer, _ := strings.Cut(url, "#")
	at := all.written[base]
	for step := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		step, _ = neturl.PathUnescape(step)
		if obj, ok := at.(map[string]any); ok && step != "" {
			at = obj[strings.NewReplacer("~1", "/", "~0", "~").Replace(step)]
		}
	}
	obj, _ := at.(map[string]any)
	return obj
}

// pyMessage returns the message of Python's jsonschema.
func pyMessage(k jsonschema.ErrorKind, value json.RawMessage) (rank int, message string) {
	shown := pyRepr(value)
	const ofType, ofLength, ofValue, ofObject, ofExtras = 0, 1, 2, 3, 4
	switch k := k.(type) {
	case *kind.Type:
		return ofType, "" // which types are allowed the schema says
	case *kind.MinLength, *kind.MinItems:
		return ofLength, shown + " is too short"
	case *kind.MaxLength, *kind.MaxItems:
		return ofLength, shown + " is too long"
	case *kind.Pattern:
		return ofValue, shown + " does not match " + pyQuote(k.Want)
	case *kind.Format:
		if k.Want == formatName {
			return ofValue, msgBlankName
		}
		return ofValue, fmt.Sprintf("%s is not a '%s'", shown, k.Want)
	case *kind.Enum:
		all, _ := json.Marshal(k.Want) // values that came from JSON
		return ofValue, shown + " is not one of " + pyRepr(all)
	case *kind.Minimum:
		return ofValue, fmt.Sprintf("%s is less than the minimum of %s", shown, k.Want.RatString())
	case *kind.Maximum:
		return ofValue, fmt.Sprintf("%s is greater than the maximum of %s", shown, k.Want.RatString())
	case *kind.MinProperties:
		return ofValue, shown + " does not have enough properties"
	case *kind.UniqueItems:
		return ofValue, shown + " has non-unique elements"
	case *kind.MaxProperties:
		return ofValue, shown + " has too many properties"
	case *kind.Required:
		return ofObject, fmt.Sprintf("'%s' is a required property", k.Missing[0])
	case *kind.AnyOf, *kind.OneOf:
		return ofExtras, shown + " is not valid under any of the given schemas"
	case *kind.AdditionalProperties:
		return ofExtras, additional(slices.Sorted(slices.Values(k.Properties)))
	}
	return ofExtras, shown + " is not valid"
}

// additional says that there are fields that must not be.
func additional(extra []string) string {
	verb := "was"
	if len(extra) > 1 {
		verb = "were"
	}
	return fmt.Sprintf("Additional properties are not allowed (%s %s unexpected)", quoteAll(extra), verb)
}

// badKey is what is wrong with a key: it has not the pattern that keys must have.
func badKey(key string, causes []*jsonschema.ValidationError) string {
	pattern := `^[\S\s]{1,255}$`
	for _, cause := range causes {
		if k, ok := cause.ErrorKind.(*kind.Pattern); ok {
			pattern = k.Want
		}
	}
	return fmt.Sprintf("%s does not match any of the regexes: %s", cut(pyQuote(key)), pyQuote(pattern))
}

func quoteAll(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = pyQuote(n)
	}
	return strings.Join(quoted, ", ")
}

// valueAt returns the part of a JSON value that a validator speaks of.
func valueAt(raw json.RawMessage, at []string) json.RawMessage {
	for _, step := range at {
		var obj map[string]json.RawMessage
		var list []json.RawMessage
		switch i, err := strconv.Atoi(step); {
		case json.Unmarshal(raw, &obj) == nil:
			raw = obj[step]
		case err == nil && json.Unmarshal(raw, &list) == nil && i < len(list):
			raw = list[i]
		default:
			return json.RawMessage("null")
		}
	}
	return bytes.TrimSpace(raw)
}

// valid returns the JSON object in the body of the request, which has passed a
// schema.
func (s *Server) valid(x *exchange, schema string) (object, error) {
	obj, err := x.body(s.cfg.RequestTimeout)
	if err != nil {
		return nil, err
	}
	return obj, s.schemas.validate(schema, x.raw)
}

// validSince is valid for a body that has another schema from a microversion on, which is
// named after it: schema_353 from 3.53 on.
func (s *Server) validSince(x *exchange, schema string, from microversion) (object, error) {
	if x.version >= from {
		schema = fmt.Sprintf("%s_3%d", schema, from)
	}
	return s.valid(x, schema)
}

// sub returns a field that is an object; without one it is empty.
func (o object) sub(name string) object {
	var inner object
	if !o.has(name) || json.Unmarshal(o[name], &inner) != nil {
		return object{}
	}
	return inner
}

// pairs returns the entries of an object whose values are strings or null, by key.
func (o object) pairs() []fsm.KeyValue {
	var all []fsm.KeyValue
	for _, key := range slices.Sorted(maps.Keys(o)) {
		all = append(all, fsm.KeyValue{Key: key, Value: o.text(key), Null: !o.has(key)})
	}
	return all
}

// only returns the name of the one entry of an object, the first if there are several.
func (o object) only() string {
	for _, key := range slices.Sorted(maps.Keys(o)) {
		return key
	}
	return ""
}

// texts returns a field that is a list of strings; what is none is left out.
func (o object) texts(name string) []string {
	var all []string
	if !o.has(name) || json.Unmarshal(o[name], &all) != nil {
		return nil
	}
	return all
}
