package dataplane

import (
	"net"

	"github.com/miekg/dns"
)

// hostResolvers reads the host's name servers; none when there is no file.
func hostResolvers(path string) []string {
	conf, err := dns.ClientConfigFromFile(path)
	if err != nil {
		return []string{}
	}
	servers := make([]string, 0, len(conf.Servers))
	for _, s := range conf.Servers {
		servers = append(servers, net.JoinHostPort(s, conf.Port))
	}
	return servers
}
