package region

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodes"
)

// Defaults of the command line.
const (
	DefaultListen     = "127.0.0.1:5000"
	DefaultPublicCIDR = "172.24.4.0/24"
	ClusterPort       = "5001" // where machines join, unless another is chosen
	apiPort           = "5000" // of a control member's APIs, likewise
)

// Config says where a region lives and what it shows to the world.
type Config struct {
	DataDir    string
	Listen     string // host:port of the APIs
	Cluster    string // host:port for machines that join; "": none can
	Node       string // this machine's name in the pool. Default: its host name
	PublicCIDR string // of the external network; the first address is the host's
	Version    string
	Log        *slog.Logger
	// QEMUUser is the uid and gid of guests' processes. Default 64055.
	QEMUUser int
	// VolumePools are directories for more pools of volumes, by the pools' names. One
	// that was given once is kept.
	VolumePools map[string]string
	// CephPool is USER@POOL of the Ceph cluster that CephConf describes, for volumes that
	// every machine with the same pool reaches. One that was given once is kept.
	CephPool, CephConf string
	// ProviderNetworks are devices of this machine on the provider's (physical) networks
	// of these names; "public" is the one that leads outside. They are kept; no device
	// takes a network away.
	ProviderNetworks map[string]string
	// StopGrace is how long requests under way may take at shutdown. Default 5 s.
	StopGrace time.Duration
	// ReclaimAfter is how long a deleted server can be restored; 0: not at all.
	ReclaimAfter time.Duration

	// Containers says whether this machine has a container engine: auto, on or off. Default auto.
	Containers string
	// ContainersListen is host:port for docker's clients with a certificate; "": there is none.
	ContainersListen string
	// ContainersRemap is whose ids containers' users have on this machine: default, USER or
	// USER:GROUP; "": their own.
	ContainersRemap string

	// RegistryMirrors are the addresses of registries that the region's registry mirrors, by
	// their names. They are kept; no address takes a mirror away.
	RegistryMirrors map[string]string
	// RegistryMirrorGiB bounds what is kept of their images. Default 50.
	RegistryMirrorGiB int

	joined string // this machine's address in the pool that it joined
}

// qemuUser is the uid that Debian reserves for libvirt's QEMU; any other unprivileged one does as well.
const qemuUser = 64055

// Validate fills in defaults and gives the first problem with its fix.
func (c *Config) Validate() error {
	if c.DataDir == "" {
		return errs.Invalidf("no data directory is given: use --data-dir DIR")
	}
	dir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return err
	}
	c.DataDir = dir
	if c.Listen == "" {
		c.Listen = DefaultListen
	}
	if err := validListen(c.Listen); err != nil {
		return err
	}
	if c.Node == "" {
		c.Node = hostName()
	}
	if err := nodes.CheckName(c.Node); err != nil {
		return err
	}
	if err := validCluster(c.Cluster); err != nil {
		return err
	}
	if c.PublicCIDR == "" {
		c.PublicCIDR = DefaultPublicCIDR
	}
	p, err := netip.ParsePrefix(c.PublicCIDR)
	if err != nil || !p.Addr().Is4() || p.Bits() > 29 || p != p.Masked() {
		return errs.Invalidf("--public-cidr %s is not an IPv4 network of at least 8 addresses, such as %s", c.PublicCIDR, DefaultPublicCIDR)
	}
	if c.ReclaimAfter < 0 {
		return errs.Invalidf("--reclaim-after %s is no time for which deleted servers can be kept, such as 24h", c.ReclaimAfter)
	}
	if err := errors.Join(validPools(c.VolumePools), validCeph(c.CephPool, c.CephConf), validProviders(c.ProviderNetworks), c.validContainers(), validMirrors(c.RegistryMirrors, c.RegistryMirrorGiB)); err != nil {
		return err
	}
	if c.QEMUUser == 0 {
		c.QEMUUser = qemuUser
	}
	if c.StopGrace == 0 {
		c.StopGrace = 5 * time.Second
	}
	return nil
}

// validListen takes HOST:PORT with a port that clients can be told of: not 0.
func validListen(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 {
		return errs.Invalidf("--listen %s is not HOST:PORT with a port of 1 to 65535, such as %s", addr, DefaultListen)
	}
	return nil
}

// validCluster takes an address of this machine that others can be told of.
func validCluster(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	ip, perr := netip.ParseAddr(host)
	switch {
	case addr == "":
		return nil
	case err != nil || perr != nil || ip.IsUnspecified() || !validClusterPort(port):
		return errs.Invalidf("--cluster-listen %s is not ADDRESS:PORT with an address of this machine that other machines reach, such as 192.0.2.10:%s", addr, ClusterPort)
	}
	return nil
}

// validClusterPort takes a port with another one after it.
func validClusterPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0 && n < 65535
}

// addr is where other machines reach this one.
func (c *Config) addr() string {
	if c.joined != "" {
		return c.joined
	}
	if host, _, err := net.SplitHostPort(c.Cluster); err == nil {
		return host
	}
	return "127.0.0.1"
}

// peerListen is where the control members' stores speak to each other: the port after the cluster's.
func (c *Config) peerListen() string { return peerListen(c.Cluster) }

func peerListen(cluster string) string {
	a, err := netip.ParseAddrPort(cluster)
	if err != nil {
		return cluster // Validate has refused it
	}
	return netip.AddrPortFrom(a.Addr(), a.Port()+1).String()
}

// tunnel is where other machines send VXLAN to; zero for a machine that is alone.
func (c *Config) tunnel() netip.Addr {
	a, err := netip.ParseAddr(c.addr())
	if err != nil || a.IsLoopback() || a.IsUnspecified() || a.Zone() != "" {
		return netip.Addr{}
	}
	return a.Unmap()
}

// hostName is this machine's name in lower case, which is what users see as the host.
func hostName() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "localhost"
	}
	return strings.ToLower(name)
}

// Name names the cloud on this machine: it begins the name of every namespace,
// link and control group, so that clouds with different data directories coexist.
func Name(dataDir string) string {
	sum := sha256.Sum256([]byte(dataDir))
	return "st" + hex.EncodeToString(sum[:3])
}

// hostLink names the host's end of the veth into the node's namespace.
func hostLink(dataDir string) string { return Name(dataDir) + "x" }

func (c *Config) path(name string) string { return filepath.Join(c.DataDir, name) }

// url is where clients reach the APIs.
func (c *Config) url() string {
	scheme := "http"
	if !c.loopback() {
		scheme = "https"
	}
	host, port, _ := net.SplitHostPort(c.Listen)
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		if name, err := os.Hostname(); err == nil {
			host = name
		}
	}
	return fmt.Sprintf("%s://%s", scheme, net.JoinHostPort(host, port))
}

// host is the address of url, HOST:PORT.
func (c *Config) host() string {
	_, host, _ := strings.Cut(c.url(), "://")
	return host
}

func (c *Config) loopback() bool {
	host, _, _ := net.SplitHostPort(c.Listen)
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
