package region

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"gopkg.in/yaml.v3"
)

// CloudsFile is the name of the credentials file in the data directory.
const CloudsFile = "clouds.yaml"

// Clouds is the part of clouds.yaml that openstackclient, openstacksdk,
// gophercloud and OpenTofu read.
type Clouds struct {
	Clouds map[string]Cloud `yaml:"clouds"`
}

// Cloud is one entry.
type Cloud struct {
	Auth       map[string]string `yaml:"auth"`
	RegionName string            `yaml:"region_name"`
	Interface  string            `yaml:"interface"`
	APIVersion string            `yaml:"identity_api_version"`
	CACert     string            `yaml:"cacert,omitempty"`
}

// regionName is the name of the only region.
const regionName = "RegionOne"

// ReadClouds reads clouds.yaml of a data directory.
func ReadClouds(path string) (*Clouds, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var c Clouds
	if err := yaml.Unmarshal(raw, &c); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &c, nil
}

// passwords are those of the users that the first start makes.
type passwords struct{ admin, demo string }

// ensureClouds writes clouds.yaml, with new passwords unless it has some already.
// It comes before the users are made, so that a crash between the two loses nothing.
func ensureClouds(cfg *Config) (passwords, error) {
	path := cfg.path(CloudsFile)
	var p passwords
	old, err := ReadClouds(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return p, err
	}
	if old != nil {
		p = passwords{old.Clouds["strata"].Auth["password"], old.Clouds["strata-demo"].Auth["password"]}
	}
	for _, s := range []*string{&p.admin, &p.demo} {
		if *s == "" {
			*s = newPassword()
		}
	}
	return p, writeClouds(cfg, path, p)
}

func writeClouds(cfg *Config, path string, p passwords) error {
	entry := func(user, password string, scope map[string]string) Cloud {
		auth := map[string]string{"auth_url": cfg.url() + "/identity/v3", "username": user, "password": password, "user_domain_name": "Default"}
		for k, v := range scope {
			auth[k] = v
		}
		c := Cloud{Auth: auth, RegionName: regionName, Interface: "public", APIVersion: "3"}
		if !cfg.loopback() {
			c.CACert = cfg.path(caCertFile)
		}
		return c
	}
	project := func(name string) map[string]string {
		return map[string]string{"project_name": name, "project_domain_name": "Default"}
	}
	raw, err := yaml.Marshal(Clouds{map[string]Cloud{
		"strata":        entry("admin", p.admin, project("admin")),
		"strata-demo":   entry("demo", p.demo, project("demo")),
		"strata-system": entry("admin", p.admin, map[string]string{"system_scope": "all"}),
	}})
	if err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, raw, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func newPassword() string {
	raw := make([]byte, 18)
	if _, err := rand.Read(raw); err != nil {
		panic(err) // crypto/rand does not fail on Linux
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}
