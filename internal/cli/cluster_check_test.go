package cli

import (
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/containerinfra/v1/clusters"
	"github.com/gophercloud/gophercloud/v2/openstack/containerinfra/v1/nodegroups"

	"github.com/strata-cloud/strata/internal/kubeapi"
)

// wholesome is what a cluster with which nothing is wrong says of itself, by the kinds of objects.
var wholesome = map[string]string{
	"nodes":          `{"metadata":{"name":"n1"},"status":{"conditions":[{"type":"Ready","status":"True"}],"nodeInfo":{"kubeletVersion":"v1.37.2"}}}`,
	"deployments":    `{"metadata":{"name":"coredns","namespace":"kube-system"},"spec":{"replicas":2},"status":{"availableReplicas":2}}`,
	"storageclasses": `{"metadata":{"name":"strata","annotations":{"storageclass.kubernetes.io/is-default-class":"true"}}}`,
}

// checked are the findings about what such a cluster with these differences says.
func checked(t *testing.T, x clusters.Cluster, differs map[string]string, groups ...nodegroups.NodeGroup) findings {
	t.Helper()
	objects := maps.Clone(wholesome)
	maps.Copy(objects, differs)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		items := objects[path.Base(r.URL.Path)]
		if items == "refused" {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"message":"may not"}`)
			return
		}
		fmt.Fprintf(w, `{"items":[%s]}`, items)
	}))
	t.Cleanup(s.Close)
	api, err := kubeapi.New(kubeapi.Config{Server: s.URL, CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})})
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	x.Name, x.UUID, x.NodeCount, x.COEVersion = "one", "c1", 1, "v1.37.2"
	k := &clusterChecks{cluster: &x, api: api, groups: groups}
	k.inside(t.Context())
	return k.findings
}

// pod is one that was made long ago, with a status.
func podOf(name, status string) string {
	return fmt.Sprintf(`{"metadata":{"name":%q,"namespace":"d","creationTimestamp":%q},"status":%s}`, name, time.Now().Add(-time.Hour).Format(time.RFC3339), status)
}

func eventOf(pod, reason, message string) string {
	return fmt.Sprintf(`{"reason":%q,"message":%q,"involvedObject":{"kind":"Pod","namespace":"d","name":%q}}`, reason, message, pod)
}

// TestHealthy finds nothing.
func TestHealthy(t *testing.T) {
	young := fmt.Sprintf(`{"metadata":{"name":"young","namespace":"d","creationTimestamp":%q},"status":{"phase":"Pending"}}`, time.Now().Format(time.RFC3339))
	for what, differs := range map[string]map[string]string{"a cluster": nil, "one with pods": {"pods": podOf("p", `{"phase":"Running","containerStatuses":[{"name":"c","state":{"running":{}}}]}`)}, "one that starts": {"pods": young}} {
		for _, f := range checked(t, clusters.Cluster{}, differs) {
			if f.Verdict != fine || f.Fix != "" {
				t.Errorf("%s: %+v", what, f)
			}
		}
	}
}

// TestFindings: each fault is found, with what was seen and what to do.
func TestFindings(t *testing.T) {
	node := func(conditions, more string) string {
		return `{"metadata":{"name":"n1"},` + more + `"status":{"conditions":[` + conditions + `],"nodeInfo":{"kubeletVersion":"v1.37.2"}}}`
	}
	for what, c := range map[string]struct {
		differs             map[string]string
		check, verdict, see string
		fix                 string
	}{
		"no worker":         {map[string]string{"nodes": ""}, "workers", bad, "0 of 1", "strata cluster scale one 1"},
		"kubelet is silent": {map[string]string{"nodes": node(`{"type":"Ready","status":"Unknown","message":"Kubelet stopped posting node status."}`, "")}, "worker n1: kubelet", bad, "Unknown", "worker/kubelet/log"},
		"no containerd":     {map[string]string{"nodes": node(`{"type":"Ready","status":"False","message":"container runtime is down"}`, "")}, "worker n1: containerd", bad, "runtime is down", "worker/containerd/log"},
		"no network":        {map[string]string{"nodes": node(`{"type":"Ready","status":"False","message":"network is not ready"}`, "")}, "worker n1: network of pods", bad, "not ready", "strata doctor"},
		"a full disk":       {map[string]string{"nodes": node(`{"type":"Ready","status":"True"},{"type":"DiskPressure","status":"True","reason":"R"}`, "")}, "worker n1: DiskPressure", bad, "R", "make room"},
		"cordoned":          {map[string]string{"nodes": node(`{"type":"Ready","status":"True"}`, `"spec":{"unschedulable":true},`)}, "worker n1: cordoned", warn, "takes no new pods", "uncordon n1"},
		"an old kubelet":    {map[string]string{"nodes": strings.Replace(wholesome["nodes"], "1.37.2", "1.33.0", 1)}, "worker n1: version", bad, "v1.33.0", "strata cluster upgrade one"},
		"an older kubelet":  {map[string]string{"nodes": strings.Replace(wholesome["nodes"], "1.37.2", "1.36.0", 1)}, "worker n1: version", warn, "v1.36.0", "strata cluster upgrade one"},
		"a newer kubelet":   {map[string]string{"nodes": strings.Replace(wholesome["nodes"], "1.37.2", "1.38.0", 1)}, "worker n1: version", bad, "v1.38.0", "strata cluster upgrade one"},
		"no name server":    {map[string]string{"deployments": ""}, "name server (CoreDNS)", bad, "there is none", "apply one"},
		"none available":    {map[string]string{"deployments": strings.Replace(wholesome["deployments"], `"availableReplicas":2`, `"availableReplicas":0`, 1)}, "name server (CoreDNS)", bad, "0 of 2", "describe deployment coredns"},
		"half of them":      {map[string]string{"deployments": strings.Replace(wholesome["deployments"], `"availableReplicas":2`, `"availableReplicas":1`, 1)}, "name server (CoreDNS)", warn, "1 of 2", "describe deployment coredns"},
		"scaled away":       {map[string]string{"deployments": `{"metadata":{"name":"coredns","namespace":"kube-system"},"spec":{"replicas":0},"status":{}}`}, "name server (CoreDNS)", bad, "0 of 0", "--replicas 2"},
		"an add-on":         {map[string]string{"daemonsets": `{"metadata":{"name":"x","namespace":"kube-system"},"status":{"desiredNumberScheduled":3,"numberAvailable":1}}`}, "add-on x", warn, "1 of 3", "describe daemonset x"},
		"no metrics": {map[string]string{"apiservices": `{"metadata":{"name":"v1beta1.metrics.k8s.io"},"spec":{"service":{"name":"m","namespace":"kube-system"}},"status":{"conditions":[{"type":"Available","status":"False","reason":"R"}]}}`},
			"API v1beta1.metrics.k8s.io", warn, "R", "metrics-server/log"},
		"no room": {map[string]string{"pods": podOf("p", `{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","message":"0/1 nodes are available"}]}`),
			"events": eventOf("p", "NotTriggerScaleUp", "the group is at its largest")}, "pod d/p", bad, "0/1 nodes", "the group is at its largest"},
		"no port": {map[string]string{"pods": podOf("p", `{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"True"}]}`),
			"events": eventOf("p", "FailedCreatePodSandBox", "Quota exceeded for ports")}, "pod d/p", bad, "Quota exceeded", "quota set --ports"},
		"no volume": {map[string]string{"pods": podOf("p", `{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"True"}]}`),
			"events": eventOf("p", "FailedMount", "old") + "," + eventOf("p", "FailedMount", "it is not there") + "," + eventOf("other", "FailedMount", "another pod's")}, "pod d/p", bad, "it is not there", "describe pod p"},
		"no image": {map[string]string{"pods": podOf("p", `{"phase":"Pending","containerStatuses":[{"name":"c","image":"x/y:1","state":{"waiting":{"reason":"ImagePullBackOff","message":"Back-off"}}}]}`),
			"events": eventOf("p", "Failed", "403 Forbidden")}, "image x/y:1", bad, "403 Forbidden", "imagePullSecrets"},
		"no image at first": {map[string]string{"pods": podOf("p", `{"phase":"Pending","initContainerStatuses":[{"name":"c","image":"x/y:1","state":{"waiting":{"reason":"ErrImagePull","message":"not found"}}}]}`)},
			"image x/y:1", bad, "not found", "is the name right"},
		"a pod that ends": {map[string]string{"pods": podOf("p", `{"phase":"Running","containerStatuses":[{"name":"c","restartCount":7,"state":{"waiting":{"reason":"CrashLoopBackOff"}}}]}`)},
			"pod d/p", warn, "after 7 starts", "logs p -c c --previous"},
		"a webhook": {map[string]string{"validatingwebhookconfigurations": `{"metadata":{"name":"h"},"webhooks":[{"name":"w","failurePolicy":"Fail","clientConfig":{"service":{"name":"s","namespace":"d"}}}]}`,
			"endpointslices": `{"metadata":{"namespace":"d","labels":{"kubernetes.io/service-name":"s"}},"endpoints":[{"conditions":{"ready":false}}]}`}, "webhook w", bad, "d/s", "delete validatingwebhookconfiguration h"},
		"one that is ignored": {map[string]string{"mutatingwebhookconfigurations": `{"metadata":{"name":"h"},"webhooks":[{"name":"w","failurePolicy":"Ignore","clientConfig":{"service":{"name":"s","namespace":"d"}}}]}`}, "webhook w", warn, "d/s", "h"},
		"no class":            {map[string]string{"persistentvolumeclaims": podOf("v", `{"phase":"Pending"}`), "storageclasses": ""}, "volume d/v", bad, "none is the default", "name one"},
		"another class":       {map[string]string{"persistentvolumeclaims": strings.Replace(podOf("v", `{"phase":"Pending"}`), `"status"`, `"spec":{"storageClassName":"x"},"status"`, 1)}, "volume d/v", bad, "no storage class x", "describe pvc v"},
		"no pod uses it":      {map[string]string{"persistentvolumeclaims": podOf("v", `{"phase":"Pending"}`)}, "volume d/v", warn, "not there yet", "describe pvc v"},
		"not shown":           {map[string]string{"nodes": "refused"}, "nodes", warn, "may not", "a role"},
	} {
		t.Run(what, func(t *testing.T) {
			all := checked(t, clusters.Cluster{}, c.differs)
			for _, f := range all {
				if f.Check == c.check && f.Verdict == c.verdict && strings.Contains(f.Seen, c.see) && strings.Contains(f.Fix, c.fix) {
					return
				}
			}
			t.Errorf("there is no %s of %s (%s; %s): %+v", c.verdict, c.check, c.see, c.fix, all)
		})
	}
}

