package driver

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/strata-cloud/strata/internal/errs"
)

// Refusal is an error in gRPC's words, as both halves of the driver give it. One that has
// a code of its own keeps it.
func Refusal(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codeOf(err), err.Error())
}

func codeOf(err error) codes.Code {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	}
	switch errs.KindOf(err) {
	case errs.NotFound:
		return codes.NotFound
	case errs.Invalid:
		return codes.InvalidArgument
	case errs.QuotaExceeded, errs.NoCapacity:
		return codes.ResourceExhausted
	case errs.Conflict, errs.Forbidden:
		return codes.FailedPrecondition
	case errs.Unavailable:
		return codes.Unavailable
	}
	return codes.Internal
}
