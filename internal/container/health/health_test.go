package health

import (
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/google/go-cmp/cmp"
)

func TestBook(t *testing.T) {
	start := time.Unix(1000, 0)
	cfg := &container.HealthConfig{Retries: 2, StartPeriod: 10 * time.Second, StartInterval: time.Second, Interval: time.Minute}
	h := &container.Health{Status: container.Starting}
	for i, c := range []struct {
		after  int
		code   int
		status container.HealthStatus
		streak int
		next   time.Duration
	}{
		{1, 1, container.Starting, 0, time.Second},
		{9, 1, container.Starting, 0, time.Second},
		{11, 1, container.Starting, 1, time.Minute},
		{12, 0, container.Healthy, 0, time.Minute},
		{13, 1, container.Healthy, 1, time.Minute},
		{14, -1, container.Unhealthy, 2, time.Minute},
		{15, 1, container.Unhealthy, 3, time.Minute},
		{16, 0, container.Healthy, 0, time.Minute},
	} {
		ran := time.Duration(c.after) * time.Second
		before := *h
		next := Book(cfg, h, container.HealthcheckResult{Start: start.Add(ran), ExitCode: c.code}, start)
		if diff := cmp.Diff(&before, h); diff != "" {
			t.Errorf("step %d changes what readers may have: %s", i, diff)
		}
		h = next
		if h.Status != c.status || h.FailingStreak != c.streak || len(h.Log) != min(i+1, keptResults) || h.Log[len(h.Log)-1].ExitCode != c.code {
			t.Errorf("step %d: %s, %d failures, %d results", i, h.Status, h.FailingStreak, len(h.Log))
		}
		if got := Next(cfg, h, ran); got != c.next {
			t.Errorf("step %d: the next after %s, want %s", i, got, c.next)
		}
	}
}

func TestCommand(t *testing.T) {
	for _, c := range []struct {
		test, shell, want []string
	}{
		{nil, nil, nil},
		{[]string{"NONE"}, nil, nil},
		{[]string{"CMD", "a", "b"}, nil, []string{"a", "b"}},
		{[]string{"CMD-SHELL", "a b"}, nil, []string{"/bin/sh", "-c", "a b"}},
		{[]string{"CMD-SHELL", "a"}, []string{"/bin/bash", "-ec"}, []string{"/bin/bash", "-ec", "a"}},
	} {
		got := Command(&container.Config{Healthcheck: &container.HealthConfig{Test: c.test}, Shell: c.shell})
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%v: %s", c.test, diff)
		}
	}
}

func TestMergeAndCheck(t *testing.T) {
	image := &container.HealthConfig{Test: []string{"CMD", "probe"}, Interval: time.Second, Retries: 7}
	got := Merge(&container.HealthConfig{Interval: time.Minute}, image)
	if diff := cmp.Diff(&container.HealthConfig{Test: []string{"CMD", "probe"}, Interval: time.Minute, Retries: 7}, got); diff != "" {
		t.Error(diff)
	}
	if Merge(nil, image) != image || Merge(nil, nil) != nil {
		t.Error("an image's own is not taken")
	}
	for _, bad := range []container.HealthConfig{{Interval: 1}, {Retries: -1}, {Test: []string{"SHELL", "x"}}} {
		if Check(&bad) == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
	if err := Check(image); err != nil {
		t.Error(err)
	}
}
