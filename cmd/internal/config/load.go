package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/lockstep-storage/lockstep/driverhost/file"
)

// maxSize bounds a configuration file, in bytes.
const maxSize = 1 << 20

// Error is what is wrong with a file. Its text is short; [Error.Pretty] shows
// the lines around the mistake.
type Error struct {
	Path    string // of the file
	Line    int    // 0 when the mistake is something that is missing
	Message string

	token *token.Token
}

// Error implements error: path:line: message.
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.Path, e.Message)
	}
	return fmt.Sprintf("%s:%d: %s", e.Path, e.Line, e.Message)
}

// Pretty is the error with the lines around it.
func (e *Error) Pretty(style Style) string {
	if e.token == nil {
		return e.Error()
	}
	return e.Path + ": " + yaml.FormatErrorWithToken(e.Message, e.token, style == Coloured, true)
}

// Describe is everything that err has to say, each mistake with its lines.
func Describe(err error, style Style) string {
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		var parts []string
		for _, e := range several.Unwrap() {
			parts = append(parts, Describe(e, style))
		}
		return strings.Join(parts, "\n")
	}
	if one, ok := errors.AsType[*Error](err); ok {
		return strings.TrimRight(one.Pretty(style), "\n")
	}
	return err.Error()
}

// Style says how an error is shown.
type Style int

// The styles.
const (
	Plain    Style = iota // for files and pipes
	Coloured              // for terminals
)

// Load reads and checks the configuration in a file. What is wrong with its
// content is one [*Error] or several, joined.
func Load(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	content, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	if len(content) > maxSize {
		return Config{}, &Error{Path: path, Message: fmt.Sprintf("larger than %d bytes: not a configuration", maxSize)}
	}
	return Parse(path, content)
}

// Parse is [Load] for content that has been read; path is for messages.
func Parse(path string, content []byte) (Config, error) {
	tokens := lexer.Tokenize(string(content))
	for _, t := range tokens {
		// The library panics when one is in the place of a list.
		if t.Type == token.TagType {
			return Config{}, newError(path, fmt.Sprintf("the tag %q is not allowed: write the value alone", t.Value), t)
		}
	}
	tree, err := parser.Parse(tokens, 0)
	if err != nil {
		return Config{}, located(path, nil, err)
	}
	if len(tree.Docs) != 1 || tree.Docs[0].Body == nil {
		return Config{}, &Error{Path: path, Message: "no configuration: see 'lockstep config example'"}
	}
	root := tree.Docs[0].Body
	cfg := Default()
	if err := decode(root, &cfg); err != nil {
		return Config{}, located(path, root, err)
	}
	if cfg.DataDir != "" {
		if cfg.DataDir, err = filepath.Abs(cfg.DataDir); err != nil {
			return Config{}, fmt.Errorf("data_dir: %w", err)
		}
	}
	var all []error
	for _, problem := range cfg.problems() {
		all = append(all, located(path, root, problem))
	}
	return cfg, errors.Join(all...)
}

// decode reads a node strictly: a key that is not known is an error.
func decode(node ast.Node, into any) error {
	err := yaml.NodeToValue(node, into, yaml.Strict(), yaml.CustomUnmarshaler(unmarshalDuration))
	if err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	return nil
}

// durationError is a duration that cannot be read. The library would not say
// where it is.
type durationError struct{ text string }

func (e durationError) Error() string {
	return fmt.Sprintf("%s is no duration: write a number and a unit, as in 300ms, 3s or 10m", e.text)
}

func unmarshalDuration(d *time.Duration, text []byte) error {
	value := strings.Trim(strings.TrimSpace(string(text)), `"'`)
	parsed, err := time.ParseDuration(value)
	if err != nil {
		return durationError{text: value}
	}
	*d = parsed
	return nil
}

// located gives an error its place in the file.
func located(path string, root ast.Node, err error) error {
	if bad, ok := errors.AsType[durationError](err); ok {
		return newError(path, bad.Error(), find(root, bad.text))
	}
	if wrong, ok := errors.AsType[*yaml.TypeError](err); ok {
		return newError(path, mistyped(wrong), wrong.Token)
	}
	if known, ok := errors.AsType[yaml.Error](err); ok {
		return newError(path, known.GetMessage(), known.GetToken())
	}
	if field, ok := errors.AsType[*FieldError](err); ok {
		return newError(path, field.Error(), at(root, field.Field))
	}
	if option, ok := errors.AsType[*optionError](err); ok {
		return newError(path, option.Error(), at(root, option.place()))
	}
	return newError(path, err.Error(), nil)
}

