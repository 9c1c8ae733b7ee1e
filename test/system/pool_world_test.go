package system

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"

	"github.com/strata-cloud/strata/internal/guest"
	"github.com/strata-cloud/strata/internal/guest/guesttest"
	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/region"
	"github.com/strata-cloud/strata/internal/wait"
	"github.com/strata-cloud/strata/test/cloud"
	"github.com/strata-cloud/strata/test/hosts"
)

// pool is a cloud of several hosts.
type pool struct {
	*testing.T
	*hosts.Hosts
	public  string
	control int      // how many of the hosts, the first ones, are control members
	disks   []string // mounted for data directories
}

// newPool makes n hosts and starts a cloud on them, the first with the control plane.
func newPool(t *testing.T, n int) *pool {
	t.Helper()
	return newPoolOn(t, n, 0)
}

// newPoolOn is newPool with a disk of so many MiB for the last host; 0: the machine's.
func newPoolOn(t *testing.T, n, size int) *pool {
	t.Helper()
	return newPoolOf(t, n, 1, size)
}

// newPoolOf makes n hosts, the first of them control members.
func newPoolOf(t *testing.T, n, control, size int) *pool {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("hosts need root")
	}
	dir := must[string](t)(os.MkdirTemp("", "strata-pool-"))
	network := must[string](t)(hosts.FreeNetwork())
	p := &pool{T: t, Hosts: must[*hosts.Hosts](t)(hosts.Of(dir, n, network)), control: control, public: "198.18." + strings.Split(network, ".")[2] + ".0/24"}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			p.logs()
		}
		for _, h := range p.All {
			p.strata(h, "reset", "--yes")
		}
		if err := p.Remove(); err != nil {
			t.Error(err)
		}
		for _, disk := range p.disks {
			if err := syscall.Unmount(disk, 0); err != nil {
				t.Errorf("%v; unmounting it lazily: %v", err, syscall.Unmount(disk, syscall.MNT_DETACH))
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := p.Make(); err != nil {
		t.Fatal(err)
	}
	if size > 0 {
		disk := p.All[n-1].DataDir
		if err := os.Mkdir(disk, 0o711); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=711", size)); err != nil {
			t.Fatal(err)
		}
		p.disks = append(p.disks, disk)
	}
	first := p.All[0]
	p.up(first)
	for i, h := range p.All[1:] {
		role := nodes.RoleNode
		if i+1 < control {
			role = nodes.RoleControl
		}
		p.joinAs(h, role)
	}
	p.awaitNodes(n)
	return p
}

// up starts the program on a host that is or becomes a control member, or has joined.
func (p *pool) up(h *hosts.Host) {
	p.Helper()
	if !slices.Contains(p.members(), h) {
		p.strata(h, "up", "--detach")
		return
	}
	p.strata(h, "up", "--detach", "--listen", h.Addr+":5000", "--cluster-listen", h.Addr+":5001", "--name", h.Name, "--public-cidr", p.public)
}

// members are the hosts of control members.
func (p *pool) members() []*hosts.Host { return p.All[:p.control] }

// strata runs a command of the program on a host and gives what it printed.
func (p *pool) strata(h *hosts.Host, args ...string) string {
	p.Helper()
	out, err := p.try(h, args...)
	if err != nil {
		p.Error(err)
	}
	return out
}

func (p *pool) try(h *hosts.Host, args ...string) (string, error) {
	cmd := h.Command(context.WithoutCancel(p.Context()), cloud.Program(p.T), append([]string{"--data-dir", h.DataDir}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("strata %s on %s: %w: %s", strings.Join(args, " "), h.Name, err, errs.String())
	}
	return out.String(), nil
}

// image puts the tiny image into the cloud.
func (p *pool) image() {
	p.Helper()
	guesttest.Tiny(p.T).Offer(p.T, p.All[0].DataDir)
	p.strata(p.All[0], "image", "build", guest.KindTiny)
}

func (p *pool) logs() {
	for _, h := range p.All {
		if raw, err := os.ReadFile(filepath.Join(h.DataDir, "strata.log")); err == nil {
			p.Logf("the end of the log of %s:\n%s", h.Name, raw[max(0, len(raw)-4000):])
		}
	}
}

// token makes a token for nodes.
func (p *pool) token() region.Token {
	p.Helper()
	return p.tokenFor(nodes.RoleNode)
}

func (p *pool) tokenFor(role string) region.Token {
	p.Helper()
	var t region.Token
	if err := json.Unmarshal([]byte(p.strata(p.All[0], "token", "create", "--role", role, "--output", "json")), &t); err != nil {
		p.Fatal(err)
	}
	return t
}

func (p *pool) joinAs(h *hosts.Host, role string) {
	p.Helper()
	t := p.tokenFor(role)
	p.strata(h, "join", t.Address, "--token", t.Token, "--name", h.Name, "--detach")
}

// awaitNodes waits until so many nodes are connected.
func (p *pool) awaitNodes(n int) {
	p.Helper()
	p.awaitNodesAt(p.All[0], n)
}

// awaitNodesAt is awaitNodes by what a control member says.
func (p *pool) awaitNodesAt(h *hosts.Host, n int) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), 30*time.Second)
	defer cancel()
	err := wait.Until(ctx, fmt.Sprintf("%d nodes to be connected", n), 50*time.Millisecond, func(context.Context) (bool, error) {
		var list []region.NodeStatus
		if err := json.Unmarshal([]byte(p.strata(h, "node", "list", "--output", "json")), &list); err != nil {
			return false, err
		}
		here := 0
		for _, x := range list {
			if x.Connected {
				here++
			}
		}
		return here == n, nil
	})
	if err != nil {
		p.Fatal(err)
	}
}

// clients logs in to an entry of the first host's clouds.yaml.
func (p *pool) clients(name string) clients {
	p.Helper()
	return p.clientsAt(p.All[0], name)
}

// clientsAt logs in to an entry of a control member's clouds.yaml.
func (p *pool) clientsAt(h *hosts.Host, name string) clients {
	p.Helper()
	all := must[*region.Clouds](p)(region.ReadClouds(filepath.Join(h.DataDir, region.CloudsFile)))
	entry := all.Clouds[name]
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(must[[]byte](p)(os.ReadFile(entry.CACert)))
	client := must[*gophercloud.ProviderClient](p)(openstack.NewClient(entry.Auth["auth_url"]))
	client.HTTPClient = http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	err := openstack.Authenticate(p.Context(), client, gophercloud.AuthOptions{IdentityEndpoint: entry.Auth["auth_url"], Username: entry.Auth["username"], Password: entry.Auth["password"],
		DomainName: entry.Auth["user_domain_name"], TenantName: entry.Auth["project_name"], AllowReauth: true})
	if err != nil {
		p.Fatal(err)
	}
	return clientsOf(p, client)
}

// pid is the process that has the host's data directory open.
func (p *pool) pid(h *hosts.Host) int {
	p.Helper()
	var pid int
	if _, err := fmt.Sscan(string(must[[]byte](p)(os.ReadFile(filepath.Join(h.DataDir, "store", "lock")))), &pid); err != nil {
		p.Fatal(err)
	}
	return pid
}
