package configdrive

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"unicode/utf8"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// MaxPassword is how much of a password is kept, in bytes (nova/api/metadata/password.py).
const MaxPassword = 4 * 255

// isPassword tells whether a path is that of the password, in a version that has it.
func isPassword(inst *nodeapi.Instance, p string) bool {
	parts := split(p)
	if len(parts) != 3 || parts[0] != "openstack" || parts[2] != passwordDoc {
		return false
	}
	version, ok := hasVersion(parts[1], openstackVersions())
	return ok && slices.Contains(openstackFiles(inst, version), passwordDoc)
}

// takePassword keeps the password that a guest made up, and encrypted, once.
func takePassword(w http.ResponseWriter, r *http.Request, inst *nodeapi.Instance, keep func(string) error) {
	if inst.Guest.Password != "" {
		http.Error(w, "409 Conflict\n\nThere is a password already.", http.StatusConflict)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxPassword+1))
	switch {
	case err != nil:
		http.Error(w, "400 Bad Request\n\nThe request cannot be read.", http.StatusBadRequest)
		return
	case len(body) > MaxPassword:
		http.Error(w, "400 Bad Request\n\nRequest is too large.", http.StatusBadRequest)
		return
	case !utf8.Valid(body):
		http.Error(w, "400 Bad Request\n\nThe password is not UTF-8.", http.StatusBadRequest)
		return
	}
	var refused *errs.Error
	switch err := keep(string(body)); {
	case err == nil:
		w.WriteHeader(http.StatusOK)
	case errors.As(err, &refused) && refused.Kind == errs.Conflict:
		http.Error(w, "409 Conflict\n\n"+refused.Msg, http.StatusConflict)
	default:
		http.Error(w, "503 Service Unavailable\n\nThe password cannot be kept now: post it again.", http.StatusServiceUnavailable)
	}
}
