package docker

import (
	"net/http"

	"github.com/strata-cloud/strata/internal/dockerwire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
)

// request is one, of a caller.
type request struct {
	*dockerwire.Request
	who *policy.Credentials
}

type handler func(w http.ResponseWriter, r *request) error

// route is an operation; rule is the one that all of it is under, "" if there is none.
type route struct {
	method, path, rule string
	handle             handler
}

// ServeHTTP implements http.Handler, for paths as an engine has them.
func (s *Service) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	r, err := dockerwire.Open(w, hr, s.Version)
	if who, denied := s.caller(hr); denied != nil { // a stranger is told nothing else
		err = denied
	} else if err == nil {
		err = s.serve(w, &request{r, who})
	}
	if errs.Is(err, errs.Unauthenticated) {
		w.Header().Set("WWW-Authenticate", `Basic realm="Strata"`)
	}
	if err != nil {
		dockerwire.Fail(w, r, s.Log, err)
	}
}

func (s *Service) serve(w http.ResponseWriter, r *request) error {
	op, ok := s.table.Find(r.Request)
	if !ok {
		return errs.NotFoundf("page not found")
	}
	if op.rule != "" {
		if err := s.may(r.who, op.rule); err != nil {
			return err
		}
	}
	return op.handle(w, r)
}
