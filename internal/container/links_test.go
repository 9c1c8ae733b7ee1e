package container

import (
	"net/netip"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"
	"github.com/google/go-cmp/cmp"
)

// TestLinkEnvironment has ports in ranges, alone, and of both protocols.
func TestLinkEnvironment(t *testing.T) {
	ports := nat.PortSet{}
	for _, p := range []nat.Port{"53/udp", "6380/tcp", "6379/tcp", "6381/tcp", "80/tcp"} {
		ports[p] = struct{}{}
	}
	l := link{alias: "my-db", ends: &Endpoint{Addr: netip.MustParseAddr("172.17.0.5")},
		rec: Record{Name: "db", Config: &container.Config{ExposedPorts: ports, Env: []string{"PASSWORD=gordon", "PATH=/bin", "HOME=/", "NAME"}}}}
	want := []string{
		"MY_DB_PORT=tcp://172.17.0.5:80",
		"MY_DB_PORT_80_TCP=tcp://172.17.0.5:80", "MY_DB_PORT_80_TCP_ADDR=172.17.0.5", "MY_DB_PORT_80_TCP_PORT=80", "MY_DB_PORT_80_TCP_PROTO=tcp",
		"MY_DB_PORT_6379_TCP=tcp://172.17.0.5:6379", "MY_DB_PORT_6379_TCP_ADDR=172.17.0.5", "MY_DB_PORT_6379_TCP_PORT=6379", "MY_DB_PORT_6379_TCP_PROTO=tcp",
		"MY_DB_PORT_6380_TCP=tcp://172.17.0.5:6380", "MY_DB_PORT_6380_TCP_ADDR=172.17.0.5", "MY_DB_PORT_6380_TCP_PORT=6380", "MY_DB_PORT_6380_TCP_PROTO=tcp",
		"MY_DB_PORT_6381_TCP=tcp://172.17.0.5:6381", "MY_DB_PORT_6381_TCP_ADDR=172.17.0.5", "MY_DB_PORT_6381_TCP_PORT=6381", "MY_DB_PORT_6381_TCP_PROTO=tcp",
		"MY_DB_PORT_6379_TCP_START=tcp://172.17.0.5:6379", "MY_DB_PORT_6379_TCP_PORT_START=6379", "MY_DB_PORT_6379_TCP_END=tcp://172.17.0.5:6381", "MY_DB_PORT_6379_TCP_PORT_END=6381",
		"MY_DB_PORT_53_UDP=udp://172.17.0.5:53", "MY_DB_PORT_53_UDP_ADDR=172.17.0.5", "MY_DB_PORT_53_UDP_PORT=53", "MY_DB_PORT_53_UDP_PROTO=udp",
		"MY_DB_NAME=/web/my-db", "MY_DB_ENV_PASSWORD=gordon",
	}
	if diff := cmp.Diff(want, l.env("web")); diff != "" {
		t.Error(diff)
	}
	if got := l.hostLines(); got != "172.17.0.5\tmy-db  db\n" {
		t.Errorf("%q", got)
	}
}
