package system

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"

	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/wait"
	"github.com/strata-cloud/strata/test/hosts"
)

// TestFiveMembers loses two of five control members at once, takes one of them out for
// good, and brings the cloud back from a backup, from where it grows again.
func TestFiveMembers(t *testing.T) {
	p := newPoolOf(t, 5, 5, 0)
	first := p.All[0]
	p.awaitMembers(first, 5)
	p.addNetwork(first, "before")
	file := filepath.Join(t.TempDir(), "backup")
	p.strata(first, "backup", file)
	p.addNetwork(first, "later")
	lead, last := p.twoDie()
	by := p.All[slices.IndexFunc(p.All, func(h *hosts.Host) bool { return h != lead && h != last })]
	p.addNetwork(by, "with three")
	p.up(lead)
	p.takenOut(by, last)
	p.awaitMembers(by, 4)
	p.fromBackup(first, file)
	p.grows(first, p.All[1])
}

// addNetwork makes a network by way of a member, which may have to wait for a leader.
func (p *pool) addNetwork(by *hosts.Host, name string) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), 20*time.Second)
	defer cancel()
	c := p.clientsAt(by, "strata").network
	var last error
	err := wait.Until(ctx, "the network "+name, 100*time.Millisecond, func(ctx context.Context) (bool, error) {
		_, last = networks.Create(ctx, c, networks.CreateOpts{Name: name}).Extract()
		return last == nil, nil
	})
	if err != nil {
		p.Fatalf("%v: %v", err, last)
	}
}

// hasNetwork tells whether the network is there.
func (p *pool) hasNetwork(by *hosts.Host, name string) bool {
	p.Helper()
	pages, err := networks.List(p.clientsAt(by, "strata").network, networks.ListOpts{Name: name}).AllPages(p.Context())
	if err != nil {
		p.Fatal(err)
	}
	return len(must[[]networks.Network](p)(networks.ExtractNetworks(pages))) == 1
}

// twoDie kills the leader and one of the last members.
func (p *pool) twoDie() (lead, last *hosts.Host) {
	p.Helper()
	lead, last = p.leader(p.All[0]), p.All[4]
	if lead == last {
		last = p.All[3]
	}
	for _, h := range []*hosts.Host{lead, last} {
		if err := syscall.Kill(p.pid(h), syscall.SIGKILL); err != nil {
			p.Fatal(err)
		}
	}
	return lead, last
}

// takenOut removes a member that is dead; it cannot come back.
func (p *pool) takenOut(by, h *hosts.Host) {
	p.Helper()
	p.strata(by, "node", "remove", h.Name)
	for _, m := range must[[]string](p)(p.memberNames(by)) {
		if m == h.Name {
			p.Errorf("%s is a control member still", m)
		}
	}
}

func (p *pool) memberNames(by *hosts.Host) (names []string, err error) {
	s, err := p.status(by)
	for _, m := range s.Control {
		names = append(names, m.Name)
	}
	return names, err
}

// fromBackup ends all members and starts one with what the backup holds.
func (p *pool) fromBackup(h *hosts.Host, file string) {
	p.Helper()
	for _, other := range p.members() {
		if _, err := p.try(other, "down"); err != nil && !strings.Contains(err.Error(), "not running") {
			p.Error(err)
		}
	}
	p.strata(h, "cluster-reset", "--yes", "--from", file)
	p.up(h)
	if !p.hasNetwork(h, "before") || p.hasNetwork(h, "later") {
		p.Error("the cloud is not as it was when it was saved")
	}
	if names, err := p.memberNames(h); err != nil || len(names) != 1 || names[0] != h.Name {
		p.Errorf("the members are %v (%v)", names, err)
	}
}

// grows has a former member join anew.
func (p *pool) grows(first, h *hosts.Host) {
	p.Helper()
	p.strata(h, "reset", "--yes")
	p.strata(first, "node", "remove", h.Name)
	p.joinAs(h, nodes.RoleControl)
	ctx, cancel := context.WithTimeout(p.Context(), 30*time.Second)
	defer cancel()
	err := wait.Until(ctx, "two members", 100*time.Millisecond, func(context.Context) (bool, error) {
		names, err := p.memberNames(first)
		return len(names) == 2, err
	})
	if err != nil {
		p.Fatal(err)
	}
	p.addNetwork(h, "by the new member")
}
