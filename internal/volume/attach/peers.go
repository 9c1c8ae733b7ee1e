package attach

import (
	"context"
	"crypto/rand"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// filesDriver is the driver whose volumes only their own node has; what other
// drivers keep every node reaches by itself.
const filesDriver = "local"

// exportWait bounds the wait for a node to let another host in.
const exportWait = 30 * time.Second

// Admit lets another host reach the attachment's volume too, beside those that do:
// its server is about to move there. Connect names the one that stays.
func (s *Service) Admit(ctx context.Context, id, host string) (*block.Attachment, error) {
	return s.Change(ctx, id, func(v *block.Volume, a *block.Attachment) error { return admit(v, a, host) })
}

// keepOnly has no other host reach the volume.
func keepOnly(v *block.Volume, a *block.Attachment, host string) error {
	a.Peers = slices.DeleteFunc(slices.Clone(a.Peers), func(p block.Peer) bool { return p.Host != host || v.Node != a.Keeper })
	return admit(v, a, host)
}

// without are the peers that are not among others.
func without(peers, others []block.Peer) []block.Peer {
	return slices.DeleteFunc(slices.Clone(peers), func(p block.Peer) bool {
		return slices.ContainsFunc(others, func(o block.Peer) bool { return o.User == p.User })
	})
}

// admit adds the host unless it is there, or has the volume's files itself.
func admit(v *block.Volume, a *block.Attachment, host string) error {
	a.Keeper = v.Node
	// Containers reach a volume by its export on its own node, too: it is who has it open.
	far := a.Compute && host != v.Node || a.Container
	if far && v.Driver == filesDriver && host != "" && peer(a, host) == nil {
		p := block.Peer{Host: host, User: uuid.NewString(), PSK: make([]byte, 32)}
		if _, err := rand.Read(p.PSK); err != nil {
			return err
		}
		a.Peers = append(slices.Clone(a.Peers), p)
	}
	if len(a.Peers) == 0 {
		a.Keeper = ""
	}
	return nil
}

func peer(a *block.Attachment, host string) *block.Peer {
	for i := range a.Peers {
		if a.Peers[i].Host == host {
			return &a.Peers[i]
		}
	}
	return nil
}

// Source is how a host reaches the attachment's volume, and the limits to hold it
// to. It waits until the node that keeps the volume lets the host in.
func (s *Service) Source(ctx context.Context, a *block.Attachment, host string) (*nodeapi.VolumeSource, *nodeapi.IOLimits, error) {
	v, err := s.Volumes.Get(a.VolumeID)
	if err != nil {
		return nil, nil, wire.NotFound("Volume", a.VolumeID)
	}
	src := &nodeapi.VolumeSource{VolumeRef: v.Ref(), Node: v.Node, Shared: v.Multiattach}
	if p := peer(a, host); p != nil {
		addr, err := s.awaitExport(ctx, a, p)
		if err != nil {
			return nil, nil, err
		}
		src.Key = nil // its node has it, and nobody else needs it
		src.Remote = &nodeapi.Remote{Addr: addr, User: p.User, PSK: p.PSK}
	}
	return src, s.Types.QoSOf(v.TypeID).Limits(v.SizeGiB), nil
}

// exported looks for a volume in what its node reports.
func (s *Service) exported(node, volume string) (nodeapi.ExportStatus, bool) {
	r, err := s.Nodes.Exports.Get(node)
	if err != nil {
		return nodeapi.ExportStatus{}, false
	}
	for _, e := range r.Exports {
		if e.Volume == volume {
			return e, true
		}
	}
	return nodeapi.ExportStatus{}, false
}

func (s *Service) awaitExport(ctx context.Context, a *block.Attachment, p *block.Peer) (string, error) {
	if _, err := s.Nodes.Conn(a.Keeper); err != nil {
		return "", errs.New(errs.Unavailable, "volume %s is kept on node %s: %w", a.VolumeID, a.Keeper, err)
	}
	ctx, cancel := context.WithTimeout(ctx, exportWait)
	defer cancel()
	changed := s.DB.Notify(ctx, "node/export")
	for {
		e, _ := s.exported(a.Keeper, a.VolumeID)
		if e.Fault == "" && slices.Contains(e.Users, p.User) {
			return e.Addr, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			err := fmt.Errorf("waiting for node %s to let host %s reach volume %s: %w", a.Keeper, p.Host, a.VolumeID, context.Cause(ctx))
			if e.Fault != "" {
				err = errs.New(errs.Internal, "%w: %s", err, e.Fault)
			}
			return "", err
		}
	}
}

// awaitClosed waits until the volume's node lets these hosts in no more, whose
// guests then write no more. A node that is away does so when it is back.
func (s *Service) awaitClosed(ctx context.Context, a *block.Attachment, gone []block.Peer) error {
	if len(gone) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, exportWait)
	defer cancel()
	changed := s.DB.Notify(ctx, "node/export")
	for {
		e, _ := s.exported(a.Keeper, a.VolumeID)
		in := slices.ContainsFunc(gone, func(p block.Peer) bool { return slices.Contains(e.Users, p.User) })
		if _, err := s.Nodes.Conn(a.Keeper); !in || err != nil {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for node %s to shut other hosts out of volume %s: %w", a.Keeper, a.VolumeID, context.Cause(ctx))
		}
	}
}

