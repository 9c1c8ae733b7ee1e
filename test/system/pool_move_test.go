package system

import (
	"context"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/services"

	"github.com/strata-cloud/strata/internal/wait"
	"github.com/strata-cloud/strata/test/cloud"
	"github.com/strata-cloud/strata/test/hosts"
)

// TestMoves moves a server between two hosts: running, with a log-in that goes on;
// stopped, and back; and at last away from a host that is lost.
func TestMoves(t *testing.T) {
	p := newPool(t, 2)
	if err := p.Route(p.public, p.All[0]); err != nil {
		t.Fatal(err)
	}
	m := &mover{pool: p, stack: &stack{clients: p.clients("strata"), key: cloud.NewKey(t)}}
	m.create(t)
	m.live()
	m.cold()
	m.evacuate()
	m.destroy(t)
	for _, h := range p.All {
		if left := p.machines(h.DataDir); len(left) > 0 {
			t.Errorf("machines are left on %s: %v", h.Name, left)
		}
	}
}

type mover struct {
	*pool
	*stack
}

// host is where the server is.
func (m *mover) host() *hosts.Host {
	m.Helper()
	name := must[*servers.Server](m)(servers.Get(m.Context(), m.compute, m.server).Extract()).Host
	for _, h := range m.All {
		if h.Name == name {
			return h
		}
	}
	m.Fatalf("the server is on %q", name)
	return nil
}

// arrived waits until the server has the status on another host, where alone it runs.
func (m *mover) arrived(from *hosts.Host, status string) {
	m.Helper()
	ctx, cancel := context.WithTimeout(m.Context(), 2*time.Minute)
	defer cancel()
	err := wait.Until(ctx, "the server to be "+status+" elsewhere", 50*time.Millisecond, func(ctx context.Context) (bool, error) {
		s, err := servers.Get(ctx, m.compute, m.server).Extract()
		if err == nil && s.Status == "ERROR" {
			m.Fatalf("the server is in ERROR: %s", s.Fault.Message)
		}
		return err == nil && s.Status == status && s.Host != from.Name && s.TaskState == "", err
	})
	if err != nil {
		m.Fatal(err)
	}
	now := slices.DeleteFunc(m.machines(m.host().DataDir), func(line string) bool { return !strings.HasSuffix(line, " "+m.server) })
	if len(now) != 1 {
		m.Errorf("machines of the server on the new host: %v", now)
	}
}

// live moves the running server and asks it all the while over one connection.
func (m *mover) live() {
	m.Helper()
	from, g := m.host(), m.ssh(m.T)
	g.Must("echo kept > /home/strata/kept && sync")
	before := g.Must("cat /proc/sys/kernel/random/boot_id")
	stop, gap := make(chan struct{}), make(chan time.Duration)
	go func() {
		longest, last := time.Duration(0), time.Now()
		for {
			select {
			case <-stop:
				gap <- longest
				return
			default:
			}
			if _, err := g.Run("true"); err != nil {
				m.Errorf("the log-in broke: %v", err)
				gap <- longest
				return
			}
			longest, last = max(longest, time.Since(last)), time.Now()
		}
	}()
	start := time.Now()
	if err := m.auto(); err != nil {
		m.Fatal(err)
	}
	m.arrived(from, "ACTIVE")
	took := time.Since(start)
	close(stop)
	m.Logf("live migration: %s, longest wait of a command over SSH meanwhile %s", took.Round(time.Millisecond), (<-gap).Round(time.Millisecond))
	// Not beside the others: dropbear ends a channel now and then when two begin and end at once.
	if after := g.Must("cat /proc/sys/kernel/random/boot_id"); after != before {
		m.Errorf("the guest booted anew")
	}
	if slices.ContainsFunc(m.machines(from.DataDir), func(line string) bool { return strings.HasSuffix(line, " "+m.server) }) {
		m.Errorf("the server has processes on %s too", from.Name)
	}
}

