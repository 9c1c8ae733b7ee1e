package kube

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/kubeapi"
)

// State is what a cluster's API says.
type State struct {
	Version string
	Nodes   []Node
}

// Node is a node of a cluster.
type Node struct {
	Name  string
	Ready bool
	Why   string // it is not ready
}

// readyTimeout bounds the question whether a cluster's API is there, and observeTimeout all
// that is asked and done then.
const (
	readyTimeout   = 5 * time.Second
	observeTimeout = 30 * time.Second
)

// Observe asks a control plane of this machine how the cluster is. A new one is given what
// every cluster has; nodes that are gone are removed from it.
func (m *Machine) Observe(ctx context.Context, c *Control, gone []string) (*State, error) {
	ctx, cancel := context.WithTimeout(ctx, observeTimeout)
	defer cancel()
	api, err := m.admin(c)
	if err != nil {
		return nil, err
	}
	defer api.Close()
	first, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := api.Read(first, "/readyz", nil); err != nil {
		return nil, err
	}
	if err := m.equip(ctx, api, c); err != nil {
		return nil, err
	}
	for _, name := range gone {
		if err := api.Delete(ctx, kubeapi.Nodes, "", name); err != nil {
			return nil, err
		}
	}
	var version struct{ GitVersion string }
	if err := api.Read(ctx, "/version", &version); err != nil {
		return nil, err
	}
	s := &State{Version: version.GitVersion}
	s.Nodes, err = nodes(ctx, api)
	return s, err
}

// admin is an administrator of a cluster.
func (m *Machine) admin(c *Control) (*kubeapi.Client, error) {
	p := m.plane(c)
	cert, err := os.ReadFile(p.pki("admin.crt"))
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(p.pki("admin.key"))
	if err != nil {
		return nil, err
	}
	return kubeapi.New(kubeapi.Config{Server: c.URL(), CA: c.Authorities.Cluster.Cert, Certificate: cert, Key: key})
}

// nodes are the cluster's nodes with their condition Ready.
func nodes(ctx context.Context, api *kubeapi.Client) ([]Node, error) {
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Status   struct {
				Conditions []struct{ Type, Status, Reason, Message string }
			}
		}
	}
	if err := api.List(ctx, kubeapi.Nodes, "", "", &list); err != nil {
		return nil, err
	}
	var out []Node
	for _, i := range list.Items {
		n := Node{Name: i.Metadata.Name, Why: "it has not said that it is ready"}
		for _, c := range i.Status.Conditions {
			if c.Type != "Ready" {
				continue
			}
			if n.Ready, n.Why = c.Status == "True", ""; !n.Ready {
				n.Why = strings.TrimSpace(c.Reason + " " + c.Message)
			}
		}
		out = append(out, n)
	}
	return out, nil
}
