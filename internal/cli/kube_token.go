package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/spf13/cobra"

	"github.com/strata-cloud/strata/internal/region"
)

// credentialVersion is the version of what kubectl and its plugins say to each other.
const credentialVersion = "client.authentication.k8s.io/v1"

func (a *app) kubeToken() *cobra.Command {
	var cloud string
	c := &cobra.Command{Use: "kube-token", Short: "Log in for kubectl, as its credential plugin", Args: cobra.NoArgs,
		Long: "Log in and print the token as kubectl and other clients of Kubernetes want it of a credential plugin (ExecCredential). strata cluster kubeconfig writes a file that has them run it. " +
			"The credentials are those of an entry of clouds.yaml, or of the variables OS_AUTH_URL, OS_USERNAME and so on. Nothing is written to disk.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			entry, named, err := a.credentials(cloud, cmd.Flags().Changed("cloud"), os.Environ())
			if err != nil {
				return err
			}
			return a.explain(a.printToken(cmd.Context(), entry, named))
		}}
	c.Flags().StringVar(&cloud, "cloud", "strata-demo", "entry of clouds.yaml whose project to use (default: what OS_* variables say, then strata-demo)")
	return c
}

// credentials are those of an entry of clouds.yaml that is named, or of the environment.
func (a *app) credentials(cloud string, chosen bool, environ []string) (entry region.Cloud, named string, err error) {
	vars := map[string]string{}
	for _, v := range environ {
		if k, value, ok := strings.Cut(v, "="); ok && strings.HasPrefix(k, "OS_") {
			vars[k] = value
		}
	}
	if chosen || vars["OS_AUTH_URL"] == "" {
		entry, err = a.cloud(cloud)
		return entry, cloud, err
	}
	entry = region.Cloud{Auth: map[string]string{}, RegionName: vars["OS_REGION_NAME"], CACert: vars["OS_CACERT"]}
	for _, k := range slices.Sorted(maps.Keys(vars)) {
		entry.Auth[strings.ToLower(strings.TrimPrefix(k, "OS_"))] = vars[k]
	}
	return entry, vars["OS_AUTH_URL"], nil
}

// credential is an ExecCredential.
type credential struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Status     struct {
		Expires string `json:"expirationTimestamp"`
		Token   string `json:"token"`
	} `json:"status"`
}

// early is how long before its end kubectl gives up a token.
const early = time.Minute

func (a *app) printToken(ctx context.Context, entry region.Cloud, named string) error {
	p, err := login(ctx, entry)
	if err != nil {
		return fmt.Errorf("logging in to %s: %w", named, err)
	}
	t, err := issuedToken(p)
	if err != nil {
		return err
	}
	if t.project == "" {
		return usageError{fmt.Errorf("%s logs in to no project, and clusters are of projects", named)}
	}
	c := credential{APIVersion: credentialVersion, Kind: "ExecCredential"}
	c.Status.Token, c.Status.Expires = p.Token(), t.expires.Add(-early).UTC().Format(time.RFC3339)
	raw, err := json.Marshal(c)
	if err != nil {
		return err
	}
	a.printf("%s\n", raw)
	return nil
}

// issued is what is said of a token when it is issued.
type issued struct {
	project string // "": none
	expires time.Time
}

func issuedToken(p *gophercloud.ProviderClient) (issued, error) {
	r, ok := p.GetAuthResult().(tokens.CreateResult)
	if !ok {
		return issued{}, fmt.Errorf("the login gave no token of identity v3")
	}
	t, err := r.ExtractToken()
	if err != nil {
		return issued{}, err
	}
	project, err := r.ExtractProject()
	if err != nil {
		return issued{}, err
	}
	out := issued{expires: t.ExpiresAt}
	if project != nil {
		out.project = project.ID
	}
	return out, nil
}
