package auth

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"
)

// maxFile bounds a file of policies or tokens, in bytes.
const maxFile = 1 << 20

// The policies that are asked for beside those of routes.
const (
	// PolicyAllProjects is Cinder's name for who sees and changes what belongs to
	// other projects.
	PolicyAllProjects = "context_is_admin"
	// PolicyAny is for whoever has a role at all.
	PolicyAny = "lockstep:authenticated"
)

// Policies say which roles may do what. The names are those of Cinder's
// oslo.policy, and lockstep:* for what Cinder does not have.
type Policies struct {
	rules map[string][]string
}

// DefaultPolicies are those that hold unless a file says otherwise.
func DefaultPolicies() *Policies { return &Policies{rules: defaults()} }

// PolicyNames are the names of all policies.
func PolicyNames() []string {
	var names []string
	for name := range defaults() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Known reports whether there is a policy of that name.
func (p *Policies) Known(name string) bool {
	_, ok := p.rules[name]
	return ok
}

// Rules are the roles that each policy names.
func (p *Policies) Rules() map[string][]string { return maps.Clone(p.rules) }

// Allows reports whether one of roles may do what the policy is about. What no
// policy is about, nobody may do.
func (p *Policies) Allows(policy string, roles []string) bool {
	return slices.ContainsFunc(p.rules[policy], func(role string) bool { return slices.Contains(roles, role) })
}

// ReadPolicies reads a file that overrides some of the default policies.
func ReadPolicies(path string) (*Policies, error) {
	content, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return ParsePolicies(path, content)
}

// ParsePolicies is [ReadPolicies] for content that has been read; path is for
// messages.
func ParsePolicies(path string, content []byte) (*Policies, error) {
	var overrides map[string][]string
	if err := decode(content, &overrides); err != nil {
		return nil, fmt.Errorf("%s: must be names of policies with lists of roles: %w", path, err)
	}
	p := DefaultPolicies()
	var errs []error
	for name, roles := range overrides {
		if !p.Known(name) {
			errs = append(errs, fmt.Errorf("%s: policy %q is not known; there are %s", path, name, strings.Join(PolicyNames(), ", ")))
			continue
		}
		for _, role := range roles {
			if !slices.Contains(Roles(), role) {
				errs = append(errs, fmt.Errorf("%s: %s: role %q is not known; there are %s", path, name, role, strings.Join(Roles(), ", ")))
			}
		}
		p.rules[name] = roles
	}
	if len(errs) > 0 {
		slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
		return nil, errors.Join(errs...)
	}
	return p, nil
}

// decode reads YAML strictly; a file may be empty.
func decode(content []byte, into any) error {
	for _, t := range lexer.Tokenize(string(content)) {
		// The library panics when one is in the place of a list.
		if t.Type == token.TagType {
			return fmt.Errorf("line %d: the tag %q is not allowed: write the value alone", t.Position.Line, t.Value)
		}
	}
	if err := yaml.UnmarshalWithOptions(content, into, yaml.Strict()); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// readFile reads a file of sensible size.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = fmt.Errorf("%s: larger than %d bytes", path, maxFile)
	}
	return content, err
}
