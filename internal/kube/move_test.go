package kube

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kube/authority"
)

const movedCluster = "0b7e2c1e-0d0f-4f0e-9a0a-000000000001"

// TestAdopt has a control plane begin on another machine with a copy, and takes no older one.
func TestAdopt(t *testing.T) {
	set, err := authority.New("one")
	if err != nil {
		t.Fatal(err)
	}
	c := &Control{ID: movedCluster, Name: "one", Address: netip.MustParseAddrPort("127.0.0.1:6443"),
		Services: []netip.Prefix{netip.MustParsePrefix("10.254.0.0/16")}, EtcdPort: freePair(t), Authorities: *set}
	before, after := machine(t), machine(t)
	before.Copies = &Copies{Dir: t.TempDir()}
	after.Copies = &Copies{Dir: t.TempDir(), Fetch: func(_ context.Context, name string, w io.Writer) error {
		r, err := before.Copies.Open(name)
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.Copy(w, r)
		return err
	}}
	one := before.plane(c)
	if err := one.write(); err != nil {
		t.Fatal(err)
	}
	stop := one.serve(t)
	var names []string
	for _, value := range []string{"first", "second"} {
		one.client(t, func(k *clientv3.Client) { put(t, k, value) })
		name, err := before.Copies.Make(t.Context(), before.Dir, c.ID)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	stop()

	began := func(state, want string) {
		t.Helper()
		c.State = state
		two := after.plane(c)
		if err := after.adopt(t.Context(), two); err != nil {
			t.Fatal(err)
		}
		defer two.restored(t)()
		two.client(t, func(k *clientv3.Client) {
			r, err := k.Get(t.Context(), "/registry/a")
			if err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != want {
				t.Errorf("having begun with %s there is %v, %v, want %s", state, r, err, want)
			}
		})
	}
	began(names[0], "first")
	began(names[1], "second")
	began(names[0], "second") // an older copy than that which it began with
	c.State = CopyName(c.ID, time.Now())
	if err := after.adopt(t.Context(), after.plane(c)); !errs.Is(err, errs.NotFound) {
		t.Errorf("a copy that nobody has: %v", err)
	}
	began(names[1], "second") // what cannot be had takes nothing away
}

// TestCopies keeps the newest few of each cluster that there is.
func TestCopies(t *testing.T) {
	c := &Copies{Dir: filepath.Join(t.TempDir(), "copies")}
	if list, err := c.List(); err != nil || len(list) != 0 {
		t.Errorf("at first there are %v, %v", list, err)
	}
	const other = "0b7e2c1e-0d0f-4f0e-9a0a-000000000002"
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range 4 {
		for _, id := range []string{movedCluster, other} {
			name := CopyName(id, at.Add(time.Duration(i)*time.Millisecond))
			if err := c.Keep(name, func(w io.Writer) error { _, err := io.WriteString(w, name); return err }); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := c.Prune(func(id string) bool { return id == movedCluster }, 3); err != nil {
		t.Fatal(err)
	}
	list, err := c.List()
	if err != nil || len(list) != 3 || list[0].Name != movedCluster+"-20260102T030405.003Z.snapshot" || slices.ContainsFunc(list, func(x Copy) bool { return x.Cluster == other }) {
		t.Errorf("there are left %v, %v", list, err)
	}
	r, err := c.Open(list[0].Name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if raw, err := io.ReadAll(r); err != nil || string(raw) != list[0].Name {
		t.Errorf("it holds %q, %v", raw, err)
	}
	for _, name := range []string{"", "../x", "x-20260102T030405.003Z.snapshot", movedCluster + ".snapshot", movedCluster + "-20260102T030405.003Z.snapshot.part"} {
		if _, err := c.Open(name); !errs.Is(err, errs.NotFound) {
			t.Errorf("%q is opened: %v", name, err)
		}
		if err := c.Keep(name, func(io.Writer) error { return nil }); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q is kept: %v", name, err)
		}
	}
	whole := CopyName(movedCluster, at.Add(time.Hour))
	if err := c.Keep(whole, func(w io.Writer) error {
		_, err := w.Write([]byte("half"))
		return errors.Join(err, io.ErrUnexpectedEOF)
	}); err == nil {
		t.Error("half a copy is kept")
	}
	if left, err := os.ReadDir(c.Dir); err != nil || len(left) != 3 {
		t.Errorf("half a copy leaves %v, %v", left, err)
	}
}
