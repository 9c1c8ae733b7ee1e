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
	"os"

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
	c := &cobra.Command{Use: "kubeconfig CLUSTER", Short: "Print what kubectl needs to reach a cluster as its administrator", Args: oneCluster("kubeconfig"),
		Long: "Print what kubectl needs to reach a cluster as its administrator: a key that is made here, and a certificate that the cluster's authority signs. " +
			"Whoever has it rules the cluster for a year.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.explain(a.printConfig(cmd.Context(), *cloud, args[0], file))
		}}
	c.Flags().StringVar(&file, "file", "", "write it to this file, for its owner's eyes alone, instead of printing it")
	return c
}

func (a *app) printConfig(ctx context.Context, cloud, name, file string) error {
	text, err := a.kubeconfig(ctx, cloud, name)
	if err != nil {
		return err
	}
	if file == "" {
		a.printf("%s", text)
		return nil
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Chmod(file, 0o600) // one that was there keeps its mode otherwise
}

// kubeconfig makes one of an administrator of a cluster.
func (a *app) kubeconfig(ctx context.Context, cloud, name string) (string, error) {
	c, err := a.clusterAPI(ctx, cloud)
	if err != nil {
		return "", err
	}
	x, err := clusters.Get(ctx, c, name).Extract()
	if err != nil {
		return "", fmt.Errorf("cluster %s: %w", name, err)
	}
	if x.APIAddress == "" {
		return "", fmt.Errorf("cluster %s is %s and has no address yet", x.Name, x.Status)
	}
	ca, err := certificates.Get(ctx, c, x.UUID).Extract()
	if err != nil {
		return "", fmt.Errorf("the authority of cluster %s: %w", name, err)
	}
	csr, key, err := adminRequest()
	if err != nil {
		return "", err
	}
	cert, err := certificates.Create(ctx, c, certificates.CreateOpts{ClusterUUID: x.UUID, CSR: csr}).Extract()
	if err != nil {
		return "", fmt.Errorf("a certificate of cluster %s: %w", name, err)
	}
	return kubeconfig(x.Name, x.APIAddress, ca.PEM, cert.PEM, key), nil
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

// kubeconfig is the file.
func kubeconfig(name, url, ca, cert, key string) string {
	data := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	return fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: %[1]q
  cluster:
    server: %[2]q
    certificate-authority-data: %[3]s
users:
- name: admin
  user:
    client-certificate-data: %[4]s
    client-key-data: %[5]s
contexts:
- name: %[1]q
  context: {cluster: %[1]q, user: admin}
current-context: %[1]q
`, name, url, data(ca), data(cert), data(key))
}
