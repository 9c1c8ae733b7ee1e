package podnet

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/strata-cloud/strata/internal/kube/cni"
	"github.com/strata-cloud/strata/internal/netns"
)

// forget removes the record of a pod that is gone, unless there is a newer one.
func (l *live) forget(p *Pod) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now, ok := l.pods[p.key()]; ok && !now.Gone {
		return nil
	}
	if err := os.Remove(filepath.Join(l.dir, p.key()+recordExt)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	delete(l.pods, p.key())
	return nil
}

func (l *live) all() []Pod {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Pod, 0, len(l.pods))
	for _, p := range l.pods {
		out = append(out, *p)
	}
	return out
}

// collect removes the pods that are not among those that there are.
func (l *live) collect(ctx context.Context, valid []cni.Attachment) error {
	var all []error
	for _, p := range l.all() {
		if !slices.Contains(valid, cni.Attachment{ContainerID: p.Sandbox, IfName: p.Device}) {
			all = append(all, l.delete(ctx, p.key()))
		}
	}
	return errors.Join(all...)
}

// compareEvery is how often ports are compared with records.
const compareEvery = time.Minute

// sweep removes what is left of pods whose namespace is gone, gives back the ports of those
// that were deleted while the control plane was away and, now and then, all ports that no
// record knows.
func (l *live) sweep(ctx context.Context) {
	limit, cancel := context.WithTimeout(ctx, dropLimit)
	defer cancel()
	for _, p := range l.all() {
		var err error
		if p.Gone {
			err = l.giveBack(limit, &p)
		} else if lost(&p) {
			err = l.delete(ctx, p.key())
		}
		if err != nil {
			l.cfg.Log.Warn("a pod that is gone", "cluster", l.cluster, "sandbox", p.Sandbox, "err", err)
			return // again later
		}
	}
	if time.Since(l.swept) < compareEvery {
		return
	}
	if err := l.compare(ctx); err != nil {
		l.cfg.Log.Warn("ports of pods that are gone", "cluster", l.cluster, "err", err)
		return
	}
	l.swept = time.Now()
}

// lost tells whether a pod's namespace is there no more.
func lost(p *Pod) bool {
	ns, err := netns.OpenFile(p.Sandbox, p.Netns)
	if err == nil {
		ns.Close()
	}
	return errors.Is(err, fs.ErrNotExist)
}

// compare gives back the ports that no record knows.
func (l *live) compare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dropLimit)
	defer cancel()
	l.sweeping.Lock() // nobody is between a record and its port
	defer l.sweeping.Unlock()
	ids, err := l.cfg.Control.PodPorts(ctx, l.cluster)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, p := range l.all() {
		known[p.Port.ID] = true
	}
	for _, id := range ids {
		if !known[id] {
			err = errors.Join(err, l.cfg.Control.DropPodPort(ctx, l.cluster, id))
		}
	}
	return err
}
