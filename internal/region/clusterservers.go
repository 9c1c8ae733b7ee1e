package region

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"

	"github.com/strata-cloud/strata/internal/cluster"
	"github.com/strata-cloud/strata/internal/compute"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/guest"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/nodelink"
	"github.com/strata-cloud/strata/internal/policy"
)

// serversForCluster shows the service of clusters the compute service.
type serversForCluster struct{ r *Region }

var _ cluster.Servers = serversForCluster{}

// What a worker needs whose flavor nobody names (kubeadm's requirements, but for the second
// processor, without which kubelet works as well).
const (
	workerVCPUs     = 1
	workerMemoryMiB = 2048
)

func (s serversForCluster) Kind(ctx context.Context, who *policy.Credentials, flavor, image string) (*cluster.ServerKind, cluster.Size, error) {
	name := image
	if name == "" {
		name = guest.KindKubeWorker
	}
	img, err := s.r.Image.Image(ctx, who, name)
	if errs.Is(err, errs.NotFound) {
		img, err = s.r.Image.Newest(who, name)
	}
	switch {
	case errs.Is(err, errs.NotFound) && image == "":
		return nil, cluster.Size{}, errs.NotFoundf("There is no image %s for workers that are servers: strata image build %[1]s makes it.", name)
	case err != nil:
		return nil, cluster.Size{}, errs.NotFoundf("Image %s could not be found.", name)
	}
	f, err := s.r.Compute.ServerFlavor(ctx, who, flavor, img.ID, workerVCPUs, workerMemoryMiB)
	if err != nil {
		return nil, cluster.Size{}, err
	}
	return &cluster.ServerKind{FlavorID: f.ID, ImageID: img.ID}, cluster.Size{VCPUs: f.VCPUs, MemoryMiB: f.RAM}, nil
}

func (s serversForCluster) Make(ctx context.Context, x cluster.ServerSpec) error {
	if there, _ := s.r.Compute.MadeServer(x.ID); there {
		return nil
	}
	data, err := s.r.bootstrapWorker(x.Worker, x.Cluster)
	if err != nil {
		return err
	}
	return s.r.Compute.MakeServer(ctx, &policy.Credentials{ProjectID: x.ProjectID, UserID: x.UserID}, compute.Wanted{ID: x.ID, Name: x.Name, Hostname: x.Name, Flavor: x.FlavorID, Image: x.ImageID, Port: x.Port, Key: x.Key,
		UserData: data, Metadata: map[string]string{"container-infra:cluster": x.Cluster}})
}

func (s serversForCluster) Server(id string) (there bool, fault string) {
	return s.r.Compute.MadeServer(id)
}

func (s serversForCluster) Off(id string) bool { return s.r.Compute.IsOff(id) }

func (s serversForCluster) Remove(ctx context.Context, project, user, id string) error {
	return s.r.Compute.RemoveServer(ctx, &policy.Credentials{ProjectID: project, UserID: user}, id)
}

// bootstrapWorker is what a server is told that is to be a worker.
func (r *Region) bootstrapWorker(worker, cluster string) ([]byte, error) {
	ca, _, err := ensureCA(&r.cfg)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := r.signWorker(worker, &key.PublicKey)
	if err != nil {
		return nil, err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return json.Marshal(nodeapi.KubeBootstrap{Version: 1, Worker: worker, Cluster: cluster, Control: r.workerAddrs(), CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw}),
		Link: nodeapi.KubePair{Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})}})
}

// signWorker issues a certificate for the link of a worker that is a server.
func (r *Region) signWorker(worker string, key any) ([]byte, error) {
	ca, by, err := ensureCA(&r.cfg)
	if err != nil {
		return nil, err
	}
	return sign(ca, by, &x509.Certificate{Subject: pkix.Name{CommonName: worker, OrganizationalUnit: []string{nodelink.WorkerUnit}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, key, nodeLife)
}
