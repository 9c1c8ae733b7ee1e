package compute

import "encoding/json"

// optional tells a field that is null from one that is absent.
type optional[T any] struct {
	Set   bool
	Value *T
}

// UnmarshalJSON marks the field as present.
func (o *optional[T]) UnmarshalJSON(raw []byte) error {
	o.Set = true
	return json.Unmarshal(raw, &o.Value)
}
