package volumes

import (
	"context"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/strata-cloud/strata/internal/kube/csi/driver"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// services are what can be called.
func services() []*grpc.ServiceDesc {
	return []*grpc.ServiceDesc{&csi.Identity_ServiceDesc, &csi.Controller_ServiceDesc}
}

// Call answers a call of the interface, by its name in gRPC (/csi.v1.Controller/CreateVolume).
func Call(ctx context.Context, storage Storage, s *Scope, method string, body []byte) *nodeapi.CSIAnswer {
	out, err := call(ctx, &controller{Scope: s, storage: storage}, method, body)
	if err != nil {
		st := status.Convert(driver.Refusal(err))
		return &nodeapi.CSIAnswer{Code: uint32(st.Code()), Message: st.Message()}
	}
	return &nodeapi.CSIAnswer{Body: out}
}

func call(ctx context.Context, c *controller, method string, body []byte) ([]byte, error) {
	for _, d := range services() {
		name, ok := strings.CutPrefix(method, "/"+d.ServiceName+"/")
		if !ok {
			continue
		}
		for _, m := range d.Methods {
			if m.MethodName != name {
				continue
			}
			out, err := m.Handler(c, ctx, func(in any) error {
				if err := proto.Unmarshal(body, in.(proto.Message)); err != nil {
					return status.Errorf(codes.InvalidArgument, "the request cannot be read: %v", err)
				}
				return nil
			}, nil)
			if err != nil {
				return nil, err
			}
			return proto.Marshal(out.(proto.Message))
		}
	}
	return nil, status.Errorf(codes.Unimplemented, "%s is not known", method)
}

// controller answers for one cluster.
type controller struct {
	csi.UnimplementedControllerServer
	csi.UnimplementedIdentityServer
	*Scope
	storage Storage
}

// GetPluginInfo implements csi.IdentityServer.
func (c *controller) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return driver.Info(), nil
}

// GetPluginCapabilities implements csi.IdentityServer.
func (c *controller) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	return driver.Capabilities(), nil
}

// Probe implements csi.IdentityServer.
func (c *controller) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{}, nil
}

// ControllerGetCapabilities implements csi.ControllerServer.
func (c *controller) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	out := &csi.ControllerGetCapabilitiesResponse{}
	for _, t := range []csi.ControllerServiceCapability_RPC_Type{csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME, csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME,
		csi.ControllerServiceCapability_RPC_LIST_VOLUMES, csi.ControllerServiceCapability_RPC_LIST_VOLUMES_PUBLISHED_NODES, csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS, csi.ControllerServiceCapability_RPC_CLONE_VOLUME, csi.ControllerServiceCapability_RPC_EXPAND_VOLUME,
		csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER, csi.ControllerServiceCapability_RPC_PUBLISH_READONLY} {
		out.Capabilities = append(out.Capabilities, &csi.ControllerServiceCapability{Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: t}}})
	}
	return out, nil
}
