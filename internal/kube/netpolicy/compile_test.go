package netpolicy

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/dataplane/nft"
)

func read[T any](t testing.TB, text string) *T {
	t.Helper()
	x := new(T)
	if err := json.Unmarshal([]byte(text), x); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return x
}

// state is two namespaces: shop with web, db (port sql at 5432) and job, which has ended;
// ops with probe and one on the host's network.
func state(t testing.TB) *State {
	s := &State{Namespaces: map[string]*Namespace{}, Pods: map[string]*Pod{}, Policies: map[string]*Policy{}}
	for name, team := range map[string]string{"shop": "sales", "ops": "ops"} {
		n := read[Namespace](t, fmt.Sprintf(`{"metadata":{"name":%q,"labels":{"team":%q}}}`, name, team))
		s.Namespaces["/"+name] = n
	}
	for key, rest := range map[string]string{
		"shop/web":  `"spec":{"containers":[{}]},"status":{"phase":"Running","podIPs":[{"ip":"10.100.0.1"},{"ip":"fd00::1"}]}`,
		"shop/db":   `"spec":{"containers":[{"ports":[{"name":"sql","containerPort":5432},{"name":"sql","containerPort":53,"protocol":"UDP"}]}]},"status":{"phase":"Running","podIPs":[{"ip":"10.100.0.2"}]}`,
		"shop/job":  `"spec":{"containers":[{}]},"status":{"phase":"Succeeded","podIPs":[{"ip":"10.100.0.3"}]}`,
		"ops/probe": `"spec":{"containers":[{}]},"status":{"phase":"Running","podIPs":[{"ip":"10.100.0.4"}]}`,
		"ops/agent": `"spec":{"hostNetwork":true,"containers":[{}]},"status":{"phase":"Running","podIPs":[{"ip":"192.0.2.1"}]}`,
	} {
		ns, name, _ := strings.Cut(key, "/")
		s.Pods[key] = read[Pod](t, fmt.Sprintf(`{"metadata":{"namespace":%q,"name":%q,"labels":{"app":%q}},%s}`, ns, name, name, rest))
	}
	return s
}

func (s *State) with(t testing.TB, specs ...string) *State {
	for i, spec := range specs {
		p := read[Policy](t, fmt.Sprintf(`{"metadata":{"namespace":"shop","name":"p%d"},"spec":%s}`, i, spec))
		s.Policies[p.Metadata.key()] = p
	}
	return s
}

var local = []Local{{"shop", "db", "kp-db", []netip.Addr{netip.MustParseAddr("10.100.0.2")}}, {"shop", "web", "kp-web", []netip.Addr{netip.MustParseAddr("10.100.0.1")}}}

// rules are those that judge what comes to a pod, or what it sends, without the names of
// sets, whose elements stand in their place; nil: everything passes.
func rules(t testing.TB, table nft.Table, way, device string) []string {
	t.Helper()
	chain, ok := table.Sets[way].Elements[fmt.Sprintf("%q", device)]
	if !ok {
		return nil
	}
	out := []string{}
	all := table.Chains[strings.TrimPrefix(chain, "goto ")].Rules
	if all[len(all)-1] != "drop" {
		t.Errorf("what nothing lets through does not end: %v", all)
	}
	for _, jump := range all[:len(all)-1] {
		for _, r := range table.Chains[strings.TrimPrefix(jump, "jump ")].Rules {
			words := strings.Fields(strings.TrimSuffix(strings.TrimSuffix(r, "accept"), " "))
			for i, w := range words {
				if set, ok := strings.CutPrefix(w, "@"); ok {
					words[i] = "{" + strings.Join(sortedKeys(table.Sets[set].Elements), ",") + "}"
				}
			}
			out = append(out, strings.Join(words, " "))
		}
	}
	return out
}

