package kube

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCredentialsConfig has kubelet ask the plugin for the region's registry, and nothing else.
func TestCredentialsConfig(t *testing.T) {
	m := machine(t)
	_, w := parts(t, netip.MustParseAddrPort("127.0.0.1:6443"))
	kubelet := func() []string {
		t.Helper()
		b := m.bench(w)
		if err := b.write(); err != nil {
			t.Fatal(err)
		}
		for _, p := range b.programs() {
			if p.Name == kubeletProgram {
				return p.Args
			}
		}
		t.Fatal("there is no kubelet")
		return nil
	}
	dir := filepath.Join(m.Dir, "c1", workerDir)
	file := filepath.Join(dir, configDir, credentialsFile)
	if args := strings.Join(kubelet(), " "); strings.Contains(args, "credential") {
		t.Errorf("without a registry kubelet is told of the plugin: %s", args)
	}
	w.Registries = []string{"192.0.2.1:5000", "cloud.example:5000"}
	args := kubelet()
	for flag, want := range map[string]string{"--image-credential-provider-config": file, "--image-credential-provider-bin-dir": filepath.Join(dir, credentialsBin)} {
		if i := slices.Index(args, flag); i < 0 || args[i+1] != want {
			t.Errorf("kubelet is started as %q, not with %s %s", args, flag, want)
		}
	}
	want := `apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
- name: "strata-credentials"
  apiVersion: "credentialprovider.kubelet.k8s.io/v1"
  matchImages: ["192.0.2.1:5000", "cloud.example:5000"]
  defaultCacheDuration: 0s
  args: ["` + m.LoginSocket("c1") + `"]
`
	if raw, err := os.ReadFile(file); err != nil || string(raw) != want {
		t.Errorf("kubelet reads %s, %v", raw, err)
	}
	if raw, err := os.ReadFile(filepath.Join(dir, configDir, "containerd.toml")); err != nil || !strings.Contains(string(raw), `config_path = "`+m.Registries("c1")+`"`) {
		t.Errorf("containerd reads %s, %v", raw, err)
	}
}
