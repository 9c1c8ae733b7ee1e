// Command strata-worker has a server work for a cluster of Kubernetes. It is a service of the
// guest image kube-worker; it is of no use by hand.
package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/strata-cloud/strata/internal/serverworker"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	err := serverworker.Run(ctx, serverworker.Options{UserData: "/var/lib/strata/user-data", Dir: "/var/lib/strata", Run: "/run/strata", Programs: "/usr/lib/strata", Log: log})
	if err != nil && ctx.Err() == nil {
		log.Error("this server cannot work for a cluster", "err", err)
		os.Exit(1)
	}
}
