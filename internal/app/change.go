package app

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kubeapi"
	"github.com/strata-cloud/strata/internal/wait"
)

// Row is a service of an application as the cluster has it.
type Row struct {
	App       string   `json:"app"`
	Service   string   `json:"service"`
	Image     string   `json:"image"`
	Ready     int      `json:"ready"`
	Wanted    int      `json:"wanted"`
	Revision  string   `json:"revision"`
	Addresses []string `json:"addresses"` // from outside, ADDRESS:PORT
	Troubles  []string `json:"troubles"`
}

// List tells of all applications, or of one; name "" is all.
func (c *Cluster) List(ctx context.Context, name string) ([]Row, error) {
	if name != "" {
		if err := c.find(ctx, name); err != nil {
			return nil, err
		}
	}
	all, err := c.deployments(ctx, name)
	if err != nil {
		return nil, err
	}
	addresses, err := c.addresses(ctx, name)
	if err != nil {
		return nil, err
	}
	rows := []Row{}
	for _, d := range all {
		r := Row{App: d.Metadata.Labels[labelPartOf], Service: d.Metadata.Name, Ready: d.Status.AvailableReplicas, Wanted: d.Spec.Replicas, Revision: d.Metadata.Annotations[revisionKey], Troubles: []string{}}
		if cs := d.Spec.Template.Spec.Containers; len(cs) > 0 {
			r.Image = cs[0].Image
		}
		r.Addresses = append([]string{}, addresses[r.App+"/"+r.Service]...)
		if name != "" && !d.done() {
			why, err := c.troubles(ctx, name)
			if err != nil {
				return nil, err
			}
			for _, w := range why {
				if of, text, _ := strings.Cut(w, ": "); of == r.Service {
					r.Troubles = append(r.Troubles, text)
				}
			}
		}
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b Row) int { return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Service, b.Service)) })
	return rows, nil
}

// addresses are where services are reached from outside, by application and service.
func (c *Cluster) addresses(ctx context.Context, name string) (map[string][]string, error) {
	out := map[string][]string{}
	err := c.reached(ctx, name, func(r *reached) {
		for _, i := range r.Status.LoadBalancer.Ingress {
			for _, p := range r.Spec.Ports {
				out[r.key()] = append(out[r.key()], cmp.Or(i.IP, i.Hostname)+":"+strconv.Itoa(p.Port))
			}
			for _, h := range r.Spec.Rules {
				out[r.key()] = append(out[r.key()], h.Host+" at "+cmp.Or(i.IP, i.Hostname))
			}
		}
	})
	return out, err
}

// reached is what is read of a Service or an Ingress.
type reached struct {
	Metadata meta `json:"metadata"`
	Spec     struct {
		Type  string                  `json:"type"`
		Ports []struct{ Port int }    `json:"ports"`
		Rules []struct{ Host string } `json:"rules"`
	} `json:"spec"`
	Status struct {
		LoadBalancer struct {
			Ingress []struct{ IP, Hostname string } `json:"ingress"`
		} `json:"loadBalancer"`
	} `json:"status"`
}

func (r *reached) key() string {
	return r.Metadata.Labels[labelPartOf] + "/" + r.Metadata.Labels[labelName]
}

// reached calls do with each Service and Ingress of applications; name "" is all.
func (c *Cluster) reached(ctx context.Context, name string, do func(*reached)) error {
	for _, k := range []kubeapi.Kind{kubeapi.Services, kubeapi.Ingresses} {
		var all list[reached]
		if err := c.API.List(ctx, k, name, labelManagedBy+"="+Manager, &all); err != nil {
			return err
		}
		for i := range all.Items {
			do(&all.Items[i])
		}
	}
	return nil
}

// addressLimit is how long an address is waited for: a cluster may have none to give.
const addressLimit = 15 * time.Second

