package kube

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"gopkg.in/yaml.v3"
)

// manifests are what every cluster is given.
//
//go:embed addons/*.yaml
var manifests embed.FS

// kubeletClients is the group of the API when it speaks to kubelets.
const kubeletClients = "strata:kubelet-clients"

// object is one thing of a manifest.
type object struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Metadata   struct {
		Name      string `yaml:"name"`
		Namespace string `yaml:"namespace"`
	} `yaml:"metadata"`
	text []byte
}

// addons are what a cluster is given, in the order of files.
func (c *Control) addons() ([]object, error) {
	t, err := template.New("").Option("missingkey=error").ParseFS(manifests, "addons/*.yaml")
	if err != nil {
		return nil, err
	}
	values := map[string]string{"Domain": Domain, "DNSIP": c.DNSIP().String(), "Image": SandboxImage, "Program": Linked, "KubeletClients": kubeletClients, "PolicyReader": policyReader}
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
		o := object{text: []byte(part)}
		if err := yaml.Unmarshal(o.text, &o); err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}

// resources are the kinds that manifests have, as paths name them.
var resources = map[string]string{
	"ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings", "ConfigMap": "configmaps", "Deployment": "deployments",
	"Service": "services", "ServiceAccount": "serviceaccounts",
}

func (o *object) path() (string, error) {
	kind, ok := resources[o.Kind]
	if !ok || o.Metadata.Name == "" {
		return "", fmt.Errorf("a manifest has %s %q", o.Kind, o.Metadata.Name)
	}
	path := "/api/" + o.APIVersion
	if strings.Contains(o.APIVersion, "/") {
		path = "/apis/" + o.APIVersion
	}
	if o.Metadata.Namespace != "" {
		path += "/namespaces/" + url.PathEscape(o.Metadata.Namespace)
	}
	return path + "/" + kind + "/" + url.PathEscape(o.Metadata.Name), nil
}

// appliedFile tells which manifests a cluster has been given.
const appliedFile = "addons"

// equip gives a cluster what every cluster has, once: what its users change stays so
// until there is something new to give.
func (m *Machine) equip(ctx context.Context, a *admin, c *Control) error {
	list, err := c.addons()
	if err != nil {
		return err
	}
	sum := sha256.New()
	for _, o := range list {
		sum.Write(o.text)
	}
	now := []byte(hex.EncodeToString(sum.Sum(nil)) + "\n")
	done := filepath.Join(m.Dir, c.ID, controlDir, appliedFile)
	if before, err := os.ReadFile(done); err == nil && bytes.Equal(before, now) {
		return nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, o := range list {
		path, err := o.path()
		if err != nil {
			return err
		}
		if err := a.apply(ctx, path, o.text); err != nil {
			return err
		}
	}
	return writeFile(done, now)
}

// apply has the API merge a manifest into what is there (server-side apply).
func (a *admin) apply(ctx context.Context, path string, manifest []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPatch, a.url+path+"?fieldManager=strata&force=true", bytes.NewReader(manifest))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/apply-patch+yaml")
	_, err = a.answer(req)
	return err
}
