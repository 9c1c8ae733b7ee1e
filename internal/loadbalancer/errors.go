package loadbalancer

import (
	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
)

// Client is the faultcode of what the caller did wrong; every error has it, since
// upstream's are all made as client errors.
const faultCode = "Client"

func newID() string { return uuid.NewString() }

func coded(kind errs.Kind, format string, args ...any) error {
	return errs.Coded(kind, faultCode, format, args...)
}

func notFound(kind, id string) error { return coded(errs.NotFound, "%s %s not found.", kind, id) }

// absentPart is for what a request names besides its subject: 400 (InvalidSubresource).
func absentPart(kind, id string) error { return coded(errs.Invalid, "%s %s not found.", kind, id) }

func immutable(kind, id string) error {
	return coded(errs.Conflict, "%s %s is immutable and cannot be updated.", kind, id)
}

func invalid(format string, args ...any) error {
	return coded(errs.Invalid, "Validation failure: "+format, args...)
}

func badOption(value, option string) error {
	return coded(errs.Invalid, "%s is not a valid option for %s", value, option)
}

func badField(name string, value any, why string) error {
	return coded(errs.Invalid, "Invalid input for field/attribute %s. Value: '%v'. %s", name, value, why)
}

// unsupported is for what upstream's other providers can do and this one cannot.
func unsupported(format string, args ...any) error {
	return coded(errs.NotImplemented, "Provider '"+provider+"' does not support a requested option: "+format, args...)
}

func overQuota(kind string) error {
	return coded(errs.QuotaExceeded, "Quota has been met for resources: %s", kind)
}

func forbidden() error {
	return coded(errs.Forbidden, "Policy does not allow this request to be performed.")
}
