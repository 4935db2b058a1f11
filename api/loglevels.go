package api

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// apiBinary is what Cinder calls the process that answers requests.
const apiBinary = "cinder-api"

// loggerName is the name of the one logger whose level can be changed; all others
// follow it.
const loggerName = "lockstep"

// levels are Cinder's words for the levels of a log.
func levels() map[string]hclog.Level {
	return map[string]hclog.Level{"DEBUG": hclog.Debug, "INFO": hclog.Info, "WARNING": hclog.Warn, "ERROR": hclog.Error, "CRITICAL": hclog.Error}
}

// actOnLogs answers PUT os-services/get-log and set-log, for the node that was
// asked: like the processes of Cinder's API, each has a level of its own.
func (s *Server) actOnLogs(x *exchange) error {
	set := x.params.ByName("action") == "set-log"
	schema := "service_get_log"
	if set {
		schema = "service_set_log"
	}
	body, err := s.valid(x, schema)
	if err != nil {
		return err
	}
	node := s.node.Status().Node
	binary, server := body.text("binary"), body.text("server")
	if !slices.Contains([]string{"", "*", apiBinary, "cinder-volume", "cinder-scheduler", "cinder-backup"}, binary) {
		return badRequest("%sInvalid binary: %s", prefixInvalid, cut(binary))
	}
	meant := slices.Contains([]string{"", "*", apiBinary}, binary) && slices.Contains([]string{"", node}, server) &&
		strings.HasPrefix(loggerName, body.text("prefix"))
	if set {
		level, err := logLevel(body.text("level"))
		if err != nil {
			return err
		}
		if meant {
			s.cfg.Logger.SetLevel(level)
		}
		x.empty(http.StatusAccepted, typeHTML)
		return nil
	}
	rows := []any{}
	if slices.Contains([]string{"", "*", apiBinary}, binary) {
		known := map[string]string{}
		if meant {
			known[loggerName] = levelWord(s.cfg.Logger.GetLevel())
		}
		rows = append(rows, map[string]any{"host": node, "binary": apiBinary, "levels": known})
	}
	x.json(http.StatusOK, typeJSON, map[string]any{"log_levels": rows})
	return nil
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
		if l == level && word != "CRITICAL" {
			return word
		}
	}
	return "DEBUG"
}
