package app

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// compose reads an application from text.
func compose(t *testing.T, text string, profiles ...string) (*App, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "compose.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Compose(t.Context(), "shop", []string{file}, profiles)
}

// facts are the objects of an application by KIND/NAME, as JSON has them.
func facts(t *testing.T, a *App) map[string]map[string]any {
	t.Helper()
	raw, err := a.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	var l struct{ Items []map[string]any }
	if err := json.Unmarshal(raw, &l); err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]any{}
	for _, x := range l.Items {
		out[x["kind"].(string)+"/"+x["metadata"].(map[string]any)["name"].(string)] = x
	}
	return out
}

// at finds a value by its path in JSON, such as spec.ports.0.port.
func at(x any, path string) any {
	for key := range strings.SplitSeq(path, ".") {
		switch v := x.(type) {
		case map[string]any:
			x = v[key]
		case []any:
			if n := number(key); n < len(v) {
				x = v[n]
				continue
			}
			return nil
		default:
			return nil
		}
	}
	return x
}

const shop = `
services:
  web:
    image: web:1
    entrypoint: [/web]
    command: [--fast]
    ports: ["8080:80", "127.0.0.1:9000:9000", "53:5353/udp"]
    environment: {A: "1", B: "two"}
    user: "1000"
    read_only: true
    stop_grace_period: 3s
    tmpfs: ["/tmp:size=1m"]
    configs: [{source: my_conf, target: /etc/x.conf, mode: 0440}]
    secrets: [pw]
    deploy: {replicas: 2, resources: {limits: {cpus: "0.5", memory: 64M}, reservations: {memory: 32M}}}
    healthcheck: {test: "curl -f localhost", interval: 5s, retries: 4, start_period: 2s}
    depends_on: [db]
  db:
    image: db:1
    volumes: ["my_data:/data:ro"]
    expose: ["5432"]
  worker:
    image: worker:1
  debug:
    image: debug:1
    profiles: [debug]
volumes: {my_data: {driver_opts: {size: 2Gi}}}
configs: {my_conf: {content: "text"}}
secrets: {pw: {file: ./secret}}
`

