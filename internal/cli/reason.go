package cli

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// reason finds the message in the fault envelope of any API family.
func reason(body []byte) string {
	var doc any
	if json.Unmarshal(body, &doc) == nil {
		if m := message(doc); m != "" {
			return m
		}
	}
	return strings.TrimSpace(string(body))
}

func message(doc any) string {
	switch v := doc.(type) {
	case map[string]any:
		for _, key := range []string{"message", "detail", "title"} {
			if s, ok := v[key].(string); ok && s != "" {
				return s
			}
		}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if m := message(v[key]); m != "" {
				return m
			}
		}
	case []any:
		for _, x := range v {
			if m := message(x); m != "" {
				return m
			}
		}
	case string:
		return v
	}
	return ""
}
