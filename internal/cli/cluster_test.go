package cli

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"slices"
	"testing"

	"gopkg.in/yaml.v3"
)

// TestKubeconfig holds the file to what kubectl reads.
func TestKubeconfig(t *testing.T) {
	csr, key, err := adminRequest()
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(csr))
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || r.CheckSignature() != nil || r.Subject.CommonName != "admin" || !slices.Equal(r.Subject.Organization, []string{"system:masters"}) {
		t.Errorf("the request is %v, %v", r.Subject, err)
	}
	keyBlock, _ := pem.Decode([]byte(key))
	k, err := x509.ParseECPrivateKey(keyBlock.Bytes)
	if err != nil || !k.PublicKey.Equal(r.PublicKey.(*ecdsa.PublicKey)) {
		t.Errorf("the key is another one: %v", err)
	}
	var f struct {
		Clusters []struct {
			Name    string
			Cluster struct {
				Server string
				CA     string `yaml:"certificate-authority-data"`
			}
		}
		Users []struct {
			Name string
			User struct {
				Cert string `yaml:"client-certificate-data"`
				Key  string `yaml:"client-key-data"`
			}
		}
		Contexts []struct {
			Name    string
			Context struct{ Cluster, User string }
		}
		Current string `yaml:"current-context"`
	}
	if err := yaml.Unmarshal([]byte((&access{name: "one", url: "https://192.0.2.1:6443", ca: "CA\n"}).kubeconfig("{client-certificate-data: "+data("CERT\n")+", client-key-data: "+data(key)+"}")), &f); err != nil {
		t.Fatal(err)
	}
	plain := func(s string) string {
		raw, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			t.Error(err)
		}
		return string(raw)
	}
	if c := f.Clusters[0]; c.Name != "one" || c.Cluster.Server != "https://192.0.2.1:6443" || plain(c.Cluster.CA) != "CA\n" {
		t.Errorf("the cluster is %+v", c)
	}
	if u := f.Users[0]; u.Name != f.Contexts[0].Context.User || plain(u.User.Cert) != "CERT\n" || plain(u.User.Key) != key {
		t.Errorf("the user is %s", u.Name)
	}
	if c := f.Contexts[0]; c.Name != f.Current || c.Context.Cluster != "one" {
		t.Errorf("the context is %+v, the current %s", c, f.Current)
	}
}

// TestLeading takes our flags from kubectl's.
func TestLeading(t *testing.T) {
	for _, c := range []struct {
		args, rest []string
		a, b       string
		bad        bool
	}{
		{[]string{"get", "--a", "1"}, []string{"get", "--a", "1"}, "", "", false},
		{[]string{"--a", "1", "--b=2", "-n", "x", "get"}, []string{"-n", "x", "get"}, "1", "2", false},
		{[]string{"--b=", "--c", "--a", "1"}, []string{"--c", "--a", "1"}, "", "", false},
		{[]string{"--a", "1"}, nil, "1", "", false},
		{[]string{"--a"}, nil, "", "", true},
		{nil, nil, "", "", false},
	} {
		a, b := "", ""
		rest, err := leading(c.args, map[string]*string{"--a": &a, "--b": &b})
		if !slices.Equal(rest, c.rest) || a != c.a || b != c.b || (err != nil) != c.bad {
			t.Errorf("%v: %v, a %q, b %q, %v", c.args, rest, a, b, err)
		}
	}
}
