package component

import (
	"github.com/spf13/cobra"
	genericapiserver "k8s.io/apiserver/pkg/server"
	metrics "sigs.k8s.io/metrics-server/cmd/metrics-server/app"
)

// metricsServer tells what nodes and pods take, to kubectl top and to autoscalers.
func metricsServer() *cobra.Command {
	return metrics.NewMetricsServerCommand(genericapiserver.SetupSignalHandler())
}
