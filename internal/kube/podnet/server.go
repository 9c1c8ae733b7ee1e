package podnet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kube/cni"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// server answers the plugin.
type server struct {
	l     net.Listener
	end   context.CancelFunc
	group sync.WaitGroup
}

// serve begins to answer the plugin.
func (l *live) serve(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(l.socket), 0o700); err != nil {
		return err
	}
	if err := os.Remove(l.socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	at, err := net.Listen("unix", l.socket)
	if err != nil {
		return err
	}
	if err := os.Chmod(l.socket, 0o600); err != nil {
		return errors.Join(err, at.Close())
	}
	s := &server{l: at}
	ctx, s.end = context.WithCancel(ctx)
	s.group.Go(func() {
		for {
			c, err := at.Accept()
			if err != nil {
				return
			}
			s.group.Go(func() { l.talk(ctx, c) })
		}
	})
	l.server = s
	return nil
}

func (s *server) close() {
	s.end()
	_ = s.l.Close() // it is ours
	s.group.Wait()
}

// callLimit bounds a call of the plugin.
const callLimit = 80 * time.Second

// talk answers one call.
func (l *live) talk(ctx context.Context, c net.Conn) {
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })()
	var r cni.Request
	if err := json.NewDecoder(c).Decode(&r); err != nil {
		return // whoever it was has gone
	}
	a := cni.Answer{}
	out, err := l.answer(ctx, &r)
	if err == nil && out != nil {
		a.Result, err = json.Marshal(out)
	}
	if err != nil {
		a.Error = worded(&r, err)
		l.cfg.Log.Warn("the pods' network", "cluster", l.cluster, "does not", r.Command, "sandbox", r.ContainerID, "err", err)
	}
	_ = json.NewEncoder(c).Encode(a) // who asked may have gone
}

// worded is an error in the interface's words.
func worded(r *cni.Request, err error) *cni.Error {
	var e *cni.Error
	switch {
	case errors.As(err, &e):
	case r.Command == "STATUS":
		e = &cni.Error{Code: cni.CodeUnavailable, Msg: err.Error()}
	case errs.Is(err, errs.Unavailable) || errors.Is(err, context.DeadlineExceeded):
		e = &cni.Error{Code: cni.CodeLater, Msg: err.Error()}
	default:
		e = &cni.Error{Code: cni.CodeInternal, Msg: err.Error()}
	}
	return e
}

