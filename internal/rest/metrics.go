package rest

import (
	"io"
	"net/http"
	"runtime/debug"
	"slices"
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

// Count counts the requests of a handler that is no API of the kit.
func (m *Metrics) Count(api string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, start := &counted{ResponseWriter: w, status: http.StatusOK}, time.Now()
		method := r.Method
		if !slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}, method) {
			method = "other" // anybody can send any word
		}
		defer func() { m.observe(api, "all", method, c.status, time.Since(start)) }()
		next.ServeHTTP(c, r)
	})
}

// counted notes the status of an answer.
type counted struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (c *counted) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

// ReadFrom implements io.ReaderFrom: the kernel can send a file.
func (c *counted) ReadFrom(src io.Reader) (int64, error) {
	return io.Copy(c.ResponseWriter, src)
}

// Unwrap is for http.ResponseController.
func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func stack() []byte { return debug.Stack() }
