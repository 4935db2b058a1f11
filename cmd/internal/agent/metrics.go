package agent

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-storage/lockstep/driverhost"
)

// replicationCollector shows how the drivers fare, and what they last measured of their
// backends.
type replicationCollector struct{ hosts *driverhost.Host }

var _ prometheus.Collector = (*replicationCollector)(nil)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("lockstep_"+name, help, append([]string{"host"}, labels...), nil)
}

// Describe implements [prometheus.Collector].
func (c *replicationCollector) Describe(ch chan<- *prometheus.Desc) {
	prometheus.DescribeByCollect(c, ch)
}

// Collect implements [prometheus.Collector].
func (c *replicationCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for host, driver := range c.hosts.Drivers() {
		ch <- prometheus.MustNewConstMetric(describe("driver_opened_total", "Drivers that were opened, that is, started."),
			prometheus.CounterValue, float64(driver.Opened), host)
		stuck := 0.0
		if driver.Stuck {
			stuck = 1
		}
		gauge(describe("driver_stuck", "1 while processes of the driver cannot be ended: power the node off."), stuck, host)
	}
	for host, stats := range c.hosts.Stats() {
		gauge(describe("backend_capacity_gib", "Size of the site in use."), stats.TotalCapacityGiB, host)
		gauge(describe("backend_free_gib", "Free space of the site in use."), stats.FreeCapacityGiB, host)
		gauge(describe("backend_measured_seconds", "When the backend was last measured, since the epoch."),
			float64(stats.At.UnixMilli())/1000, host)
		for _, target := range stats.Targets {
			healthy := 0.0
			if target.Healthy {
				healthy = 1
			}
			gauge(describe("replication_healthy", "1 while the target follows the site in use.", "backend_id"), healthy, host, target.BackendID)
			if target.Lag >= 0 {
				gauge(describe("replication_lag_seconds", "Age of the oldest write that the target may lack; absent if unknown.", "backend_id"),
					target.Lag.Seconds(), host, target.BackendID)
			}
		}
	}
}
