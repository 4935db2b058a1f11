package cli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-storage/lockstep/api/auth"
	"github.com/lockstep-storage/lockstep/cmd/internal/cli"
	"github.com/lockstep-storage/lockstep/cmd/internal/tlsfiles"
)

func runs(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = cli.Main(t.Context(), cli.Process{Args: args, In: strings.NewReader(""), Out: &out, Err: &errs, Release: "v1"})
	return code, out.String(), errs.String()
}

// The commands of the README's section on security make what nodes and their users
// need.
func TestReadmeMakesADeploymentFromNothing(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	_, section, _ := strings.Cut(string(readme), "\n## Security\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var token, made string
	commands := 0
	for line := range strings.Lines(section) {
		command, ok := strings.CutPrefix(line, "    lockstep t") // tls and token
		if !ok {
			continue
		}
		commands++
		code, stdout, stderr := runs(t, strings.Fields("t"+command)...)
		if code != cli.ExitDone {
			t.Fatalf("%s: exit code %d, %s", strings.TrimSpace(line), code, stderr)
		}
		if strings.HasPrefix(command, "oken") {
			parts := strings.Split(stdout, "\n\n")
			token, made = parts[1], parts[3]
		} else if strings.Contains(stdout, "PRIVATE") {
			t.Errorf("a key was printed: %s", stdout)
		}
	}
	if commands != 6 {
		t.Errorf("%d commands", commands)
	}
	for _, node := range []string{"node1", "node2", "node3"} {
		if _, err := tlsfiles.Open(tlsfiles.Paths{
			CA: "tls/ca.pem", Cert: "tls/" + node + ".pem", Key: "tls/" + node + "-key.pem",
		}, "example", node); err != nil {
			t.Error(err)
		}
	}
	if _, err := tlsfiles.ReadGossipKeys("tls/gossip.key"); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile("tokens.yaml", []byte("tokens:\n"+made), 0o600); err != nil {
		t.Fatal(err)
	}
	known, err := auth.OpenTokens("tokens.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if caller, err := known.Authenticate(t.Context(), token); err != nil || caller.User != "alice" || caller.Roles[0] != auth.RoleOperator {
		t.Errorf("the token is of %+v, %v", caller, err)
	}
}

func TestCommandsThatMakeFilesRefuseMistakes(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tls")
	code, stdout, _ := runs(t, "tls", "ca", "create", "--deployment", "d", "--dir", dir, "-o", "json")
	var made tlsfiles.Created
	if err := json.Unmarshal([]byte(stdout), &made); code != 0 || err != nil || made.Cert != filepath.Join(dir, "ca.pem") || made.Until == nil {
		t.Errorf("%d %s %v", code, stdout, err)
	}
	for want, args := range map[string][]string{
		"nothing is ever overwritten":   {"tls", "ca", "create", "--deployment", "d", "--dir", dir},
		`required flag(s) "deployment"`: {"tls", "ca", "create", "--dir", dir},
		`--host "a b"`:                  {"tls", "cert", "create", "n", "--host", "a b", "--dir", dir},
		`roles: "king" is not known`:    {"token", "create", "--user", "u", "--role", "king"},
		`user "a:b"`:                    {"token", "create", "--user", "a:b", "--role", "admin"},
		"--days -1":                     {"token", "create", "--user", "u", "--role", "admin", "--days", "-1"},
		"--cacert: open /none":          {"status", "--cacert", "/none"},
		"--token-file: stat /none":      {"status", "--token-file", "/none"},
	} {
		if code, _, stderr := runs(t, args...); code == 0 || !strings.Contains(stderr, want) {
			t.Errorf("%v: exit code %d, %s", args, code, stderr)
		}
	}
	if code, stdout, _ := runs(t, "policy", "list"); code != 0 || !strings.Contains(stdout, "volume:failover_host") {
		t.Errorf("policy list: %d %s", code, stdout)
	}
}

// A token comes from a file or the environment, and is sent as Cinder's clients
// send theirs.
func TestTokensAreSent(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = fmt.Fprintf(w, `{"code":"unauthorized","detail":"token %s"}`, r.Header.Get("X-Auth-Token"))
	}))
	defer server.Close()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("LOCKSTEP_ADDR", server.URL)
	t.Setenv("OS_AUTH_URL", "")
	for want, args := range map[string][]string{
		"token admin:admin": {"peers", "list"}, "token from-file": {"peers", "list", "--token-file", path},
	} {
		code, _, stderr := runs(t, args...)
		if code != cli.ExitRefused || !strings.Contains(stderr, want) || !strings.Contains(stderr, "hint: give a token") {
			t.Errorf("%v: exit code %d, %s", args, code, stderr)
		}
	}
	t.Setenv("LOCKSTEP_TOKEN", "from-environment")
	if _, _, stderr := runs(t, "peers", "list"); !strings.Contains(stderr, "token from-environment") {
		t.Error(stderr)
	}
	t.Setenv("LOCKSTEP_TOKEN", "two words")
	if _, _, stderr := runs(t, "peers", "list"); !strings.Contains(stderr, "LOCKSTEP_TOKEN: must be one token") || strings.Contains(stderr, "two words") {
		t.Error(stderr)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, stderr := runs(t, "peers", "list", "--token-file", path); !strings.Contains(stderr, "chmod 600") {
		t.Error(stderr)
	}
}

