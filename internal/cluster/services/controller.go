package services

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/cluster"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kubeapi"
	"github.com/strata-cloud/strata/internal/store"
)

// Name is the controller's.
const Name = "services"

// State is how it is with a load balancer.
type State struct {
	Port              string
	Address, Address6 netip.Addr // of the VIP
	Serves            bool
}

// Region is what load balancers and floating IPs are made by.
type Region interface {
	// Ensure makes a load balancer, or makes it what it should be; guard is part of the
	// transaction that makes it.
	Ensure(ctx context.Context, b *Balancer, guard func(tx *store.Tx) error) (*State, error)
	// Expose gives a port a floating IP; not valid: there is no way out.
	Expose(ctx context.Context, port string, f *Floating) (netip.Addr, error)
	// Balancers and floating IPs of a cluster are removed but for those that are kept.
	DropBalancers(ctx context.Context, cluster string, keep []string) error
	DropFloating(ctx context.Context, cluster string, keep []string) error
}

// Clusters is the service of clusters.
type Clusters interface {
	// Places are where a cluster's workers are on its network, by name.
	Places(cluster string) map[string]cluster.Place
	// TxWorks refuses what would be made for a cluster that is going.
	TxWorks(tx *store.Tx, cluster string) error
}

// Config is what the controller works with.
type Config struct {
	DB       *store.DB
	Region   Region
	Clusters Clusters
	Log      *slog.Logger
}

// New makes the controller.
func New(c Config) cluster.Controller {
	return cluster.Controller{Name: Name, Run: c.run, Clean: c.clean}
}

// clean removes all that was made for a cluster. Without a load balancer's port nobody can
// make it a floating IP any more.
func (c Config) clean(ctx context.Context, id string) error {
	if err := c.Region.DropBalancers(ctx, id, nil); err != nil {
		return err
	}
	return c.Region.DropFloating(ctx, id, nil)
}

// lookEvery is how often what has failed is looked at.
const lookEvery = 5 * time.Second

// keeper keeps the load balancers of one cluster.
type keeper struct {
	Config
	cluster.Target
	api      *kubeapi.Client
	services []service
	nodes    []node
	troubles map[string]*trouble // by uid
}

// run follows a cluster until ctx ends.
func (c Config) run(ctx context.Context, t cluster.Target, api *kubeapi.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	k := &keeper{Config: c, Target: t, api: api, troubles: map[string]*trouble{}}
	failed := func(err error) { c.Log.Debug("following a cluster's Services", "cluster", t.ID, "err", err) }
	services, nodes := kubeapi.Follow[service](ctx, api, kubeapi.Services, "", failed), kubeapi.Follow[node](ctx, api, kubeapi.Nodes, "", failed)
	changed := c.DB.Notify(ctx, "loadbalancer", "network/floatingip", "network/router", "cluster/worker")
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	known := [2]bool{}
	for {
		select {
		case k.services = <-services:
			known[0] = true
		case k.nodes = <-nodes:
			known[1] = true
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return nil
		}
		if known[0] && known[1] {
			k.sync(ctx)
		}
	}
}

// sync brings everything to what is wanted now.
func (k *keeper) sync(ctx context.Context) {
	var balancers, floating []string
	there := map[string]bool{}
	for i := range k.services {
		s := &k.services[i]
		there[s.Metadata.UID] = true
		if s.wanted() {
			id := idOf(k.ID, s.Metadata.UID)
			balancers, floating = append(balancers, id), append(floating, floatingOf(id))
		}
	}
	for i := range k.services {
		s := &k.services[i]
		if !s.wanted() && !s.held() || k.rests(s) {
			continue
		}
		err := k.keep(ctx, s)
		if ctx.Err() != nil {
			return
		}
		if err == nil && s.wanted() && !exposed(s) { // from now on
			f := floatingOf(idOf(k.ID, s.Metadata.UID))
			floating = slices.DeleteFunc(floating, func(id string) bool { return id == f })
		}
		k.note(ctx, s, err)
	}
	for uid := range k.troubles {
		if !there[uid] {
			delete(k.troubles, uid)
		}
	}
	if err := k.drop(ctx, balancers, floating); err != nil && ctx.Err() == nil {
		k.Log.Warn("load balancers that no Service has: again later", "cluster", k.ID, "err", err)
	}
}

// exposed tells whether a Service is to have a floating IP.
func exposed(s *service) bool {
	internal := (&reader{notes: s.Metadata.Annotations}).truth(internalNote, false)
	return !internal && s.has(ipv4)
}

func (k *keeper) drop(ctx context.Context, balancers, floating []string) error {
	if err := k.Region.DropFloating(ctx, k.ID, floating); err != nil {
		return err
	}
	return k.Region.DropBalancers(ctx, k.ID, balancers)
}

