package docker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"iter"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/namesgenerator"

	"github.com/strata-cloud/strata/internal/dockerwire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/store"
)

// portOwner is what ports of containers belong to, as Zun calls it.
const portOwner = "zun"

// create makes a container on a node of the pool.
func (s *Service) create(w http.ResponseWriter, r *request) error {
	req, err := readCreate(r)
	if err != nil {
		return err
	}
	if p := r.Value("platform"); p != "" && !slices.Contains([]string{"linux", "linux/" + runtime.GOARCH}, p) {
		return errs.Invalidf("there is no node of the platform %s", p)
	}
	name := strings.TrimPrefix(r.Value("name"), "/")
	if name != "" && !nameRE.MatchString(name) {
		return errs.Invalidf("Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", r.Value("name"))
	}
	if err := judge(req); err != nil {
		return err
	}
	img, err := s.Images.Resolve(r.Context(), r.who, s.registries(r), req.Config.Image)
	if err != nil {
		return err
	}
	c := &Container{ID: newID(), ProjectID: r.who.ProjectID, UserID: r.who.UserID, Name: name, State: Creating, Image: req.Config.Image, ImageID: img.Digest,
		AutoRemove: req.HostConfig.AutoRemove, Created: time.Now().UTC()}
	c.VCPUs, c.MemoryMiB = need(req.HostConfig)
	if c.Ports, err = s.wanted(r, req); errs.Is(err, errs.NotFound) { // which clients take for a missing image
		return errs.Invalidf("%s", err)
	} else if err != nil {
		return err
	}
	if c.Volumes, err = s.mounts(r, req); err != nil {
		return err
	}
	warnings, err := s.make(r.Context(), c, img, req)
	if err != nil {
		return err
	}
	return dockerwire.Answer(w, http.StatusCreated, container.CreateResponse{ID: c.ID, Warnings: append([]string{}, warnings...)})
}

// readCreate reads a request. A field that is not Docker's is dropped.
func readCreate(r *request) (*container.CreateRequest, error) {
	var raw json.RawMessage
	if err := r.Read(&raw); err != nil {
		return nil, err
	}
	req, old := &container.CreateRequest{}, older{}
	for _, v := range []any{req, &old} {
		if err := json.Unmarshal(raw, v); err != nil {
			return nil, errs.Invalidf("invalid JSON: %s", err)
		}
	}
	return req, no(old.MacAddress != "", "a MAC address; the network service gives one")
}

// older is what clients before 1.44 say of the container, and later ones of a network.
type older struct{ MacAddress string }

// registries are the addresses by which the caller may call the region's registry.
func (s *Service) registries(r *request) []string { return append([]string{r.Host}, s.Registry...) }

// newID is as Docker makes them: one that reads as a number is no host name.
func newID() string {
	for {
		var b [32]byte
		rand.Read(b[:])
		if id := hex.EncodeToString(b[:]); strings.Trim(id[:12], "0123456789") != "" {
			return id
		}
	}
}

// wanted finds the networks that a container is to be on.
func (s *Service) wanted(r *request, req *container.CreateRequest) ([]Port, error) {
	list, auto, err := wishes(req)
	if err != nil {
		return nil, err
	}
	nets := s.Networks.Visible(r.Context(), r.who)
	if auto {
		n, err := onlyOne(slices.DeleteFunc(slices.Clone(nets), func(n Network) bool {
			_, err := s.made.Get(n.ID) // which are for those that name them, as with engines
			return err == nil
		}))
		if err != nil || n == nil {
			return nil, err
		}
		if len(list) == 0 {
			list = []wish{{}}
		}
		list[0].ref = n.ID
	}
	var out []Port
	for _, w := range list {
		n, err := findNetwork(nets, w.ref)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(out, func(p Port) bool { return p.NetworkID == n.ID }) {
			return nil, errs.Invalidf("the network %s is given twice", n.Name)
		}
		if err := s.Networks.Usable(r.Context(), r.who, n.ID); err != nil {
			return nil, err
		}
		p, err := s.wantedPort(r, w, n)
		if err != nil {
			return nil, err
		}
		p.Device = freeDevice(out)
		out = append(out, *p)
	}
	return out, nil
}

// onlyOne is the network of who asks for none: as servers get it, the only one that
// there is. Without any a container is on none.
func onlyOne(nets []Network) (*Network, error) {
	var found []Network
	var names []string
	for _, n := range nets {
		if !n.External && len(n.Subnets) > 0 {
			found, names = append(found, n), append(names, n.Name)
		}
	}
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
		return &found[0], nil
	}
	return nil, errs.Conflictf("there are several networks: choose one with --network (%s), or none", strings.Join(names, ", "))
}

