package region

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"runtime/pprof"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
)

// maxProfile bounds how long the use of the CPU is sampled.
const maxProfile = 5 * time.Minute

// profileRoute gives a profile of this process: what it does (cpu, for a time) or
// what runtime/pprof knows by that name, such as heap or goroutine.
func profileRoute(w http.ResponseWriter, q *http.Request) {
	kind := q.PathValue("kind")
	if kind == "cpu" {
		during, err := time.ParseDuration(q.FormValue("for"))
		if err != nil || during <= 0 || during > maxProfile {
			answer(w, nil, errs.Invalidf("a profile of the CPU takes at most %s", maxProfile))
			return
		}
		if err := pprof.StartCPUProfile(w); err != nil {
			answer(w, nil, errs.Conflictf("another profile is being taken: %w", err))
			return
		}
		defer pprof.StopCPUProfile()
		t := time.NewTimer(during)
		defer t.Stop()
		select {
		case <-t.C:
		case <-q.Context().Done():
		}
		return
	}
	p := pprof.Lookup(kind)
	if p == nil {
		answer(w, nil, errs.NotFoundf("there is no profile %q", kind))
		return
	}
	if kind == "heap" {
		runtime.GC() // so that it has what is in use now
	}
	if err := p.WriteTo(w, 0); err != nil {
		panic(http.ErrAbortHandler) // a profile that breaks off must not look whole
	}
}

// Profile writes a profile of the running process, in the form of pprof.
func (a *Admin) Profile(ctx context.Context, w io.Writer, kind string, during time.Duration) error {
	body, err := a.get(ctx, "/profiles/"+url.PathEscape(kind)+"?for="+url.QueryEscape(during.String()))
	if err != nil {
		return fmt.Errorf("profile %s: %w", kind, err)
	}
	_, err = io.Copy(w, body)
	return errors.Join(err, body.Close())
}