// Who has the environment of OpenStack's commands needs nothing else: the token that
// Keystone gives is sent.
func TestKeystoneGivesTheToken(t *testing.T) {
	var asked string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v3/auth/tokens":
			body, _ := io.ReadAll(r.Body)
			asked = string(body)
			w.Header().Set("X-Subject-Token", "from-keystone")
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, `{"token": {"expires_at": "2999-01-01T00:00:00.000000Z", "catalog": []}}`)
		case r.Header.Get("X-Auth-Token") == "from-keystone":
			_, _ = io.WriteString(w, `{"peers": []}`)
		default:
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer server.Close()
	t.Setenv("LOCKSTEP_ADDR", server.URL)
	t.Setenv("LOCKSTEP_TOKEN", "")
	common := map[string]string{"OS_AUTH_URL": server.URL + "/v3", "OS_PASSWORD": "secret"}
	for name, tt := range map[string]struct {
		env  map[string]string
		want []string // in what Keystone is asked
	}{
		"of an openrc file": {
			map[string]string{"OS_USERNAME": "alice", "OS_USER_DOMAIN_NAME": "People", "OS_PROJECT_NAME": "ops", "OS_PROJECT_DOMAIN_NAME": "Work"},
			[]string{`"name":"alice"`, `"domain":{"name":"People"}`, `"domain":{"name":"Work"},"name":"ops"`},
		},
		"of one by ids": {
			map[string]string{"OS_USERNAME": "alice", "OS_USER_DOMAIN_ID": "people", "OS_PROJECT_ID": "0123", "OS_PROJECT_NAME": "ops", "OS_PROJECT_DOMAIN_ID": "work"},
			[]string{`"domain":{"id":"people"}`, `"project":{"id":"0123"}`},
		},
		"with one domain for all": {
			map[string]string{"OS_USERNAME": "alice", "OS_DOMAIN_NAME": "All", "OS_PROJECT_NAME": "ops"},
			[]string{`"name":"alice"`, `"domain":{"name":"All"}`, `"name":"ops"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			maps.Copy(tt.env, common)
			for variable, value := range tt.env {
				t.Setenv(variable, value)
			}
			code, _, stderr := runs(t, "peers", "list")
			if code != 0 {
				t.Errorf("exit code %d: %s", code, stderr)
			}
			for _, want := range tt.want {
				if !strings.Contains(asked, want) {
					t.Errorf("Keystone is asked %s, without %s", asked, want)
				}
			}
		})
	}
	t.Setenv("OS_AUTH_URL", server.URL+"/v3")
	t.Setenv("OS_USER_DOMAIN_NAME", "People")
	t.Setenv("OS_USERNAME", "alice")
	t.Setenv("OS_PASSWORD", "secret")
	if code, _, stderr := runs(t, "peers", "list"); code == 0 || !strings.Contains(stderr, "OS_PROJECT_NAME is missing") {
		t.Errorf("without a project: exit code %d: %s", code, stderr)
	}
}
