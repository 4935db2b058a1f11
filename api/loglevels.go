package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/lockstep-storage/lockstep/fsm"
)

// apiBinary is what Cinder calls the process that answers requests.
const apiBinary = "cinder-api"

// loggerName is the name of the one logger whose level can be changed; all others
// of the process follow it.
const loggerName = "lockstep"

// logTimeout is how long a node has to say what the level of its log is.
const logTimeout = 3 * time.Second

// codeUnreachable is for what other nodes were asked for in vain.
const codeUnreachable fsm.Code = "node_unreachable"

// levels are Cinder's words for the levels of a log that can be set.
func levels() map[string]hclog.Level {
	return map[string]hclog.Level{"DEBUG": hclog.Debug, "INFO": hclog.Info, "WARNING": hclog.Warn, "ERROR": hclog.Error}
}

// ownLogLevel is the [Config].LogLevel of a node that can ask no other one.
func (s *Server) ownLogLevel(_ context.Context, node string, set hclog.Level) (hclog.Level, error) {
	if node != s.node.Status().Node {
		return hclog.NoLevel, fmt.Errorf("%w: %s", ErrUnreachable, node)
	}
	if set != hclog.NoLevel {
		s.cfg.Logger.SetLevel(set)
	}
	return s.cfg.Logger.GetLevel(), nil
}

// getLogLevels answers PUT os-services/get-log. A node that does not answer is left
// out, as in Cinder are services that are down.
func (s *Server) getLogLevels(x *exchange, body object) error {
	meant := s.logsMeant(body)
	known, silent := s.askLogLevels(x.r.Context(), meant.logs, hclog.NoLevel)
	if silent != nil {
		s.log.Debug("some nodes do not say what the levels of their logs are", "request", x.id, "error", silent)
	}
	rows := []any{}
	for _, l := range meant.logs {
		level, ok := known[l.node]
		if !ok {
			continue
		}
		shown := map[string]string{}
		if meant.named {
			shown[loggerName] = levelWord(level)
		}
		rows = append(rows, map[string]any{"host": l.host, "binary": l.binary, "levels": shown})
	}
	x.json(http.StatusOK, typeJSON, map[string]any{"log_levels": rows})
	return nil
}

// setLogLevels answers PUT os-services/set-log, once the levels are set. Cinder says
// yes and tells its services afterwards.
func (s *Server) setLogLevels(x *exchange, body object) error {
	meant := s.logsMeant(body)
	level, err := logLevel(body.text("level"))
	if err != nil {
		return err
	}
	if server := body.text("server"); server != "" && len(meant.logs) == 0 {
		return fieldFault("server", server, fmt.Sprintf("%sserver %q is not known for this binary; there are %s.",
			prefixInvalid, cut(server), cmp.Or(cut(strings.Join(meant.servers, ", ")), "none")), meant.servers...)
	}
	if meant.named {
		if _, silent := s.askLogLevels(x.r.Context(), meant.logs, level); silent != nil {
			return silent
		}
	}
	x.empty(http.StatusAccepted, typeHTML)
	return nil
}

// logged is something that writes to the log of a node: a service, or the API.
type logged struct {
	binary, host, node string
	cluster            string // of a service; may be empty
}

// at reports whether a server means the log, when it is asked of the node self.
func (l logged) at(server, self string) bool {
	if server == "" {
		return l.binary != apiBinary || l.node == self
	}
	return server == l.host || server == l.cluster
}

// logsMeant are the logs that a request is about.
type logsMeant struct {
	logs    []logged
	servers []string // that there are for its binary
	named   bool     // the prefix is one of the logger's name
}

// logsMeant looks up the logs that a request is about in the state as it is known
// here: when nobody leads, logs are needed most. Without a server they are those of
// all services and of this node's API, as in Cinder, where each API knows itself.
func (s *Server) logsMeant(body object) logsMeant {
	binary, server := body.text("binary"), body.text("server")
	meant := logsMeant{named: strings.HasPrefix(loggerName, body.text("prefix"))}
	self := s.node.Status().Node
	for _, l := range s.allLogs(self) {
		if !slices.Contains([]string{"", "*", l.binary}, binary) {
			continue
		}
		for _, name := range []string{l.host, l.cluster} {
			if name != "" && !slices.Contains(meant.servers, name) {
				meant.servers = append(meant.servers, name)
			}
		}
		if l.at(server, self) {
			meant.logs = append(meant.logs, l)
		}
	}
	return meant
}

// allLogs returns everything that writes to a log, APIs first.
func (s *Server) allLogs(self string) []logged {
	var services []logged
	nodes := []string{self}
	s.node.View(func(state *fsm.State) {
		for n := range state.Nodes() {
			nodes = append(nodes, n.ID)
		}
		for svc := range state.Services() {
			nodes = append(nodes, svc.Node) // which may have registered its services before itself
			services = append(services, logged{binary: fsm.Binary, host: svc.Host, node: svc.Node, cluster: svc.Cluster})
		}
	})
	slices.Sort(nodes)
	var all []logged
	for _, node := range slices.Compact(nodes) {
		all = append(all, logged{binary: apiBinary, host: node, node: node})
	}
	return append(all, services...)
}

// askLogLevels asks the nodes of logs, all at once, for the levels of their logs, and
// has them changed first unless set is [hclog.NoLevel]. The error names those that
// do not answer.
func (s *Server) askLogLevels(ctx context.Context, logs []logged, set hclog.Level) (known map[string]hclog.Level, silent error) {
	ctx, cancel := context.WithTimeout(ctx, logTimeout)
	defer cancel()
	known = map[string]hclog.Level{}
	asked, reasons := map[string]bool{}, map[string]error{}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, l := range logs {
		if asked[l.node] {
			continue
		}
		asked[l.node] = true
		wg.Go(func() {
			level, err := s.cfg.LogLevel(ctx, l.node, set)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				reasons[l.node] = fmt.Errorf("%s: %w", l.node, err)
				return
			}
			known[l.node] = level
		})
	}
	wg.Wait()
	return known, unanswered(reasons)
}

// unanswered returns an error that names the nodes to who asks, and the reasons to
// the log.
func unanswered(reasons map[string]error) error {
	if len(reasons) == 0 {
		return nil
	}
	names := slices.Sorted(maps.Keys(reasons))
	return errors.Join(&fault{status: http.StatusServiceUnavailable, Refusal: fsm.Refusal{
		Code: codeUnreachable, Message: fmt.Sprintf("No answer from %s: whether the level of the log has changed there is not known. "+
			"All other nodes that were meant have it. Repeat the request, which does no harm; "+
			"a node that is started again has the level of its configuration.", strings.Join(names, ", ")),
	}}, errors.Join(slices.Collect(maps.Values(reasons))...))
}

func logLevel(word string) (hclog.Level, error) {
	level, ok := levels()[strings.ToUpper(word)]
	if !ok {
		return level, fieldFault("level", word, prefixInvalid+cut(word)+" is not a valid log level.", slices.Sorted(maps.Keys(levels()))...)
	}
	return level, nil
}

func levelWord(level hclog.Level) string {
	for word, l := range levels() {
		if l == level {
			return word
		}
	}
	return "DEBUG"
}
