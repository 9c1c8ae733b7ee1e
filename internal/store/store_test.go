package store_test

import (
	"testing"

	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/store/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Run(t, func(testing.TB) store.Backend { return store.NewMemory() })
}
