package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	openstacknoauth "github.com/gophercloud/gophercloud/v2/openstack/blockstorage/noauth"

	"github.com/lockstep-storage/lockstep/scripts/devcluster"
)

const (
	user    = "admin"
	project = "5f1e0c0d3a4b4c6d8e9fa0b1c2d3e4f5"
)

// commandTimeout bounds one command of a client.
const commandTimeout = 2 * time.Minute

// The clients.
const (
	cinderClient    = "cinder"
	openstackClient = "openstack"
	gopherClient    = "gophercloud"
	lockstepClient  = "lockstep"

	// What is no use of a client is what happens around them.
	meanwhile = "meanwhile"
)

// access is how clients get at a node, as the user of a step.
type access interface {
	// environment is what a command has to know.
	environment(s step, node devcluster.Node) []string
	// gopher returns a client of gophercloud.
	gopher(ctx context.Context, s step, node devcluster.Node) (*gophercloud.ServiceClient, error)
}

// noauth is the access to a cluster that believes everyone: all are one user.
type noauth struct{}

func (noauth) environment(s step, node devcluster.Node) []string {
	switch s.client {
	case cinderClient:
		return []string{"OS_AUTH_TYPE=noauth", "OS_USER_ID=" + user, "OS_PROJECT_ID=" + project, "CINDER_ENDPOINT=" + node.API + "/v3"}
	case openstackClient:
		return []string{"OS_AUTH_TYPE=admin_token", "OS_ENDPOINT=" + node.API + "/v3/" + project, "OS_TOKEN=" + user + ":" + project}
	}
	return []string{"LOCKSTEP_TOKEN=" + user + ":" + project}
}

// environment is all that a command knows of its surroundings. Nothing of who runs
// this program gets into it.
func (t *teller) environment(s step, node devcluster.Node) []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.cluster.Dir, "LC_ALL=C.UTF-8", "PYTHONWARNINGS=ignore",
		"OS_VOLUME_API_VERSION=" + s.version, "LOCKSTEP_ADDR=" + strings.Join(t.cluster.Addrs(""), ","),
	}
	return append(env, t.access.environment(s, node)...)
}

// run runs the command of a step at a node.
func (t *teller) run(ctx context.Context, s step, node devcluster.Node, args []string) output {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	name := s.client
	if name == lockstepClient {
		name = t.o.binary
	}
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // the commands are those of the story
	var stdout, stderr bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = t.environment(s, node), &stdout, &stderr
	err := cmd.Run()
	o := output{stdout: stdout.String(), stderr: stderr.String()}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		o.code = exit.ExitCode()
	} else if err != nil {
		o.code, o.stderr = -1, err.Error()
	}
	return o
}

func (noauth) gopher(_ context.Context, s step, node devcluster.Node) (*gophercloud.ServiceClient, error) {
	provider, err := openstacknoauth.NewClient(gophercloud.AuthOptions{Username: user, TenantName: project})
	if err != nil {
		return nil, err
	}
	client, err := openstacknoauth.NewBlockStorageNoAuthV3(provider, openstacknoauth.EndpointOpts{CinderEndpoint: node.API + "/v3"})
	if err != nil {
		return nil, err
	}
	client.Microversion = s.version
	return client, nil
}
