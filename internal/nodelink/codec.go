package nodelink

import (
	"encoding/json"
	"fmt"

	"google.golang.org/grpc/encoding"
)

// frame is one piece of a stream of bytes; it is carried as it is.
type frame struct{ data []byte }

// codec carries everything else as JSON.
type codec struct{}

var _ encoding.Codec = codec{}

// Marshal implements encoding.Codec.
func (codec) Marshal(v any) ([]byte, error) {
	if f, ok := v.(*frame); ok {
		return append([]byte(nil), f.data...), nil // gRPC may send it later
	}
	return json.Marshal(v)
}

// Unmarshal implements encoding.Codec.
func (codec) Unmarshal(data []byte, v any) error {
	if f, ok := v.(*frame); ok {
		f.data = append([]byte(nil), data...)
		return nil
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("a message between node and control plane: %w", err)
	}
	return nil
}

// Name implements encoding.Codec.
func (codec) Name() string { return "strata-json" }
