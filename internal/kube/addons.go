package kube

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"

	"gopkg.in/yaml.v3"

	"github.com/strata-cloud/strata/internal/kubeapi"
)

// manifests are what every cluster is given.
//
//go:embed addons/*.yaml
var manifests embed.FS

// kubeletClients is the group of the API when it speaks to kubelets.
const kubeletClients = "strata:kubelet-clients"

// object is one thing of a manifest.
type object struct {
	kind            kubeapi.Kind
	namespace, name string
	body            map[string]any
	text            string
}

// addons are what a cluster is given, in the order of files.
func (c *Control) addons() ([]object, error) {
	t, err := template.New("").Option("missingkey=error").ParseFS(manifests, "addons/*.yaml")
	if err != nil {
		return nil, err
	}
	values := map[string]string{"Domain": Domain, "DNSIP": c.DNSIP().String(), "Image": SandboxImage, "Program": Linked, "KubeletClients": kubeletClients, "PolicyReader": policyReader,
		"Member": c.Address.Addr().String(), "MetricsUser": metricsUser, "MetricsPort": strconv.Itoa(c.MetricsPort), "CA": base64.StdEncoding.EncodeToString(c.Authorities.Cluster.Cert)}
	var out []object
	files, err := manifests.ReadDir("addons")
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		var text bytes.Buffer
		if err := t.ExecuteTemplate(&text, f.Name(), values); err != nil {
			return nil, err
		}
		list, err := objects(text.Bytes())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		out = append(out, list...)
	}
	return out, nil
}

// objects are those of one manifest.
func objects(manifest []byte) (out []object, err error) {
	for part := range strings.SplitSeq(string(manifest), "\n---\n") {
		o := object{text: part}
		var head struct {
			APIVersion string `yaml:"apiVersion"`
			Kind       string
			Metadata   struct{ Name, Namespace string }
		}
		if err := errors.Join(yaml.Unmarshal([]byte(part), &o.body), yaml.Unmarshal([]byte(part), &head)); err != nil {
			return nil, err
		}
		plural, ok := resources[head.Kind]
		if !ok || head.Metadata.Name == "" {
			return nil, fmt.Errorf("a manifest has %s %q", head.Kind, head.Metadata.Name)
		}
		o.kind = kubeapi.Kind{APIVersion: head.APIVersion, Kind: head.Kind, Plural: plural, Clusterly: head.Metadata.Namespace == ""}
		o.namespace, o.name = head.Metadata.Namespace, head.Metadata.Name
		out = append(out, o)
	}
	return out, nil
}

// resources are the kinds that manifests have, as paths name them.
var resources = map[string]string{
	"APIService": "apiservices", "ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings", "ConfigMap": "configmaps", "Deployment": "deployments", "EndpointSlice": "endpointslices", "PodDisruptionBudget": "poddisruptionbudgets",
	"IngressClass": "ingressclasses", "Service": "services", "ServiceAccount": "serviceaccounts", "CSIDriver": "csidrivers", "StorageClass": "storageclasses",
}

// appliedFile tells which manifests a cluster has been given.
const appliedFile = "addons"

// equip gives a cluster what every cluster has, once: what its users change stays so
// until there is something new to give.
func (m *Machine) equip(ctx context.Context, api *kubeapi.Client, c *Control) error {
	list, err := c.addons()
	if err != nil {
		return err
	}
	sum := sha256.New()
	for _, o := range list {
		io.WriteString(sum, o.text)
	}
	now := []byte(hex.EncodeToString(sum.Sum(nil)) + "\n")
	done := filepath.Join(m.Dir, c.ID, controlDir, appliedFile)
	if before, err := os.ReadFile(done); err == nil && bytes.Equal(before, now) {
		return nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, o := range list {
		if err := api.Apply(ctx, o.kind, o.namespace, o.name, o.body); err != nil {
			return fmt.Errorf("%s %s: %w", o.kind.Kind, o.name, err)
		}
	}
	return writeFile(done, now)
}
