package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// exchange is one answer as it is compared and saved.
type exchange struct {
	Key    string            `json:"key"`
	Status int               `json:"status"`
	Header map[string]string `json:"header,omitempty"`
	Body   any               `json:"body,omitempty"`
}

// headers are those that clients rely on.
func headers() []string {
	return []string{"Content-Type", "OpenStack-API-Version", "X-OpenStack-Nova-API-Version", "Vary", "Location", "Www-Authenticate",
		"X-Subject-Token", "X-Openstack-Request-Id", "X-Compute-Request-Id", "Openstack-Image-Import-Methods", "Openstack-Image-Store-Ids", "Content-Md5", "Content-Range", "Accept-Ranges", "Allow", "Retry-After"}
}

// maxText is how much of a body that is not JSON is kept.
const maxText = 4096

func read(key string, resp *http.Response) (*exchange, error) {
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	x := &exchange{Key: key, Status: resp.StatusCode, Header: map[string]string{}}
	for _, h := range headers() {
		if v := resp.Header.Values(h); len(v) > 0 {
			x.Header[h] = strings.Join(v, ", ")
		}
	}
	if x.Header["X-Subject-Token"] != "" {
		x.Header["X-Subject-Token"] = "<token>"
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if len(raw) == 0 {
		return x, nil
	}
	// Numbers keep their text; what follows a first value makes the body plain text.
	if err := d.Decode(&x.Body); err != nil || !json.Valid(raw) {
		x.Body = string(raw[:min(len(raw), maxText)])
	}
	return x, nil
}

// at is the value at a path of keys and list positions.
func at(v any, path string) (string, bool) {
	for key := range strings.SplitSeq(path, ".") {
		switch t := v.(type) {
		case map[string]any:
			v = t[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(t) {
				return "", false
			}
			v = t[i]
		default:
			return "", false
		}
	}
	if v == nil {
		return "", false
	}
	return fmt.Sprint(v), true
}

func store(file string, list []exchange) error {
	raw, err := json.MarshalIndent(list, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, raw, 0o644)
}

func load(file string) ([]exchange, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var out []exchange
	return out, d.Decode(&out)
}

// pattern replaces what differs between any two clouds.
type pattern struct {
	re   *regexp.Regexp
	with string
}

func patterns() []pattern {
	return []pattern{
		{regexp.MustCompile(`req-[0-9a-f-]{36}`), "<request>"},
		{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "<uuid>"},
		{regexp.MustCompile(`\d{4}-\d\d-\d\d([T ])\d\d:\d\d:\d\d\.000000`), "<time${1}zeros>"},
		{regexp.MustCompile(`\d{4}-\d\d-\d\d([T ])\d\d:\d\d:\d\d\.\d{6}`), "<time${1}micro>"},
		{regexp.MustCompile(`\d{4}-\d\d-\d\d([T ])\d\d:\d\d:\d\d`), "<time${1}>"},
		{regexp.MustCompile(`\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b`), "<mac>"},
		{regexp.MustCompile(`\b(?:[0-9a-f]{2}:){15}[0-9a-f]{2}\b`), "<fingerprint>"},
		{regexp.MustCompile(`\b[0-9a-f]{32}\b`), "<hex>"},
		{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "<hex64>"},
	}
}

// normalise replaces in all answers what the cloud chose by itself.
func (c *cloud) normalise(list []exchange) {
	var pairs [][2]string
	for name, v := range c.vars {
		if len(v) >= 8 && !strings.HasPrefix(name, "x") && (v != c.vars["missing"] || name == "missing") {
			pairs = append(pairs, [2]string{v, "<" + name + ">"})
		}
	}
	for service, root := range c.roots {
		pairs = append(pairs, [2]string{root, "<root of " + service + ">"})
	}
	slices.SortFunc(pairs, func(a, b [2]string) int {
		if d := len(b[0]) - len(a[0]); d != 0 {
			return d
		}
		return strings.Compare(a[1], b[1])
	})
	var flat []string
	for _, p := range pairs {
		flat = append(flat, p[0], p[1])
	}
	var paths []string
	for _, root := range c.roots {
		if u, err := url.Parse(root); err == nil && u.Path != "" {
			paths = append(paths, u.Path)
		}
	}
	n := &normaliser{roots: paths, vars: strings.NewReplacer(flat...), patterns: patterns()}
	for i := range list {
		for h, v := range list[i].Header {
			list[i].Header[h] = n.text(v)
		}
		list[i].Body = n.value(list[i].Body, strings.Contains(list[i].Key, "sort"))
	}
}

type normaliser struct {
	vars     *strings.Replacer
	roots    []string // paths of the endpoints, which links without a host begin with
	patterns []pattern
}

// blank tells whether a cloud chooses the text under a key freely.
func blank(key string, v any) bool {
	s, ok := v.(string)
	switch key {
	case "adminPass", "private_key", "public_key", "fingerprint", "secret", "blob", "hostId", "host", "hypervisor_hostname",
		"OS-EXT-SRV-ATTR:host", "OS-EXT-SRV-ATTR:hypervisor_hostname", "OS-EXT-SRV-ATTR:instance_name", "OS-EXT-SRV-ATTR:reservation_id", "reservation_id":
		return ok && s != ""
	case "audit_ids":
		_, ok := v.([]any)
		return ok
	}
	return false
}

func (n *normaliser) text(s string) string {
	for _, r := range n.roots {
		if tail, ok := strings.CutPrefix(s, r); ok && strings.HasPrefix(tail, "/") {
			s = tail
			break
		}
	}
	s = sortQuery(s)
	s = n.vars.Replace(s)
	for _, p := range n.patterns {
		s = p.re.ReplaceAllString(s, p.with)
	}
	return s
}

// sortQuery orders the parameters of a link, which mean the same in any order.
func sortQuery(s string) string {
	head, query, ok := strings.Cut(s, "?")
	if !ok || strings.Contains(s, " ") || !strings.Contains(head, "/") {
		return s
	}
	parts := strings.Split(query, "&")
	slices.Sort(parts)
	return head + "?" + strings.Join(parts, "&")
}

// value normalises a document; lists are sorted unless the request asked for an order.
func (n *normaliser) value(v any, ordered bool) any {
	switch t := v.(type) {
	case string:
		return n.text(t)
	case map[string]any:
		out := make(map[string]any, len(t))
		for k, e := range t {
			if blank(k, e) {
				out[n.text(k)] = "<" + k + ">"
				continue
			}
			out[n.text(k)] = n.value(e, ordered)
		}
		return out
	case json.Number:
		// 1.0 and 1 are one number.
		if f, err := t.Float64(); err == nil {
			return json.Number(strconv.FormatFloat(f, 'g', -1, 64))
		}
	case []any:
		out := make([]any, len(t))
		for i, e := range t {
			out[i] = n.value(e, ordered)
		}
		if !ordered {
			slices.SortStableFunc(out, func(a, b any) int { return strings.Compare(canonical(a), canonical(b)) })
		}
		return out
	}
	return v
}

// canonical is a text that equal documents share.
func canonical(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSpace(b.String())
}
