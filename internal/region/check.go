package region

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/strata-cloud/strata/internal/errs"
)

// programs are those that no node can do without, with the Debian packages that have them.
var programs = [...][2]string{{"qemu-system-x86_64", "qemu-system-x86"}, {"qemu-img", "qemu-utils"}, {"setpriv", "util-linux"}, {"nft", "nftables"}}

// Check gives, with its fix, the first thing that would keep a region of this
// configuration from running on this machine. It changes nothing, and comes
// before anything that does.
func Check(cfg *Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	if err := checkPrograms(); err != nil {
		return err
	}
	if err := checkPublic(cfg); err != nil {
		return err
	}
	l, err := bind(cfg.Listen)
	if err != nil {
		return err
	}
	return l.Close()
}

// CheckNode is Check for a machine that is to join another's cloud.
func CheckNode() error { return checkPrograms() }

func checkPrograms() error {
	var missing, packages []string
	for _, p := range programs {
		_, err := exec.LookPath(p[0])
		if _, sbin := exec.LookPath(filepath.Join("/usr/sbin", p[0])); err != nil && sbin != nil {
			missing, packages = append(missing, p[0]), append(packages, p[1])
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return errs.NotFoundf("%s cannot be found in PATH: apt-get install %s", strings.Join(missing, ", "), strings.Join(packages, " "))
}

// checkPublic refuses an external network that this machine has another use for:
// its addresses would no longer be reached.
func checkPublic(cfg *Config) error {
	public := netip.MustParsePrefix(cfg.PublicCIDR)
	links, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("listing this machine's links: %w", err)
	}
	for _, l := range links {
		if l.Name == hostLink(cfg.DataDir) {
			continue // ours, from an earlier start
		}
		addrs, err := l.Addrs()
		if err != nil {
			continue // the link has just gone
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Overlaps(public) {
				return errs.Conflictf("--public-cidr %s overlaps %s of %s on this machine: choose a network that nothing here uses, such as %s",
					public, p, l.Name, freePublic())
			}
		}
	}
	return nil
}

// freePublic suggests a private network of 256 addresses that no link of this machine is in.
func freePublic() netip.Prefix {
	addrs, _ := net.InterfaceAddrs()
	for i := range 256 {
		c := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 24, byte(i), 0}), 24)
		used := false
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			used = used || err == nil && p.Overlaps(c)
		}
		if !used {
			return c
		}
	}
	return netip.MustParsePrefix("10.255.255.0/24")
}

// bind opens the API's port.
func bind(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, errs.Conflictf("%s is in use by another program: stop it or choose another address with --listen", addr)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, errs.Invalidf("--listen %s: no link of this machine has that address; 0.0.0.0 listens on all of them", addr)
	case err != nil:
		return nil, fmt.Errorf("listening on %s: %w; choose another address with --listen", addr, err)
	}
	return l, nil
}