// shut has no host reach the volume by an attachment that is to end.
func (s *Service) shut(ctx context.Context, id string) error {
	var peers []block.Peer
	var before *block.Attachment
	err := s.DB.Txn(ctx, func(tx *store.Tx) error {
		a, err := s.Attachments.TxGet(tx, id)
		if err != nil || len(a.Peers) == 0 {
			return nil
		}
		before, peers = a, a.Peers
		_, err = s.Attachments.TxUpdate(tx, id, func(a *block.Attachment) error { a.Keeper, a.Peers = "", nil; return nil })
		return err
	})
	if err != nil || before == nil {
		return err
	}
	if err := s.awaitClosed(ctx, before, peers); err != nil && ctx.Err() == nil {
		s.Log.Warn("a volume is released that other hosts may still reach", "volume", before.VolumeID, "err", err)
	}
	return ctx.Err()
}

// Exports is what a node is to export, in order.
func (s *Service) Exports(node string) []nodeapi.Export {
	byVolume := map[string]*nodeapi.Export{}
	for _, a := range s.Attachments.By("keeper", node) {
		v, err := s.Volumes.Get(a.VolumeID)
		if err != nil || v.Node != node {
			continue
		}
		e := byVolume[v.ID]
		if e == nil {
			e = &nodeapi.Export{VolumeRef: v.Ref()}
			byVolume[v.ID] = e
		}
		for _, p := range a.Peers {
			c := nodeapi.ExportClient{User: p.User, PSK: p.PSK}
			if n, err := s.Nodes.Infos.Get(p.Host); err == nil {
				c.Addr = n.Addr
			}
			e.Clients = append(e.Clients, c)
		}
	}
	out := []nodeapi.Export{}
	for _, e := range byVolume {
		slices.SortFunc(e.Clients, func(a, b nodeapi.ExportClient) int { return strings.Compare(a.User, b.User) })
		out = append(out, *e)
	}
	slices.SortFunc(out, func(a, b nodeapi.Export) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// Watch streams what a node is to export, coalesced.
func (s *Service) Watch(ctx context.Context, node string) <-chan []nodeapi.Export {
	return store.Stream(ctx, s.DB, func() []nodeapi.Export { return s.Exports(node) }, "volume/attachment")
}

// Report writes what a node exports.
func (s *Service) Report(ctx context.Context, node string, list []nodeapi.ExportStatus) error {
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		if old, err := s.Nodes.Exports.TxGet(tx, node); err == nil && reflect.DeepEqual(old.Exports, list) {
			return nil
		}
		return s.Nodes.Exports.TxPut(tx, &nodeapi.ExportReport{Node: node, Exports: list})
	})
}