// make does the work, and takes it back when some of it fails.
func (s *Service) make(ctx context.Context, c *Container, img *Image, req *container.CreateRequest) (warnings []string, err error) {
	done := s.working(c.ID)
	defer done()
	if err := s.admit(ctx, c); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.drop(context.WithoutCancel(ctx), c.ID)
		}
	}()
	if err := s.place(ctx, c); err != nil {
		return nil, err
	}
	if err := s.hold(ctx, c); err != nil {
		return nil, err
	}
	if warnings, err = s.onto(ctx, c, img, req); err != nil {
		return nil, err
	}
	_, err = s.containers.Update(ctx, c.ID, func(c *Container) error {
		if c.State != Creating {
			return errs.Conflictf("container %s was removed while it was created", c.Name)
		}
		c.State = Ready
		return nil
	})
	return warnings, err
}

// onto has the node make the container.
func (s *Service) onto(ctx context.Context, c *Container, img *Image, req *container.CreateRequest) (warnings []string, err error) {
	want := nodeapi.Container{ID: c.ID, Name: c.nodeName(), Image: nodeapi.ContainerImage{Name: s.imageName(img), Digest: img.Digest, MediaType: img.MediaType, Size: img.Size}}
	if want.Ports, err = s.plug(ctx, c); err != nil {
		return nil, err
	}
	if want.Volumes, err = s.attach(ctx, c); err != nil {
		return nil, err
	}
	// A network can have any name, such as host: what the engine reads is never a name.
	req.NetworkingConfig, req.HostConfig.NetworkMode = nil, "none"
	if len(c.Ports) > 0 {
		req.HostConfig.NetworkMode = container.NetworkMode(c.Ports[0].NetworkID)
	}
	if want.Request, err = json.Marshal(req); err != nil {
		return nil, err
	}
	node, err := s.Nodes.Containers(c.Node)
	if err != nil {
		return nil, err
	}
	// A client that goes away does not leave us without knowing what was made.
	return node.EnsureContainer(context.WithoutCancel(ctx), want)
}

// working notes that a create is under way here.
func (s *Service) working(id string) (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active[id] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.active, id)
	}
}

// limits are how much a project may have, with Zun's defaults (zun/conf/quota.py) where
// the operator has registered none.
var limits = []struct {
	resource, word string
	limit          int
	of             func(*Container) int
}{
	{"containers", "containers", 40, func(*Container) int { return 1 }},
	{"container_cpu", "processors", 20, func(c *Container) int { return c.VCPUs }},
	{"container_memory", "MiB of memory", 51200, func(c *Container) int { return c.MemoryMiB }},
}

// admit writes the record, if it has a name of its own and fits into the quota.
func (s *Service) admit(ctx context.Context, c *Container) error {
	err := s.tryAdmit(ctx, c)
	if !errs.Is(err, errs.Conflict) || c.Name == "" {
		return err
	}
	// The name may be of one whose engine has just removed it (--rm).
	if old, ok := s.containers.Unique("name", nameKey(c.ProjectID, c.Name)); ok && old.AutoRemove {
		if e := s.reconcile(ctx, old.ID); e != nil {
			return err
		}
		return s.tryAdmit(ctx, c)
	}
	return err
}

func (s *Service) tryAdmit(ctx context.Context, c *Container) error {
	return s.ledger.Do(ctx, func(tx *store.Tx) error {
		named := *c
		for i := 0; named.Name == ""; i++ {
			name := namesgenerator.GetRandomName(i)
			if _, taken := s.containers.TxUnique(tx, "name", nameKey(c.ProjectID, name)); !taken {
				named.Name = name
			}
		}
		if old, taken := s.containers.TxUnique(tx, "name", nameKey(c.ProjectID, named.Name)); taken {
			return errs.Conflictf("Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.", "/"+named.Name, old.ID)
		}
		have := s.containers.TxBy(tx, "project", c.ProjectID)
		for _, l := range limits {
			limit := l.limit
			if n, ok := s.Identity.LimitOf(c.ProjectID, l.resource); ok {
				limit = n
			}
			used := 0
			for _, o := range have {
				if o.seen() {
					used += l.of(o)
				}
			}
			if limit >= 0 && used+l.of(c) > limit {
				return errs.New(errs.QuotaExceeded, "Quota exceeded: the project has %d of %d %s of containers, and %d more are asked for", used, limit, l.word, l.of(c))
			}
		}
		*c = named
		return s.containers.TxCreate(tx, &named)
	})
}

