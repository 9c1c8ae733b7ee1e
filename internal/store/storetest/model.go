package storetest

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/store"
)

var errAbort = errors.New("abort")

// testModel compares random transactions with a map.
func testModel(t *testing.T, open Open) {
	w, ctx := started(t, open), Context(t)
	model := map[string]port{}
	rapid.Check(t, func(rt *rapid.T) {
		next := maps.Clone(model)
		type op struct {
			verb int
			p    port
		}
		var ops []op
		for range rapid.IntRange(1, 6).Draw(rt, "ops") {
			p := port{
				ID:      rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(rt, "id"),
				Network: rapid.SampledFrom([]string{"", "n1", "n2"}).Draw(rt, "network"),
				MAC:     rapid.SampledFrom([]string{"", "m1", "m2", "m3"}).Draw(rt, "mac"),
			}
			ops = append(ops, op{rapid.IntRange(0, 3).Draw(rt, "verb"), p})
		}
		abort := rapid.IntRange(0, 4).Draw(rt, "abort") == 0
		err := w.db.Txn(ctx, func(tx *store.Tx) error {
			next = maps.Clone(model)
			for _, o := range ops {
				got := applyReal(w, tx, o.verb, o.p)
				if want := applyModel(next, o.verb, o.p); got != want {
					rt.Fatalf("op %+v: %q, model says %q", o, got, want)
				}
				compare(rt, next, w.ports.TxBy(tx, "network", o.p.Network), o.p.Network, w.ports.TxCount(tx, "network", o.p.Network))
			}
			if abort {
				return errAbort
			}
			return nil
		})
		if abort != errors.Is(err, errAbort) || !abort && err != nil {
			rt.Fatal(err)
		}
		if !abort {
			model = next
		}
		for _, n := range []string{"n1", "n2"} {
			compare(rt, model, w.ports.By("network", n), n, w.ports.Count("network", n))
		}
		if w.ports.Len() != len(model) {
			rt.Fatalf("%d records, model has %d", w.ports.Len(), len(model))
		}
		for _, m := range []string{"m1", "m2", "m3"} {
			p, ok := w.ports.Unique("mac", m)
			if holder := macHolder(model, m); ok != (holder != "") || ok && p.ID != holder {
				rt.Fatalf("mac %s: %v, model says %q", m, p, holder)
			}
		}
	})
}

func macHolder(model map[string]port, mac string) string {
	for id, p := range model {
		if p.MAC == mac {
			return id
		}
	}
	return ""
}

func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errs.Is(err, errs.NotFound):
		return "absent"
	case errs.Is(err, errs.Conflict):
		return "conflict"
	}
	return err.Error()
}

func applyReal(w *world, tx *store.Tx, verb int, p port) string {
	switch verb {
	case 0:
		return outcome(w.ports.TxCreate(tx, &p))
	case 1:
		return outcome(w.ports.TxPut(tx, &p))
	case 2:
		_, err := w.ports.TxUpdate(tx, p.ID, func(x *port) error { x.MAC = p.MAC; return nil })
		return outcome(err)
	default:
		return outcome(w.ports.TxDelete(tx, p.ID))
	}
}

func applyModel(model map[string]port, verb int, p port) string {
	have, exists := model[p.ID]
	switch {
	case verb == 0 && exists:
		return "conflict"
	case verb >= 2 && !exists:
		return "absent"
	case verb == 3:
		delete(model, p.ID)
		return "ok"
	case verb == 2:
		have.MAC = p.MAC
		p = have
	}
	if holder := macHolder(model, p.MAC); p.MAC != "" && holder != "" && holder != p.ID {
		return "conflict"
	}
	model[p.ID] = p
	return "ok"
}

func compare(rt *rapid.T, model map[string]port, got []*port, network string, count int) {
	var want []string
	for _, id := range slices.Sorted(maps.Keys(model)) {
		if network != "" && model[id].Network == network {
			want = append(want, id)
		}
	}
	have := []string{}
	for _, p := range got {
		have = append(have, p.ID)
	}
	if !slices.Equal(want, have) || count != len(want) {
		rt.Fatalf("network %q: %v (count %d), model says %v", network, have, count, want)
	}
}

// testContention lets writers fight optimistically for one record.
func testContention(t *testing.T, open Open) {
	w, ctx := started(t, open), Context(t)
	must(t, w.counters.Create(ctx, &counter{ID: "c"}))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				if _, err := w.counters.Update(ctx, "c", func(c *counter) error { c.N++; return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if c, _ := w.counters.Get("c"); c.N != 80 {
		t.Errorf("%d of 80 increments", c.N)
	}
}

// testUpgrade reads records that an older program wrote, and refuses newer ones.
func testUpgrade(t *testing.T, open Open) {
	b, ctx := backend(t, open), Context(t)
	put(t, b, "/v1/net/disk/00/d1", `{"v":1,"body":{"id":"d1","gb":3}}`)
	db, disks := openDisks(t, b)
	must(t, db.Start(ctx))
	if d, err := disks.Get("d1"); err != nil || d.Bytes != 3<<30 {
		t.Errorf("upgraded record: %+v, %v", d, err)
	}
	put(t, b, "/v1/net/disk/00/d2", `{"v":7,"body":{"id":"d2"}}`)
	late, _ := openDisks(t, b)
	err := late.Start(ctx)
	if want := "version 7 but this program knows versions up to 2"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a record of the future: %v, want %q", err, want)
	}
}

// disk is a kind in its second version: gigabytes became bytes.
type disk struct {
	ID    string `json:"id"`
	Bytes int64  `json:"bytes"`
}

func openDisks(t *testing.T, b store.Backend) (*store.DB, *store.Collection[disk]) {
	db, err := store.Open(Context(t), store.Options{Backend: shared{b}, Log: Quiet()})
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	return db, store.Register(db, store.Schema[disk]{
		Service: "net", Kind: "disk", ID: func(d *disk) string { return d.ID }, Version: 2,
		Upgrade: []func(json.RawMessage) (json.RawMessage, error){func(in json.RawMessage) (json.RawMessage, error) {
			var old struct {
				ID string `json:"id"`
				GB int64  `json:"gb"`
			}
			if err := json.Unmarshal(in, &old); err != nil {
				return nil, err
			}
			return json.Marshal(disk{ID: old.ID, Bytes: old.GB << 30})
		}},
	})
}

// shared is a backend that several stores use: closing one leaves it open.
type shared struct{ store.Backend }

func (shared) Close() error { return nil }
