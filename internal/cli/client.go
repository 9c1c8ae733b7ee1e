package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"

	"github.com/strata-cloud/strata/internal/region"
)

// client is a logged-in user of the cloud's public APIs.
type client struct {
	computeAPI   *gophercloud.ServiceClient
	networkAPI   *gophercloud.ServiceClient
	imageAPI     *gophercloud.ServiceClient
	placementAPI *gophercloud.ServiceClient
}

// computeVersion is the microversion that the commands speak.
const computeVersion = "2.79"

// connect logs in with an entry of clouds.yaml.
func (a *app) connect(ctx context.Context, name string) (*client, error) {
	entry, err := a.cloud(name)
	if err != nil {
		return nil, err
	}
	p, err := login(ctx, entry)
	if err != nil {
		return nil, a.explain(fmt.Errorf("logging in to %s: %w", entry.Auth["auth_url"], err))
	}
	c := &client{}
	at := gophercloud.EndpointOpts{Region: entry.RegionName}
	for _, s := range []struct {
		to  **gophercloud.ServiceClient
		new func(*gophercloud.ProviderClient, gophercloud.EndpointOpts) (*gophercloud.ServiceClient, error)
	}{{&c.computeAPI, openstack.NewComputeV2}, {&c.networkAPI, openstack.NewNetworkV2}, {&c.imageAPI, openstack.NewImageV2}, {&c.placementAPI, openstack.NewPlacementV1}} {
		if *s.to, err = s.new(p, at); err != nil {
			return nil, fmt.Errorf("the catalog lacks a service: %w; see strata doctor", err)
		}
	}
	c.computeAPI.Microversion, c.placementAPI.Microversion = computeVersion, "1.36"
	return c, nil
}

func login(ctx context.Context, entry region.Cloud) (*gophercloud.ProviderClient, error) {
	p, err := openstack.NewClient(entry.Auth["auth_url"])
	if err != nil {
		return nil, err
	}
	p.UserAgent.Prepend("strata/" + Version)
	if entry.CACert != "" {
		if p.HTTPClient, err = trusting(entry.CACert); err != nil {
			return nil, err
		}
	}
	return p, openstack.Authenticate(ctx, p, authOptions(entry))
}

func authOptions(entry region.Cloud) gophercloud.AuthOptions {
	o := gophercloud.AuthOptions{IdentityEndpoint: entry.Auth["auth_url"], Username: entry.Auth["username"], Password: entry.Auth["password"],
		DomainName: entry.Auth["user_domain_name"], AllowReauth: true}
	if secret := entry.Auth["application_credential_secret"]; secret != "" { // which has its project
		o.ApplicationCredentialID, o.ApplicationCredentialName, o.ApplicationCredentialSecret = entry.Auth["application_credential_id"], entry.Auth["application_credential_name"], secret
		if o.ApplicationCredentialID != "" {
			o.DomainName = ""
		}
		return o
	}
	if entry.Auth["system_scope"] != "" {
		o.Scope = &gophercloud.AuthScope{System: true}
	} else {
		o.Scope = &gophercloud.AuthScope{ProjectName: entry.Auth["project_name"], DomainName: entry.Auth["project_domain_name"]}
	}
	return o
}

// trusting makes a client that believes the authority in the file, and no other.
func trusting(caFile string) (http.Client, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return http.Client{}, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return http.Client{}, fmt.Errorf("%s has no certificate", caFile)
	}
	return http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}}}, nil
}

// explain adds the next step to an error of an API call.
func (a *app) explain(err error) error {
	var status gophercloud.ErrUnexpectedResponseCode
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &status):
		return fmt.Errorf("%s: the cloud answered %d: %s", before(err), status.Actual, reason(status.Body))
	case strings.Contains(err.Error(), "connection refused"):
		return fmt.Errorf("the cloud in %s does not answer: start it with strata up --data-dir %s --detach", a.dataDir, a.dataDir)
	}
	return err
}

// before is what we said of an error, without what the library did.
func before(err error) string {
	what, _, _ := strings.Cut(err.Error(), ": Expected HTTP")
	what, _, _ = strings.Cut(what, ": Resource not found")
	return what
}
