package ingress

import (
	"context"
	"crypto/tls"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"
)

// follower keeps a proxy's state what the cluster's objects say.
type follower struct {
	api        kubernetes.Interface
	controller string
	refresh    time.Duration
	proxy      *proxy
	changed    chan struct{}

	ingresses networkinglisters.IngressLister
	classes   networkinglisters.IngressClassLister
	services  corelisters.ServiceLister
	slices    discoverylisters.EndpointSliceLister
	read      map[string]time.Time // when Secrets were read
	secrets   map[string]*tls.Certificate
}

// follow begins to keep the proxy's state, until ctx ends.
func follow(ctx context.Context, api kubernetes.Interface, controller string, refresh time.Duration, p *proxy) {
	all := informers.NewSharedInformerFactoryWithOptions(api, 0, informers.WithTransform(trim))
	f := &follower{api: api, controller: controller, refresh: refresh, proxy: p, changed: make(chan struct{}, 1), read: map[string]time.Time{}, secrets: map[string]*tls.Certificate{},
		ingresses: all.Networking().V1().Ingresses().Lister(), classes: all.Networking().V1().IngressClasses().Lister(),
		services: all.Core().V1().Services().Lister(), slices: all.Discovery().V1().EndpointSlices().Lister()}
	poke := func() {
		select {
		case f.changed <- struct{}{}:
		default:
		}
	}
	handler := cache.ResourceEventHandlerFuncs{AddFunc: func(any) { poke() }, UpdateFunc: func(any, any) { poke() }, DeleteFunc: func(any) { poke() }}
	for _, i := range []cache.SharedIndexInformer{all.Networking().V1().Ingresses().Informer(), all.Networking().V1().IngressClasses().Informer(), all.Core().V1().Services().Informer(), all.Discovery().V1().EndpointSlices().Informer()} {
		if _, err := i.AddEventHandler(handler); err != nil {
			panic("ingress: an informer that has not begun takes no handler: " + err.Error())
		}
	}
	all.Start(ctx.Done())
	go func() {
		all.WaitForCacheSync(ctx.Done())
		f.work(ctx)
	}()
}

// trim drops what is never read, which is much of an object.
func trim(x any) (any, error) {
	if o, ok := x.(meta.Object); ok {
		o.SetManagedFields(nil)
	}
	return x, nil
}

// settle is how long changes are gathered: they come many at a time.
const settle = 50 * time.Millisecond

func (f *follower) work(ctx context.Context) {
	tick := time.NewTicker(f.refresh / 6)
	defer tick.Stop()
	for ctx.Err() == nil {
		f.update(ctx)
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-f.changed:
			pause := time.NewTimer(settle)
			<-pause.C
		}
	}
}

// update makes the state anew.
func (f *follower) update(ctx context.Context) {
	list := f.ours()
	s := &state{table: newTable(list), ends: map[backend][]string{}}
	for _, b := range s.table.backends() {
		if _, ok := s.ends[*b]; !ok {
			s.ends[*b] = f.endpoints(b)
		}
	}
	f.proxy.state.Store(s)
	f.certify(ctx, list)
}

// ours are the Ingresses of a class that is ours.
func (f *follower) ours() []*networking.Ingress {
	classes, _ := f.classes.List(labels.Everything()) // a cache never fails
	mine := map[string]bool{}
	for _, c := range classes {
		mine[c.Name] = c.Spec.Controller == f.controller
	}
	all, _ := f.ingresses.List(labels.Everything())
	return slices.DeleteFunc(all, func(in *networking.Ingress) bool {
		class := in.Annotations["kubernetes.io/ingress.class"]
		if in.Spec.IngressClassName != nil {
			class = *in.Spec.IngressClassName
		}
		return !mine[class]
	})
}

// endpoints are the ready ones behind a Service's port.
func (f *follower) endpoints(b *backend) (out []string) {
	svc, err := f.services.Services(b.namespace).Get(b.service)
	if err != nil {
		return nil
	}
	i := slices.IndexFunc(svc.Spec.Ports, func(p core.ServicePort) bool {
		return b.name != "" && p.Name == b.name || b.name == "" && p.Port == b.number
	})
	if i < 0 {
		return nil
	}
	port := svc.Spec.Ports[i]
	if svc.Spec.Type == core.ServiceTypeExternalName {
		return []string{net.JoinHostPort(svc.Spec.ExternalName, strconv.Itoa(int(port.Port)))}
	}
	list, _ := f.slices.EndpointSlices(b.namespace).List(labels.SelectorFromSet(labels.Set{discovery.LabelServiceName: b.service}))
	for _, s := range list {
		for _, p := range s.Ports {
			if p.Port == nil || p.Name == nil && port.Name != "" || p.Name != nil && *p.Name != port.Name {
				continue
			}
			for _, e := range s.Endpoints {
				if len(e.Addresses) > 0 && (e.Conditions.Ready == nil || *e.Conditions.Ready) {
					out = append(out, net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*p.Port))))
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// certify reads the Secrets that Ingresses name: new ones, and all of them now and then.
func (f *follower) certify(ctx context.Context, list []*networking.Ingress) {
	names, used := map[string]*tls.Certificate{}, map[string]bool{}
	for _, in := range list {
		for _, t := range in.Spec.TLS {
			key := in.Namespace + "/" + t.SecretName
			if t.SecretName == "" {
				continue
			}
			used[key] = true
			f.readSecret(ctx, in.Namespace, t.SecretName)
			c := f.secrets[key]
			if c == nil {
				continue
			}
			hosts := t.Hosts
			if len(hosts) == 0 && c.Leaf != nil {
				hosts = c.Leaf.DNSNames
			}
			for _, h := range hosts {
				if h = strings.ToLower(h); names[h] == nil {
					names[h] = c
				}
			}
		}
	}
	maps.DeleteFunc(f.secrets, func(key string, _ *tls.Certificate) bool { return !used[key] })
	maps.DeleteFunc(f.read, func(key string, _ time.Time) bool { return !used[key] })
	f.proxy.certificates.byName.Store(&names)
}

// readSecret reads a certificate, unless that was done a moment ago. One that cannot be
// read now stays what it was.
func (f *follower) readSecret(ctx context.Context, namespace, name string) {
	key, again := namespace+"/"+name, f.refresh
	if f.secrets[key] == nil {
		again = f.refresh / 6 // whoever makes it may be at work
	}
	if at, ok := f.read[key]; ok && time.Since(at) < again {
		return
	}
	f.read[key] = time.Now()
	s, err := f.api.CoreV1().Secrets(namespace).Get(ctx, name, meta.GetOptions{})
	if err == nil {
		var c tls.Certificate
		if c, err = tls.X509KeyPair(s.Data[core.TLSCertKey], s.Data[core.TLSPrivateKeyKey]); err == nil {
			f.secrets[key] = &c
			return
		}
	}
	if ctx.Err() == nil {
		f.proxy.log.Warn("a certificate cannot be read", "secret", key, "err", err)
	}
}
