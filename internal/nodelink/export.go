package nodelink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"

	"google.golang.org/grpc"

	"github.com/strata-cloud/strata/internal/errs"
)

const (
	service      = "strata.Link"
	callMethod   = "/" + service + "/Call"
	streamMethod = "/" + service + "/Stream"
)

// request asks for a method.
type request struct {
	Method string            `json:"method"`
	Args   []json.RawMessage `json:"args"`
}

// finder gives what the caller of a request may call.
type finder func(ctx context.Context) (*Export, error)

// Export answers calls of the methods that an interface names.
type Export struct {
	methods map[string]reflect.Value
}

// NewExport exports the methods of the interface types that impl has. They take a context
// first and give an error last, or give a channel only.
func NewExport(impl any, interfaces ...reflect.Type) *Export {
	e := &Export{map[string]reflect.Value{}}
	v := reflect.ValueOf(impl)
	for _, t := range interfaces {
		for i := range t.NumMethod() {
			name := t.Method(i).Name
			e.methods[name] = v.MethodByName(name)
		}
	}
	return e
}

// invoke calls a method and gives its results without the error.
func (e *Export) invoke(ctx context.Context, r *request) (reflect.Value, error) {
	fn, ok := e.methods[r.Method]
	if !ok || !fn.IsValid() {
		return reflect.Value{}, errs.New(errs.NotImplemented, "the other end of a node's connection knows no %s: its version is older", r.Method)
	}
	t := fn.Type()
	if len(r.Args) != t.NumIn()-1 {
		return reflect.Value{}, errs.Invalidf("%s takes %d arguments, not %d", r.Method, t.NumIn()-1, len(r.Args))
	}
	in := []reflect.Value{reflect.ValueOf(ctx)}
	for i, raw := range r.Args {
		arg := reflect.New(t.In(i + 1))
		if err := json.Unmarshal(raw, arg.Interface()); err != nil {
			return reflect.Value{}, errs.Invalidf("argument %d of %s: %w", i+1, r.Method, err)
		}
		in = append(in, arg.Elem())
	}
	out := fn.Call(in)
	if last := out[len(out)-1]; t.Out(len(out)-1) == reflect.TypeFor[error]() {
		if err, _ := last.Interface().(error); err != nil {
			return reflect.Value{}, err
		}
		out = out[:len(out)-1]
	}
	if len(out) == 0 {
		return reflect.ValueOf(struct{}{}), nil
	}
	return out[0], nil
}

// desc describes the service that every gRPC server here has.
func desc(find finder) *grpc.ServiceDesc {
	return &grpc.ServiceDesc{ServiceName: service, HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Call", Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var r request
			if err := decode(&r); err != nil {
				return nil, err
			}
			e, err := find(ctx)
			if err != nil {
				return nil, toStatus(err)
			}
			out, err := e.invoke(ctx, &r)
			if err != nil {
				return nil, toStatus(err)
			}
			return out.Interface(), nil
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Stream", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
			return toStatus(serveStream(find, s))
		}}},
	}
}

// serveStream sends what a method gives that has no end yet.
func serveStream(find finder, s grpc.ServerStream) error {
	var r request
	if err := s.RecvMsg(&r); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	e, err := find(ctx)
	if err != nil {
		return err
	}
	out, err := e.invoke(ctx, &r)
	if err != nil {
		return err
	}
	if out.Kind() == reflect.Chan {
		return sendAll(ctx, s, out)
	}
	switch v := out.Interface().(type) {
	case io.ReadWriteCloser:
		return pipe(s, v)
	case io.ReadCloser:
		err := sendBytes(s, v)
		return errors.Join(err, v.Close())
	}
	return errs.Invalidf("%s gives no stream", r.Method)
}

// sendAll sends the messages of a channel until it closes.
func sendAll(ctx context.Context, s grpc.ServerStream, ch reflect.Value) error {
	cases := []reflect.SelectCase{{Dir: reflect.SelectRecv, Chan: ch}, {Dir: reflect.SelectRecv, Chan: reflect.ValueOf(ctx.Done())}}
	for {
		at, v, ok := reflect.Select(cases)
		if at != 0 || !ok {
			return context.Cause(ctx)
		}
		if err := s.SendMsg(v.Interface()); err != nil {
			return err
		}
	}
}

// newServer makes a gRPC server of one service.
func newServer(find finder, opts ...grpc.ServerOption) *grpc.Server {
	s := grpc.NewServer(append([]grpc.ServerOption{grpc.ForceServerCodec(codec{}), grpc.MaxRecvMsgSize(maxMessage), grpc.ReadBufferSize(readBuffer)}, opts...)...)
	s.RegisterService(desc(find), nil)
	return s
}

// readBuffer is small, since there are thousands of connections that are mostly
// silent; their buffers for writing exist only while they write.
const readBuffer = 4 << 10

// maxMessage bounds one message: the whole state of a node's network is the largest.
const maxMessage = 256 << 20

func marshal(method string, args []any) (*request, error) {
	r := &request{Method: method, Args: []json.RawMessage{}}
	for i, a := range args {
		raw, err := json.Marshal(a)
		if err != nil {
			return nil, fmt.Errorf("argument %d of %s: %w", i+1, method, err)
		}
		r.Args = append(r.Args, raw)
	}
	return r, nil
}
