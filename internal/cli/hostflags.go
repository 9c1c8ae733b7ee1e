package cli

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/strata-cloud/strata/internal/region"
)

// hostFlags are about what this machine lends the cloud, whatever else it is there.
func hostFlags(c *cobra.Command, cfg *region.Config) {
	c.Flags().StringToStringVar(&cfg.VolumePools, "volume-pool", nil, "one more pool of volumes, NAME=DIR; is kept, and types choose it by volume_backend_name=NAME")
	c.Flags().StringVar(&cfg.CephPool, "ceph-pool", "", "a pool of Ceph for volumes, USER@POOL; is kept, and types choose it by volume_backend_name=rbd")
	c.Flags().StringVar(&cfg.CephConf, "ceph-conf", region.DefaultCephConf, "Ceph's configuration, with the user's key beside it in ceph.client.USER.keyring")
	c.Flags().StringVar(&cfg.Containers, "containers", region.ContainersAuto, "a container engine for docker: auto (when runc is installed), on or off")
	c.Flags().StringVar(&cfg.ContainersListen, "containers-listen", "", "address for docker's clients from elsewhere, ADDRESS:PORT (port 2376 is usual), which need a certificate of strata containers cert; none can without")
	c.Flags().StringVar(&cfg.ContainersRemap, "containers-userns-remap", "", "run containers in user namespaces, with the ids that /etc/subuid and /etc/subgid give to USER[:GROUP], or to dockremap if it is default; new ones only, and not with docker run --userns host")
	c.Flags().StringToStringVar(&cfg.ProviderNetworks, "provider-network", nil, "lend this machine's device to flat and VLAN networks on the physical network, NAME=DEVICE; public=DEVICE: to the external one. Is kept; NAME= takes it back")
}

// mirrorFlag is for machines that have the control plane, or may get it.
func mirrorFlag(c *cobra.Command, cfg *region.Config) {
	c.Flags().StringToStringVar(&cfg.RegistryMirrors, "registry-mirror", nil, "bring images of another registry in by way of the cloud's and keep them there, NAME=URL, such as docker.io=https://registry.example.com. Is kept; NAME= takes it back")
	c.Flags().IntVar(&cfg.RegistryMirrorGiB, "registry-mirror-gib", 0, "how much is kept of mirrored images; default 50")
}

// hostArgs are the flags for a process that is started in this one's place.
func hostArgs(cfg *region.Config) (args []string) {
	if cfg.Containers != "" {
		args = append(args, "--containers", cfg.Containers)
	}
	if cfg.ContainersListen != "" {
		args = append(args, "--containers-listen", cfg.ContainersListen)
	}
	if cfg.ContainersRemap != "" {
		args = append(args, "--containers-userns-remap", cfg.ContainersRemap)
	}
	for name, dir := range cfg.VolumePools {
		args = append(args, "--volume-pool", name+"="+dir)
	}
	for name, device := range cfg.ProviderNetworks {
		args = append(args, "--provider-network", name+"="+device)
	}
	for name, url := range cfg.RegistryMirrors {
		args = append(args, "--registry-mirror", name+"="+url)
	}
	if cfg.RegistryMirrorGiB > 0 {
		args = append(args, "--registry-mirror-gib", strconv.Itoa(cfg.RegistryMirrorGiB))
	}
	if cfg.CephPool != "" {
		args = append(args, "--ceph-pool", cfg.CephPool, "--ceph-conf", cfg.CephConf)
	}
	return args
}
