package rest

import (
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics counts requests; its registry is served at /metrics.
type Metrics struct {
	Registry *prometheus.Registry
	requests *prometheus.HistogramVec
}

// NewMetrics makes the registry with Go's own figures and the request histogram.
func NewMetrics() *Metrics {
	m := &Metrics{Registry: prometheus.NewRegistry(), requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "strata_http_request_duration_seconds", Help: "Time to answer API requests.",
		Buckets: []float64{.001, .005, .02, .1, .5, 2, 10},
	}, []string{"api", "route", "method", "status"})}
	m.Registry.MustRegister(m.requests, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler serves the Prometheus text format.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.Registry, promhttp.HandlerOpts{})
}

func (m *Metrics) observe(api, route, method string, status int, d time.Duration) {
	if m == nil {
		return
	}
	if route == "" {
		route = "unknown"
	}
	m.requests.WithLabelValues(api, route, method, strconv.Itoa(status)).Observe(d.Seconds())
}

func stack() []byte { return debug.Stack() }
