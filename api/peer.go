package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/lockstep-storage/lockstep/fsm"
)

const (
	headerDeployment = "X-Lockstep-Deployment"
	peerPath         = "/internal/v1/"
	maxPeerBody      = 2 << 20 // bytes of a question or an answer
	peerDial         = time.Second
	typeBinary       = "application/octet-stream"
)

// answerPeer answers what another node of the deployment asks. A refusal goes back
// with its code, so that it is the same error there.
func (s *Server) answerPeer(x *exchange) error {
	from, err := s.peerOf(x.r)
	if err != nil {
		s.log.Debug("refused one who is no node of the deployment", "peer", x.r.RemoteAddr, "error", err)
		return newFault(http.StatusForbidden, "Only nodes of the deployment may ask this, and show their certificate.")
	}
	if theirs := x.r.Header.Get(headerDeployment); theirs != s.cfg.Deployment {
		s.answerRefusal(x, http.StatusMisdirectedRequest, &fsm.Refusal{
			Code: fsm.ErrInvalid, Field: "deployment", Value: theirs, Allowed: []string{s.cfg.Deployment},
			Message: fmt.Sprintf("this node belongs to deployment %q, not to %q", s.cfg.Deployment, theirs),
		})
		return nil
	}
	body, err := x.read(maxPeerBody, s.cfg.RequestTimeout)
	if err == nil {
		var answer []byte
		if answer, err = s.node.Answer(x.r.Context(), from, x.params.ByName("method"), body); err == nil {
			x.bytes(http.StatusOK, typeBinary, answer)
			return nil
		}
	}
	refusal, status := refusalOf(err)
	if refusal.Code == fsm.ErrInternal {
		refusal.Message = err.Error() // peers may know
	}
	if status == 0 {
		_, status = statusOf(refusal.Code)
	}
	s.answerRefusal(x, status, &refusal)
	return nil
}

func (s *Server) answerRefusal(x *exchange, status int, refusal *fsm.Refusal) {
	s.log.Debug("refused a peer", "method", x.params.ByName("method"), "code", refusal.Code, "reason", refusal.Message)
	x.json(status, typeJSON, refusal)
}

// ErrUnreachable is wrapped by an error about a peer that did not answer: whether
// it did what it was asked is not known.
var ErrUnreachable = errors.New("peer unreachable")

// Certificates are how nodes of a deployment know each other.
type Certificates interface {
	// Dial is for a connection to one node: only that node gets through its
	// handshake.
	Dial(node string) *tls.Config

	// Node returns the node whose certificate the other side of a connection
	// has shown. It says no to one that has expired meanwhile.
	Node(state *tls.ConnectionState) (string, error)
}

// peerOf returns the name of the node that asks, empty if nodes have no
// certificates.
func (s *Server) peerOf(r *http.Request) (string, error) {
	if s.cfg.Certificates == nil {
		return "", nil
	}
	return s.cfg.Certificates.Node(r.TLS)
}

// PeerClient asks other nodes of the deployment.
type PeerClient struct {
	deployment   string
	certificates Certificates

	mu    sync.Mutex
	nodes map[string]*http.Client // by name: a connection belongs to one node
}

// NewPeerClient returns a client that asks nodes of a deployment: over TLS, unless
// certificates is nil.
func NewPeerClient(deployment string, certificates Certificates) *PeerClient {
	return &PeerClient{deployment: deployment, certificates: certificates, nodes: make(map[string]*http.Client)}
}

// client returns the client for questions to a node, of which there may be many at
// once.
func (c *PeerClient) client(node string) *http.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	client, ok := c.nodes[node]
	if !ok {
		transport := &http.Transport{
			DialContext:         (&net.Dialer{Timeout: peerDial}).DialContext,
			TLSHandshakeTimeout: peerDial,
			MaxIdleConnsPerHost: 64,
			IdleConnTimeout:     time.Minute,
		}
		if c.certificates != nil {
			transport.TLSClientConfig = c.certificates.Dial(node)
		}
		client = &http.Client{Transport: transport}
		c.nodes[node] = client
	}
	return client
}

// isNode says why an answer is not from the node that was asked. A certificate
// may have expired while its connection was open.
func (c *PeerClient) isNode(node string, resp *http.Response) error {
	if c.certificates == nil {
		return nil
	}
	is, err := c.certificates.Node(resp.TLS)
	if err == nil && is != node {
		err = fmt.Errorf("it is node %q", is)
	}
	return err
}

// Ask asks a node, whose API is at address, a host:port. What the node refuses is a
// [*fsm.Refusal]; when it does not answer, or not in full, the error wraps
// [ErrUnreachable].
func (c *PeerClient) Ask(ctx context.Context, node, address, method string, body []byte) ([]byte, error) {
	url := "http://" + address + peerPath + method
	if c.certificates != nil {
		url = "https://" + address + peerPath + method
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", url, err)
	}
	req.Header.Set(headerDeployment, c.deployment)
	req.Header.Set("Content-Type", typeBinary)
	resp, err := c.client(node).Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := c.isNode(node, resp); err != nil {
		return nil, fmt.Errorf("%w: %s at %s: %w", ErrUnreachable, node, address, err)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxPeerBody+1))
	if err != nil {
		return nil, fmt.Errorf("%w: read the answer of %s: %w", ErrUnreachable, url, err)
	}
	if len(answer) > maxPeerBody {
		return nil, fmt.Errorf("the answer of %s has more than %d bytes: %w", url, maxPeerBody, fsm.ErrTooLarge)
	}
	if resp.StatusCode == http.StatusOK {
		return answer, nil
	}
	return nil, fmt.Errorf("ask %s: %w", url, peerRefusal(resp, answer))
}

// peerRefusal returns the refusal in an answer.
func peerRefusal(resp *http.Response, answer []byte) error {
	var r fsm.Refusal
	media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err == nil && media == typeJSON && json.Unmarshal(answer, &r) == nil && r.Code != "" {
		return &r
	}
	return &fsm.Refusal{Code: fsm.ErrInternal, Message: fmt.Sprintf("answered %s: %s", resp.Status, cut(string(answer)))}
}
