// Command strata-csi is Kubernetes' controllers of volumes, beside a control plane: see
// package volumes.
package main

import (
	"context"
	"os"

	"github.com/strata-cloud/strata/csi/internal/volumes"
)

func main() { os.Exit(volumes.Main(context.Background(), os.Args)) }
