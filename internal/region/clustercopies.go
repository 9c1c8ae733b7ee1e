package region

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"github.com/strata-cloud/strata/internal/cluster"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kube"
	"github.com/strata-cloud/strata/internal/kube/restart"
	"github.com/strata-cloud/strata/internal/kubeapi"
	"github.com/strata-cloud/strata/internal/wait"
)

// The state of each Kubernetes cluster, which is what its etcd holds, is copied every few
// minutes where its control plane is, and from there to all control members: so it can go on
// elsewhere, and each member's backup has all clusters in it.
const (
	copiesDir  = snapshotsDir + "/clusters"
	copyEvery  = 5 * time.Minute
	copiesLook = 20 * time.Second // how often it is looked whether one is due, or there are others
	copiesKept = 3                // of each cluster
)

// clusterCopies keeps the copies on this machine.
type clusterCopies struct {
	cfg      *Config
	copies   *kube.Copies
	clusters string // the directory of those whose control planes are here
	council  *council
	// hosts are the machines that have the control planes of the clusters that there are.
	hosts func(ctx context.Context) (map[string]string, error)
}

// runCopies keeps the copies of a region on one machine until ctx ends.
func (r *Region) runCopies(ctx context.Context) {
	(&clusterCopies{cfg: &r.cfg, copies: r.host.copies, clusters: r.cfg.path(kubeDir), hosts: func(context.Context) (map[string]string, error) { return r.Cluster.Hosts(), nil }}).run(ctx)
}

// runCopies keeps those of a control member, whoever leads.
func (c *council) runCopies(ctx context.Context) {
	(&clusterCopies{cfg: c.cfg, copies: c.agent.host.copies, clusters: c.cfg.path(kubeDir), council: c, hosts: func(ctx context.Context) (hosts map[string]string, err error) {
		err = c.askLeader(ctx, http.MethodGet, "/clusters", &hosts)
		return hosts, err
	}}).run(ctx)
}

// run works until ctx ends.
func (c *clusterCopies) run(ctx context.Context) {
	told := ""
	for wait.Pause(ctx, copiesLook) == nil {
		err := c.once(ctx, time.Now())
		if err != nil && ctx.Err() == nil && !errs.Is(err, errs.Unavailable) && err.Error() != told {
			told = err.Error()
			c.cfg.Log.Warn("copies of clusters' states", "err", err)
		}
	}
}

func (c *clusterCopies) once(ctx context.Context, now time.Time) error {
	err := c.make(ctx, now)
	hosts, unknown := c.hosts(ctx)
	if unknown != nil {
		return errors.Join(err, unknown)
	}
	return errors.Join(err, c.collect(ctx, hosts), c.copies.Prune(func(id string) bool { _, ok := hosts[id]; return ok }, copiesKept))
}

// make copies the clusters of which the newest copy is old, if their control planes are here.
func (c *clusterCopies) make(ctx context.Context, now time.Time) error {
	ids, err := kube.Controls(c.clusters)
	if err != nil || len(ids) == 0 {
		return err
	}
	list, err := c.copies.List()
	if err != nil {
		return err
	}
	var failed error
	for _, id := range ids {
		if i := slices.IndexFunc(list, func(x kube.Copy) bool { return x.Cluster == id }); i >= 0 && now.Sub(list[i].Made) < copyEvery {
			continue
		}
		_, err := c.copies.Make(ctx, c.clusters, id)
		failed = errors.Join(failed, err)
	}
	return failed
}

// collect fetches the newest copy of each cluster from the member that has its control plane:
// one that had it, and was cut off, may have others.
func (c *clusterCopies) collect(ctx context.Context, hosts map[string]string) error {
	if c.council == nil {
		return nil
	}
	have, err := c.copies.List()
	if err != nil {
		return err
	}
	newest := map[string]time.Time{}
	for _, x := range slices.Backward(have) {
		newest[x.Cluster] = x.Made
	}
	for _, x := range c.council.copiesElsewhere(ctx) {
		if hosts[x.Cluster] == x.member && x.Made.After(newest[x.Cluster]) {
			newest[x.Cluster] = x.Made
			err = errors.Join(err, c.copies.Obtain(ctx, x.Name))
		}
	}
	return err
}

// copyAt is a copy that another member has.
type copyAt struct {
	kube.Copy
	member string
}

