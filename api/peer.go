package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/lockstep-storage/lockstep/fsm"
)

const (
	headerDeployment = "X-Lockstep-Deployment"
	peerPath         = "/internal/v1/"
	maxPeerBody      = 2 << 20 // bytes of a question or an answer
	typeBinary       = "application/octet-stream"
)

// answerPeer answers what another node of the deployment asks. A refusal goes back
// with its code, so that it is the same error there.
func (s *Server) answerPeer(x *exchange) error {
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
		if answer, err = s.node.Answer(x.r.Context(), x.params.ByName("method"), body); err == nil {
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

// PeerClient asks other nodes of the deployment.
type PeerClient struct {
	deployment string
	client     *http.Client
}

// NewPeerClient returns a client that asks nodes of a deployment.
func NewPeerClient(deployment string, client *http.Client) *PeerClient {
	return &PeerClient{deployment: deployment, client: client}
}

// Ask asks the node at baseURL, such as http://10.0.0.1:8776. What the node refuses
// is a [*fsm.Refusal]; when it does not answer, or not in full, the error wraps
// [ErrUnreachable].
func (c *PeerClient) Ask(ctx context.Context, baseURL, method string, body []byte) ([]byte, error) {
	url := strings.TrimSuffix(baseURL, "/") + peerPath + method
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", url, err)
	}
	req.Header.Set(headerDeployment, c.deployment)
	req.Header.Set("Content-Type", typeBinary)
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer func() { _ = resp.Body.Close() }()
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
