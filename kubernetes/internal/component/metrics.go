package component

import (
	"os"

	"github.com/spf13/cobra"
	genericapiserver "k8s.io/apiserver/pkg/server"
	metrics "sigs.k8s.io/metrics-server/cmd/metrics-server/app"
)

// metricsServer tells what nodes and pods take, to kubectl top and to autoscalers. With --gate
// it reaches kubelets as the API server does, by the proxy at that socket, but what the
// environment's NO_PROXY names.
func metricsServer() *cobra.Command {
	cmd := metrics.NewMetricsServerCommand(genericapiserver.SetupSignalHandler())
	gate := cmd.Flags().String("gate", "", "The unix socket of the proxy by which kubelets are reached.")
	run := cmd.RunE
	cmd.RunE = func(c *cobra.Command, args []string) error {
		if *gate != "" {
			p, err := newGateProxy(*gate)
			if err != nil {
				return err
			}
			defer p.close()
			if err := os.Setenv("HTTPS_PROXY", p.url.String()); err != nil {
				return err
			}
		}
		return run(c, args)
	}
	return cmd
}