// TestHooksAnswered: a webhook that a pod answers is none to tell of.
func TestHooksAnswered(t *testing.T) {
	for _, f := range checked(t, clusters.Cluster{}, map[string]string{
		"validatingwebhookconfigurations": `{"metadata":{"name":"h"},"webhooks":[{"name":"w","clientConfig":{"service":{"name":"s","namespace":"d"}}},{"name":"by URL","clientConfig":{"url":"https://x"}}]}`,
		"endpointslices":                  `{"metadata":{"namespace":"d","labels":{"kubernetes.io/service-name":"s"}},"endpoints":[{"conditions":{"ready":true}}]}`}) {
		if strings.HasPrefix(f.Check, "webhook") {
			t.Errorf("%+v", f)
		}
	}
}

// TestManyPods are told of in few lines.
func TestManyPods(t *testing.T) {
	var pods []string
	for i := range 9 {
		pods = append(pods, podOf(fmt.Sprint("p", i), `{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","message":"no"}]}`))
	}
	told, more := 0, false
	for _, f := range checked(t, clusters.Cluster{}, map[string]string{"pods": strings.Join(pods, ",")}) {
		if strings.HasPrefix(f.Check, "pod d/") {
			told++
		}
		more = more || f.Seen == "and 4 more"
	}
	if told != manyPods || !more {
		t.Errorf("of 9 pods %d are told of; that there are more: %v", told, more)
	}
}

