package agent_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/lockstep-storage/lockstep/api/auth"
	"github.com/lockstep-storage/lockstep/cmd/internal/agent"
	"github.com/lockstep-storage/lockstep/cmd/internal/config"
	"github.com/lockstep-storage/lockstep/scripts/freeport"
)

// A running node reads its files of tokens and policies again when they change:
// what was taken away there is over, for streams that are open, too.
func TestUsersAreReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		must[any](t)(nil, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	alice, aliceEntry, err := auth.NewToken("alice", "p", []string{auth.RoleReader}, time.Time{})
	must[any](t)(nil, err)
	bob, bobEntry, err := auth.NewToken("bob", "p", []string{auth.RoleMember}, time.Time{})
	must[any](t)(nil, err)
	line := func(e auth.Entry) string { return "- " + string(must[[]byte](t)(json.Marshal(e))) + "\n" }
	write("tokens.yaml", "tokens:\n"+line(aliceEntry)+line(bobEntry))
	write("policy.yaml", "{}\n")
	base := must[int](t)(freeport.Find(t.Context(), 3))
	addr := func(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(base+port)) }
	cfg := must[config.Config](t)(config.Parse("test.yaml", fmt.Appendf(nil, `
node: node1
deployment: east
data_dir: %[1]s/data
bootstrap_expect: 1
auth: {mode: tokens, tokens: %[1]s/tokens.yaml, policies: %[1]s/policy.yaml}
api: {listen: %[2]q}
raft: {listen: %[3]q}
gossip: {listen: %[4]q}
`, dir, addr(0), addr(1), addr(2))))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- agent.Run(ctx, cfg, "v1", agent.Processes("lockstep"), hclog.NewNullLogger()) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	get := func(path, token string) *http.Response {
		r := must[*http.Request](t)(http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr(0)+path, nil))
		r.Header.Set("X-Auth-Token", token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return &http.Response{Body: http.NoBody}
		}
		return resp
	}
	status := func(path, token string) int {
		resp := get(path, token)
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	until(t, "the node", func() bool { return status("/v1/status", alice) == http.StatusOK })
	if got := status("/v1/status", bob); got != http.StatusForbidden {
		t.Errorf("bob is a member: %d", got)
	}
	stream := get("/v1/events", alice) //nolint:bodyclose // it is closed below
	defer stream.Body.Close()

	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP) // so that it ends no one who does not wait for it yet
	defer signal.Stop(hangups)
	write("tokens.yaml", "tokens:\n"+line(bobEntry))
	write("policy.yaml", "lockstep:status: [member]\n")
	must[any](t)(nil, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	until(t, "alice to be unknown", func() bool { return status("/v1/status", alice) == http.StatusUnauthorized })
	until(t, "bob to be allowed", func() bool { return status("/v1/status", bob) == http.StatusOK })
	cut := make(chan struct{})
	go func() {
		defer close(cut)
		buf := make([]byte, 4096)
		for err := error(nil); err == nil; _, err = stream.Body.Read(buf) {
		}
	}()
	select {
	case <-cut:
	case <-time.After(20 * time.Second):
		t.Error("alice's stream goes on")
	}
}
