package registry

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
)

// Worker is a node that works for a cluster of Kubernetes. It pulls what a member of the
// cluster's project may, and does nothing else.
type Worker struct {
	Cluster string `json:"c"`
	Node    string `json:"n"`
}

const (
	// WorkerName is the name by which workers log in.
	WorkerName = "strata-worker"
	// WorkerTTL is how long a worker's password is good.
	WorkerTTL = 30 * time.Minute
	// workerPurpose separates these passwords from tokens.
	workerPurpose = "registry worker"
)

// workerLogin is what a worker's password holds.
type workerLogin struct {
	Worker Worker    `json:"w"`
	Ends   time.Time `json:"e"`
}

// WorkerPassword makes the password of a worker. What it opens is judged whenever it is used,
// by what the node works for then.
func (s *Service) WorkerPassword(w Worker) (string, error) {
	raw, err := json.Marshal(workerLogin{w, s.now().Add(WorkerTTL)})
	if err != nil {
		return "", err
	}
	return s.Identity.Seal(workerPurpose, raw)
}

// errNoWorker is the answer to whoever is no worker, or not any more.
func errNoWorker() error {
	return errs.New(errs.Unauthenticated, "This is not, or not any more, the password of a machine that works for a cluster.")
}

// workerToken issues a token for a worker.
func (s *Service) workerToken(w http.ResponseWriter, r *http.Request, password string) error {
	raw, err := s.Identity.Open(workerPurpose, password)
	if errs.Is(err, errs.Unauthenticated) {
		return errNoWorker()
	} else if err != nil {
		return err
	}
	var in workerLogin
	begins := s.now()
	if err := json.Unmarshal(raw, &in); err != nil || !begins.Before(in.Ends) {
		return errNoWorker()
	}
	c, err := s.worker(r.Context(), in.Worker)
	if err != nil {
		return err
	}
	t := sealed{Worker: &in.Worker, Ends: begins.Add(s.TokenTTL), Access: map[string][]string{}}
	if in.Ends.Before(t.Ends) {
		t.Ends = in.Ends
	}
	if err := s.grant(&t, c, r.Form["scope"]); err != nil {
		return err
	}
	return s.issue(w, r, &t, begins)
}

// worker is what a worker may now, as credentials of nobody in particular.
func (s *Service) worker(ctx context.Context, w Worker) (*policy.Credentials, error) {
	if s.Workers == nil {
		return nil, errNoWorker()
	}
	project, err := s.Workers(w)
	if errs.Is(err, errs.Forbidden) {
		return nil, errNoWorker()
	} else if err != nil {
		return nil, err
	}
	name, err := s.Identity.ProjectName(ctx, project)
	if errs.Is(err, errs.NotFound) {
		return nil, errNoWorker()
	} else if err != nil {
		return nil, err
	}
	return &policy.Credentials{ProjectID: project, ProjectName: name, Roles: []string{"member", "reader"}}, nil
}
