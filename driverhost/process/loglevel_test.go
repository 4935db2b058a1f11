package process_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/lockstep-storage/lockstep/driverhost/process"
)

// A level that is changed while the driver works reaches it with the next renewal.
func TestTheDriverFollowsTheLevelOfTheLog(t *testing.T) {
	t.Parallel()
	open, err := process.New(config(t.TempDir(), ""))
	if err != nil {
		t.Fatal(err)
	}
	l, lines := leased(time.Minute), &log{}
	logger := hclog.New(&hclog.LoggerOptions{Name: "agent", Level: hclog.Info, Output: lines})
	d, err := open(t.Context(), request(l, nil, logger))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	says := func(id string) bool { return strings.Contains(lines.String(), "asked for a volume: id="+id) }
	if err := create(t.Context(), d, "quiet"); err != nil {
		t.Error(err)
	}
	logger.SetLevel(hclog.Debug)
	l.renew(time.Minute)
	eventually(t, "what the driver says at the level debug", func() bool {
		return create(t.Context(), d, "loud") == nil && says("loud")
	})
	if says("quiet") {
		t.Error("the driver had the level debug before")
	}
	logger.SetLevel(hclog.Warn)
	l.renew(time.Minute)
	before := 0
	eventually(t, "silence", func() bool {
		was := before
		before = strings.Count(lines.String(), "asked for")
		return create(t.Context(), d, "silent") == nil && was == before
	})
}