// AwaitAddresses waits a little until what is published of an application has its address.
func (c *Cluster) AwaitAddresses(ctx context.Context, name string) error {
	limited, cancel := context.WithTimeout(ctx, addressLimit)
	defer cancel()
	err := wait.Until(limited, "addresses", lookEvery, func(ctx context.Context) (bool, error) {
		all := true
		err := c.reached(ctx, name, func(r *reached) {
			all = all && (r.Spec.Type != "LoadBalancer" && len(r.Spec.Rules) == 0 || len(r.Status.LoadBalancer.Ingress) > 0)
		})
		return all, err
	})
	if limited.Err() != nil && ctx.Err() == nil {
		c.Say("what is published has no address yet: strata app list %s", name)
		return nil
	}
	return err
}

// pick gives the service that is meant; service "" is the only one.
func (c *Cluster) pick(ctx context.Context, name, service string) (*deployment, error) {
	if err := c.find(ctx, name); err != nil {
		return nil, err
	}
	all, err := c.deployments(ctx, name)
	if err != nil {
		return nil, err
	}
	var names []string
	for i, d := range all {
		if d.Metadata.Name == service || service == "" && len(all) == 1 {
			return &all[i], nil
		}
		names = append(names, d.Metadata.Name)
	}
	if service == "" {
		return nil, errs.Invalidf("application %s has several services, %s: say which, as %s/SERVICE", name, strings.Join(names, ", "), name)
	}
	return nil, errs.NotFoundf("application %s has no service %s, but %s", name, service, strings.Join(names, ", "))
}

// Scale gives a service n copies.
func (c *Cluster) Scale(ctx context.Context, name, service string, n int) error {
	d, err := c.pick(ctx, name, service)
	if err != nil {
		return err
	}
	return c.API.Merge(ctx, kubeapi.Deployments, name, d.Metadata.Name, "scale", map[string]any{"spec": map[string]any{"replicas": n}})
}

// revisionKey is where a Deployment and its ReplicaSets have their revision.
const revisionKey = "deployment.kubernetes.io/revision"

// Rollback gives a service the pods that it had in a revision; 0 is the one before. It is
// what kubectl rollout undo does.
func (c *Cluster) Rollback(ctx context.Context, name, service string, revision int) error {
	d, err := c.pick(ctx, name, service)
	if err != nil {
		return err
	}
	var sets list[struct {
		Metadata meta `json:"metadata"`
		Spec     struct {
			Template map[string]any `json:"template"`
		} `json:"spec"`
	}]
	if err := c.API.List(ctx, replicaSets, name, labelName+"="+d.Metadata.Name, &sets); err != nil {
		return err
	}
	now := number(d.Metadata.Annotations[revisionKey])
	best, at := 0, -1
	for i, s := range sets.Items {
		n := number(s.Metadata.Annotations[revisionKey])
		if owned := slices.ContainsFunc(s.Metadata.OwnerReferences, func(o struct{ UID string }) bool { return o.UID == d.Metadata.UID }); !owned || n == now {
			continue
		}
		if n == revision || revision == 0 && n > best {
			best, at = n, i
		}
	}
	if at < 0 {
		if revision != 0 {
			return errs.NotFoundf("service %s has no other revision %d", d.Metadata.Name, revision)
		}
		return errs.Conflictf("service %s has no earlier revision", d.Metadata.Name)
	}
	template := sets.Items[at].Spec.Template
	if m, ok := template["metadata"].(map[string]any); ok {
		if l, ok := m["labels"].(map[string]any); ok {
			delete(l, "pod-template-hash")
		}
	}
	return c.API.Replace(ctx, kubeapi.Deployments, name, d.Metadata.Name, "/spec/template", template)
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}

// Manifest is what an application is in the cluster, for people who want to see it: a
// kind List in JSON, which kubectl applies.
func (a *App) Manifest() ([]byte, error) {
	var items []any
	for _, o := range a.objects() {
		items = append(items, o.body)
	}
	return json.MarshalIndent(map[string]any{"apiVersion": "v1", "kind": "List", "items": items}, "", "  ")
}
