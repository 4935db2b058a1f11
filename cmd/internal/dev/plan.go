package dev

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/template"

	"github.com/google/uuid"

	"github.com/lockstep-storage/lockstep/api/client"
	"github.com/lockstep-storage/lockstep/cmd/internal/config"
)

// File is what DIR/dev.json says.
type File struct {
	Cluster string            `json:"cluster"`
	Sites   map[string]string `json:"sites"` // backend id: directory
	Nodes   []Node            `json:"nodes"`
	CACert  string            `json:"cacert,omitempty"` // who signed the nodes' certificates
}

// Node is one node in DIR/dev.json.
type Node struct {
	Name   string   `json:"name"`
	PID    int      `json:"pid"`
	API    string   `json:"api"`    // base URL
	Raft   string   `json:"raft"`   // host:port
	Gossip string   `json:"gossip"` // host:port
	Dir    string   `json:"dir"`
	Argv   []string `json:"argv"` // starts the node again after it was killed
}

// FileName is the name of the file in the directory.
const FileName = "dev.json"

// Read reads the file that a ready cluster has written.
func Read(path string) (File, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return File{}, err
	}
	var f File
	if err := json.Unmarshal(content, &f); err != nil {
		return File{}, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// portStep is how far the ports of one node are from those of the next.
const portStep = 10

const host = "127.0.0.1"

// node is a node to run.
type node struct {
	Node

	listen string // host:port of the API
	log    string
	client *client.Client
}

// plan is what is to be run.
type plan struct {
	options Options
	nodes   []*node
	Cluster string
	Sites   map[string]string

	CACert    string      // empty without TLS
	clientTLS *tls.Config // of who asks the nodes
}

// prepare checks the ports and writes everything that the nodes read.
func prepare(ctx context.Context, o Options) (*plan, error) {
	p := &plan{options: o, Cluster: o.Cluster + "@" + o.Backend, Sites: map[string]string{}}
	for _, id := range append([]string{Primary}, o.Targets...) {
		p.Sites[id] = filepath.Join(o.Dir, "sites", id)
	}
	for i := range o.Nodes {
		p.nodes = append(p.nodes, newNode(o, i))
	}
	if err := p.checkPorts(ctx); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("--dir: %w", err)
	}
	if err := os.Remove(p.file()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove what an earlier run has left: %w", err)
	}
	deployment, err := deploymentID(o.Dir)
	if err != nil {
		return nil, err
	}
	if o.TLS {
		if err := p.secure(deployment); err != nil {
			return nil, err
		}
	}
	for _, n := range p.nodes {
		if n.client, err = client.New([]string{n.API}, client.Options{TLS: p.clientTLS, Token: o.Token}); err != nil {
			return nil, err
		}
	}
	return p, p.writeConfigs(deployment)
}

func newNode(o Options, i int) *node {
	name := o.NodePrefix + strconv.Itoa(i+1)
	port := o.APIPort + i*portStep
	at := func(offset int) string { return net.JoinHostPort(host, strconv.Itoa(port+offset)) }
	dir := filepath.Join(o.Dir, name)
	scheme := "http://"
	if o.TLS {
		scheme = "https://"
	}
	return &node{
		Node: Node{
			Name: name, API: scheme + at(0), Raft: at(1), Gossip: at(2), Dir: dir,
			Argv: []string{o.Binary, "agent", "--config", filepath.Join(dir, "lockstep.yaml")},
		},
		listen: at(0), log: filepath.Join(dir, "log"),
	}
}

