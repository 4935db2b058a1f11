package process

import (
	"context"
	"errors"
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/driverhost/process/driverpb"
)

// Open starts a driver. Options are those of the backend in the agent's
// configuration, a JSON object. The context ends with the call; of what the driver
// starts by itself, [driverhost.Allowed] is asked with this context, without its
// end: context.WithoutCancel.
type Open func(ctx context.Context, req driverhost.OpenRequest, options []byte) (driverhost.Driver, error)

// handshake is how agent and driver recognise each other. The version is that of
// driver.proto.
func handshake() plugin.HandshakeConfig {
	return plugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: "LOCKSTEP_DRIVER", MagicCookieValue: "serve"}
}

// pluginName is what go-plugin calls the one thing that a process serves.
const pluginName = "driver"

// errNotStarted is why a driver does not serve.
var errNotStarted = errors.New("a driver is not run by hand: the agent starts it, for the backends of its configuration")

// Serve serves a driver to the agent that has started this process, until that closes
// it or ctx ends. It is called once, early: the process is ended, at once, when its
// agent is gone, and when a lease has ended, a while later.
func Serve(ctx context.Context, open Open) error {
	h := handshake()
	if os.Getenv(h.MagicCookieKey) != h.MagicCookieValue {
		return errNotStarted
	}
	if err := dieWithAgent(); err != nil {
		return err
	}
	if err := keepLock(); err != nil {
		return err
	}
	// Its lines are read by the agent, which knows the level to keep.
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Info, Output: os.Stderr, JSONFormat: true})
	w, err := newWall(logger)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := newServer(ctx, open, w, logger)
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: h, Logger: logger,
		Plugins: plugin.PluginSet{pluginName: &grpcPlugin{server: s}},
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			g := grpc.NewServer(append(opts, grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage))...)
			context.AfterFunc(ctx, g.Stop)
			return g
		},
	})
	_, err = s.Close(ctx, nil)
	return err
}

// grpcPlugin is a driver as go-plugin knows it.
type grpcPlugin struct {
	plugin.NetRPCUnsupportedPlugin

	server *server // on the driver's side only
}

var _ plugin.GRPCPlugin = (*grpcPlugin)(nil)

// GRPCServer implements [plugin.GRPCPlugin].
func (p *grpcPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	driverpb.RegisterDriverServer(s, p.server)
	return nil
}

// GRPCClient implements [plugin.GRPCPlugin].
func (p *grpcPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return driverpb.NewDriverClient(conn), nil
}