// copiesElsewhere are the copies that other members have which answer, the newest first.
func (c *council) copiesElsewhere(ctx context.Context) (out []copyAt) {
	for _, p := range c.member.Peers() {
		addr, ok := c.addrOf(p.ID)
		if !ok || addr == c.cfg.Cluster {
			continue
		}
		limit, cancel := context.WithTimeout(ctx, askFor)
		body, err := c.ask(limit, addr, http.MethodGet, "/clusters", nil)
		if err == nil {
			var names []string
			err = errors.Join(json.NewDecoder(body).Decode(&names), body.Close())
			for _, name := range names {
				if x, ok := kube.ParseCopy(name); ok && err == nil {
					out = append(out, copyAt{x, p.Name})
				}
			}
		}
		cancel()
	}
	slices.SortFunc(out, func(a, b copyAt) int { return b.Made.Compare(a.Made) })
	return out
}

// fetchCopy writes a copy that another member has.
func (c *council) fetchCopy(ctx context.Context, name string, w io.Writer) error {
	err := errs.NotFoundf("no member that answers has the copy %s", name)
	for _, addr := range c.addrs() {
		if addr == c.cfg.Cluster {
			continue
		}
		body, e := c.ask(ctx, addr, http.MethodGet, "/clusters/"+name, nil)
		if e != nil {
			continue
		}
		_, e = io.Copy(w, body)
		return errors.Join(e, body.Close())
	}
	return err
}

// copyRoutes give other members this one's copies.
func copyRoutes(mux *http.ServeMux, copies *kube.Copies) {
	mux.HandleFunc("GET /clusters", func(w http.ResponseWriter, _ *http.Request) {
		list, err := copies.List()
		names := []string{}
		for _, x := range list {
			names = append(names, x.Name)
		}
		answer(w, names, err)
	})
	mux.HandleFunc("GET /clusters/{name}", func(w http.ResponseWriter, q *http.Request) {
		r, err := copies.Open(q.PathValue("name"))
		if err != nil {
			answer(w, nil, err)
			return
		}
		defer r.Close()
		if _, err := io.Copy(w, r); err != nil {
			panic(http.ErrAbortHandler) // a part must not look whole
		}
	})
}

// copiesForCluster shows the service of clusters the copies that members have.
type copiesForCluster struct{ r *Region }

// Newest implements cluster.Copies.
func (s copiesForCluster) Newest(ctx context.Context, id string) (string, time.Time, error) {
	list, err := (&kube.Copies{Dir: s.r.cfg.path(copiesDir)}).List()
	if err != nil {
		return "", time.Time{}, err
	}
	if s.r.council != nil {
		for _, x := range s.r.council.copiesElsewhere(ctx) {
			list = append(list, x.Copy)
		}
	}
	slices.SortStableFunc(list, func(a, b kube.Copy) int { return b.Made.Compare(a.Made) })
	for _, x := range list {
		if x.Cluster == id {
			return x.Name, x.Made, nil
		}
	}
	return "", time.Time{}, errs.NotFoundf("No member that answers has a copy of the state of cluster %s.", id)
}

// restartNode fits package restart to the service of clusters.
func restartNode(ctx context.Context, api *kubeapi.Client, node string) (func(context.Context) error, error) {
	n, err := restart.Look(ctx, api, node)
	if err != nil {
		return nil, err
	}
	return n.Await, nil
}

// moveRoute brings a cluster's control plane to another member.
func (r *Region) moveRoute(w http.ResponseWriter, q *http.Request) {
	var in cluster.Moving
	err := decode(q, &in)
	var out *cluster.Moved
	if err == nil {
		out, err = r.Cluster.Move(q.Context(), q.PathValue("cluster"), in)
	}
	answer(w, out, err)
}

// keptCopies are the newest copies here of clusters whose control planes are elsewhere, as
// files.
func keptCopies(dataDir string, here []string) (map[string]string, error) {
	list, err := (&kube.Copies{Dir: filepath.Join(dataDir, copiesDir)}).List()
	out := map[string]string{}
	for _, x := range list {
		if _, newer := out[x.Cluster]; !newer && !slices.Contains(here, x.Cluster) {
			out[x.Cluster] = filepath.Join(dataDir, copiesDir, x.Name)
		}
	}
	return out, err
}

// keepRestored keeps a cluster's state of a backup as a copy as well: what its control plane
// begins with that was on a machine which is lost.
func keepRestored(dataDir, id string, made time.Time, r io.Reader) error {
	copies := &kube.Copies{Dir: filepath.Join(dataDir, copiesDir)}
	return copies.Keep(kube.CopyName(id, made), func(w io.Writer) error { _, err := io.Copy(w, r); return err })
}
