package agent

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/hashicorp/go-hclog"

	"github.com/lockstep-storage/lockstep/fsm"
	"github.com/lockstep-storage/lockstep/raftnode"
)

// methodLogLevel is the question what the level of the log is, of the node that is
// asked. The question is the level to set first, or nothing; the answer a level. It
// needs neither a leader nor a disk.
const methodLogLevel = "log_level"

// logLevels are the levels of the logs of all nodes. The agent has one logger, which
// everything in it writes to, so each node has one level. It lasts until the end of
// the process: the next one begins with that of its configuration.
type logLevels struct {
	node   string // this one
	logger hclog.Logger
	nodes  interface {
		Peers() ([]raftnode.PeerStatus, error)
	}
	peers raftnode.Asker
}

// of asks a node. See [api.Config.LogLevel].
func (l *logLevels) of(ctx context.Context, node string, set hclog.Level) (hclog.Level, error) {
	if node == l.node {
		return l.here(set), nil
	}
	nodes, err := l.nodes.Peers()
	if err != nil {
		return hclog.NoLevel, err
	}
	for _, p := range nodes {
		if p.ID == node && p.API != "" {
			return l.ask(ctx, p, set)
		}
	}
	return hclog.NoLevel, fmt.Errorf("the address of node %q is not known", node)
}

func (l *logLevels) ask(ctx context.Context, p raftnode.PeerStatus, set hclog.Level) (level hclog.Level, err error) {
	word := ""
	if set != hclog.NoLevel {
		word = set.String()
	}
	question, err := json.Marshal(word)
	if err != nil {
		return hclog.NoLevel, fmt.Errorf("level %q: %w", word, err)
	}
	answer, err := l.peers.Ask(ctx, p.ID, p.API, methodLogLevel, question)
	if err == nil {
		err = json.Unmarshal(answer, &word)
	}
	if err != nil {
		return hclog.NoLevel, err
	}
	return hclog.LevelFromString(word), nil
}

// here returns the level of this node's log, once it is as it should be. The log
// says so, whichever of both levels is the quieter.
func (l *logLevels) here(set hclog.Level) hclog.Level {
	was := l.logger.GetLevel()
	if set != hclog.NoLevel && set != was {
		l.logger.SetLevel(min(set, was))
		l.logger.Warn("the level of the log changes", "from", was, "to", set)
		l.logger.SetLevel(set)
	}
	return l.logger.GetLevel()
}

// answer answers the question of another node.
func (l *logLevels) answer(body []byte) ([]byte, error) {
	var word string
	if err := json.Unmarshal(body, &word); err != nil {
		return nil, fmt.Errorf("question: %w: %w", fsm.ErrInvalid, err)
	}
	set := hclog.LevelFromString(word)
	if word != "" && set == hclog.NoLevel {
		return nil, fmt.Errorf("level %q is not known to this release: %w", word, fsm.ErrInvalid)
	}
	return json.Marshal(l.here(set).String())
}