// place chooses the node and claims what the container takes there.
func (s *Service) place(ctx context.Context, c *Container) error {
	hosts, err := s.Placement.Candidates(ctx, c.VCPUs, c.MemoryMiB)
	if err != nil {
		return err
	}
	must, keep := s.near(ctx, c)
	if len(must) > 1 {
		return errs.Conflictf("the container's volumes are in use on several nodes: one container cannot have them all")
	}
	for h := range first(hosts, keep) {
		if len(must) == 1 && h != must[0] || !s.fits(c, h) {
			continue
		}
		if err := s.Placement.Claim(ctx, c.ConsumerID(), h, c.ProjectID, c.UserID, c.VCPUs, c.MemoryMiB); errs.Is(err, errs.NoCapacity) {
			continue
		} else if err != nil {
			return err
		}
		_, err := s.containers.Update(ctx, c.ID, func(x *Container) error { x.Node = h; return nil })
		c.Node = h
		return err
	}
	return errs.New(errs.NoCapacity, "no node of the pool has room for the container (%d processors, %d MiB): try later, or with lower limits (--cpus, --memory)", c.VCPUs, c.MemoryMiB)
}

// first gives those that are preferred before the others.
func first(hosts iter.Seq[string], preferred []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		var others []string
		for h := range hosts {
			if !slices.Contains(preferred, h) {
				others = append(others, h)
			} else if !yield(h) {
				return
			}
		}
		for _, h := range others {
			if !yield(h) {
				return
			}
		}
	}
}

// fits tells whether a node can have the container besides that it has room.
func (s *Service) fits(c *Container, node string) bool {
	info, err := s.Nodes.Infos.Get(node)
	if err != nil || !info.Containers || !s.Takes(node) {
		return false
	}
	if _, err := s.Nodes.Containers(node); err != nil {
		return false
	}
	return !slices.ContainsFunc(c.Ports, func(p Port) bool { return !s.Networks.Reaches(p.NetworkID, node) })
}

// plug makes the container's ports.
func (s *Service) plug(ctx context.Context, c *Container) (out []nodeapi.ContainerPort, err error) {
	for _, p := range c.Ports {
		v, err := s.Networks.EnsurePort(ctx, PortSpec{ID: p.ID, NetworkID: p.NetworkID, ProjectID: c.ProjectID, FixedIP: p.FixedIP, Groups: p.Groups,
			Device: c.ConsumerID(), Node: c.Node, Owner: portOwner, Name: c.Name, Aliases: c.aliases(p)})
		if err != nil {
			return nil, err
		}
		dev := devicePort(v)
		dev.Device = p.Device
		out = append(out, dev)
	}
	return out, nil
}

// aliases are all names of the container on a network, besides the one that is a host's.
func (c *Container) aliases(p Port) []string {
	out := append([]string{c.ID[:12], c.Name}, p.Aliases...)
	slices.Sort(out)
	return slices.Compact(out)
}

// devicePort is what a node makes of a port.
func devicePort(v *PortView) nodeapi.ContainerPort {
	p := nodeapi.ContainerPort{ID: v.ID, MAC: v.MAC, MTU: v.MTU, Domain: v.Domain}
	gateways := map[bool]bool{}
	for _, f := range v.FixedIPs {
		for _, sub := range v.Subnets {
			if sub.ID != f.SubnetID {
				continue
			}
			p.Addrs = append(p.Addrs, netip.PrefixFrom(f.Addr, sub.CIDR.Bits()))
			p.Routes = append(p.Routes, sub.HostRoutes...)
			if g := sub.Gateway; g.IsValid() && !gateways[g.Is6()] {
				gateways[g.Is6()] = true
				p.Gateways = append(p.Gateways, g)
			}
			if sub.ServiceAddr.IsValid() && len(sub.DNSServers) == 0 {
				p.DNS = append(p.DNS, sub.ServiceAddr)
			}
			p.DNS = append(p.DNS, sub.DNSServers...)
		}
	}
	return p
}

// imageName is what a node calls an image.
func (s *Service) imageName(i *Image) string {
	name := i.Repo
	if len(s.Registry) > 0 {
		name = s.Registry[0] + "/" + name
	}
	if i.Tag == "" {
		return name + "@" + i.Digest
	}
	return name + ":" + i.Tag
}
