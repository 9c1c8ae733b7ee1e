package csi

import (
	"context"
	"log/slog"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/strata-cloud/strata/internal/kube/csi/driver"
)

// registrar tells kubelet of the driver. The protocol is of two calls with a handful of
// fields: their numbers are here in place of a library that has all of kubelet's.
type registrar struct {
	endpoint string
	log      *slog.Logger
}

// registration is the service pluginregistration.Registration, whose messages are raw.
func registration() *grpc.ServiceDesc {
	method := func(name string, fn func(*registrar, []byte) []byte) grpc.MethodDesc {
		return grpc.MethodDesc{MethodName: name, Handler: func(srv any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var in []byte
			if err := decode(&in); err != nil {
				return nil, err
			}
			out := fn(srv.(*registrar), in)
			return &out, nil
		}}
	}
	return &grpc.ServiceDesc{ServiceName: "pluginregistration.Registration", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{method("GetInfo", (*registrar).info), method("NotifyRegistrationStatus", (*registrar).registered)}}
}

// info is a PluginInfo: type, name, endpoint and the versions of the interface.
func (r *registrar) info([]byte) []byte {
	var out []byte
	for i, text := range []string{"CSIPlugin", driver.Name, r.endpoint, "1.0.0"} {
		out = protowire.AppendTag(out, protowire.Number(i+1), protowire.BytesType)
		out = protowire.AppendString(out, text)
	}
	return out
}

// registered takes a RegistrationStatus: whether it went well, and why not.
func (r *registrar) registered(in []byte) []byte {
	ok, why := false, ""
	for len(in) > 0 {
		field, kind, n := protowire.ConsumeTag(in)
		if n < 0 {
			break
		}
		in = in[n:]
		switch {
		case field == 1 && kind == protowire.VarintType:
			v, n := protowire.ConsumeVarint(in)
			ok, in = v != 0, in[max(n, 0):]
		case field == 2 && kind == protowire.BytesType:
			v, n := protowire.ConsumeString(in)
			why, in = v, in[max(n, 0):]
		default:
			n := protowire.ConsumeFieldValue(field, kind, in)
			if n < 0 {
				return nil
			}
			in = in[n:]
		}
	}
	if !ok {
		r.log.Warn("kubelet does not take the driver of volumes", "why", why)
	}
	return nil
}
