package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
)

// envelope is how a record is stored.
type envelope struct {
	V    int             `json:"v"`
	Body json.RawMessage `json:"body"`
}

func (s *Schema[T]) encode(v *T) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding %s/%s %s: %w", s.Service, s.Kind, s.ID(v), err)
	}
	out := make([]byte, 0, len(body)+24)
	out = append(out, `{"v":`...)
	out = strconv.AppendInt(out, int64(s.Version), 10)
	out = append(out, `,"body":`...)
	out = append(out, body...)
	return append(out, '}'), nil
}

func (s *Schema[T]) decode(id string, value []byte) (*T, error) {
	v, body, err := open(value)
	if err != nil {
		return nil, fmt.Errorf("decoding %s/%s %s: %w", s.Service, s.Kind, id, err)
	}
	if v > s.Version {
		return nil, fmt.Errorf("%s/%s %s has version %d but this program knows versions up to %d: start a newer strata",
			s.Service, s.Kind, id, v, s.Version)
	}
	for ; v < s.Version; v++ {
		if body, err = s.Upgrade[v-1](body); err != nil {
			return nil, fmt.Errorf("upgrading %s/%s %s from version %d: %w", s.Service, s.Kind, id, v, err)
		}
	}
	out := new(T)
	if err := json.Unmarshal(body, out); err != nil {
		return nil, fmt.Errorf("decoding %s/%s %s: %w", s.Service, s.Kind, id, err)
	}
	return out, nil
}

// open splits an envelope. What encode wrote is split without parsing the body twice.
func open(value []byte) (int, json.RawMessage, error) {
	if rest, ok := bytes.CutPrefix(value, []byte(`{"v":`)); ok {
		num, body, ok := bytes.Cut(rest, []byte(`,"body":`))
		if v, err := strconv.Atoi(string(num)); ok && err == nil && v > 0 && len(body) > 1 {
			return v, json.RawMessage(body[:len(body)-1]), nil
		}
	}
	var e envelope
	if err := json.Unmarshal(value, &e); err != nil {
		return 0, nil, err
	}
	if e.V < 1 || e.Body == nil {
		return 0, nil, fmt.Errorf("not a record envelope")
	}
	return e.V, e.Body, nil
}
