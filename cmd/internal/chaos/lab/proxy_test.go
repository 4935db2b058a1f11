package lab_test

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/cmd/internal/chaos/lab"
)

// TestProxy has two processes reach services of each other through the proxy, which
// must know who is who.
func TestProxy(t *testing.T) {
	t.Parallel()
	n, err := lab.NewProxy(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	serve(t, n.Listen(2, lab.API))
	ask := asker(t, n, 1, n.Reach(2, lab.API))
	if got := ask(); got != "hello" {
		t.Fatalf("without rules: got %q, want hello", got)
	}
	mend := n.Break(lab.Rule{From: []int{1}, To: []int{2}, Cut: true})
	if got := ask(); got != "nothing" {
		t.Errorf("from 1 to 2 cut: got %q, want nothing", got)
	}
	mend()
	mend = n.Break(lab.Rule{From: []int{2}, To: []int{1}, Cut: true})
	if got := ask(); got != "nothing" {
		t.Errorf("from 2 to 1 cut: got %q, want nothing", got)
	}
	mend()
	mend = n.Break(lab.Rule{From: []int{3}, To: []int{2}, Cut: true})
	if got := ask(); got != "hello" {
		t.Errorf("from 3 to 2 cut: got %q, want hello", got)
	}
	mend()
}

// serve answers every line with hello.
func serve(t *testing.T, addr string) {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if _, err := conn.Read(make([]byte, 1)); err == nil {
					_, _ = io.WriteString(conn, "hello\n")
				}
			}()
		}
	}()
}

// asker starts a process as a node, which connects to an address for each line that
// it gets, and returns what has it do so.
func asker(t *testing.T, n lab.Network, node int, addr string) (ask func() string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "CHAOS_ASK="+addr)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(node, cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return func() string {
		t.Helper()
		if _, err := io.WriteString(in, "\n"); err != nil {
			t.Fatal(err)
		}
		line := make([]byte, 64)
		n, err := out.Read(line)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(line[:n]))
	}
}

// askOnce is what the process of an asker does for a line.
func askOnce(addr string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return "nothing"
	}
	defer conn.Close()
	end, _ := ctx.Deadline()
	if err := conn.SetDeadline(end); err != nil {
		return err.Error()
	}
	if _, err := io.WriteString(conn, "?"); err != nil {
		return "nothing"
	}
	answer, err := io.ReadAll(conn)
	if err != nil || len(answer) == 0 {
		return "nothing"
	}
	return strings.TrimSpace(string(answer))
}
