package store_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/strata-cloud/strata/internal/store"
)

func newVM(i int64) *vm {
	return &vm{
		ID: fmt.Sprintf("%016x", uint64(i)*0x9e3779b97f4a7c15), Name: fmt.Sprint("server-", i),
		Project: fmt.Sprint("project-", i%500), Host: fmt.Sprint("node-", i%1000),
		Meta: map[string]string{"role": "web", "stage": "production", "owner": "someone@example.org"},
		Note: "a description of about the length that people give to their servers, so that the record weighs as much as a real one",
	}
}

func backends(b *testing.B, fn func(b *testing.B, open func() store.Backend)) {
	b.Run("memory", func(b *testing.B) { fn(b, store.NewMemory) })
	b.Run("etcd", func(b *testing.B) {
		fn(b, func() store.Backend { return openEtcd(b, b.TempDir()) })
	})
}

func BenchmarkCreate(b *testing.B) {
	backends(b, func(b *testing.B, open func() store.Backend) {
		db, vms := openVMs(b, open())
		defer closeDB(b, db)
		i := int64(0)
		for b.Loop() {
			i++
			if err := vms.Create(context.Background(), newVM(i)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkCreateParallel32(b *testing.B) {
	backends(b, func(b *testing.B, open func() store.Backend) {
		db, vms := openVMs(b, open())
		defer closeDB(b, db)
		var i atomic.Int64
		b.SetParallelism(16) // times 2 processors
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := vms.Create(context.Background(), newVM(i.Add(1))); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// BenchmarkLedger32 lets 32 callers claim from one quota: count, then create.
func BenchmarkLedger32(b *testing.B) {
	backends(b, func(b *testing.B, open func() store.Backend) {
		db, vms := openVMs(b, open())
		defer closeDB(b, db)
		l := db.Ledger("quota")
		var i atomic.Int64
		b.SetParallelism(16)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				v := newVM(i.Add(1))
				v.Project = "hot"
				err := l.Do(context.Background(), func(tx *store.Tx) error {
					if vms.TxCount(tx, "project", "hot") > 1<<40 {
						return fmt.Errorf("quota")
					}
					return vms.TxCreate(tx, v)
				})
				if err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// fill puts n records into a backend without going through a store.
func fill(b *testing.B, back store.Backend, n int64) {
	db, vms := openVMs(b, kept{back})
	defer closeDB(b, db)
	for i := int64(0); i < n; i += 500 {
		err := db.Txn(context.Background(), func(tx *store.Tx) error {
			for j := range int64(500) {
				if err := vms.TxCreate(tx, newVM(i+j)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// kept is a backend that outlives the store on it.
type kept struct{ store.Backend }

func (kept) Close() error { return nil }

func BenchmarkRead(b *testing.B) {
	back := store.NewMemory()
	fill(b, back, 100_000)
	db, vms := openVMs(b, back)
	defer closeDB(b, db)
	id := newVM(77).ID
	b.Run("Get", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := vms.Get(id); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("By200", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if len(vms.By("project", "project-7")) != 200 {
				b.Fatal("wrong answer")
			}
		}
	})
	b.Run("Count", func(b *testing.B) {
		for b.Loop() {
			vms.Count("project", "project-7")
		}
	})
	b.Run("All100k", func(b *testing.B) {
		for b.Loop() {
			vms.All()
		}
	})
	b.Run("UpdateMemory", func(b *testing.B) {
		i := 0
		for b.Loop() {
			i++
			if _, err := vms.Update(context.Background(), id, func(v *vm) error { v.Note = fmt.Sprint(i); return nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkLoad100k is the cold fill of the cache.
func BenchmarkLoad100k(b *testing.B) {
	backends(b, func(b *testing.B, open func() store.Backend) {
		back := open()
		defer back.Close()
		fill(b, back, 100_000)
		for b.Loop() {
			db, vms := openVMs(b, kept{back})
			if vms.Len() != 100_000 {
				b.Fatal("not everything was loaded")
			}
			closeDB(b, db)
		}
	})
}

// BenchmarkOpenEtcd is the cold start of the store of a small cloud.
func BenchmarkOpenEtcd(b *testing.B) {
	dir := b.TempDir()
	back := openEtcd(b, dir)
	fill(b, back, 1000)
	if err := back.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		db, _ := openVMs(b, openEtcd(b, dir))
		b.StopTimer()
		closeDB(b, db)
		b.StartTimer()
	}
}

// BenchmarkFollowers1000 changes a record while a thousand nodes each follow their own.
func BenchmarkFollowers1000(b *testing.B) {
	db, vms := openVMs(b, store.NewMemory())
	defer closeDB(b, db)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	synced := make(chan struct{})
	for i := range 1000 {
		go func() {
			for ev := range vms.WatchBy(ctx, "host", fmt.Sprint("node-", i)) {
				if ev.Type == store.Synced {
					synced <- struct{}{}
				}
			}
		}()
	}
	for range 1000 {
		<-synced
	}
	i := int64(0)
	for b.Loop() {
		i++
		if err := vms.Create(ctx, newVM(i)); err != nil {
			b.Fatal(err)
		}
	}
}
