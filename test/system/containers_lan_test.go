package system

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// lan makes a device of the host whose cable leads to a machine of its own, at
// 10.237.0.1/24.
func lan(t *testing.T) (device string, far func(line string) string) {
	t.Helper()
	device, space := fmt.Sprintf("lan%d", os.Getpid()%100000), fmt.Sprintf("st-lan-%d", os.Getpid())
	sh := func(line string) string {
		t.Helper()
		out, err := exec.Command("sh", "-c", line).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
		return string(out)
	}
	sh("ip netns add " + space)
	t.Cleanup(func() { sh("ip netns del " + space) })
	sh(fmt.Sprintf("ip link add %s type veth peer name far0 netns %s && ip link set %[1]s up", device, space))
	far = func(line string) string { return sh("nsenter --net=/run/netns/" + space + " " + line) }
	far("ip link set lo up")
	far("ip link set far0 up")
	far("ip addr add 10.237.0.1/24 dev far0")
	return device, far
}

// TestMacvlan has containers as machines of a network that the host has a device on.
func TestMacvlan(t *testing.T) {
	d := newDock(t)
	device, far := lan(t)
	ping := fromDebian(t, "busybox-static", "bin/busybox") + " ping -c 1 -w 5 "
	d.must("network", "create", "-d", "macvlan", "-o", "parent="+device, "--subnet", "10.237.0.0/24", "--gateway", "10.237.0.1", "street")
	loop := []string{"busybox", "sh", "-c", "while :; do sleep 0.1; done"}
	d.must(append([]string{"run", "-d", "--name", "one", "--network", "street", "--ip", "10.237.0.7", "-p", "18098:80"}, loop...)...)
	d.must(append([]string{"run", "-d", "--name", "two", "--network", "street"}, loop...)...)
	far(ping + "10.237.0.7")
	for _, name := range []string{"10.237.0.1", "two"} {
		if r := d.run(nil, "exec", "one", "nc", "-w", "2", name, "9"); strings.Contains(r.errs, "bad address") || strings.Contains(r.errs, "unreachable") || strings.Contains(r.errs, "timed out") {
			t.Errorf("from one to %s: %s", name, r.errs)
		}
	}
	if got := d.must("exec", "one", "ip", "route"); !strings.Contains(got, "default via 10.237.0.1") {
		t.Errorf("routes: %s", got)
	}
	if got := d.must("port", "one"); got != "" {
		t.Errorf("published: %s", got)
	}
	if got := d.must("network", "inspect", "street", "--format", "{{.Driver}} {{(index .IPAM.Config 0).Gateway}} {{len .Containers}}"); got != "macvlan 10.237.0.1 2" {
		t.Errorf("the network: %s", got)
	}
	d.must("network", "disconnect", "street", "one")
	if got := d.must("exec", "one", "ip", "-o", "link"); strings.Contains(got, "eth0") {
		t.Errorf("after it has left: %s", got)
	}
	d.must("network", "connect", "--ip", "10.237.0.8", "street", "one")
	far(ping + "10.237.0.8")
	d.cloud.Kill()
	far(ping + "10.237.0.8")
	d.cloud.Up()
	d.must("restart", "-t", "0", "one")
	far(ping + "10.237.0.8")
	for args, want := range map[string]string{
		"-d macvlan other": "without a device", "-d macvlan -o parent=lo other": "loopback", "-d macvlan -o parent=nothing other": "nothing", "-d macvlan -o parent=" + device + " -o macvlan_mode=wrong other": "mode 'wrong'",
		"-d macvlan -o parent=" + device + " -o com.docker.network.bridge.enable_icc=false other": "is not supported", "-d ipvlan other": "ipvlan is not supported",
		"-d macvlan -o parent=" + device + " -o macvlan_mode=passthru other": "already using parent",
	} {
		if r := d.run(nil, append([]string{"network", "create"}, strings.Fields(args)...)...); r.code == 0 || !strings.Contains(r.errs, want) {
			t.Errorf("%s: %d %s", args, r.code, r.errs)
		}
	}
	d.must("rm", "-f", "one", "two")
	d.must("network", "rm", "street")
}

// TestNetworkWithoutIPv4 has IPv6 alone.
func TestNetworkWithoutIPv4(t *testing.T) {
	d := newDock(t)
	create := func(version, body string) (int, string) {
		code, out := d.ask("POST", "/v"+version+"/networks/create", nil, []byte(body))
		return code, string(out)
	}
	if code, out := create("1.48", `{"Name":"six","EnableIPv4":false,"EnableIPv6":true}`); code != 201 {
		t.Fatalf("%d %s", code, out)
	}
	if code, out := create("1.48", `{"Name":"none","EnableIPv4":false}`); code != 400 || !strings.Contains(out, "must be enabled") {
		t.Errorf("of no family: %d %s", code, out)
	}
	if code, out := create("1.47", `{"Name":"old","EnableIPv4":false}`); code != 201 {
		t.Errorf("in 1.47: %d %s", code, out)
	}
	var six, old struct {
		EnableIPv4, EnableIPv6 bool
		IPAM                   struct{ Config []struct{ Subnet string } }
	}
	d.get("/v1.50/networks/six", &six)
	d.get("/v1.50/networks/old", &old)
	if six.EnableIPv4 || !six.EnableIPv6 || len(six.IPAM.Config) != 1 || !strings.Contains(six.IPAM.Config[0].Subnet, ":") || !old.EnableIPv4 {
		t.Errorf("%+v %+v", six, old)
	}
	d.must("run", "-d", "--name", "aa", "--network", "six", "--hostname", "alpha", "busybox", "sh", "-c", "while :; do sleep 0.1; done")
	if got := d.must("exec", "aa", "ip", "-o", "addr", "show", "eth0"); strings.Contains(got, "inet ") || !strings.Contains(got, "inet6 ") {
		t.Errorf("addresses: %s", got)
	}
	if got := d.must("exec", "aa", "cat", "/etc/hosts"); !strings.Contains(got, d.inspect("aa", ".NetworkSettings.Networks.six.GlobalIPv6Address")+"\talpha") {
		t.Errorf("/etc/hosts: %s", got)
	}
	d.must("rm", "-f", "aa")
	d.must("network", "rm", "six", "old")
}
