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
)

// noauth is how clients get at a cluster that believes who they say they are.
type noauth struct {
	cluster *devcluster.Cluster
	home    string // of the commands, which keep nothing there
	binary  string // lockstep itself
}

// environment is all that a command knows of its surroundings. Nothing of who runs
// this program gets into it.
func (a noauth) environment(s step, node devcluster.Node) []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + a.home, "LC_ALL=C.UTF-8", "PYTHONWARNINGS=ignore"}
	switch s.client {
	case cinderClient:
		return append(env, "OS_AUTH_TYPE=noauth", "OS_USER_ID="+user, "OS_PROJECT_ID="+project,
			"CINDER_ENDPOINT="+node.API+"/v3", "OS_VOLUME_API_VERSION="+s.version)
	case openstackClient:
		return append(env, "OS_AUTH_TYPE=admin_token", "OS_ENDPOINT="+node.API+"/v3/"+project,
			"OS_TOKEN="+user+":"+project, "OS_VOLUME_API_VERSION="+s.version)
	default:
		return append(env, "LOCKSTEP_ADDR="+strings.Join(a.cluster.Addrs(""), ","), "LOCKSTEP_TOKEN="+user+":"+project)
	}
}

// run runs the command of a step at a node.
func (a noauth) run(ctx context.Context, s step, node devcluster.Node, args []string) output {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	name := s.client
	if name == lockstepClient {
		name = a.binary
	}
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // the commands are those of the story
	var stdout, stderr bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = a.environment(s, node), &stdout, &stderr
	err := cmd.Run()
	o := output{stdout: stdout.String(), stderr: stderr.String()}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		o.code = exit.ExitCode()
	} else if err != nil {
		o.code, o.stderr = -1, err.Error()
	}
	return o
}

// gopher returns a client of gophercloud for a node.
func (noauth) gopher(version string, node devcluster.Node) (*gophercloud.ServiceClient, error) {
	provider, err := openstacknoauth.NewClient(gophercloud.AuthOptions{Username: user, TenantName: project})
	if err != nil {
		return nil, err
	}
	client, err := openstacknoauth.NewBlockStorageNoAuthV3(provider, openstacknoauth.EndpointOpts{CinderEndpoint: node.API + "/v3"})
	if err != nil {
		return nil, err
	}
	client.Microversion = version
	return client, nil
}
