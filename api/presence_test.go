package api_test

import (
	"net/http"
	"testing"
	"time"
)

// TestHeartbeats is about times that no log entry holds.
func TestHeartbeats(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := newClient(t, newServer(t, n))
	at := func(path string, place ...any) time.Time {
		t.Helper()
		text, _ := c.do(http.MethodGet, path, nil).at(t, place...).(string)
		when, err := time.Parse("2006-01-02T15:04:05.000000", text)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return when
	}
	clusterBeat := func() time.Time { return at("/v3/clusters/"+clusterAA, "cluster", "last_heartbeat") }
	serviceBeat := func() time.Time { return at("/v3/os-services?host=vol1@aa", "services", 0, "updated_at") }
	clusterRow := func() time.Time { return at("/v3/clusters/"+clusterAA, "cluster", "updated_at") }
	row, first := clusterRow(), time.Now().UTC().Truncate(time.Microsecond).Add(time.Hour)
	for host, after := range map[string]time.Duration{"vol1@aa": 0, "vol2@aa": time.Minute, "vol3@aa": time.Second} {
		n.seen(host, first.Add(after))
	}
	if got := clusterBeat(); !got.Equal(first.Add(time.Minute)) {
		t.Errorf("the cluster's last heartbeat is %v, want that of the last member, %v", got, first.Add(time.Minute))
	}
	if got := serviceBeat(); !got.Equal(first) {
		t.Errorf("the service was updated at %v, want %v", got, first)
	}
	if got := clusterRow(); !got.Equal(row) {
		t.Errorf("a heartbeat has updated the cluster at %v", got)
	}
	n.seen("vol1@aa", first.Add(-24*time.Hour))
	if got := serviceBeat(); got.Before(row.Add(-time.Hour)) {
		t.Errorf("the service was updated at %v, before it was registered", got)
	}
}