func TestCompile(t *testing.T) {
	for name, c := range map[string]struct {
		policies []string
		in, out  []string // of db
		web      []string // to web
	}{
		"no policy":        {},
		"of other pods":    {policies: []string{`{"podSelector":{"matchLabels":{"app":"none"}}}`}},
		"default deny":     {policies: []string{`{"podSelector":{},"policyTypes":["Ingress","Egress"]}`}, in: []string{}, out: []string{}, web: []string{}},
		"ingress alone":    {policies: []string{`{"podSelector":{"matchLabels":{"app":"db"}}}`}, in: []string{}},
		"egress by itself": {policies: []string{`{"podSelector":{"matchLabels":{"app":"db"}},"egress":[{}]}`}, in: []string{}, out: []string{""}},
		"egress alone":     {policies: []string{`{"podSelector":{"matchLabels":{"app":"db"}},"policyTypes":["Egress"]}`}, out: []string{}},
		"allow all":        {policies: []string{`{"podSelector":{},"ingress":[{}]}`}, in: []string{""}, web: []string{""}},
		"pods of the namespace": {policies: []string{`{"podSelector":{"matchLabels":{"app":"db"}},"ingress":[{"from":[{"podSelector":{}}]}]}`},
			in: []string{"ip saddr {10.100.0.1,10.100.0.2}"}},
		"pods elsewhere": {policies: []string{`{"podSelector":{"matchLabels":{"app":"db"}},"ingress":[{"from":[{"namespaceSelector":{"matchLabels":{"team":"ops"}}}]}]}`},
			in: []string{"ip saddr {10.100.0.4}"}},
		"both selectors": {policies: []string{`{"podSelector":{"matchLabels":{"app":"db"}},"ingress":[{"from":[{"namespaceSelector":{},"podSelector":{"matchExpressions":[{"key":"app","operator":"In","values":["web","probe"]}]}}]}]}`},
			in: []string{"ip saddr {10.100.0.1,10.100.0.4}"}},
		"either selector": {policies: []string{`{"podSelector":{"matchLabels":{"app":"db"}},"ingress":[{"from":[{"namespaceSelector":{"matchExpressions":[{"key":"team","operator":"NotIn","values":["sales"]}]}},{"podSelector":{"matchLabels":{"app":"web"}}}]}]}`},
			in: []string{"ip saddr {10.100.0.4}", "ip saddr {10.100.0.1}"}},
		"blocks and ports": {policies: []string{`{"podSelector":{"matchLabels":{"app":"db"}},"policyTypes":["Egress"],"egress":[{"to":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16","10.1.2.0/24","10.2.0.0/16"]}},{"ipBlock":{"cidr":"fd00::/8"}}],"ports":[{"port":53,"protocol":"UDP"},{"port":8000,"endPort":8010},{"protocol":"SCTP"}]}]}`},
			out: []string{"ip daddr 10.0.0.0/8 ip daddr != 10.1.0.0/16 ip daddr != 10.2.0.0/16 meta l4proto udp th dport 53", "ip daddr 10.0.0.0/8 ip daddr != 10.1.0.0/16 ip daddr != 10.2.0.0/16 meta l4proto tcp th dport 8000-8010",
				"ip daddr 10.0.0.0/8 ip daddr != 10.1.0.0/16 ip daddr != 10.2.0.0/16 meta l4proto sctp"}},
		"named port": {policies: []string{`{"podSelector":{"matchLabels":{"app":"db"}},"ingress":[{"ports":[{"port":"sql"}]}]}`},
			in: []string{"meta l4proto tcp ip daddr . th dport {10.100.0.2 . 5432}"}},
		"two of them": {policies: []string{`{"podSelector":{"matchLabels":{"app":"db"}},"ingress":[{"ports":[{"port":1}]}]}`, `{"podSelector":{},"ingress":[{"ports":[{"port":2}]}]}`},
			in: []string{"meta l4proto tcp th dport 1", "meta l4proto tcp th dport 2"}, web: []string{"meta l4proto tcp th dport 2"}},
		"an unknown operator": {policies: []string{`{"podSelector":{"matchExpressions":[{"key":"app","operator":"Like"}]}}`}},
		"labels that exist":   {policies: []string{`{"podSelector":{"matchExpressions":[{"key":"app","operator":"Exists"},{"key":"x","operator":"DoesNotExist"}]}}`}, in: []string{}, web: []string{}},
	} {
		table := Compile("t", state(t).with(t, c.policies...), local, false)
		for _, x := range []struct {
			what, way, device string
			want              []string
		}{{"to db", "in", "kp-db", c.in}, {"from db", "out", "kp-db", c.out}, {"to web", "in", "kp-web", c.web}} {
			if got := rules(t, table, x.way, x.device); !reflect.DeepEqual(got, x.want) {
				t.Errorf("%s: %s pass %q, want %q", name, x.what, got, x.want)
			}
		}
	}
}

// TestOnePodMore changes elements of sets alone.
func TestOnePodMore(t *testing.T) {
	s := state(t).with(t, `{"podSelector":{"matchLabels":{"app":"db"}},"ingress":[{"from":[{"podSelector":{}}]}]}`)
	before := Compile("t", s, local, false)
	s.Pods["shop/more"] = read[Pod](t, `{"metadata":{"namespace":"shop","name":"more"},"spec":{"containers":[]},"status":{"podIPs":[{"ip":"10.100.0.9"}]}}`)
	lines := strings.Split(strings.TrimSpace(Compile("t", s, local, false).Diff(before)), "\n")
	if len(lines) != 1 || !strings.HasPrefix(lines[0], "add element inet t set-") {
		t.Errorf("one more pod: %q", lines)
	}
	if again := Compile("t", s, slices.Clone(local), false).Diff(Compile("t", s, local, false)); again != "" {
		t.Errorf("the same is not the same: %s", again)
	}
}

// BenchmarkCompile is a node with 100 pods in a cluster of 5,000 with 50 policies.
func BenchmarkCompile(b *testing.B) {
	s, mine := state(b), []Local{}
	for i := range 5000 {
		name := fmt.Sprint("p", i)
		s.Pods["shop/"+name] = read[Pod](b, fmt.Sprintf(`{"metadata":{"namespace":"shop","name":%q,"labels":{"n":"%d"}},"spec":{"containers":[]},"status":{"podIPs":[{"ip":"10.101.%d.%d"}]}}`, name, i%50, i/250, i%250))
		if i < 100 {
			mine = append(mine, Local{"shop", name, "kp-" + name, nil})
		}
	}
	for i := range 50 {
		s.with(b, fmt.Sprintf(`{"podSelector":{"matchLabels":{"n":"%d"}},"ingress":[{"from":[{"podSelector":{"matchLabels":{"n":"%d"}}}]}]}`, i, (i+1)%50))
		s.Policies[fmt.Sprint("shop/q", i)] = s.Policies["shop/p0"]
		s.Policies[fmt.Sprint("shop/q", i)].Metadata.Name = fmt.Sprint("q", i)
	}
	for b.Loop() {
		Compile("t", s, mine, false)
	}
}
