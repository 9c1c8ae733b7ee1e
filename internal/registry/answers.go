package registry

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// codes are the distribution API's names of errors.
const (
	codeUnauthorized    = "UNAUTHORIZED"
	codeDenied          = "DENIED"
	codeUnsupported     = "UNSUPPORTED"
	codeNameInvalid     = "NAME_INVALID"
	codeNameUnknown     = "NAME_UNKNOWN"
	codeBlobUnknown     = "BLOB_UNKNOWN"
	codeManifestUnknown = "MANIFEST_UNKNOWN"
	codeManifestInvalid = "MANIFEST_INVALID"
	codeDigest          = "DIGEST_INVALID"
	codeNumber          = "PAGINATION_NUMBER_INVALID"
)

// Faults is how the distribution API speaks of errors.
func Faults() rest.Family {
	return rest.Family{PlainAuth: true, Encode: func(f rest.Fault) ([]byte, string) {
		return encode(codeOf(f.Status, f.Code), f.Message), contentType
	}}
}

const contentType = "application/json"

func encode(code, message string) []byte {
	type fault struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	raw, _ := json.Marshal(map[string][]fault{"errors": {{code, message}}}) // strings can be encoded
	return raw
}

// codeOf gives an error without a code of the API the nearest one.
func codeOf(status int, code string) string {
	switch {
	case code != "":
		return code
	case status == http.StatusUnauthorized:
		return codeUnauthorized
	case status == http.StatusForbidden:
		return codeDenied
	case status == http.StatusNotFound:
		return codeNameUnknown
	case status == http.StatusMethodNotAllowed, status == http.StatusNotImplemented:
		return codeUnsupported
	case status == http.StatusRequestEntityTooLarge:
		return "SIZE_INVALID"
	case status == http.StatusTooManyRequests:
		return "TOOMANYREQUESTS"
	case status == http.StatusServiceUnavailable:
		return "UNAVAILABLE"
	}
	return "UNKNOWN"
}

// refuse answers with an error.
func (s *Service) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if errs.KindOf(err) == errs.Internal {
		s.Log.Error("request failed", "method", r.Method, "path", r.URL.Path, "err", err)
		err = errs.New(errs.Internal, "The registry failed. Its log says why.")
	}
	Faults().Refuse(w, r, err)
}

// outcome has what stopped a request below distribution, whose answer to whatever it
// does not know is 500.
type outcome struct {
	err    atomic.Pointer[error]
	failed atomic.Bool // and it was our fault
	about  atomic.Pointer[string]
}

// about notes which manifest the one is about that is being put.
func about(ctx context.Context, subject string) {
	if out, ok := ctx.Value(outcomeKey{}).(*outcome); ok {
		out.about.Store(&subject)
	}
}

type outcomeKey struct{}

// note keeps the first error that a client should be told of in our words.
func note(ctx context.Context, err error) error {
	out, ok := ctx.Value(outcomeKey{}).(*outcome)
	if err == nil || !ok {
		return err
	}
	told := err
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		told = errs.New(errs.TooLarge, "The registry's storage is full.")
	}
	switch errs.KindOf(told) {
	case errs.NotFound: // distribution knows it
	case errs.Internal:
		out.failed.Store(true)
	default:
		out.err.CompareAndSwap(nil, &told)
	}
	return err
}

// answerWriter replaces the body of an error whose cause was noted.
type answerWriter struct {
	http.ResponseWriter
	r        *http.Request
	out      *outcome
	log      *slog.Logger
	manifest bool   // is sent
	asked    string // the digest of a blob that is uploaded or mounted
	begun    bool
	replaced bool
}

// WriteHeader implements http.ResponseWriter.
func (a *answerWriter) WriteHeader(status int) {
	if a.begun {
		return
	}
	a.begun = true
	cause := a.out.err.Load()
	if cause == nil && status == http.StatusInternalServerError && a.manifest && !a.out.failed.Load() {
		// Distribution takes it for its own fault what it does not understand.
		cause = new(error)
		*cause = errs.Coded(errs.Invalid, codeManifestInvalid, "The manifest is not valid: its schema is another one, or a digest in it is none.")
	}
	if status < 400 || cause == nil {
		if status >= 500 {
			a.log.Error("the registry failed", "method", a.r.Method, "path", a.r.URL.Path, "status", status)
		}
		if status == http.StatusCreated {
			a.created()
		}
		a.ResponseWriter.WriteHeader(status)
		return
	}
	a.replaced = true
	for _, h := range []string{"Content-Length", "Location", "Range", "Docker-Upload-UUID"} {
		a.Header().Del(h)
	}
	Faults().Refuse(a.ResponseWriter, a.r, *cause)
}

// created adds what distribution does not tell: that it knows what a manifest is about,
// and a blob's digest as the client has it, which may be another one than ours.
func (a *answerWriter) created() {
	h := a.Header()
	if subject := a.out.about.Load(); subject != nil {
		h.Set("OCI-Subject", *subject)
	}
	before, _, ok := strings.Cut(h.Get("Location"), "/blobs/")
	if a.asked != "" && ok {
		h.Set("Docker-Content-Digest", a.asked)
		h.Set("Location", before+"/blobs/"+a.asked)
	}
}

// Write implements io.Writer.
func (a *answerWriter) Write(p []byte) (int, error) {
	if !a.begun {
		a.WriteHeader(http.StatusOK)
	}
	if a.replaced {
		return len(p), nil
	}
	return a.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (a *answerWriter) Unwrap() http.ResponseWriter { return a.ResponseWriter }
