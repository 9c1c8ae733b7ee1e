package autoscale

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// pod is one with requests, on a node or waiting; more is JSON of spec.
func pod(t *testing.T, name, node, cpu, memory, more string) (p Pod) {
	t.Helper()
	status := `"phase":"Running"`
	if node == "" {
		status = `"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"why"}]`
	}
	text := fmt.Sprintf(`{"metadata":{"name":%q,"namespace":"d","labels":{"app":"a"},"ownerReferences":[{"kind":"ReplicaSet","controller":true}]},
		"spec":{"nodeName":%q,"containers":[{"resources":{"requests":{"cpu":%q,"memory":%q}}}]%s},"status":{%s}}`, name, node, cpu, memory, more, status)
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

func node(t *testing.T, name, cpu, memory, more string) (n Node) {
	t.Helper()
	text := fmt.Sprintf(`{"metadata":{"name":%q,"labels":{"kubernetes.io/hostname":%q,"zone":"z"}},"spec":{%s},"status":{"allocatable":{"cpu":%q,"memory":%q,"pods":"110"},"conditions":[{"type":"Ready","status":"True"}]}}`, name, name, more, cpu, memory)
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestQuantities(t *testing.T) {
	for text, want := range map[string]Quantity{`"100m"`: 100, `"2"`: 2000, `"0.5"`: 500, `1`: 1000, `"1Ki"`: 1024000, `"1e3"`: 1e6, `"1k"`: 1e6, `"1E"`: 1e21} {
		var q Quantity
		if err := json.Unmarshal([]byte(text), &q); err != nil || q != want {
			t.Errorf("%s is %v, %v", text, q, err)
		}
	}
	for _, text := range []string{`"x"`, `""`, `"1Kim"`, `null`, `"Inf"`} {
		var q struct{ Q *Quantity }
		if err := json.Unmarshal([]byte(`{"q":`+text+`}`), &q); err == nil && q.Q != nil {
			t.Errorf("%s is %v", text, *q.Q)
		}
	}
}

func TestRequests(t *testing.T) {
	var p Pod
	if err := json.Unmarshal([]byte(`{"spec":{"overhead":{"cpu":"10m"},"initContainers":[{"resources":{"requests":{"cpu":"300m"}}},{"restartPolicy":"Always","resources":{"requests":{"cpu":"50m","memory":"1"}}}],
		"containers":[{"resources":{"requests":{"cpu":"100m"}}},{"resources":{"requests":{"cpu":"100m"}}}]}}`), &p); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Resources{"cpu": 310, "memory": 1000, "pods": 1000}, p.requests()); d != "" {
		t.Error(d)
	}
}

// TestGrow has groups grow for pods that wait.
func TestGrow(t *testing.T) {
	n1 := node(t, "n1", "2", "4Gi", "")
	group := func(name string, count, most, room int, nodes ...string) Group {
		return Group{ID: name, Name: name, Count: count, Max: most, Room: room, Nodes: nodes, Size: Resources{"cpu": 2000, "memory": 4 << 30 * 1000}}
	}
	full := pod(t, "full", "n1", "1500m", "1Gi", "")
	for _, c := range []struct {
		what     string
		s        State
		group    string
		by       int
		helpless string
	}{
		{"nobody waits", State{Groups: []Group{group("a", 1, 3, 2, "n1")}, Nodes: []Node{n1}, Pods: []Pod{full}}, "", 0, ""},
		{"one more", State{Groups: []Group{group("a", 1, 3, 2, "n1")}, Nodes: []Node{n1}, Pods: []Pod{full, pod(t, "w", "", "1", "1Gi", "")}}, "a", 1, ""},
		{"as many as are needed", State{Groups: []Group{group("a", 1, 9, 9, "n1")}, Nodes: []Node{n1}, Pods: []Pod{full, pod(t, "w", "", "1500m", "1Gi", ""), pod(t, "v", "", "1500m", "1Gi", ""), pod(t, "u", "", "400m", "1Gi", ""), pod(t, "x", "", "400m", "1Gi", "")}}, "a", 2, ""},
		{"no more than allowed", State{Groups: []Group{group("a", 1, 2, 9, "n1")}, Nodes: []Node{n1}, Pods: []Pod{full, pod(t, "w", "", "1500m", "1Gi", ""), pod(t, "v", "", "1500m", "1Gi", "")}}, "a", 1, "d/w"},
		{"no machine", State{Groups: []Group{group("a", 1, 3, 0, "n1")}, Nodes: []Node{n1}, Pods: []Pod{full, pod(t, "w", "", "1", "1Gi", "")}}, "", 0, "d/w"},
		{"too big for any", State{Groups: []Group{group("a", 1, 3, 2, "n1")}, Nodes: []Node{n1}, Pods: []Pod{pod(t, "w", "", "3", "1Gi", "")}}, "", 0, "d/w"},
		{"one is under way", State{Groups: []Group{group("a", 2, 3, 1, "n1")}, Nodes: []Node{n1}, Pods: []Pod{full, pod(t, "w", "", "1", "1Gi", "")}}, "", 0, ""},
		{"an empty group", State{Groups: []Group{group("a", 0, 1, 1)}, Pods: []Pod{pod(t, "w", "", "1", "1Gi", "")}}, "a", 1, ""},
		{"the wrong labels", State{Groups: []Group{group("a", 1, 3, 2, "n1")}, Nodes: []Node{n1}, Pods: []Pod{full, pod(t, "w", "", "1", "1Gi", `,"nodeSelector":{"zone":"y"}`)}}, "", 0, "d/w"},
		{"a taint", State{Groups: []Group{group("a", 1, 3, 2, "n1")}, Nodes: []Node{node(t, "n1", "2", "4Gi", `"taints":[{"key":"k","value":"v","effect":"NoSchedule"}]`)}, Pods: []Pod{pod(t, "w", "", "1", "1Gi", "")}}, "", 0, "d/w"},
		{"a taint that is tolerated", State{Groups: []Group{group("a", 1, 3, 2, "n1")}, Nodes: []Node{node(t, "n1", "2", "4Gi", `"taints":[{"key":"k","value":"v","effect":"NoSchedule"}]`)}, Pods: []Pod{full, pod(t, "w", "", "1", "1Gi", `,"tolerations":[{"key":"k","operator":"Exists"}]`)}}, "a", 1, ""},
		{"hosts apart", State{Groups: []Group{group("a", 1, 3, 2, "n1")}, Nodes: []Node{n1}, Pods: []Pod{pod(t, "h", "n1", "10m", "1Mi", ""),
			pod(t, "w", "", "10m", "1Mi", `,"affinity":{"podAntiAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"topologyKey":"kubernetes.io/hostname","labelSelector":{"matchLabels":{"app":"a"}}}]}}`)}}, "a", 1, ""},
		{"the smaller waste", State{Groups: []Group{group("a", 1, 3, 2, "n1"), group("b", 1, 3, 2, "n2")}, Nodes: []Node{n1, node(t, "n2", "1100m", "1100Mi", `"unschedulable":true`)}, Pods: []Pod{full, pod(t, "w", "", "1", "1Gi", "")}}, "b", 1, ""},
	} {
		got, helpless := c.s.Grow()
		var names []string
		for _, p := range helpless {
			names = append(names, p.String())
		}
		id, by := "", 0
		if got != nil {
			id, by = got.Group.ID, got.By
		}
		if id != c.group || by != c.by || strings.Join(names, " ") != c.helpless {
			t.Errorf("%s: group %q by %d, helpless %v", c.what, id, by, names)
		}
	}
}

// TestSpares finds nodes that a group can do without.
func TestSpares(t *testing.T) {
	two := []Node{node(t, "n1", "2", "4Gi", ""), node(t, "n2", "2", "4Gi", "")}
	groups := func(least int) []Group {
		return []Group{{ID: "a", Count: 2, Min: least, Max: 3, Nodes: []string{"n1", "n2"}}}
	}
	with := func(p Pod, change func(*Pod)) Pod { change(&p); return p }
	busy, small := pod(t, "b", "n1", "1200m", "1Gi", ""), pod(t, "s", "n2", "100m", "1Mi", "")
	budget := func(allowed int) []Budget {
		var b Budget
		if err := json.Unmarshal(fmt.Appendf(nil, `{"metadata":{"namespace":"d"},"spec":{"selector":{"matchLabels":{"app":"a"}}},"status":{"disruptionsAllowed":%d}}`, allowed), &b); err != nil {
			t.Fatal(err)
		}
		return []Budget{b}
	}
	for _, c := range []struct {
		what string
		s    State
		want string
	}{
		{"little to do", State{Groups: groups(1), Nodes: two, Pods: []Pod{busy, small}}, "n2"},
		{"no fewer", State{Groups: groups(2), Nodes: two, Pods: []Pod{busy, small}}, ""},
		{"nothing to do", State{Groups: groups(0), Nodes: two}, "n1 n2"},
		{"both little, the other has to stay", State{Groups: groups(0), Nodes: two, Pods: []Pod{pod(t, "x", "n1", "100m", "1Mi", ""), small}}, "n1"},
		{"the other is full", State{Groups: groups(1), Nodes: two, Pods: []Pod{pod(t, "x", "n1", "1950m", "1Gi", ""), small}}, ""},
		{"a budget", State{Groups: groups(1), Nodes: two, Pods: []Pod{busy, small}, Budgets: budget(0)}, ""},
		{"a budget with room", State{Groups: groups(1), Nodes: two, Pods: []Pod{busy, small}, Budgets: budget(1)}, "n2"},
		{"nobody's pod", State{Groups: groups(1), Nodes: two, Pods: []Pod{busy, with(small, func(p *Pod) { p.Metadata.OwnerReferences = nil })}}, ""},
		{"one that says no", State{Groups: groups(1), Nodes: two, Pods: []Pod{busy, with(small, func(p *Pod) { p.Metadata.Annotations = map[string]string{safeToEvict: "false"} })}}, ""},
		{"data on the node", State{Groups: groups(1), Nodes: two, Pods: []Pod{busy, pod(t, "s", "n2", "100m", "1Mi", `,"volumes":[{"emptyDir":{}}]`)}}, ""},
		{"the system's", State{Groups: groups(1), Nodes: two, Pods: []Pod{busy, with(small, func(p *Pod) { p.Metadata.Namespace = "kube-system" })}}, ""},
		{"a daemon", State{Groups: groups(1), Nodes: two, Pods: []Pod{busy, with(small, func(p *Pod) {
			p.Metadata.OwnerReferences = slices.Clone(p.Metadata.OwnerReferences)
			p.Metadata.OwnerReferences[0].Kind = "DaemonSet"
		})}}, "n2"},
		{"changing", State{Groups: []Group{{ID: "a", Count: 3, Nodes: []string{"n1", "n2"}}}, Nodes: two, Pods: []Pod{busy}}, ""},
	} {
		var got []string
		for _, x := range c.s.Spares(0.5) {
			got = append(got, x.Node)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %q", c.what, got, c.want)
		}
	}
}