// keep brings one Service to what is wanted.
func (k *keeper) keep(ctx context.Context, s *service) error {
	if !s.wanted() {
		return k.release(ctx, s)
	}
	b, f, err := s.want(k.ID)
	if err != nil {
		return err
	}
	b.ProjectID, b.NetworkID, b.SubnetID, b.SubnetID6 = k.ProjectID, k.Network, k.Subnet, k.Subnet6
	for note, is := range map[string]string{subnetNote: k.Subnet, vipNetNote: k.Network} {
		if v := s.Metadata.Annotations[note]; v != "" && v != is {
			return errs.Invalidf("%s: load balancers are on the cluster's own network, %s", note, is)
		}
	}
	b.Members = k.members(s, b.Monitor == nil)
	if !slices.Contains(s.Metadata.Finalizers, finalizer) {
		return k.finalizers(ctx, s, append(slices.Clone(s.Metadata.Finalizers), finalizer)) // and then it is seen again
	}
	st, err := k.Region.Ensure(ctx, b, func(tx *store.Tx) error { return k.Clusters.TxWorks(tx, k.ID) })
	if err != nil {
		return err
	}
	at := st.Address
	if f != nil {
		out, err := k.Region.Expose(ctx, st.Port, f)
		if err != nil {
			return err
		}
		if out.IsValid() {
			at = out
		}
	}
	if !st.Serves {
		return nil // it will tell
	}
	return k.tell(ctx, s, map[string]netip.Addr{ipv4: at, ipv6: st.Address6})
}

// members are the workers that a Service's load balancer may send to.
func (k *keeper) members(s *service, ready bool) (out []Member) {
	places := k.Clusters.Places(k.ID)
	for i := range k.nodes {
		n := &k.nodes[i]
		at, ok := places[n.Metadata.Name]
		if !ok || !n.eligible() || ready && !n.ready() || !s.selects(n) {
			continue
		}
		if s.has(ipv4) {
			out = append(out, Member{Name: n.Metadata.Name, Address: at.Four})
		}
		if s.has(ipv6) && at.Six.IsValid() {
			m := Member{Name: n.Metadata.Name, Address: at.Six}
			if !s.local() { // kube-proxy itself says it in IPv4 alone
				m.Watched = at.Four
			}
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(a, b Member) int { return cmp.Or(strings.Compare(a.Name, b.Name), a.Address.Compare(b.Address)) })
	return out
}

// tell writes where the Service is reached, by family.
func (k *keeper) tell(ctx context.Context, s *service, at map[string]netip.Addr) error {
	var is []ingress
	var names []string
	for _, family := range s.families() {
		is, names = append(is, ingress{IP: at[family].String(), IPMode: "Proxy"}), append(names, at[family].String())
	}
	if h := s.Metadata.Annotations[hostnameNote]; h != "" {
		is, names = []ingress{{Hostname: h}}, []string{h}
	}
	if slices.Equal(s.Status.LoadBalancer.Ingress, is) {
		return nil
	}
	err := k.api.Merge(ctx, kubeapi.Services, s.Metadata.Namespace, s.Metadata.Name, "status", fields{"status": fields{"loadBalancer": fields{"ingress": is}}})
	if err == nil {
		k.event(ctx, s, false, "EnsuredLoadBalancer", fmt.Sprintf("Ensured load balancer: %s", strings.Join(names, ", ")), 1)
	}
	return err
}

type fields = map[string]any

// release lets a Service go, after what it had.
func (k *keeper) release(ctx context.Context, s *service) error {
	var balancers, floating []string
	own := idOf(k.ID, s.Metadata.UID)
	for i := range k.services {
		if id := idOf(k.ID, k.services[i].Metadata.UID); id != own {
			balancers, floating = append(balancers, id), append(floating, floatingOf(id))
		}
	}
	if err := k.drop(ctx, balancers, floating); err != nil {
		return err
	}
	if s.Metadata.DeletionTimestamp == nil && len(s.Status.LoadBalancer.Ingress) > 0 {
		if err := k.api.Merge(ctx, kubeapi.Services, s.Metadata.Namespace, s.Metadata.Name, "status", fields{"status": fields{"loadBalancer": nil}}); err != nil {
			return gone(err)
		}
	}
	left := slices.DeleteFunc(slices.Clone(s.Metadata.Finalizers), func(f string) bool { return f == finalizer })
	return gone(k.finalizers(ctx, s, left))
}

// gone takes it that what is not there any more is as it should be, and that what has
// changed meanwhile will be seen again.
func gone(err error) error {
	if errs.Is(err, errs.NotFound) || errs.Is(err, errs.Conflict) {
		return nil
	}
	return err
}

func (k *keeper) finalizers(ctx context.Context, s *service, list []string) error {
	return gone(k.api.Merge(ctx, kubeapi.Services, s.Metadata.Namespace, s.Metadata.Name, "", fields{"metadata": fields{"resourceVersion": s.Metadata.ResourceVersion, "finalizers": list}}))
}
