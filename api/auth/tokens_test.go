package auth_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/api/auth"
)

// newToken makes a token and its line.
func newToken(t *testing.T, user string, expires time.Time) (token, line string, e auth.Entry) {
	t.Helper()
	token, e, err := auth.NewToken(user, "p1", []string{auth.RoleOperator, auth.RoleMember}, expires)
	if err != nil {
		t.Fatal(err)
	}
	line = fmt.Sprintf("- {id: %q, user: %q, project: %q, roles: [%s], hash: %q", e.ID, e.User, e.Project, strings.Join(e.Roles, ", "), e.Hash)
	if e.Expires != "" {
		line += fmt.Sprintf(", expires: %q", e.Expires)
	}
	return token, line + "}\n", e
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTokensOfAFile(t *testing.T) {
	t.Parallel()
	alice, aliceLine, _ := newToken(t, "alice", time.Time{})
	bob, bobLine, _ := newToken(t, "bob", time.Now().Add(time.Hour))
	late, lateLine, _ := newToken(t, "late", time.Now().Add(-time.Second))
	path := filepath.Join(t.TempDir(), "tokens.yaml")
	write(t, path, "tokens:\n"+aliceLine+bobLine+lateLine)
	known, err := auth.OpenTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	is := func(token, user string) {
		t.Helper()
		for range 2 { // the second time from memory
			caller, err := known.Authenticate(t.Context(), token)
			if err != nil || caller.User != user || caller.Project != "p1" || !slices.Equal(caller.Roles, []string{auth.RoleOperator, auth.RoleMember}) {
				t.Errorf("%s is %+v, %v", user, caller, err)
			}
		}
	}
	is(alice, "alice")
	is(bob, "bob")
	aliceID, _, _ := strings.Cut(strings.TrimPrefix(alice, "lockstep_"), "_")
	_, bobSecret, _ := strings.Cut(strings.TrimPrefix(bob, "lockstep_"), "_")
	for name, token := range map[string]string{
		"expired": late, "empty": "", "its id only": aliceID, "without secret": "lockstep_" + aliceID + "_", "one letter less": alice[:len(alice)-1],
		"the id of one, the secret of another": "lockstep_" + aliceID + "_" + bobSecret, "noauth's": "alice:p1", "too long": alice + strings.Repeat("0", 300),
	} {
		if caller, err := known.Authenticate(t.Context(), token); !errors.Is(err, auth.ErrUnauthorized) {
			t.Errorf("%s: is %+v, %v", name, caller, err)
		}
	}
	write(t, path, "tokens:\n"+bobLine)
	if err := known.Load(); err != nil {
		t.Fatal(err)
	}
	if _, err := known.Authenticate(t.Context(), alice); !errors.Is(err, auth.ErrUnauthorized) {
		t.Errorf("a token whose line is gone: %v", err)
	}
	write(t, path, "tokens: [nonsense]\n")
	if err := known.Load(); err == nil {
		t.Error("nonsense was read")
	}
	is(bob, "bob")
}

// A hash takes time and memory: who has no more time gets an answer at once, and it
// is not that the token is bad.
func TestNobodyWaitsForAHashForEver(t *testing.T) {
	t.Parallel()
	token, line, _ := newToken(t, "alice", time.Time{})
	path := filepath.Join(t.TempDir(), "tokens.yaml")
	write(t, path, "tokens:\n"+line)
	known, err := auth.OpenTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		if _, err := known.Authenticate(ended, token[:len(token)-1]); errors.Is(err, auth.ErrUnavailable) || errors.Is(err, auth.ErrUnauthorized) {
			continue
		}
		t.Errorf("got %v", err)
	}
}