// mistyped says in the words of the file what the library says in those of Go.
func mistyped(wrong *yaml.TypeError) string {
	where := wrong.Token
	if where == nil {
		return wrong.GetMessage()
	}
	key := ""
	if colon := where.Prev; colon != nil && colon.Type == token.MappingValueType && colon.Prev != nil {
		key = colon.Prev.Value + ": "
	}
	allowed := map[reflect.Kind]string{
		reflect.Int: "a whole number", reflect.Int64: "a whole number", reflect.Uint64: "a whole number",
		reflect.Float64: "a number", reflect.Bool: "true or false", reflect.String: "text",
		reflect.Slice: "a list", reflect.Struct: "keys and values", reflect.Map: "keys and values",
	}[wrong.DstType.Kind()]
	return fmt.Sprintf("%s%q is not allowed: %s", key, where.Value, allowed)
}

func newError(path, message string, where *token.Token) *Error {
	e := &Error{Path: path, Message: message, token: where}
	if where != nil && where.Position != nil {
		e.Line = where.Position.Line
	}
	return e
}

// at returns the place of a field such as backends[0].cluster, or of the nearest
// thing around it that is in the file.
func at(root ast.Node, field string) *token.Token {
	for field != "" {
		if path, err := yaml.PathString("$." + field); err == nil {
			if node, err := path.FilterNode(root); err == nil && node != nil {
				return start(node)
			}
		}
		field = field[:max(strings.LastIndexAny(field, ".["), 0)]
	}
	return nil
}

// start is the first token of a node: for a mapping the library would give the
// colon of its first key.
func start(node ast.Node) *token.Token {
	if m, ok := node.(*ast.MappingNode); ok && len(m.Values) > 0 {
		return m.Values[0].Key.GetToken()
	}
	if m, ok := node.(*ast.MappingValueNode); ok {
		return m.Key.GetToken()
	}
	return node.GetToken()
}

// find returns the place of the first scalar with the given text.
func find(root ast.Node, text string) *token.Token {
	var found *token.Token
	ast.Walk(visitor(func(node ast.Node) bool {
		if _, scalar := node.(ast.ScalarNode); scalar && found == nil && node.GetToken().Value == text {
			found = node.GetToken()
		}
		return found == nil
	}), root)
	return found
}

type visitor func(ast.Node) bool

// Visit implements ast.Visitor.
func (v visitor) Visit(node ast.Node) ast.Visitor {
	if !v(node) {
		return nil
	}
	return v
}

// Options are the keys of a driver. They keep their place in the file, so that a
// mistake in them is shown there.
type Options struct {
	node ast.Node
}

// UnmarshalYAML implements yaml.NodeUnmarshaler.
func (o *Options) UnmarshalYAML(node ast.Node) error {
	o.node = node
	return nil
}

// Decode reads the options strictly into a driver's configuration.
func (o Options) Decode(into any) error {
	if o.node == nil || o.node.Type() == ast.NullType {
		return nil
	}
	return decode(o.node, into)
}

// JSON returns the options as a JSON object, for a driver in another process.
func (o Options) JSON() ([]byte, error) {
	values := map[string]any{}
	if err := o.Decode(&values); err != nil {
		return nil, err
	}
	return json.Marshal(values)
}

// DecodeOptions is Options.Decode for options that came as JSON.
func DecodeOptions(options []byte, into any) error {
	tree, err := parser.ParseBytes(options, 0) // JSON is YAML
	if err != nil {
		return fmt.Errorf("options: %w", err)
	}
	if len(tree.Docs) != 1 || tree.Docs[0].Body == nil {
		return errors.New("options: not one JSON object")
	}
	return decode(tree.Docs[0].Body, into)
}

// File returns the configuration of a backend of the file driver.
func (b Backend) File() (file.Config, error) {
	cfg := file.DefaultConfig()
	if err := b.Options.Decode(&cfg); err != nil {
		return file.Config{}, err
	}
	return cfg, nil
}
