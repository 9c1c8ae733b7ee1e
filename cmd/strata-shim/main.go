// Command strata-shim stands behind each container, so that it outlives strata, and
// is the first process in those with --init. Strata starts it; it is of no use by hand.
package main

import (
	"context"
	"os"
	"path"

	"github.com/strata-cloud/strata/internal/container/reaper"
	"github.com/strata-cloud/strata/internal/container/shim"
)

func main() {
	if path.Base(os.Args[0]) == path.Base(reaper.Path) {
		os.Exit(reaper.Main(os.Args[1:], os.Stderr))
	}
	shim.Main(context.Background())
}
