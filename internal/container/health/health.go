// Package health says how healthy a container is, from the results of its probes.
//
//	starting -> healthy <-> unhealthy
//	starting -> unhealthy
//
// It runs nothing and knows no clock, so that it can be tested alone: package
// container runs the probes when Next says so, and tells Book of their results.
package health

import (
	"slices"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/strata-cloud/strata/internal/errs"
)

// dockerd's defaults.
const (
	defaultInterval      = 30 * time.Second
	defaultTimeout       = 30 * time.Second
	defaultStartInterval = 5 * time.Second
	defaultRetries       = 3
	keptResults          = 5
)

// Check refuses a configuration with which nothing can be probed.
func Check(c *container.HealthConfig) error {
	if c == nil {
		return nil
	}
	for name, d := range map[string]time.Duration{"Interval": c.Interval, "Timeout": c.Timeout, "StartPeriod": c.StartPeriod, "StartInterval": c.StartInterval} {
		if d != 0 && d < time.Millisecond {
			return errs.Invalidf("%s in Healthcheck cannot be less than 1ms", name)
		}
	}
	if c.Retries < 0 {
		return errs.Invalidf("Retries in Healthcheck cannot be negative")
	}
	if len(c.Test) > 0 && !slices.Contains([]string{"NONE", "CMD", "CMD-SHELL"}, c.Test[0]) {
		return errs.Invalidf("Unknown healthcheck type '%s' (expected 'CMD')", c.Test[0])
	}
	return nil
}

// Merge fills what a client leaves open from the image.
func Merge(c, image *container.HealthConfig) *container.HealthConfig {
	if c == nil || image == nil {
		if c == nil {
			c = image
		}
		return c
	}
	out := *c
	if len(out.Test) == 0 {
		out.Test = image.Test
	}
	for to, from := range map[*time.Duration]time.Duration{&out.Interval: image.Interval, &out.Timeout: image.Timeout, &out.StartPeriod: image.StartPeriod, &out.StartInterval: image.StartInterval} {
		if *to == 0 {
			*to = from
		}
	}
	if out.Retries == 0 {
		out.Retries = image.Retries
	}
	return &out
}

// Command is what a probe runs; nil when there are no probes.
func Command(c *container.Config) []string {
	if c.Healthcheck == nil || len(c.Healthcheck.Test) < 2 {
		return nil
	}
	switch test := c.Healthcheck.Test; test[0] {
	case "CMD":
		return test[1:]
	case "CMD-SHELL":
		shell := []string(c.Shell)
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		return append(slices.Clone(shell), test[1])
	}
	return nil
}

// Timeout is how long a probe may take.
func Timeout(c *container.HealthConfig) time.Duration { return or(c.Timeout, defaultTimeout) }

func or(d, fallback time.Duration) time.Duration {
	if d == 0 {
		return fallback
	}
	return d
}

// Next is how long to wait for the next probe of a container that has run for a while.
func Next(c *container.HealthConfig, h *container.Health, ran time.Duration) time.Duration {
	if h.Status == container.Starting && ran < c.StartPeriod {
		return or(c.StartInterval, defaultStartInterval)
	}
	return or(c.Interval, defaultInterval)
}

// Book gives the health after another result, of a container that was started at.
func Book(c *container.HealthConfig, h *container.Health, r container.HealthcheckResult, at time.Time) *container.Health {
	out := *h
	out.Log = append(slices.Clone(h.Log[max(0, len(h.Log)-keptResults+1):]), &r)
	if r.ExitCode == 0 {
		out.FailingStreak, out.Status = 0, container.Healthy
		return &out
	}
	if h.Status == container.Starting && r.Start.Sub(at) < c.StartPeriod {
		return &out // it may fail until then
	}
	retries := c.Retries
	if retries == 0 {
		retries = defaultRetries
	}
	if out.FailingStreak++; out.FailingStreak >= retries {
		out.Status = container.Unhealthy
	}
	return &out
}