var (
	sandboxRE = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)
	deviceRE  = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,14}$`)
)

// answer does what the runtime asks for.
func (l *live) answer(ctx context.Context, r *cni.Request) (any, error) {
	var conf cni.Config
	if err := json.Unmarshal(r.Config, &conf); err != nil {
		return nil, &cni.Error{Code: cni.CodeDecode, Msg: "the configuration is no JSON", Details: err.Error()}
	}
	switch r.Command {
	case "STATUS":
		return nil, l.status()
	case "GC":
		return nil, l.collect(ctx, conf.Valid)
	}
	if !sandboxRE.MatchString(r.ContainerID) || !deviceRE.MatchString(r.IfName) {
		return nil, &cni.Error{Code: cni.CodeEnvironment, Msg: fmt.Sprintf("CNI_CONTAINERID %q or CNI_IFNAME %q is no name", r.ContainerID, r.IfName)}
	}
	p := &Pod{KubePod: podOf(r), Netns: r.Netns, Ports: conf.RuntimeConfig.PortMappings}
	switch r.Command {
	case "ADD":
		if err := l.add(ctx, p); err != nil {
			return nil, err
		}
		return l.result(conf.CNIVersion, p), nil
	case "DEL":
		return nil, l.delete(ctx, p.key())
	case "CHECK":
		return nil, l.check(p)
	}
	return nil, &cni.Error{Code: cni.CodeEnvironment, Msg: fmt.Sprintf("CNI_COMMAND %q is not known", r.Command)}
}

// podOf reads what kubelet's runtimes say of a pod (K8S_POD_NAMESPACE and the like).
func podOf(r *cni.Request) nodeapi.KubePod {
	p := nodeapi.KubePod{Sandbox: r.ContainerID, Device: r.IfName}
	for _, a := range strings.Split(r.Args, ";") {
		k, v, _ := strings.Cut(a, "=")
		switch k {
		case "K8S_POD_NAMESPACE":
			p.Namespace = v
		case "K8S_POD_NAME":
			p.Name = v
		case "K8S_POD_UID":
			p.UID = v
		}
	}
	return p
}

// result is what ADD answers.
func (l *live) result(version string, p *Pod) *cni.Result {
	out := &cni.Result{CNIVersion: version, Interfaces: []cni.Interface{{Name: hostDevice(p.Port.ID), MAC: hostMAC.String()}, {Name: p.Device, MAC: p.Port.MAC, Sandbox: p.Netns}}}
	if version != "1.0.0" { // which knows no MTU
		out.Interfaces[0].MTU, out.Interfaces[1].MTU = p.Port.MTU, p.Port.MTU
	}
	if a, err := p.Port.IPv4(); err == nil {
		out.IPs = append(out.IPs, cni.IP{Interface: 1, Address: single(a).String(), Gateway: gateway.String()})
		out.Routes = append(out.Routes, cni.Route{Dst: "0.0.0.0/0", GW: gateway.String()})
	}
	if a := l.inside6(&p.Port); a.IsValid() {
		out.IPs = append(out.IPs, cni.IP{Interface: 1, Address: single(a).String(), Gateway: gateway6.String()})
		out.Routes = append(out.Routes, cni.Route{Dst: "::/0", GW: gateway6.String()})
	}
	return out
}

// status tells whether pods could be added.
func (l *live) status() error {
	h, err := l.cfg.Host.Link()
	if err != nil {
		return err
	}
	if _, err := h.LinkByName(l.ownDevice()); err != nil {
		return fmt.Errorf("the node's place in the network of pods: %w", err)
	}
	return nil
}

func (l *live) part() nodeapi.KubePart {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.want
}

// add gives a pod its device. One that is there is made anew.
func (l *live) add(ctx context.Context, p *Pod) error {
	ns, err := netns.OpenFile(p.Sandbox, p.Netns)
	if err != nil {
		return &cni.Error{Code: cni.CodeEnvironment, Msg: "CNI_NETNS is no network namespace", Details: err.Error()}
	}
	defer ns.Close()
	l.sweeping.RLock()
	defer l.sweeping.RUnlock()
	if before, ok := l.get(p.key()); ok {
		p.Port = before.Port // which it has until there is another
	}
	record := *p
	if err := l.write(&record); err != nil {
		return err
	}
	l.put(&record)
	err = l.make(ctx, ns, p)
	if err != nil {
		return errors.Join(err, l.unmake(context.WithoutCancel(ctx), p))
	}
	return nil
}

func (l *live) make(ctx context.Context, ns *netns.NS, p *Pod) error {
	port, err := l.cfg.Control.PodPort(ctx, l.cluster, p.KubePod)
	if err != nil {
		return fmt.Errorf("a port for the pod: %w", err)
	}
	known := *p
	known.Port = *port
	p.Port = *port
	if err := l.write(&known); err != nil {
		return err
	}
	l.put(&known)
	if err := l.apply(ctx); err != nil {
		return err
	}
	if err := l.admit(ctx, p); err != nil {
		return err
	}
	return l.wire(ns, p)
}

func (l *live) put(p *Pod) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pods[p.key()] = p
}

func (l *live) get(key string) (Pod, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, ok := l.pods[key]
	if !ok {
		return Pod{}, false
	}
	return *p, true
}

// delete takes a pod's device. Absent is fine.
func (l *live) delete(ctx context.Context, key string) error {
	l.sweeping.RLock()
	defer l.sweeping.RUnlock()
	p, ok := l.get(key)
	if !ok {
		return nil
	}
	return l.unmake(ctx, &p)
}

// dropLimit bounds how long a runtime waits for the control plane, when it deletes.
const dropLimit = 3 * time.Second

// unmake takes all of a pod. Its port may outlast that, until the control plane answers.
func (l *live) unmake(ctx context.Context, p *Pod) error {
	gone := *p
	gone.Gone = true
	if err := l.write(&gone); err != nil {
		return err
	}
	if err := l.unwire(p); err != nil {
		return err
	}
	l.put(&gone)
	if err := l.apply(ctx); err != nil {
		return err
	}
	if g := l.guarded(); g != nil {
		if err := l.enforce(ctx, g); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, dropLimit)
	defer cancel()
	if err := l.giveBack(ctx, &gone); err != nil {
		l.cfg.Log.Info("a pod's port is given back later", "cluster", l.cluster, "port", p.Port.ID, "err", err)
	}
	return nil
}

// giveBack removes a pod's port, and then its record.
func (l *live) giveBack(ctx context.Context, p *Pod) error {
	if p.Port.ID != "" {
		if err := l.cfg.Control.DropPodPort(ctx, l.cluster, p.Port.ID); err != nil {
			return err
		}
	}
	return l.forget(p)
}
