// Command strata-shim stands behind each container, so that it outlives strata, is the
// first process in those with --init, shows them volumes, connects pods, and has them pull images. Strata starts it; it is of no use by hand.
package main

import (
	"context"
	"os"
	"path"

	"github.com/strata-cloud/strata/internal/blockdev/fsmount/fusefile"
	"github.com/strata-cloud/strata/internal/container/reaper"
	"github.com/strata-cloud/strata/internal/container/shim"
	"github.com/strata-cloud/strata/internal/kube/cni"
	"github.com/strata-cloud/strata/internal/kube/credentials"
)

func main() {
	if path.Base(os.Args[0]) == path.Base(reaper.Path) {
		os.Exit(reaper.Main(os.Args[1:], os.Stderr))
	}
	if path.Base(os.Args[0]) == cni.Program {
		os.Exit(cni.Main(os.Getenv, os.Stdin, os.Stdout))
	}
	if path.Base(os.Args[0]) == credentials.Program {
		os.Exit(credentials.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	if len(os.Args) > 1 && os.Args[1] == fusefile.Verb {
		os.Exit(fusefile.Main(context.Background(), os.Args[2:], os.Stderr))
	}
	shim.Main(context.Background())
}
