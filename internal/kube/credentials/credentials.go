// Package credentials is kubelet's interface for credentials of registries, version 1: the
// plugin, a program that passes a question on to the node's agent, and what the two say.
//
// Kubelet runs strata-credentials with the path of the agent's socket, writes the image to
// its input and reads a name and a password from its output. The plugin keeps nothing, and
// writes what it is given nowhere else.
//
// Source: Kubernetes, "Configure a kubelet image credential provider",
// credentialprovider.kubelet.k8s.io/v1 and kubelet.config.k8s.io/v1.
package credentials

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"time"
)

// Program is the name by which the plugin is called.
const Program = "strata-credentials"

// APIVersion is the version of the interface that is spoken.
const APIVersion = "credentialprovider.kubelet.k8s.io/v1"

// Question is what the agent is asked.
type Question struct {
	Image string `json:"image"`
}

// Answer is the agent's: a name and a password, for a while, or why not.
type Answer struct {
	Name     string        `json:"name,omitempty"`
	Password string        `json:"password,omitempty"`
	Lasts    time.Duration `json:"lasts,omitempty"`
	Error    string        `json:"error,omitempty"`
}

const (
	// patience bounds a question; kubelet waits for a minute.
	patience = 30 * time.Second
	// maxMessage bounds what is read, in bytes.
	maxMessage = 1 << 20
)

// request and response are kubelet's.
type request struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Image      string `json:"image"`
}

type response struct {
	APIVersion    string           `json:"apiVersion"`
	Kind          string           `json:"kind"`
	CacheKeyType  string           `json:"cacheKeyType"`
	CacheDuration string           `json:"cacheDuration"`
	Auth          map[string]login `json:"auth"`
}

type login struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// RegistryOf is the part of an image's name that says where it is; "": a name of Docker's.
func RegistryOf(image string) string {
	host, _, found := strings.Cut(image, "/")
	if !found || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return ""
	}
	return host
}

// Main is the plugin; it gives the exit code.
func Main(args []string, in io.Reader, out, problems io.Writer) int {
	r, err := answer(args, in)
	if err == nil {
		err = json.NewEncoder(out).Encode(r)
	}
	if err != nil {
		fmt.Fprintf(problems, "%s: %v\n", Program, err)
		return 1
	}
	return 0
}

func answer(args []string, in io.Reader) (*response, error) {
	if len(args) != 1 || !filepath.IsAbs(args[0]) {
		return nil, errors.New("kubelet calls this program, with the path of the node's agent's socket")
	}
	var r request
	if err := json.NewDecoder(io.LimitReader(in, maxMessage)).Decode(&r); err != nil {
		return nil, fmt.Errorf("the question is no JSON: %w", err)
	}
	if r.APIVersion != APIVersion || r.Kind != "CredentialProviderRequest" {
		return nil, fmt.Errorf("the question is a %s of %s, not a CredentialProviderRequest of %s", r.Kind, r.APIVersion, APIVersion)
	}
	registry := RegistryOf(r.Image)
	if registry == "" {
		return nil, fmt.Errorf("the image %q names no registry", r.Image)
	}
	a, err := ask(args[0], &Question{Image: r.Image})
	if err != nil {
		return nil, err
	}
	return &response{APIVersion: APIVersion, Kind: "CredentialProviderResponse", CacheKeyType: "Registry", CacheDuration: keep(a.Lasts).String(),
		Auth: map[string]login{registry: {Username: a.Name, Password: a.Password}}}, nil
}

// keep is how long kubelet may use what it was given: what it takes last still has most of
// its time for the layers.
func keep(lasts time.Duration) time.Duration {
	return max(lasts/3, 0).Truncate(time.Second)
}

// ask passes a question on to the agent.
func ask(socket string, q *Question) (*Answer, error) {
	c, err := net.DialTimeout("unix", socket, patience)
	if err != nil {
		return nil, fmt.Errorf("the node's agent does not answer: %w", err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if err := json.NewEncoder(c).Encode(q); err != nil {
		return nil, fmt.Errorf("the node's agent does not listen: %w", err)
	}
	var a Answer
	if err := json.NewDecoder(io.LimitReader(c, maxMessage)).Decode(&a); err != nil {
		return nil, errors.New("the node's agent has gone away") // an error of the decoder may show the answer
	}
	if a.Error != "" {
		return nil, errors.New(a.Error)
	}
	return &a, nil
}
