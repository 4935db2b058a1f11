package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// placed compares a list of the volumes of one host. Which member makes a volume was
// the scheduler's choice when this was recorded, and is up to who is asked here: so
// what is wanted is not the recorded rows, but those of the list without the filter
// whose volume is at that host, for every host there is. Status and headers are
// compared as in any other exchange.
func (r *replayer) placed(ctx context.Context, x exchange, got, want answer) (diffs []string, err error) {
	path, query, _ := strings.Cut(x.Request.Path, "?")
	asked, err := url.ParseQuery(query)
	if err != nil {
		return nil, err
	}
	var hosts map[string]string
	if hosts, err = r.hostsOf(ctx); err != nil {
		return nil, err
	}
	all, err := r.d.send(ctx, x.Request.Method, path, x.Request.Headers, nil)
	if err != nil {
		return nil, err
	}
	wanted := func(host string, of answer) (answer, error) {
		var list map[string][]map[string]any
		if err := decode(all.Body, &list); err != nil {
			return of, fmt.Errorf("%s: %w", path, err)
		}
		list["volumes"] = slices.DeleteFunc(list["volumes"], func(row map[string]any) bool { return hosts[fmt.Sprint(row["id"])] != host })
		body, err := json.Marshal(list)
		of.Body = string(body)
		return of, err
	}
	if want, err = wanted(asked.Get("host"), want); err != nil {
		return nil, err
	}
	diffs = compareAnswers(r.ids, got, want)
	for _, host := range slices.Compact(slices.Sorted(maps.Values(hosts))) {
		also, err := r.d.send(ctx, x.Request.Method, path+"?host="+url.QueryEscape(host), x.Request.Headers, nil)
		if err != nil {
			return nil, err
		}
		expected, err := wanted(host, also)
		if err != nil {
			return nil, err
		}
		for _, diff := range compareAnswers(r.ids, also, expected) {
			diffs = append(diffs, host+": "+diff)
		}
	}
	return diffs, nil
}

// isPlaced reports whether an exchange lists the volumes of one host.
func isPlaced(x exchange) bool {
	path, query, _ := strings.Cut(x.Request.Path, "?")
	return x.Request.Method == http.MethodGet && strings.HasPrefix(query, "host=") && (strings.HasSuffix(path, "/volumes") || strings.HasSuffix(path, "/volumes/detail"))
}

// hostsOf returns where every volume is, by its id.
func (r *replayer) hostsOf(ctx context.Context) (map[string]string, error) {
	var list struct {
		Volumes []struct {
			ID   string `json:"id"`
			Host string `json:"os-vol-host-attr:host"`
		} `json:"volumes"`
	}
	if err := r.d.look(ctx, "/v3/"+project+"/volumes/detail", &list); err != nil {
		return nil, err
	}
	hosts := map[string]string{}
	for _, v := range list.Volumes {
		hosts[v.ID], _, _ = strings.Cut(v.Host, "#")
	}
	return hosts, nil
}
