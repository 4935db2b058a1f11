package file_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/driverhost/file"
)

func TestConfigErrorsNameTheField(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*file.Config)
		want   string
	}{
		"no sites":         {func(c *file.Config) { c.Sites = nil }, `sites: there is no "default"`},
		"bad backend id":   {func(c *file.Config) { c.Sites["../b"] = "/b" }, `sites: "../b" is not a backend id`},
		"relative path":    {func(c *file.Config) { c.Sites[secondary] = "b" }, `sites.site-b: "b" is not an absolute path`},
		"one in the other": {func(c *file.Config) { c.Sites[secondary] = "/a/b/" }, `sites.site-b: "/a/b" and "/a" of default`},
		"same directory":   {func(c *file.Config) { c.Sites[secondary] = "/a/" }, `sites.site-b: "/a" and "/a" of default`},
		"no interval":      {func(c *file.Config) { c.ReplicationInterval = 0 }, "replication_interval: 0s"},
		"small blocks":     {func(c *file.Config) { c.BlockSize = 512 }, "block_size: 512 is not a power of two from 4096"},
		"odd blocks":       {func(c *file.Config) { c.BlockSize = 5000 }, "block_size: 5000"},
		"large blocks":     {func(c *file.Config) { c.BlockSize = 1 << 30 }, "block_size: 1073741824"},
		"negative timeout": {func(c *file.Config) { c.LastSyncTimeout = -1 }, "last_sync_timeout: -1ns"},
		"negative delay":   {func(c *file.Config) { c.PromoteDelay = -time.Second }, "promote_delay: -1s"},
		"nothing":          {func(*file.Config) {}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := file.DefaultConfig()
			cfg.Sites = map[string]string{primary: "/a", secondary: "/b"}
			tt.change(&cfg)
			_, err := file.New(cfg)
			if (err == nil) != (tt.want == "") || err != nil && !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("error is %v, want %q", err, tt.want)
			}
		})
	}
}

func TestConfigFromYAML(t *testing.T) {
	t.Parallel()
	cfg := file.DefaultConfig()
	text := "sites: {default: /a, site-b: /b}\nreplication_interval: 250ms\nblock_size: 4096\nlast_sync_timeout: 2s\npromote_delay: 3s\n"
	must(t, yaml.UnmarshalWithOptions([]byte(text), &cfg, yaml.Strict()))
	must(t, cfg.Validate())
	if cfg.ReplicationInterval != 250*time.Millisecond || cfg.PromoteDelay != 3*time.Second || cfg.Sites[secondary] != "/b" {
		t.Errorf("configuration is %+v", cfg)
	}
}

func TestBackendFromOptions(t *testing.T) {
	t.Parallel()
	decoding := func(text string) func(any) error {
		return func(into any) error { return yaml.UnmarshalWithOptions([]byte(text), into, yaml.Strict()) }
	}
	dir := t.TempDir()
	req := driverhost.OpenRequest{Node: "n", Host: "n@files", ActiveBackendID: file.Primary}
	d, err := file.Open(t.Context(), req, decoding(fmt.Sprintf("sites: {default: %s/a, site-c: %[1]s/c, site-b: %[1]s/b}", dir)))
	must(t, err)
	must(t, d.Close())
	for _, text := range []string{"sites: {default: /a}\nreplication_intervall: 1s", "sites: {site-b: /b}"} {
		if _, err := file.Open(t.Context(), req, decoding(text)); err == nil {
			t.Errorf("options were taken: %s", text)
		}
	}
}