// auto asks for a live migration as clients do since 2.25.
func (m *mover) auto() error {
	resp, err := m.compute.Post(m.Context(), m.compute.ServiceURL("servers", m.server, "action"),
		map[string]any{"os-migrateLive": map[string]any{"host": nil, "block_migration": "auto"}}, nil, &gophercloud.RequestOpts{OkCodes: []int{202}})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// cold moves the server as it lies and takes it back, and then moves it for good.
func (m *mover) cold() {
	m.Helper()
	ctx := m.Context()
	for _, keep := range []bool{false, true} {
		from := m.host()
		start := time.Now()
		if err := servers.Migrate(ctx, m.compute, m.server).ExtractErr(); err != nil {
			m.Fatal(err)
		}
		m.arrived(from, "VERIFY_RESIZE")
		m.Logf("cold migration: %s", time.Since(start).Round(time.Millisecond))
		end := servers.RevertResize
		if keep {
			end = servers.ConfirmResize
		}
		if err := end(ctx, m.compute, m.server).ExtractErr(); err != nil {
			m.Fatal(err)
		}
		m.awaitServer(m, m.server, "ACTIVE")
		if back := m.host() == from; back == keep {
			m.Errorf("confirmed %v: the server is on %s, it was on %s", keep, m.host().Name, from.Name)
		}
		if kept := m.ssh(m.T).Must("cat /home/strata/kept"); kept != "kept" {
			m.Errorf("the file says %q", kept)
		}
	}
}

// evacuate loses the server's host, unless that has the control plane: then the
// server goes to the other one first.
func (m *mover) evacuate() {
	m.Helper()
	lost := m.loseHost()
	// The host comes back and must not run what has gone elsewhere.
	if err := m.Join(lost); err != nil {
		m.Fatal(err)
	}
	m.up(lost)
	ctx, cancel := context.WithTimeout(m.Context(), time.Minute)
	defer cancel()
	if err := wait.Until(ctx, "the host that was lost to be rid of the server", 100*time.Millisecond, func(context.Context) (bool, error) {
		return !slices.ContainsFunc(m.machines(lost.DataDir), func(x string) bool { return strings.HasSuffix(x, m.server) }), nil
	}); err != nil {
		m.Fatal(err)
	}
}

// loseHost loses the server's host, and has the server be elsewhere.
func (m *mover) loseHost() (lost *hosts.Host) {
	m.Helper()
	ctx := m.Context()
	if m.host() == m.All[0] {
		if err := m.auto(); err != nil {
			m.Fatal(err)
		}
		m.arrived(m.All[0], "ACTIVE")
	}
	lost = m.host()
	if err := m.Cut(lost); err != nil {
		m.Fatal(err)
	}
	if err := syscall.Kill(m.pid(lost), syscall.SIGKILL); err != nil {
		m.Fatal(err)
	}
	m.awaitNodes(1)
	for _, s := range must[[]services.Service](m)(func() ([]services.Service, error) {
		pages, err := services.List(m.compute, services.ListOpts{Host: lost.Name}).AllPages(ctx)
		if err != nil {
			return nil, err
		}
		return services.ExtractServices(pages)
	}()) {
		if err := services.Update(ctx, m.compute, s.ID, services.UpdateOpts{ForcedDown: true}).Err; err != nil {
			m.Fatal(err)
		}
	}
	start := time.Now()
	resp, err := m.compute.Post(ctx, m.compute.ServiceURL("servers", m.server, "action"), map[string]any{"evacuate": map[string]any{}}, nil, &gophercloud.RequestOpts{OkCodes: []int{200}})
	if err != nil {
		m.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		m.Fatal(err)
	}
	m.arrived(lost, "ACTIVE")
	m.Logf("evacuation: %s", time.Since(start).Round(time.Millisecond))
	m.ssh(m.T).Must("true")
	return lost
}