// TestScaling tells how far groups can grow.
func TestScaling(t *testing.T) {
	on := map[string]string{"auto_scaling_enabled": "true"}
	most := func(n int) *int { return &n }
	for what, c := range map[string]struct {
		labels  map[string]string
		group   nodegroups.NodeGroup
		check   string
		verdict string
	}{
		"room":          {on, nodegroups.NodeGroup{Name: "g", NodeCount: 1, MaxNodeCount: most(2)}, "autoscaling of g", fine},
		"none":          {on, nodegroups.NodeGroup{Name: "g", NodeCount: 2, MaxNodeCount: most(2)}, "autoscaling of g", warn},
		"by the label":  {map[string]string{"auto_scaling_enabled": "true", "max_node_count": "3"}, nodegroups.NodeGroup{Name: "g", IsDefault: true, NodeCount: 3}, "autoscaling of g", warn},
		"no limit":      {on, nodegroups.NodeGroup{Name: "g", NodeCount: 1}, "autoscaling", warn},
		"masters alone": {on, nodegroups.NodeGroup{Name: "g", Role: "master", MaxNodeCount: most(3)}, "autoscaling", warn},
		"disabled":      {nil, nodegroups.NodeGroup{Name: "g", NodeCount: 2, MaxNodeCount: most(2)}, "", ""},
	} {
		k := &clusterChecks{cluster: &clusters.Cluster{Name: "one", Labels: c.labels}, groups: []nodegroups.NodeGroup{c.group}}
		k.scaling()
		switch {
		case c.check == "" && len(k.findings) > 0, c.check != "" && (len(k.findings) != 1 || k.findings[0].Check != c.check || k.findings[0].Verdict != c.verdict):
			t.Errorf("%s: %+v, want %s of %s", what, k.findings, c.verdict, c.check)
		}
	}
}

