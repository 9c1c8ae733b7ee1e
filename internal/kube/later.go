package kube

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"text/template"

	"github.com/strata-cloud/strata/internal/kubeapi"
)

// ingressManifest is what serves a cluster's Ingresses, which it is given when it needs it.
//
//go:embed later/ingress.yaml
var ingressManifest string

// The cluster's ingress: the controller of its classes, and where its Service is.
const (
	IngressController = "strata.cloud/ingress"
	IngressService    = "ingress"
	SystemNamespace   = "kube-system"
	// GivenNote is the annotation with the revision of what was given.
	GivenNote = "strata.cloud/given"
)

// IngressRevision names what GiveIngress gives.
func IngressRevision() string {
	sum := sha256.Sum256([]byte(ingressManifest))
	return "r" + hex.EncodeToString(sum[:8])
}

// GiveIngress gives a cluster what serves its Ingresses; the Service is the last of it.
func GiveIngress(ctx context.Context, api *kubeapi.Client) error {
	t, err := template.New("").Option("missingkey=error").Parse(ingressManifest)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := t.Execute(&text, map[string]string{"Image": SandboxImage, "Program": Linked, "Revision": IngressRevision()}); err != nil {
		return err
	}
	list, err := objects(text.Bytes())
	if err != nil {
		return err
	}
	for _, o := range list {
		if err := api.Apply(ctx, o.kind, o.namespace, o.name, o.body); err != nil {
			return fmt.Errorf("%s %s: %w", o.kind.Kind, o.name, err)
		}
	}
	return nil
}
