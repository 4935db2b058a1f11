package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/lockstep-storage/lockstep/scripts/freeport"
)

// patience is how long to wait for anything that must happen.
const patience = 30 * time.Second

// deployment is a cluster of three nodes, made for one part of a sequence.
type deployment struct {
	dir   string
	cmd   *exec.Cmd
	ended chan struct{}
	nodes []string // base URLs
	next  int      // the node to ask next
	http  *http.Client
}

// startDeployment starts lockstep dev in a directory of its own, and waits until
// the cluster is ready. What can be adopted lies at the primary site.
func startDeployment(ctx context.Context, binary, dir string, extra ...string) (*deployment, error) {
	path, err := exec.LookPath(binary)
	if err != nil {
		return nil, fmt.Errorf("-bin: %w (make build builds it)", err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	if err := layImages(filepath.Join(dir, "sites", "default", "import")); err != nil {
		return nil, err
	}
	port, err := freeport.Find(ctx, 30)
	if err != nil {
		return nil, err
	}
	args := append([]string{
		"dev", "--dir", dir, "--api-port", strconv.Itoa(port),
		"--node-prefix", "vol", "--cluster", "mycluster", "--backend", "aa",
		"--admins", "admin,lockstep", // Cinder had a second API for the others
	}, extra...)
	log, err := os.Create(filepath.Join(dir, "dev.log"))
	if err != nil {
		return nil, err
	}
	d := &deployment{dir: dir, ended: make(chan struct{}), http: &http.Client{
		Timeout:       patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	d.cmd = exec.CommandContext(context.WithoutCancel(ctx), path, args...) //nolint:gosec // the command is what this program is about
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := errors.Join(d.cmd.Start(), log.Close()); err != nil {
		return nil, err
	}
	go func() {
		defer close(d.ended)
		_ = d.cmd.Wait() // how it ended is nobody's business: it is ended
	}()
	if err := await(ctx, "the cluster is ready", d.ready); err != nil {
		return nil, errors.Join(err, d.end())
	}
	return d, nil
}

// layImages puts sparse images where the file driver finds what it can adopt.
func layImages(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	for i := range int64(3) {
		path := filepath.Join(dir, fmt.Sprintf("lun-%04d", i+1))
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			return err
		}
		if err := os.Truncate(path, (i+1)<<30); err != nil {
			return err
		}
	}
	return nil
}

// ready reads dev.json, which is written when the cluster is ready.
func (d *deployment) ready(context.Context) error {
	select {
	case <-d.ended:
		log, _ := os.ReadFile(filepath.Join(d.dir, "dev.log"))
		return &hopeless{fmt.Errorf("lockstep dev has ended: %s", log)}
	default:
	}
	var f struct {
		Nodes []struct {
			API string `json:"api"`
		} `json:"nodes"`
	}
	if err := loadJSON(filepath.Join(d.dir, "dev.json"), &f); err != nil {
		return err
	}
	for _, n := range f.Nodes {
		d.nodes = append(d.nodes, n.API)
	}
	return nil
}

// end ends the cluster and waits for it.
func (d *deployment) end() error {
	if d == nil {
		return nil
	}
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-d.ended:
		return nil
	case <-timer.C:
		err := syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
		<-d.ended
		return errors.Join(errors.New("lockstep dev did not end when asked"), err)
	}
}

// send sends a request as it is, to each node in turn.
func (d *deployment) send(ctx context.Context, method, target string, headers [][2]string, body *string) (answer, error) {
	d.next = (d.next + 1) % len(d.nodes)
	base, err := url.Parse(d.nodes[d.next])
	if err != nil {
		return answer{}, err
	}
	var content io.Reader
	if body != nil {
		content = bytes.NewReader([]byte(*body))
	}
	r, err := http.NewRequestWithContext(ctx, method, d.nodes[d.next], content)
	if err != nil {
		return answer{}, err
	}
	// The path goes out as it was recorded, escaped or not.
	path, query, _ := strings.Cut(target, "?")
	r.URL = &url.URL{Scheme: base.Scheme, Host: base.Host, Opaque: path, RawQuery: query}
	for _, kv := range headers {
		switch name := http.CanonicalHeaderKey(kv[0]); name {
		case "Host":
			r.Host = kv[1]
		case "Content-Length", "Connection":
		default:
			r.Header[name] = append(r.Header[name], kv[1])
		}
	}
	resp, err := d.http.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{Status: resp.StatusCode, Header: resp.Header, Body: string(text)}, err
}

// look reads something with an administrator's eyes.
func (d *deployment) look(ctx context.Context, path string, into any) error {
	a, err := d.send(ctx, http.MethodGet, path, [][2]string{{"X-Auth-Token", adminToken}, {"OpenStack-API-Version", "volume 3.70"}}, nil)
	if err != nil {
		return err
	}
	if a.Status != http.StatusOK {
		return fmt.Errorf("GET %s: %d %s", path, a.Status, a.Body)
	}
	return json.Unmarshal([]byte(a.Body), into)
}

// hopeless is an error that waiting does not cure.
type hopeless struct{ error }

// await looks until a condition holds. The last reason why it does not is the
// error.
func await(ctx context.Context, what string, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if end, ok := errors.AsType[*hopeless](err); ok {
			return end.error
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("waited %v until %s: %w", patience, what, err)
		}
	}
}
