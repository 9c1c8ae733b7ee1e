package csi

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/strata-cloud/strata/internal/errs"
)

// relay passes the calls of a cluster's controllers on to the region.
func relay(control Control, cluster string) *grpc.Server {
	return grpc.NewServer(grpc.ForceServerCodec(raw{}), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		method, ok := grpc.MethodFromServerStream(s)
		if !ok {
			return status.Error(codes.Internal, "a call without a name")
		}
		var in []byte
		if err := s.RecvMsg(&in); err != nil {
			return err
		}
		a, err := control.CSI(s.Context(), cluster, method, in)
		switch {
		case s.Context().Err() != nil:
			return status.FromContextError(s.Context().Err()).Err()
		case errs.Is(err, errs.Forbidden):
			return status.Error(codes.PermissionDenied, err.Error())
		case err != nil:
			return status.Error(codes.Unavailable, err.Error())
		case a.Code != 0:
			return status.Error(codes.Code(a.Code), a.Message)
		}
		return s.SendMsg(&a.Body)
	}))
}
