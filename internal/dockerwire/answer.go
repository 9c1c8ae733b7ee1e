package dockerwire

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"

	"github.com/strata-cloud/strata/internal/errs"
)

// late is an error that came after the answer had begun.
type late struct{ error }

// Unwrap gives the error.
func (l late) Unwrap() error { return l.error }

// Late marks an error that came after the answer had begun: it is too late for a status.
func Late(err error) error {
	if err == nil {
		return nil
	}
	return late{err}
}

// Answer writes JSON.
func Answer(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return Late(e.Encode(v))
}

// Fail tells the client of an error, in Docker's envelope.
func Fail(w http.ResponseWriter, r *Request, log *slog.Logger, err error) {
	if errors.As(err, &late{}) {
		if r.Context().Err() == nil {
			log.Warn("an answer to docker ended early", "path", r.Path, "err", err)
		}
		return
	}
	status := errs.KindOf(err).Status()
	if status == http.StatusInternalServerError {
		log.Warn("docker", "method", r.Method, "path", r.Path, "err", err)
	}
	_ = Answer(w, status, map[string]string{"message": err.Error()}) // who has gone is not told
}