func (p *plan) node(name string) *node {
	for _, n := range p.nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

func (p *plan) addrs() (urls []string) {
	for _, n := range p.nodes {
		urls = append(urls, n.API)
	}
	return urls
}

func (p *plan) hosts() (hosts []string) {
	for _, n := range p.nodes {
		hosts = append(hosts, n.listen)
	}
	return hosts
}

func (p *plan) file() string { return filepath.Join(p.options.Dir, FileName) }

// checkPorts finds out before anything is started whether a port is taken.
func (p *plan) checkPorts(ctx context.Context) error {
	var lc net.ListenConfig
	for _, n := range p.nodes {
		for what, address := range map[string]string{"API": n.listen, "Raft": n.Raft, "gossip": n.Gossip} {
			l, err := lc.Listen(ctx, "tcp", address)
			if err != nil {
				return portError(what, n.Name, address, err)
			}
			if err := l.Close(); err != nil {
				return fmt.Errorf("check port %s: %w", address, err)
			}
		}
		c, err := lc.ListenPacket(ctx, "udp", n.Gossip)
		if err != nil {
			return portError("gossip", n.Name, n.Gossip, err)
		}
		if err := c.Close(); err != nil {
			return fmt.Errorf("check port %s: %w", n.Gossip, err)
		}
	}
	return nil
}

func portError(what, name, address string, err error) error {
	_, port, _ := net.SplitHostPort(address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("port %s, for %s of %s, is in use: end what uses it, or choose others with --api-port", port, what, name)
	}
	return fmt.Errorf("port %s, for %s of %s: %w", port, what, name, err)
}

// deploymentID returns the id of the directory's deployment; a new directory gets
// a new one, so that two clusters never mix.
func deploymentID(dir string) (string, error) {
	path := filepath.Join(dir, "deployment")
	content, err := os.ReadFile(path)
	if id := strings.TrimSpace(string(content)); err == nil && id != "" {
		return id, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("deployment id: %w", err)
	}
	id := "dev-" + uuid.NewString()[:8]
	if err := replaceFile(path, []byte(id+"\n")); err != nil {
		return "", err
	}
	return id, nil
}

const configTemplate = `# Written by lockstep dev, anew at each start.
node: {{.Name}}
deployment: {{.Deployment}}
data_dir: {{.Data}}
log_level: {{.LogLevel}}
auth:
{{.Auth}}
bootstrap_expect: {{.Expect}}
voters: 7
{{- if .TLS}}
tls: {ca: {{.TLS.CA}}, cert: {{.TLS.Cert}}, key: {{.TLS.Key}}}
{{- end}}
api: {listen: "{{.API}}"}
raft: {listen: "{{.Raft}}"}
gossip:
  listen: "{{.Gossip}}"
{{- if .TLS}}
  key_file: {{.TLS.GossipKey}}
{{- end}}
  join: [{{range $i, $a := .Join}}{{if $i}}, {{end}}"{{$a}}"{{end}}]
# Shorter than for machines of their own: here no network lies between.
lease: {duration: 1500ms, kill: 500ms, grace: 2500ms}
backends:
  - name: {{.Backend}}
    cluster: {{.Cluster}}
    driver: file
    options:
      sites:
{{- range $id, $dir := .Sites}}
        {{$id}}: {{printf "%q" $dir}}
{{- end}}
      replication_interval: 250ms
      promote_delay: {{.PromoteDelay}}
`

// writeConfigs writes the configuration of each node.
func (p *plan) writeConfigs(deployment string) error {
	tmpl, err := template.New("config").Parse(configTemplate)
	if err != nil {
		return fmt.Errorf("template: %w", err)
	}
	auth, err := p.options.auth()
	if err != nil {
		return err
	}
	var join []string
	for _, n := range p.nodes {
		join = append(join, n.Gossip)
	}
	for i, n := range p.nodes {
		expect := min(len(p.nodes), maxVoters)
		if i >= maxVoters {
			expect = 0
		}
		var text bytes.Buffer
		err := tmpl.Execute(&text, map[string]any{
			"Name": n.Name, "Deployment": deployment, "Data": strconv.Quote(filepath.Join(n.Dir, "data")),
			"LogLevel": p.options.LogLevel, "Auth": auth, "Expect": expect, "API": n.listen, "Raft": n.Raft, "Gossip": n.Gossip,
			"Join": join, "Backend": p.options.Backend, "Cluster": p.Cluster, "Sites": p.Sites,
			"PromoteDelay": p.options.PromoteDelay, "TLS": p.filesOf(n),
		})
		if err != nil {
			return fmt.Errorf("template: %w", err)
		}
		path := filepath.Join(n.Dir, "lockstep.yaml")
		if _, err := config.Parse(path, text.Bytes()); err != nil {
			return err
		}
		if err := os.MkdirAll(n.Dir, 0o750); err != nil {
			return err
		}
		if err := replaceFile(path, text.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// write writes dev.json, whole or not at all.
func (p *plan) write(children *children) error {
	f := File{Cluster: p.Cluster, Sites: p.Sites, CACert: p.CACert}
	for _, n := range p.nodes {
		n.PID = children.pid(n.Name)
		f.Nodes = append(f.Nodes, n.Node)
	}
	content, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", FileName, err)
	}
	return replaceFile(p.file(), append(content, '\n'))
}

func replaceFile(path string, content []byte) error {
	next := path + ".new"
	if err := os.WriteFile(next, content, 0o600); err != nil {
		return err
	}
	return os.Rename(next, path)
}
