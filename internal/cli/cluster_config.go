package cli

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/containerinfra/v1/certificates"
	"github.com/gophercloud/gophercloud/v2/openstack/containerinfra/v1/clusters"
	"github.com/spf13/cobra"
)

// The administrator that a certificate is asked for, as openstack coe cluster config does.
const (
	clusterAdmin  = "admin"
	clusterAdmins = "system:masters"
)

func (a *app) clusterConfig(cloud *string) *cobra.Command {
	var file string
	var admin bool
	c := &cobra.Command{Use: "kubeconfig CLUSTER", Short: "Print what kubectl needs to reach a cluster", Args: oneCluster("kubeconfig"),
		Long: "Print what kubectl needs to reach a cluster of the project. There is no secret in it: kubectl has this program log in (strata kube-token) each time, with the same entry of clouds.yaml, " +
			"and the roles in the project are what counts in the cluster.\n\n" +
			"With --admin it is a key that is made here and a certificate that the cluster's authority signs, as openstack coe cluster config does. It needs neither this program nor " +
			"the region to log in, and whoever has it rules the cluster for a year.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.explain(a.printConfig(cmd.Context(), *cloud, args[0], file, admin))
		}}
	c.Flags().StringVar(&file, "file", "", "write it to this file, for its owner's eyes alone, instead of printing it")
	c.Flags().BoolVar(&admin, "admin", false, "with an administrator's certificate")
	return c
}

func (a *app) printConfig(ctx context.Context, cloud, name, file string, admin bool) error {
	x, err := a.clusterAccess(ctx, cloud, name)
	if err != nil {
		return err
	}
	user := ""
	switch {
	case admin:
		user, err = x.certified(ctx)
	case !x.member:
		err = fmt.Errorf("cluster %s is of another project than %s logs in to, whose tokens are nobody's there: --admin makes a certificate", name, cloud)
	default:
		user, err = a.logsIn(cloud)
	}
	if err != nil {
		return err
	}
	text := x.kubeconfig(user)
	if file == "" {
		a.printf("%s", text)
		return nil
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Chmod(file, 0o600) // one that was there keeps its mode otherwise
}

// access is how a cluster is reached.
type access struct {
	api           *gophercloud.ServiceClient
	id            string
	name, url, ca string
	member        bool // the login is for the cluster's project
}

// clusterAccess logs in and finds a cluster.
func (a *app) clusterAccess(ctx context.Context, cloud, name string) (*access, error) {
	c, err := a.clusterAPI(ctx, cloud)
	if err != nil {
		return nil, err
	}
	x, err := clusters.Get(ctx, c, name).Extract()
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", name, err)
	}
	if x.APIAddress == "" {
		return nil, fmt.Errorf("cluster %s is %s and has no address yet", x.Name, x.Status)
	}
	ca, err := certificates.Get(ctx, c, x.UUID).Extract()
	if gophercloud.ResponseCodeIs(err, http.StatusForbidden) {
		return nil, fmt.Errorf("the authority of cluster %s is shown to the one who made the cluster: have the output of strata cluster kubeconfig from there, which has no secret in it", name)
	} else if err != nil {
		return nil, fmt.Errorf("the authority of cluster %s: %w", name, err)
	}
	t, err := issuedToken(c.ProviderClient)
	if err != nil {
		return nil, err
	}
	return &access{api: c, id: x.UUID, name: x.Name, url: x.APIAddress, ca: ca.PEM, member: t.project == x.ProjectID}, nil
}

// kubeconfig makes one that is not to be kept, for there is a secret in it: the token of a
// member of the project, or an administrator's certificate.
func (a *app) kubeconfig(ctx context.Context, cloud, name string) (string, error) {
	x, err := a.clusterAccess(ctx, cloud, name)
	if err != nil {
		return "", err
	}
	if x.member {
		return x.kubeconfig(fmt.Sprintf("{token: %q}", x.api.Token())), nil
	}
	user, err := x.certified(ctx)
	return x.kubeconfig(user), err
}

// certified is an administrator by a certificate.
func (x *access) certified(ctx context.Context) (string, error) {
	csr, key, err := adminRequest()
	if err != nil {
		return "", err
	}
	cert, err := certificates.Create(ctx, x.api, certificates.CreateOpts{ClusterUUID: x.id, CSR: csr}).Extract()
	if err != nil {
		return "", fmt.Errorf("a certificate of cluster %s: %w", x.name, err)
	}
	return fmt.Sprintf("{client-certificate-data: %s, client-key-data: %s}", data(cert.PEM), data(key)), nil
}

// logsIn is a user for whom kubectl runs this program.
func (a *app) logsIn(cloud string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(`
    exec:
      apiVersion: %s
      command: %q
      args: ["--data-dir", %q, "kube-token", "--cloud", %q]
      interactiveMode: Never
      provideClusterInfo: false`, credentialVersion, self, a.dataDir, cloud), nil
}

// adminRequest makes a key and a request for its certificate, in PEM.
func adminRequest() (csr, key string, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	raw, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		return "", "", err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: clusterAdmin, Organization: []string{clusterAdmins}}}, k)
	text := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return text("CERTIFICATE REQUEST", der), text("EC PRIVATE KEY", raw), err
}

func data(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// kubeconfig is the file, with a user in YAML.
func (x *access) kubeconfig(user string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: %[1]q
  cluster:
    server: %[2]q
    certificate-authority-data: %[3]s
users:
- name: %[1]q
  user: %[4]s
contexts:
- name: %[1]q
  context: {cluster: %[1]q, user: %[1]q}
current-context: %[1]q
`, x.name, x.url, data(x.ca), user)
}
