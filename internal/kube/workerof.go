package kube

import (
	"net/netip"

	"github.com/strata-cloud/strata/internal/kube/authority"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// WorkerOf is the worker of a part of a cluster; nil: there is none.
func WorkerOf(p nodeapi.KubePart) *Worker {
	w := p.Worker
	if w == nil {
		return nil
	}
	var inside, inside6 netip.Addr
	if w.Port != nil {
		inside, _ = w.Port.IPv4() // a worker without one waits for it
		inside6 = w.Port.In(p.PodCIDR6)
	}
	return &Worker{ID: p.ID, Node: w.Name, Inside: inside, Inside6: inside6, Address: w.Address, URL: w.URL, CA: w.CA, Kubelet: authority.Pair(w.Kubelet), Serving: authority.Pair(w.Serving), Proxy: authority.Pair(w.Proxy),
		Pods: w.Pods, DNS: w.DNS, Registries: w.Registries, Generation: w.Generation}
}
