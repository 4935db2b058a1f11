package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goccy/go-yaml"
)

const (
	// tokenPrefix lets scanners for leaked secrets know what they have found.
	tokenPrefix  = "lockstep_"
	tokenIDSize  = 8
	tokenSecret  = 32
	maxToken     = 256
	maxTokens    = 10_000
	maxRecent    = 4096
	maxAuthNames = 255
)

// Entry is one token in a file. What it says of the token proves it and does not
// tell it.
type Entry struct {
	ID      string   `json:"id"                yaml:"id"`                // the part of the token that is no secret
	User    string   `json:"user"              yaml:"user"`              // who has it
	Project string   `json:"project"           yaml:"project"`           // whose volumes are theirs
	Roles   []string `json:"roles"             yaml:"roles"`             // one at least
	Hash    string   `json:"hash"              yaml:"hash"`              // of the whole token: argon2id
	Expires string   `json:"expires,omitempty" yaml:"expires,omitempty"` // RFC 3339; empty: never
}

// NewToken makes a token and its entry. The token is kept nowhere.
func NewToken(user, project string, roles []string, expires time.Time) (token string, e Entry, err error) {
	id, secret := make([]byte, tokenIDSize), make([]byte, tokenSecret)
	_, _ = rand.Read(id) // neither ever fails, says the documentation
	_, _ = rand.Read(secret)
	e = Entry{ID: hex.EncodeToString(id), User: user, Project: project, Roles: roles}
	if !expires.IsZero() {
		e.Expires = expires.UTC().Format(time.RFC3339)
	}
	token = tokenPrefix + e.ID + "_" + hex.EncodeToString(secret)
	e.Hash = hash(token)
	return token, e, e.validate()
}

func (e Entry) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	raw, err := hex.DecodeString(e.ID)
	check(err == nil && len(raw) == tokenIDSize, "id %q: must be %d hexadecimal digits", e.ID, 2*tokenIDSize)
	for field, value := range map[string]string{"user": e.User, "project": e.Project} {
		check(value != "" && len(value) <= maxAuthNames && !strings.ContainsAny(value, "\x00\r\n/:"), "%s %q: must be 1 to %d bytes without '/' and ':'", field, value, maxAuthNames)
	}
	check(len(e.Roles) > 0, "roles: one at least of %s", strings.Join(Roles(), ", "))
	for _, role := range e.Roles {
		check(slices.Contains(Roles(), role), "roles: %q is not known; there are %s", role, strings.Join(Roles(), ", "))
	}
	if _, err := parseHash(e.Hash); err != nil {
		errs = append(errs, fmt.Errorf("hash: %w", err))
	}
	_, err = e.until()
	check(err == nil, "expires %q: must be a time as in 2027-01-31T00:00:00Z", e.Expires)
	return errors.Join(errs...)
}

func (e Entry) until() (time.Time, error) {
	if e.Expires == "" {
		return time.Time{}, nil
	}
	return time.Parse(time.RFC3339, e.Expires)
}

// ParseTokens reads a file of tokens; path is for messages, which never show a
// hash.
func ParseTokens(path string, content []byte) ([]Entry, error) {
	var file struct {
		Tokens []Entry `yaml:"tokens"`
	}
	if err := decode(content, &file); err != nil {
		// The library would show the lines around it, hashes and all.
		if syntax, ok := errors.AsType[yaml.Error](err); ok {
			line := 0
			if at := syntax.GetToken(); at != nil && at.Position != nil {
				line = at.Position.Line
			}
			return nil, fmt.Errorf("%s:%d: %s", path, line, syntax.GetMessage())
		}
		return nil, fmt.Errorf("%s: is no list of tokens", path)
	}
	if len(file.Tokens) > maxTokens {
		return nil, fmt.Errorf("%s: has %d tokens, at most %d are allowed", path, len(file.Tokens), maxTokens)
	}
	seen := make(map[string]bool)
	for i, e := range file.Tokens {
		err := e.validate()
		if seen[e.ID] {
			err = errors.Join(err, fmt.Errorf("id %q: is there twice", e.ID))
		}
		if err != nil {
			return nil, fmt.Errorf("%s: tokens[%d]: %w", path, i, err)
		}
		seen[e.ID] = true
	}
	return file.Tokens, nil
}

// Tokens knows the callers whose tokens are in a file.
type Tokens struct {
	path    string
	current atomic.Pointer[tokenSet]
	slots   chan struct{} // hashes under way: each takes memory
}

type tokenSet struct {
	byID map[string]Entry

	mu     sync.Mutex
	recent map[[sha256.Size]byte]string // ids of tokens that were good, by their sum
}

var _ Authenticator = (*Tokens)(nil)

// OpenTokens reads a file of tokens.
func OpenTokens(path string) (*Tokens, error) {
	t := &Tokens{path: path, slots: make(chan struct{}, 2)}
	return t, t.Load()
}

// Load reads the file again. An error leaves everything as it was.
func (t *Tokens) Load() error {
	content, err := readFile(t.path)
	if err != nil {
		return err
	}
	entries, err := ParseTokens(t.path, content)
	if err != nil {
		return err
	}
	next := &tokenSet{byID: make(map[string]Entry, len(entries)), recent: make(map[[sha256.Size]byte]string)}
	for _, e := range entries {
		next.byID[e.ID] = e
	}
	t.current.Store(next)
	return nil
}

// Challenge implements [Authenticator].
func (*Tokens) Challenge() string { return `Bearer realm="lockstep"` }

// Authenticate implements [Authenticator]. A token that was good is remembered by
// its sum until the file is read again: the hash in the file is slow on purpose.
func (t *Tokens) Authenticate(ctx context.Context, token string) (Caller, error) {
	set := t.current.Load()
	id, ok := idOf(token)
	e, known := set.byID[id]
	if !ok || !known {
		return Caller{}, ErrUnauthorized
	}
	until, err := e.until()
	if err != nil || !until.IsZero() && !time.Now().Before(until) {
		return Caller{}, ErrUnauthorized
	}
	sum := sha256.Sum256([]byte(token))
	if !set.remembers(sum, id) {
		select {
		case t.slots <- struct{}{}:
		case <-ctx.Done():
			return Caller{}, fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
		}
		good := verify(e.Hash, token)
		<-t.slots
		if !good {
			return Caller{}, ErrUnauthorized
		}
		set.remember(sum, id)
	}
	return Caller{User: e.User, Project: e.Project, Roles: e.Roles, Until: until}, nil
}

func (s *tokenSet) remembers(sum [sha256.Size]byte, id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen, ok := s.recent[sum]
	return ok && seen == id
}

func (s *tokenSet) remember(sum [sha256.Size]byte, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.recent) >= maxRecent {
		clear(s.recent)
	}
	s.recent[sum] = id
}

// idOf returns the part of a token that is no secret.
func idOf(token string) (id string, ok bool) {
	rest, ok := strings.CutPrefix(token, tokenPrefix)
	if !ok || len(token) > maxToken {
		return "", false
	}
	id, _, ok = strings.Cut(rest, "_")
	return id, ok
}
