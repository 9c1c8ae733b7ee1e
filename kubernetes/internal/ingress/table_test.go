package ingress

import (
	"testing"
	"time"

	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func to(service string) networking.IngressBackend {
	return networking.IngressBackend{Service: &networking.IngressServiceBackend{Name: service, Port: networking.ServiceBackendPort{Number: 80}}}
}

// in is an Ingress of an age in hours, with the paths of a host: path, type, service.
func in(age int, host, rest string, paths ...[3]string) *networking.Ingress {
	out := &networking.Ingress{ObjectMeta: meta.ObjectMeta{Namespace: "n", Name: host, CreationTimestamp: meta.NewTime(time.Unix(0, 0).Add(-time.Duration(age) * time.Hour))}}
	if rest != "" {
		b := to(rest)
		out.Spec.DefaultBackend = &b
	}
	var list []networking.HTTPIngressPath
	for _, p := range paths {
		kind := networking.PathType(p[1])
		list = append(list, networking.HTTPIngressPath{Path: p[0], PathType: &kind, Backend: to(p[2])})
	}
	if list != nil {
		out.Spec.Rules = []networking.IngressRule{{Host: host, IngressRuleValue: networking.IngressRuleValue{HTTP: &networking.HTTPIngressRuleValue{Paths: list}}}}
	}
	return out
}

// TestTable follows the examples of the Ingress API: elements of paths, precedence, wildcards.
func TestTable(t *testing.T) {
	const exact, prefix, any = "Exact", "Prefix", "ImplementationSpecific"
	table := newTable([]*networking.Ingress{
		in(1, "a.example.org", "", [3]string{"/", prefix, "younger"}),
		in(2, "a.example.org", "", [3]string{"/", prefix, "root"}, [3]string{"/foo", prefix, "foo"}, [3]string{"/foo", exact, "exact"}, [3]string{"/aaa/bbb/", prefix, "long"}, [3]string{"/any", any, "any"}),
		in(2, "*.example.org", "", [3]string{"/w", prefix, "wild"}),
		in(2, "rest.example.org", "rest", [3]string{"/x", exact, "x"}),
		in(3, "", "", [3]string{"/every", prefix, "every"}),
		in(4, "none", "default"),
	})
	for _, c := range []struct{ host, path, want string }{
		{"a.example.org", "/", "root"}, {"A.Example.org", "", "root"}, {"a.example.org", "/other", "root"},
		{"a.example.org", "/foo", "exact"}, {"a.example.org", "/foo/", "foo"}, {"a.example.org", "/foo/x", "foo"}, {"a.example.org", "/foobar", "root"},
		{"a.example.org", "/aaa/bbb", "long"}, {"a.example.org", "/aaa/bbb/ccc", "long"}, {"a.example.org", "/aaa/bbbxyz", "root"}, {"a.example.org", "/any/thing", "any"},
		{"a.example.org", "/x/../foo/y", "foo"}, {"a.example.org", "//foo", "exact"},
		{"b.example.org", "/w/1", "wild"}, {"b.example.org", "/", "default"}, {"c.b.example.org", "/w", "default"}, {"example.org", "/w", "default"},
		{"rest.example.org", "/x", "x"}, {"rest.example.org", "/x/", "rest"},
		{"else.where", "/every/one", "every"}, {"else.where", "/", "default"}, {"", "/every", "every"},
	} {
		got := "nothing"
		if b := table.find(c.host, c.path); b != nil {
			got = b.service
		}
		if got != c.want {
			t.Errorf("%s%s goes to %s, want %s", c.host, c.path, got, c.want)
		}
	}
	if b := newTable(nil).find("a", "/"); b != nil {
		t.Errorf("without Ingresses: %v", b)
	}
}
