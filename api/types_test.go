package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestTypes(t *testing.T) {
	t.Parallel()
	c := newClient(t, newServer(t, newNode(t)))
	createReplicatedType(t, c)
	wantStatus(t, c.do(http.MethodPost, "/v3/types", obj{"volume_type": obj{"name": "secret", "os-volume-type-access:is_public": false}}), http.StatusOK)
	for query, want := range map[string][]any{"": {"replicated", "__DEFAULT__"}, "?is_public=false": {"secret"}, "?is_public=None": {"secret", "replicated", "__DEFAULT__"}} {
		got := c.do(http.MethodGet, "/v3/types"+query, nil)
		for i := range 4 {
			name := got.at(t, "volume_types", i, "name")
			if i < len(want) && name != want[i] || i >= len(want) && name != nil {
				t.Errorf("%q: row %d is %v, want %v", query, i, name, want)
			}
		}
	}
	all := c.do(http.MethodGet, "/v3/types", nil)
	path := fmt.Sprint("/v3/types/", all.at(t, "volume_types", 0, "id"))
	if got := c.do(http.MethodGet, path+"/extra_specs", nil); got.at(t, "extra_specs", "replication_enabled") != "<is> True" {
		t.Errorf("got %s", got.body)
	}
	wantStatus(t, c.do(http.MethodDelete, path, nil), http.StatusAccepted)
	wantStatus(t, c.do(http.MethodGet, path, nil), http.StatusNotFound)
	if got := c.do(http.MethodGet, "/v3/extensions", nil); got.at(t, "extensions", 0, "alias") != "os-vol-image-meta" {
		t.Errorf("got %s", got.body)
	}
}

// TestMessagesShowValuesAsPython is about texts that scripts match.
func TestMessagesShowValuesAsPython(t *testing.T) {
	t.Parallel()
	c := newClient(t, newServer(t, newNode(t)))
	for value, want := range map[string]string{
		`[1, 2.5, true, null]`:       `[1, 2.5, True, None]`,
		`{"b": "x", "a": []}`:        `{'b': 'x', 'a': []}`,
		`["it's"]`:                   `["it's"]`,
		`["it's \"so\""]`:            `['it\'s "so"']`,
		`["a\\b\n\r\t\u0001\u2028"]`: `['a\\b\n\r\t\x01\u2028']`,
		`["\ud83d\ude00é"]`:          `['😀é']`,
	} {
		got := c.do(http.MethodPut, "/v3/os-services/freeze", `{"cluster": `+value+`}`)
		if want := "Value: " + want + ". " + want + " is not of type 'string', 'null'"; !strings.HasSuffix(got.message(t), want) {
			t.Errorf("%s:\ngot  %s\nwant %s", value, got.message(t), want)
		}
	}
}
