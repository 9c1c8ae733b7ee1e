package nodelink

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/strata-cloud/strata/internal/errs"
)

// kindBase keeps our kinds apart from gRPC's own codes, which end at 16.
const kindBase = 100

// toStatus gives an error a form that travels.
func toStatus(err error) error {
	var e *errs.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	case errors.As(err, &e):
		return status.Error(codes.Code(kindBase+int(e.Kind)), err.Error())
	}
	return status.Error(codes.Code(kindBase+int(errs.Internal)), err.Error())
}

// fromStatus undoes toStatus. What gRPC itself says means that the other end
// could not be asked.
func fromStatus(ctx context.Context, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	s, ok := status.FromError(err)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case !ok:
		return err
	case s.Code() >= kindBase:
		return errs.New(errs.Kind(s.Code()-kindBase), "%s", s.Message())
	}
	return errs.New(errs.Unavailable, "the other end of the connection to a node cannot be reached: %s", s.Message())
}