// TestRecordAndLinks are what the region itself says.
func TestRecordAndLinks(t *testing.T) {
	k := &clusterChecks{cluster: &clusters.Cluster{Name: "one", Status: "CREATE_FAILED", StatusReason: "no room", HealthStatusReason: map[string]any{
		"api": "ok", "n1.Ready": "True", "n1.Link": "down", "n2.Fault": "no strata-kube"}}}
	k.record()
	k.links()
	want := map[string]string{"record": "no room", "worker n1: link": "does not hear", "worker n2: programs": "no strata-kube"}
	for _, f := range k.findings {
		if see, ok := want[f.Check]; !ok || f.Verdict != bad || !strings.Contains(f.Seen, see) || f.Fix == "" {
			t.Errorf("%+v", f)
		}
		delete(want, f.Check)
	}
	if len(want) > 0 {
		t.Errorf("not found: %v", want)
	}
	k = &clusterChecks{cluster: &clusters.Cluster{Name: "one", Status: "UPDATE_COMPLETE", HealthStatusReason: map[string]any{"api": "ok"}}}
	k.record()
	k.links()
	if k.failed() > 0 {
		t.Errorf("%+v", k.findings)
	}
}

// TestLife tells of certificates before they end.
func TestLife(t *testing.T) {
	for left, want := range map[time.Duration]string{time.Hour: bad, -time.Hour: bad, 30 * 24 * time.Hour: warn, 300 * 24 * time.Hour: fine} {
		k := &clusterChecks{cluster: &clusters.Cluster{}}
		k.life("a certificate", time.Now().Add(left), "make it anew")
		if got := k.findings[0].Verdict; got != want {
			t.Errorf("with %v left it is %s, want %s", left, got, want)
		}
	}
}

func TestNotReady(t *testing.T) {
	for text, want := range map[string]string{"[+]ping ok\n[-]etcd failed: reason withheld\n[+]log ok\n[-]poststarthook/x failed\n": "etcd failed: reason withheld; poststarthook/x failed", "connection refused": "connection refused", "": ""} {
		if got := notReady(text); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
