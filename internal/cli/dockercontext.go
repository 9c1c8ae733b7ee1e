package cli

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/applicationcredentials"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/spf13/cobra"

	"github.com/strata-cloud/strata/internal/region"
)

// contextOptions are what a context of docker's is made of.
type contextOptions struct{ name, cloud, dir string }

func (a *app) containersContext() *cobra.Command {
	var o contextOptions
	c := &cobra.Command{Use: "context", Short: "Write a context with which docker runs containers in the cloud", Args: cobra.NoArgs,
		Long: "Makes an application credential, and writes a directory of docker's configuration with a context that uses it. Docker sends the\n" +
			"headers of a configuration to every daemon that it speaks to: keep the directory for the cloud alone.",
		Example: "  export DOCKER_CONFIG=$(strata containers context)\n  docker --context strata run --rm demo/web",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.dir == "" {
				o.dir = a.path("docker-" + o.name)
			}
			if err := a.writeContext(cmd.Context(), o); err != nil {
				return err
			}
			a.printf("%s\n", o.dir)
			return nil
		}}
	c.Flags().StringVar(&o.name, "name", "strata", "name of the context")
	c.Flags().StringVar(&o.cloud, "cloud", "strata-demo", "entry of clouds.yaml: whose containers")
	c.Flags().StringVar(&o.dir, "config", "", "docker's directory to write to (DOCKER_CONFIG); default: docker-NAME in the data directory")
	return c
}

func (a *app) writeContext(ctx context.Context, o contextOptions) error {
	entry, err := a.cloud(o.cloud)
	if err != nil {
		return err
	}
	at, err := url.Parse(entry.Auth["auth_url"])
	if err != nil {
		return err
	}
	cred, err := a.newCredential(ctx, entry, o.name)
	if err != nil {
		return a.explain(err)
	}
	id := sha256.Sum256([]byte(o.name))
	sub := hex.EncodeToString(id[:])
	files := map[string]any{
		"config.json": nil,
		filepath.Join("contexts", "meta", sub, "meta.json"): map[string]any{"Name": o.name, "Metadata": map[string]any{"Description": "Strata, " + o.cloud},
			"Endpoints": map[string]any{"docker": map[string]any{"Host": "tcp://" + at.Host + "/docker", "SkipTLSVerify": false}}},
	}
	if files["config.json"], err = dockerConfig(filepath.Join(o.dir, "config.json"), o.name, at.Host, cred); err != nil {
		return err
	}
	for name, v := range files {
		raw, err := json.MarshalIndent(v, "", "\t")
		if err == nil {
			err = writePrivate(filepath.Join(o.dir, name), raw)
		}
		if err != nil {
			return err
		}
	}
	if entry.CACert == "" {
		return nil
	}
	ca, err := os.ReadFile(entry.CACert)
	if err != nil {
		return err
	}
	return writePrivate(filepath.Join(o.dir, "contexts", "tls", sub, "docker", "ca.pem"), ca)
}

// newCredential makes an application credential of the entry's user and project.
func (a *app) newCredential(ctx context.Context, entry region.Cloud, name string) (*applicationcredentials.ApplicationCredential, error) {
	p, err := login(ctx, entry)
	if err != nil {
		return nil, fmt.Errorf("logging in to %s: %w", entry.Auth["auth_url"], err)
	}
	identity, err := openstack.NewIdentityV3(p, gophercloud.EndpointOpts{Region: entry.RegionName})
	if err != nil {
		return nil, err
	}
	user, err := tokens.Get(ctx, identity, p.Token()).ExtractUser()
	if err != nil {
		return nil, fmt.Errorf("asking who we are: %w", err)
	}
	c, err := applicationcredentials.Create(ctx, identity, user.ID, applicationcredentials.CreateOpts{
		Name: "docker-" + name + "-" + time.Now().UTC().Format("20060102T150405.000"), Description: "made by strata containers context"}).Extract()
	if err != nil {
		return nil, fmt.Errorf("making an application credential: %w", err)
	}
	return c, nil
}

// dockerConfig is config.json: what is there already, with the credential in the header
// that docker sends, and for the cloud's registry.
func dockerConfig(path, name, host string, c *applicationcredentials.ApplicationCredential) (map[string]any, error) {
	v := map[string]any{"currentContext": name}
	raw, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(raw, &v)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	basic := base64.StdEncoding.EncodeToString([]byte(c.ID + ":" + c.Secret))
	for key, entry := range map[string]map[string]any{"HttpHeaders": {"Authorization": "Basic " + basic}, "auths": {host: map[string]any{"auth": basic}}} {
		have, _ := v[key].(map[string]any)
		if have == nil {
			have = map[string]any{}
		}
		for k, x := range entry {
			have[k] = x
		}
		v[key] = have
	}
	return v, nil
}

func writePrivate(path string, raw []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, raw, 0o600)
}
