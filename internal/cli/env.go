package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/strata-cloud/strata/internal/region"
)

func (a *app) env() *cobra.Command {
	var cloud string
	c := &cobra.Command{Use: "env", Short: "Print export lines for the openstack command", Args: cobra.NoArgs,
		Example: "  eval \"$(strata env)\"\n  openstack server list",
		RunE: func(*cobra.Command, []string) error {
			entry, err := a.cloud(cloud)
			if err != nil {
				return err
			}
			vars := map[string]string{"OS_REGION_NAME": entry.RegionName, "OS_INTERFACE": entry.Interface, "OS_IDENTITY_API_VERSION": entry.APIVersion}
			if entry.CACert != "" {
				vars["OS_CACERT"] = entry.CACert
			}
			for k, v := range entry.Auth {
				vars["OS_"+strings.ToUpper(k)] = v
			}
			for _, k := range slices.Sorted(maps.Keys(vars)) {
				a.printf("export %s='%s'\n", k, strings.ReplaceAll(vars[k], "'", `'\''`))
			}
			return nil
		}}
	c.Flags().StringVar(&cloud, "cloud", "strata", "entry of clouds.yaml: strata (admin), strata-demo or strata-system")
	return c
}

// cloud reads an entry of clouds.yaml.
func (a *app) cloud(name string) (region.Cloud, error) {
	file := a.path(region.CloudsFile)
	clouds, err := region.ReadClouds(file)
	if err != nil {
		return region.Cloud{}, fmt.Errorf("there is no cloud in %s: start one with strata up --data-dir %s (%w)", a.dataDir, a.dataDir, err)
	}
	entry, ok := clouds.Clouds[name]
	if !ok {
		return entry, usageError{fmt.Errorf("%s has no cloud %q: it has %s", file, name, strings.Join(slices.Sorted(maps.Keys(clouds.Clouds)), ", "))}
	}
	return entry, nil
}
