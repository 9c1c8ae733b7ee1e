package region

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
)

// Defaults of the command line.
const (
	DefaultListen     = "127.0.0.1:5000"
	DefaultPublicCIDR = "172.24.4.0/24"
)

// Config says where a region lives and what it shows to the world.
type Config struct {
	DataDir    string
	Listen     string // host:port of the APIs
	PublicCIDR string // of the external network; the first address is the host's
	Version    string
	Log        *slog.Logger
	// QEMUUser is the uid and gid of guests' processes. Default 64055.
	QEMUUser int
	// VolumePools are directories for more pools of volumes, by the pools' names. One
	// that was given once is kept.
	VolumePools map[string]string
	// StopGrace is how long requests under way may take at shutdown. Default 5 s.
	StopGrace time.Duration
	// ReclaimAfter is how long a deleted server can be restored; 0: not at all.
	ReclaimAfter time.Duration
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
	if err := validPools(c.VolumePools); err != nil {
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

func (c *Config) loopback() bool {
	host, _, _ := net.SplitHostPort(c.Listen)
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
