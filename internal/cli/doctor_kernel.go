package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/cgroup"
)

// feature is something of the kernel that is tried out.
type feature struct {
	name, fix string
	try       func(ctx context.Context) error
}

const rebuild = "load the module (modprobe %s) or use a kernel that has it; distribution kernels do"

// features are tried in a network namespace of their own, which vanishes after.
var features = [...]feature{
	{"tun/tap", fmt.Sprintf(rebuild, "tun"), func(context.Context) error { return addLink("tuntap") }},
	{"bridge", fmt.Sprintf(rebuild, "bridge"), func(context.Context) error { return addLink("bridge") }},
	{"veth", fmt.Sprintf(rebuild, "veth"), func(context.Context) error { return addLink("veth") }},
	{"vxlan", fmt.Sprintf(rebuild, "vxlan"), func(context.Context) error { return addLink("vxlan") }},
	{"br_netfilter", fmt.Sprintf(rebuild, "br_netfilter"), func(context.Context) error {
		_, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables")
		return err
	}},
	{"nftables", fmt.Sprintf(rebuild, "nf_tables"), loadRules},
}

// kernel tries out what the data plane needs.
func (f *findings) kernel(ctx context.Context, root bool) {
	if !root {
		f.note("kernel", false, warn, "not tried: that needs root", "run this as root")
		return
	}
	results, err := tryFeatures(ctx)
	if err != nil {
		f.note("network namespaces", false, bad, err.Error(), "use a kernel with network namespaces; in a container, run it privileged")
		return
	}
	var have []string
	for i, x := range features {
		if results[i] == nil {
			have = append(have, x.name)
			continue
		}
		f.note("kernel: "+x.name, false, bad, results[i].Error(), x.fix)
	}
	f.note("kernel", len(have) > 0, bad, "works: network namespaces, "+strings.Join(have, ", "), "use a distribution's kernel")
	kind := "v2"
	if unified() != nil {
		kind = "v1"
	}
	groups, err := cgroup.New("strata-doctor")
	if err == nil {
		err = groups.RemoveParent(ctx)
	}
	if err != nil {
		f.note("control groups", false, bad, err.Error(), "mount the cgroup file system: servers could use more than their flavor says")
	} else {
		f.note("control groups", true, bad, kind, "")
	}
}

// unified is nil when the whole hierarchy is cgroup v2.
func unified() error {
	var fs unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &fs); err != nil {
		return err
	}
	if fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return errors.New("cgroup v1")
	}
	return nil
}

// tryFeatures runs each trial on a thread with a new network namespace. The
// thread is never given back, so that it ends, and the namespace with it.
func tryFeatures(ctx context.Context) ([]error, error) {
	type outcome struct {
		results []error
		err     error
	}
	done := make(chan outcome, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- outcome{err: fmt.Errorf("making a network namespace: %w", err)}
			return
		}
		var o outcome
		for _, x := range features {
			o.results = append(o.results, x.try(ctx))
		}
		done <- o
	}()
	o := <-done
	return o.results, o.err
}

func addLink(kind string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "stdr-" + kind
	var link netlink.Link
	switch kind {
	case "tuntap":
		link = &netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP}
	case "veth":
		link = &netlink.Veth{LinkAttrs: attrs, PeerName: "stdr-peer"}
	case "vxlan":
		link = &netlink.Vxlan{LinkAttrs: attrs, VxlanId: 1, SrcAddr: net.IPv4(127, 0, 0, 1), Port: 4789}
	default:
		link = &netlink.Bridge{LinkAttrs: attrs}
	}
	h, err := netlink.NewHandle()
	if err != nil {
		return err
	}
	defer h.Close()
	return h.LinkAdd(link)
}

// trialRules are of the kinds that security groups and routers are made of.
const trialRules = `table bridge t {
	chain c {
		type filter hook prerouting priority -300;
		ether saddr 02:00:00:00:00:01 drop
	}
}
table inet t {
	map m {
		type ipv4_addr : ipv4_addr
	}
	chain f {
		type filter hook forward priority 0;
		ct state established,related accept
	}
	chain n {
		type nat hook postrouting priority 100;
		oifname "x" masquerade
	}
}
`

// loadRules tells whether the kernel takes the trial rules.
func loadRules(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(trialRules)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, firstLine(string(out)))
	}
	return nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