func TestTokenFilesAreChecked(t *testing.T) {
	t.Parallel()
	token, line, e := newToken(t, "alice", time.Time{})
	for want, content := range map[string]string{
		`f:1: `:                             "token: []\n",
		`"colour"`:                          "tokens:\n" + strings.Replace(line, "user:", "colour: blue, user:", 1),
		`tokens[1]: id "` + e.ID + `": is`:  "tokens:\n" + line + line,
		`tokens[0]: roles: "king" is not`:   "tokens:\n" + strings.Replace(line, "operator", "king", 1),
		`there are admin, operator, reader`: "tokens:\n" + strings.Replace(line, "operator", "king", 1),
		`tokens[0]: user ""`:                "tokens:\n" + strings.Replace(line, "alice", "", 1),
		`tokens[0]: hash: must be one of`:   "tokens:\n" + strings.Replace(line, "argon2id", "md5", 1),
		`expires "soon"`:                    "tokens:\n" + strings.Replace(line, "}", ", expires: soon}", 1),
		`id "12"`:                           "tokens:\n" + strings.Replace(line, e.ID, "12", 1),
	} {
		_, err := auth.ParseTokens("f", []byte(content))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
		if err != nil && (strings.Contains(err.Error(), e.Hash[40:]) || strings.Contains(err.Error(), token)) {
			t.Errorf("the error shows a secret: %v", err)
		}
	}
	for name, hash := range map[string]string{
		"memory": strings.Replace(e.Hash, "m=19456", "m=99999999", 1), "time": strings.Replace(e.Hash, "t=2", "t=99", 1),
		"threads": strings.Replace(e.Hash, "p=1", "p=0", 1), "version": strings.Replace(e.Hash, "v=19", "v=16", 1),
	} {
		if _, err := auth.ParseTokens("f", []byte("tokens:\n"+strings.Replace(line, e.Hash, hash, 1))); err == nil {
			t.Errorf("%s: a hash that asks too much was read", name)
		}
	}
	if entries, err := auth.ParseTokens("f", nil); err != nil || len(entries) > 0 {
		t.Errorf("an empty file: %v, %v", entries, err)
	}
	if _, _, err := auth.NewToken("a:b", "p", []string{auth.RoleAdmin}, time.Time{}); err == nil || !strings.Contains(err.Error(), `user "a:b"`) {
		t.Errorf("a bad name: %v", err)
	}
}

func TestPolicyFilesAreChecked(t *testing.T) {
	t.Parallel()
	for want, content := range map[string]string{
		`policy "volume:fail" is not known; there are clusters:get`:       "volume:fail: [admin]\n",
		`volume:get: role "king" is not known; there are admin, operator`: "volume:get: [king]\n",
		"must be names of policies with lists of roles":                   "volume:get: {a: b}\n",
	} {
		if _, err := auth.ParsePolicies("policy.yaml", []byte(content)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	p, err := auth.ParsePolicies("policy.yaml", []byte("volume:get: [reader]\nvolume:delete: []\n"))
	if err != nil {
		t.Fatal(err)
	}
	for policy, may := range map[string]string{"volume:get": "reader", "volume:delete": "", "volume:extend": "admin operator member", "none": ""} {
		var got []string
		for _, role := range auth.Roles() {
			if p.Allows(policy, []string{role}) {
				got = append(got, role)
			}
		}
		if strings.Join(got, " ") != may {
			t.Errorf("%s: %v, want %s", policy, got, may)
		}
	}
	if p.Allows("volume:get", nil) {
		t.Error("nobody may read")
	}
}

func FuzzTokenFile(f *testing.F) {
	_, e, err := auth.NewToken("alice", "p", []string{auth.RoleAdmin}, time.Unix(1e9, 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(fmt.Sprintf("tokens:\n- {id: %q, user: a, project: p, roles: [admin], hash: %q, expires: %q}\n", e.ID, e.Hash, e.Expires))
	f.Add("tokens: &a [*a]\n")
	f.Fuzz(func(t *testing.T, content string) {
		entries, err := auth.ParseTokens("f", []byte(content))
		if err != nil && len(entries) > 0 {
			t.Error("entries and an error")
		}
		for _, e := range entries {
			if e.ID == "" || e.User == "" || len(e.Roles) == 0 || !strings.HasPrefix(e.Hash, "$argon2id$") {
				t.Errorf("an entry that lacks something: %+v", e)
			}
		}
	})
}

func FuzzPolicyFile(f *testing.F) {
	f.Add("volume:get: [reader]\n")
	f.Add("? [a]\n: b\n")
	f.Add("volume:get: !a b\n") // the library would panic
	f.Fuzz(func(t *testing.T, content string) {
		p, err := auth.ParsePolicies("f", []byte(content))
		if err != nil {
			return
		}
		if got, want := len(p.Rules()), len(auth.PolicyNames()); got != want {
			t.Errorf("%d policies, want %d", got, want)
		}
	})
}