func TestCompose(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"compose.yaml": shop, "secret": "hidden"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a, err := Compose(t.Context(), "shop", []string{filepath.Join(dir, "compose.yaml")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	have := facts(t, a)
	if _, ok := have["Deployment/debug"]; ok {
		t.Error("a service of a profile that was not asked for is there")
	}
	pod := "spec.template.spec."
	one := pod + "containers.0."
	for _, c := range []struct {
		object, path string
		want         any
	}{
		{"Deployment/web", one + "command.0", "/web"},
		{"Deployment/web", one + "args.0", "--fast"},
		{"Deployment/web", one + "env.1.value", "two"},
		{"Deployment/web", one + "securityContext.runAsUser", 1000.0},
		{"Deployment/web", one + "securityContext.readOnlyRootFilesystem", true},
		{"Deployment/web", one + "resources.limits.cpu", "0.5"},
		{"Deployment/web", one + "resources.limits.memory", "67108864"},
		{"Deployment/web", one + "resources.requests.memory", "33554432"},
		{"Deployment/web", one + "readinessProbe.exec.command.2", "curl -f localhost"},
		{"Deployment/web", one + "readinessProbe.failureThreshold", 4.0},
		{"Deployment/web", one + "volumeMounts.0.mountPath", "/tmp"},
		{"Deployment/web", pod + "volumes.0.emptyDir", map[string]any{}},
		{"Deployment/web", one + "volumeMounts.1.mountPath", "/etc/x.conf"},
		{"Deployment/web", pod + "volumes.1.configMap.name", "my-conf"},
		{"Deployment/web", pod + "volumes.1.configMap.items.0.mode", 0o440 + 0.0},
		{"Deployment/web", one + "volumeMounts.2.mountPath", "/run/secrets/pw"},
		{"Deployment/web", pod + "terminationGracePeriodSeconds", 3.0},
		{"Deployment/web", "spec.replicas", 2.0},
		{"Deployment/web", "spec.strategy.type", "RollingUpdate"},
		{"Deployment/db", "spec.replicas", nil}, // what there are
		{"Deployment/db", "spec.strategy.type", "Recreate"},
		{"Deployment/db", pod + "volumes.0.persistentVolumeClaim.claimName", "my-data"},
		{"Deployment/db", one + "volumeMounts.0.readOnly", true},
		{"PersistentVolumeClaim/my-data", "spec.resources.requests.storage", "2Gi"},
		{"ConfigMap/my-conf", "binaryData.content", "dGV4dA=="},
		{"Secret/pw", "data.content", "aGlkZGVu"},
		{"Service/web", "spec.ports.1.port", 9000.0},
		{"Service/web", "spec.ports.3", nil},
		{"Service/web-public", "spec.type", "LoadBalancer"},
		{"Service/web-public", "spec.ports.0.port", 8080.0},
		{"Service/web-public", "spec.ports.0.targetPort", 80.0},
		{"Service/web-public", "spec.ports.1.protocol", "UDP"},
		{"Service/web-public", "spec.ports.2", nil}, // 9000 is for the machine alone
		{"Service/db", "spec.ports.0.port", 5432.0},
		{"Service/db-public", "spec", nil},
		{"Service/worker", "spec.clusterIP", "None"},
	} {
		if d := cmp.Diff(c.want, at(have[c.object], c.path)); d != "" {
			t.Errorf("%s %s:\n%s", c.object, c.path, d)
		}
	}
}

// TestRefused has what a cluster cannot do refused with what to do instead.
func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		"services: {web: {build: .}}":                                                                               "docker compose build",
		"services: {web: {image: x, volumes: ['/etc:/etc']}}":                                                       "use a volume",
		"services: {web: {image: x, privileged: true}}":                                                             "strata kubectl",
		"services: {web: {image: x, network_mode: host}}":                                                           "network_mode host",
		"services: {web: {image: x, devices: ['/dev/fuse']}}":                                                       "devices",
		"services: {web: {image: x, user: app}}":                                                                    "it is a number",
		"services: {my_web: {image: x}}":                                                                            "lower-case",
		"services: {web: {image: x, profiles: [no]}}":                                                               "no service",
		"services: {web: {image: x, secrets: [a]}}\nsecrets: {a: {external: true}}":                                 "external",
		"services: {web: {image: x, nonsense: 1}}":                                                                  "nonsense",
		"services: {web: {image: x, configs: [a]}}\nconfigs: {a: {content: '" + strings.Repeat("x", 1<<20) + "y'}}": "larger than 1 MiB",
	} {
		if _, err := compose(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: %v, want %q", text, err, want)
		}
	}
	for _, name := range []string{"", "kube-system", "default", "Shop", "a_b", "-a", strings.Repeat("a", 64)} {
		if _, err := Image(name, Service{Image: "x"}); err == nil {
			t.Errorf("the name %q is taken", name)
		}
	}
}

// TestFilesRollOut has another pod when a file changes, and the same when nothing does.
func TestFilesRollOut(t *testing.T) {
	digest := func(content string) any {
		a, err := Image("web", Service{Image: "x", Files: []File{{Object: "f", Path: "/f", Content: []byte(content)}}})
		if err != nil {
			t.Fatal(err)
		}
		return at(facts(t, a)["Deployment/web"], "spec.template.metadata.annotations.strata/files")
	}
	if one, two := digest("one"), digest("two"); one == nil || one == two || one != digest("one") {
		t.Errorf("%v and %v", one, two)
	}
}

// TestHosts leads names to services by an Ingress, and refuses what cannot be led.
func TestHosts(t *testing.T) {
	a, err := compose(t, "services: {web: {image: web, ports: ['8080:80', 9000]}, db: {image: db}}")
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range [][2]string{{"Shop.example.org", "web"}, {"a..b", "web"}, {"shop.example.org", "nobody"}, {"shop.example.org", "db"}} {
		if err := a.Lead(h[0], h[1]); err == nil {
			t.Errorf("%v is taken", h)
		}
	}
	for _, h := range []string{"shop.example.org", "*.shop.example.org"} {
		if err := a.Lead(h, "web"); err != nil {
			t.Error(err)
		}
	}
	in := facts(t, a)["Ingress/web"]
	if at(in, "spec.rules.1.host") != "*.shop.example.org" || at(in, "spec.rules.0.http.paths.0.backend.service.name") != "web" || at(in, "spec.rules.0.http.paths.0.backend.service.port.number") != 80.0 {
		t.Errorf("%v", in)
	}
	one, err := Image("one", Service{Image: "i", Ports: []Port{{Target: 53, Protocol: "UDP"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := one.Lead("one.example.org", ""); err == nil {
		t.Error("a service without a TCP port has a host")
	}
}
