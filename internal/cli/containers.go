package cli

import (
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/strata-cloud/strata/internal/region"
)

// defaultDockerLife is how long a docker client's certificate lasts.
const defaultDockerLife = 365 * 24 * time.Hour

func (a *app) containers() *cobra.Command {
	var name string
	var life time.Duration
	cert := &cobra.Command{Use: "cert DIR", Short: "Make a certificate for docker's clients on other machines", Args: cobra.ExactArgs(1),
		Long: "Make a certificate for docker's clients on other machines: DIR gets ca.pem, cert.pem and key.pem. Who has them is root on the engine's machine:\n" +
			"they cannot be taken back before they expire but by a new authority. The engine listens with strata up --containers-listen ADDRESS:2376.",
		RunE: func(_ *cobra.Command, args []string) error {
			dir, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			if err := region.DockerCert(a.dataDir, dir, name, life); err != nil {
				return err
			}
			out := table{}
			out.add("certificate", dir)
			out.add("expires", time.Now().Add(life).Format(time.RFC1123))
			out.add("on the other machine", "export DOCKER_HOST=tcp://ADDRESS:2376 DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH="+dir)
			return a.show(map[string]any{"dir": dir, "name": name, "expires": time.Now().Add(life)}, out)
		}}
	cert.Flags().StringVar(&name, "name", "docker", "whose it is")
	cert.Flags().DurationVar(&life, "life", defaultDockerLife, "how long it is good for")
	c := &cobra.Command{Use: "containers", Short: "Let docker's clients use this machine's container engine, or the cloud's"}
	c.AddCommand(cert, a.containersContext())
	return c
}
