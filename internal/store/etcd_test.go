package store_test

import (
	"testing"

	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/store/storetest"
)

func openEtcd(t testing.TB, dir string) store.Backend {
	t.Helper()
	b, err := store.NewEtcd(storetest.Context(t), store.EtcdOptions{Dir: dir, Log: storetest.Quiet()})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEtcd(t *testing.T) {
	storetest.Run(t, func(t testing.TB) store.Backend { return openEtcd(t, t.TempDir()) })
}
