package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/lockstep-storage/lockstep/fsm"
)

// metrics are what the server counts itself.
type metrics struct {
	requests *prometheus.HistogramVec
	streams  prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "lockstep_http_request_duration_seconds",
			Help:    "Time to answer a request; that of a blocking read includes the wait.",
			Buckets: []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"method", "route", "code"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "lockstep_event_streams", Help: "Event streams that are open.",
		}),
	}
	return m, errors.Join(reg.Register(m.requests), reg.Register(m.streams))
}

func (m *metrics) observe(x *exchange, took time.Duration) {
	m.requests.WithLabelValues(methodLabel(x.r.Method), x.route, strconv.Itoa(x.status)).Observe(took.Seconds())
}

// methodLabel keeps methods that a client made up out of the metrics.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}

// showMetrics answers with the metrics of the process and with those that follow
// from the state at this moment.
func (s *Server) showMetrics(x *exchange) error {
	ctx, cancel := context.WithTimeout(x.r.Context(), presenceTimeout)
	defer cancel()
	up, err := s.node.Presence(ctx)
	now := prometheus.NewRegistry()
	if regErr := now.Register(&snapshotCollector{server: s, up: up, known: err == nil}); regErr != nil {
		return regErr
	}
	x.limitWrite()
	promhttp.HandlerFor(prometheus.Gatherers{s.cfg.Metrics, now}, promhttp.HandlerOpts{}).ServeHTTP(x, x.r)
	return nil
}

// snapshotCollector collects what follows from the state when it is asked.
type snapshotCollector struct {
	server *Server
	up     map[string]Presence
	known  bool // whether up is
}

// Describe implements [prometheus.Collector]. Sending nothing makes it unchecked:
// which clusters there are is known only later.
func (c *snapshotCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (c *snapshotCollector) Collect(out chan<- prometheus.Metric) {
	st := c.server.node.Status()
	gauge(out, "lockstep_build_info", "Always 1; the version is a label.", 1, "version", c.server.cfg.Version)
	gauge(out, "lockstep_raft_applied_index", "Index of the last log entry applied here.", float64(st.AppliedIndex))
	gauge(out, "lockstep_raft_commit_index", "Index of the last log entry known to be committed.", float64(st.CommitIndex))
	gauge(out, "lockstep_raft_term", "Raft's term.", float64(st.Term))
	gauge(out, "lockstep_raft_leading", "1 if this node leads.", oneIf(st.Leader == st.Node))
	gauge(out, "lockstep_raft_leader_known", "1 if this node knows a leader.", oneIf(st.Leader != ""))
	gauge(out, "lockstep_disk_stalled", "1 while the disk under the data directory does not answer.", oneIf(!st.Disk.StalledSince.IsZero()))
	gauge(out, "lockstep_disk_free_bytes", "Free space under the data directory.", float64(st.Disk.FreeBytes))
	gauge(out, "lockstep_disk_reserve_bytes", "With less than that free nothing new is taken.", float64(st.Disk.ReserveBytes))
	gauge(out, "lockstep_ready", "1 if the node is ready to serve.", oneIf(c.server.whyNotReady() == nil))
	c.server.node.View(func(state *fsm.State) {
		gauge(out, "lockstep_volumes", "Volumes in the deployment.", float64(state.VolumeCount()))
		c.clusters(out, state)
		c.failovers(out, state)
	})
}

func (c *snapshotCollector) clusters(out chan<- prometheus.Metric, state *fsm.State) {
	for cl := range state.Clusters() {
		gauge(out, "lockstep_cluster_epoch", "Committed switches of a cluster, plus one.", float64(cl.Epoch), "cluster", cl.Name)
		gauge(out, "lockstep_cluster_frozen", "1 if the cluster is frozen.", oneIf(cl.Frozen), "cluster", cl.Name)
		gauge(out, "lockstep_cluster_held", "1 if a failed failover keeps the gates closed.", oneIf(cl.Held), "cluster", cl.Name)
		gauge(out, "lockstep_cluster_replication_status", "Always 1; the status is a label.", 1,
			"cluster", cl.Name, "status", string(cl.ReplicationStatus), "active_backend_id", cl.ActiveBackendID)
		counts := map[memberState]int{}
		for svc := range state.Members(cl.Name) {
			counts[stateOf(&cl, &svc, c.up[svc.Host].Up)]++
		}
		if !c.known {
			continue // which services are up is the leader's to say
		}
		for _, m := range []memberState{memberCurrent, memberBehind, memberError, memberDown} {
			gauge(out, "lockstep_cluster_members", "Members of a cluster by state.", float64(counts[m]), "cluster", cl.Name, "state", string(m))
		}
	}
}

func (c *snapshotCollector) failovers(out chan<- prometheus.Metric, state *fsm.State) {
	counts := map[fsm.Phase]int{}
	for f := range state.Failovers(0) {
		counts[f.Phase]++
	}
	for _, phase := range []fsm.Phase{fsm.Draining, fsm.Promoting, fsm.Switching, fsm.Done, fsm.Failed, fsm.Aborted} {
		gauge(out, "lockstep_failovers", "Failovers by phase; of the ended ones, those still on record.", float64(counts[phase]), "phase", string(phase))
	}
}

// gauge sends one value; labels are names and values in turn.
func gauge(out chan<- prometheus.Metric, name, help string, value float64, labels ...string) {
	var names, values []string
	for i := 0; i+1 < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	desc := prometheus.NewDesc(name, help, names, nil)
	metric, err := prometheus.NewConstMetric(desc, prometheus.GaugeValue, value, values...)
	if err != nil {
		metric = prometheus.NewInvalidMetric(desc, err)
	}
	out <- metric
}

func oneIf(yes bool) float64 { //nolint:revive // it is what the flag looks like in a metric
	if yes {
		return 1
	}
	return 0
}
