package openapi_test

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/lockstep-storage/lockstep/api/openapi"
)

// requests are the schemas of request bodies, with other ones beside them.
func requests(t *testing.T, others fstest.MapFS) fstest.MapFS {
	t.Helper()
	files, err := filepath.Glob("../schemas/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %d schemas, %v", len(files), err)
	}
	all := fstest.MapFS{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(file)] = &fstest.MapFile{Data: content}
	}
	maps.Copy(all, others)
	return all
}

func TestBuildRefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	anything := func(string, string) (openapi.Facts, bool) { return openapi.Facts{}, true }
	text := func(content string) fstest.MapFS { return fstest.MapFS{"metadata.json": {Data: []byte(content)}} }
	for name, tt := range map[string]struct {
		src  openapi.Source
		says string
	}{
		"fits":          {openapi.Source{Requests: requests(t, nil), Route: anything}, ""},
		"no such route": {openapi.Source{Requests: requests(t, nil), Route: func(_, at string) (openapi.Facts, bool) { return openapi.Facts{}, at != "/v3/limits" }}, "get /v3/limits: there is no such route"},
		"no schemas":    {openapi.Source{Requests: fstest.MapFS{}, Route: anything}, "there is no #/components/schemas/request.action_attach"},
		"not JSON":      {openapi.Source{Requests: requests(t, text("{")), Route: anything}, "metadata.json: "},
		"no such part":  {openapi.Source{Requests: requests(t, text(`{"$ref": "common.json#/$defs/none"}`)), Route: anything}, "there is no #/components/schemas/request.common/$defs/none"},
		"not from here": {openapi.Source{Requests: requests(t, text(`{"$ref": "#/$defs/x"}`)), Route: anything}, "there is no #/components/schemas/request.metadata/$defs/x"},
	} {
		_, err := openapi.Build(tt.src)
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want %q", name, err, tt.says)
		}
	}
}

// What the router knows stands at the operation, in both forms of its path.
func TestBuildAddsWhatTheRouterKnows(t *testing.T) {
	t.Parallel()
	doc, err := openapi.Build(openapi.Source{Requests: requests(t, nil), Route: func(string, string) (openapi.Facts, bool) {
		return openapi.Facts{Since: "3.7", Policies: []string{"clusters:get_all"}, Roles: []string{"reader"}}, true
	}})
	if err != nil {
		t.Fatal(err)
	}
	paths, _ := doc["paths"].(map[string]any)
	for path, id := range map[string]string{"/v3/clusters": "get_v3_clusters", "/v3/{project_id}/clusters": "get_v3_clusters_in_project"} {
		item, _ := paths[path].(map[string]any)
		got, _ := item["get"].(map[string]any)
		want := map[string]any{
			"operationId": id, "x-openstack": map[string]any{"min-ver": "3.7"},
			"x-lockstep-policies": []any{"clusters:get_all"}, "x-lockstep-roles": []any{"reader"},
		}
		for key, value := range want {
			if !reflect.DeepEqual(got[key], value) {
				t.Errorf("%s: %s is %v, want %v", path, key, got[key], value)
			}
		}
	}
}
