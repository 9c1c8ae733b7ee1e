package system

import (
	"syscall"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/monitors"
)

// toBeta has the load balancer on the host that is not a control member.
func (b *balanced) toBeta() {
	b.Helper()
	if b.host() == b.All[0] {
		b.done(loadbalancers.Failover(b.Context(), b.admin.balancer, b.lb.ID).ExtractErr())
	}
	if on := b.host(); on != b.All[1] || len(b.spaces(on)) != 1 {
		b.Fatalf("it is on %s, where there are %v", on.Name, b.spaces(on))
	}
	await(b.T, "it to be away from "+b.All[0].Name, func() bool { return len(b.spaces(b.All[0])) == 0 })
	await(b.T, "the first answer", func() bool { _, err := get(b.Context(), nil, b.fip.FloatingIP+":80"); return err == nil })
}

// agentGone has the load balancer go on while its node's agent is dead.
func (b *balanced) agentGone() {
	b.toBeta()
	if err := syscall.Kill(b.pid(b.All[1]), syscall.SIGKILL); err != nil {
		b.Fatal(err)
	}
	if got := b.tally(9, nil, b.fip.FloatingIP+":80"); got["one"] != 3 || got["two"] != 3 || got["far"] != 3 {
		b.Errorf("without an agent: %v", got)
	}
	b.up(b.All[1])
	b.awaitNodes(2)
	name := "renamed"
	_, err := loadbalancers.Update(b.Context(), b.c.balancer, b.lb.ID, loadbalancers.UpdateOpts{Name: &name}).Extract()
	b.done(err)
	if got := b.tally(9, nil, b.fip.FloatingIP+":80"); got["one"] != 3 || got["two"] != 3 || got["far"] != 3 {
		b.Errorf("with the agent back: %v", got)
	}
	if on := b.host(); on != b.All[1] {
		b.Errorf("it has moved to %s", on.Name)
	}
}

// moves cuts off the host that the load balancer is on.
func (b *balanced) moves() {
	b.toBeta()
	end := b.monitored(monitors.CreateOpts{Type: "TCP"})
	b.are(map[string]string{"one": "ONLINE", "two": "ONLINE", "far": "ONLINE"})
	want, here := map[string]string{}, 0
	for _, name := range []string{"one", "two", "far"} {
		if want[name] = "ERROR"; b.node(name) == b.All[0] {
			want[name] = "ONLINE"
			here++
		}
	}
	since := time.Now()
	if err := b.Cut(b.All[1]); err != nil {
		b.Fatal(err)
	}
	await(b.T, "an answer from the other host", func() bool {
		_, err := get(b.Context(), nil, b.fip.FloatingIP+":80")
		return err == nil && b.host() == b.All[0]
	})
	b.Logf("it answers from %s after %.1f s", b.All[0].Name, time.Since(since).Seconds())
	b.settled()
	b.are(want)
	if got := b.tally(8, nil, b.fip.FloatingIP+":80"); len(got) != here {
		b.Errorf("members there are %v, answers from %v", want, got)
	}
	if err := b.Join(b.All[1]); err != nil {
		b.Fatal(err)
	}
	b.awaitNodes(2)
	b.Logf("the host is back after %.1f s", time.Since(since).Seconds())
	await(b.T, "the host that is back to remove what it had", func() bool { return len(b.spaces(b.All[1])) == 0 })
	b.Logf("it has removed what it had after %.1f s", time.Since(since).Seconds())
	b.are(map[string]string{"one": "ONLINE", "two": "ONLINE", "far": "ONLINE"})
	if got := b.tally(9, nil, b.fip.FloatingIP+":80"); got["one"] != 3 || got["two"] != 3 || got["far"] != 3 {
		b.Errorf("with the host back: %v", got)
	}
	end()
}
