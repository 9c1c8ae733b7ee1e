//go:build kube

package system

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/applicationcredentials"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/roles"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/users"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"github.com/strata-cloud/strata/internal/region"
	"github.com/strata-cloud/strata/test/cloud"
)

// identity has people of the project, and others, use the cluster by the region's tokens.
func (k *kube) identity() {
	k.Helper()
	k.plugin()
	entry := must[*region.Clouds](k.T)(region.ReadClouds(filepath.Join(k.All[0].DataDir, region.CloudsFile))).Clouds["strata-demo"]
	admin, own := k.clients("strata").identity, k.clients("strata-demo").identity
	ctx := k.Context()
	project := must[[]projects.Project](k.T)(projects.ExtractProjects(must[pagination.Page](k.T)(projects.List(admin, projects.ListOpts{Name: "demo"}).AllPages(ctx))))[0]
	// A reader sees, and changes nothing; secrets are not shown.
	reader := must[*users.User](k.T)(users.Create(ctx, admin, users.CreateOpts{Name: "kube-reader", Password: "Kube-Reader-1", DefaultProjectID: project.ID}).Extract())
	role := must[[]roles.Role](k.T)(roles.ExtractRoles(must[pagination.Page](k.T)(roles.List(admin, roles.ListOpts{Name: "reader"}).AllPages(ctx))))[0]
	if err := roles.Assign(ctx, admin, role.ID, roles.AssignOpts{UserID: reader.ID, ProjectID: project.ID}).ExtractErr(); err != nil {
		k.Fatal(err)
	}
	token := k.token("OS_AUTH_URL="+entry.Auth["auth_url"], "OS_CACERT="+entry.CACert, "OS_USERNAME=kube-reader", "OS_PASSWORD=Kube-Reader-1", "OS_USER_DOMAIN_NAME=Default",
		"OS_PROJECT_NAME=demo", "OS_PROJECT_DOMAIN_NAME=Default")
	for verb, want := range map[string]string{"get pods -A": "", "get nodes": "", "get --raw /api": "",
		"-n kube-system get secrets": "Forbidden", "create namespace x": "Forbidden", "-n kube-system delete deployment coredns": "Forbidden"} {
		if _, err := k.as(token, strings.Fields(verb)...); (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			k.Errorf("a reader: %s: %v, want %q", verb, err, want)
		}
	}
	var who struct {
		Status struct {
			UserInfo struct {
				Username, UID string
				Groups        []string
				Extra         map[string][]string
			}
		}
	}
	if err := json.Unmarshal([]byte(must[string](k.T)(k.as(token, "auth", "whoami", "-o", "json"))), &who); err != nil {
		k.Fatal(err)
	}
	if u := who.Status.UserInfo; u.Username != "kube-reader" || u.UID != reader.ID || strings.Join(u.Groups, " ") != project.ID+" strata:role:reader system:authenticated" ||
		strings.Join(u.Extra["alpha.kubernetes.io/identity/roles"], " ") != "reader" || strings.Join(u.Extra["alpha.kubernetes.io/identity/project/id"], " ") != project.ID {
		k.Errorf("the reader is %+v", u)
	}
	// A role that is taken away is gone within seconds.
	if err := roles.Unassign(ctx, admin, role.ID, roles.UnassignOpts{UserID: reader.ID, ProjectID: project.ID}).ExtractErr(); err != nil {
		k.Fatal(err)
	}
	k.refused(token, 20*time.Second)
	// Tokens of other projects, and what is no token.
	k.refused(k.token("OS_AUTH_URL="+entry.Auth["auth_url"], "OS_CACERT="+entry.CACert, "OS_USERNAME=admin", "OS_PASSWORD="+must[*region.Clouds](k.T)(region.ReadClouds(filepath.Join(k.All[0].DataDir, region.CloudsFile))).Clouds["strata"].Auth["password"],
		"OS_USER_DOMAIN_NAME=Default", "OS_PROJECT_NAME=admin", "OS_PROJECT_DOMAIN_NAME=Default"), time.Second)
	k.refused("gAAAAABnothing", time.Second)
	// An application credential, until it is deleted.
	me := must[*tokens.User](k.T)(tokens.Get(ctx, own, own.Token()).ExtractUser())
	app := must[*applicationcredentials.ApplicationCredential](k.T)(applicationcredentials.Create(ctx, own, me.ID, applicationcredentials.CreateOpts{Name: "kube"}).Extract())
	token = k.token("OS_AUTH_URL="+entry.Auth["auth_url"], "OS_CACERT="+entry.CACert, "OS_APPLICATION_CREDENTIAL_ID="+app.ID, "OS_APPLICATION_CREDENTIAL_SECRET="+app.Secret)
	if _, err := k.as(token, "create", "namespace", "of-app"); err != nil {
		k.Error(err)
	}
	if err := applicationcredentials.Delete(ctx, own, me.ID, app.ID).ExtractErr(); err != nil {
		k.Fatal(err)
	}
	k.refused(token, 20*time.Second)
}

// plugin uses the file that has kubectl log in.
func (k *kube) plugin() {
	k.Helper()
	conf := filepath.Join(k.TempDir(), "kubeconfig")
	k.strata(k.All[0], "cluster", "kubeconfig", "one", "--file", conf)
	raw := must[[]byte](k.T)(os.ReadFile(conf))
	for _, secret := range []string{"client-key-data", "token:"} {
		if strings.Contains(string(raw), secret) {
			k.Errorf("the kubeconfig has a secret: %s", raw)
		}
	}
	program := filepath.Join(filepath.Dir(cloud.Program(k.T)), "strata-kube")
	out, err := k.All[0].Command(k.Context(), program, "kubectl", "--kubeconfig", conf, "auth", "can-i", "*", "*", "--all-namespaces").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "yes" {
		k.Errorf("a member of the project: %s, %v", out, err)
	}
	if got := k.strata(k.All[0], "kubectl", "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"); got != "demo" {
		k.Errorf("strata kubectl is %q", got)
	}
}

// token logs in as the environment says.
func (k *kube) token(env ...string) string {
	k.Helper()
	cmd := k.All[0].Command(k.Context(), cloud.Program(k.T), "--data-dir", k.TempDir(), "kube-token")
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.Output()
	var c struct {
		Kind   string
		Status struct {
			Token               string
			ExpirationTimestamp time.Time
		}
	}
	if err != nil || json.Unmarshal(out, &c) != nil || c.Kind != "ExecCredential" || !c.Status.ExpirationTimestamp.After(time.Now()) {
		k.Fatalf("kube-token says %s, %v", out, err)
	}
	return c.Status.Token
}

// as runs kubectl with a token and nothing else.
func (k *kube) as(token string, args ...string) (string, error) {
	bare := &kube{pool: k.pool, conf: filepath.Join(filepath.Dir(k.conf), "bare")}
	if _, err := os.Stat(bare.conf); err != nil {
		if err := os.WriteFile(bare.conf, []byte(k.must("config", "view", "--raw", "-o", "json")), 0o600); err != nil {
			return "", err
		}
		bare.must("config", "unset", "users")
	}
	return bare.kubectl(append([]string{"--token", token}, args...)...)
}

// refused waits until a token is nobody's.
func (k *kube) refused(token string, within time.Duration) {
	k.Helper()
	began := time.Now()
	k.until("a token that is refused", within+20*time.Second, func() (bool, error) {
		_, err := k.as(token, "get", "nodes")
		return err != nil && strings.Contains(err.Error(), "Unauthorized"), nil
	})
	k.Logf("a token is refused after %v", time.Since(began).Round(time.Second))
}
