package kubeapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
)

// Waits between attempts to follow: they double up to the last.
const (
	firstWait = 200 * time.Millisecond
	lastWait  = 5 * time.Second
)

// named is what is read of every object.
type named struct {
	Metadata struct {
		Name, Namespace string
		ResourceVersion string `json:"resourceVersion"`
	} `json:"metadata"`
}

// Follow streams all objects of a kind with the labels, as a whole whenever one has
// changed, coalesced, sorted by namespace and name, until ctx ends. Attempts that fail are
// told to failed, and made again.
func Follow[T any](ctx context.Context, c *Client, k Kind, labels string, failed func(error)) <-chan []T {
	out := make(chan []T, 1)
	go func() {
		defer close(out)
		wait := firstWait
		for ctx.Err() == nil {
			f := follower[T]{c: c, kind: k, labels: labels, out: out}
			err := f.run(ctx)
			if ctx.Err() != nil {
				return
			}
			if f.began {
				wait = firstWait
			}
			if err != nil && !errs.Is(err, errs.Precondition) { // else it has been away for too long: list anew
				failed(err)
			}
			t := time.NewTimer(wait)
			select {
			case <-ctx.Done():
				t.Stop()
				return
			case <-t.C:
			}
			wait = min(2*wait, lastWait)
		}
	}()
	return out
}

// follower is one attempt: a list, and a watch from there on.
type follower[T any] struct {
	c      *Client
	kind   Kind
	labels string
	out    chan []T

	began   bool
	version string
	have    map[string]T
}

func (f *follower[T]) run(ctx context.Context) error {
	if err := f.list(ctx); err != nil {
		return err
	}
	f.began = true
	f.tell()
	for ctx.Err() == nil {
		begin := time.Now()
		if err := f.watch(ctx); err != nil {
			return err
		}
		if time.Since(begin) < firstWait { // not the end of a long stream: ask less often
			return nil
		}
	}
	return nil
}

// page is how many objects an answer has at most.
const page = "500"

// list reads all that there are, page by page.
func (f *follower[T]) list(ctx context.Context) error {
	f.have = map[string]T{}
	q := selecting(f.labels)
	q.Set("limit", page)
	for {
		var l struct {
			Metadata struct {
				ResourceVersion string `json:"resourceVersion"`
				Continue        string `json:"continue"`
			} `json:"metadata"`
			Items []json.RawMessage `json:"items"`
		}
		if err := f.c.do(ctx, http.MethodGet, f.kind.path("", ""), q, nil, "", &l); err != nil {
			return err
		}
		for _, raw := range l.Items {
			if _, err := f.take(raw, false); err != nil {
				return err
			}
		}
		f.version = l.Metadata.ResourceVersion
		if l.Metadata.Continue == "" {
			return nil
		}
		q.Set("continue", l.Metadata.Continue)
	}
}

// take puts an object, or takes it away, and gives its version.
func (f *follower[T]) take(raw json.RawMessage, gone bool) (version string, err error) {
	var n named
	var x T
	if err := json.Unmarshal(raw, &n); err != nil {
		return "", err
	}
	if err := json.Unmarshal(raw, &x); err != nil {
		return "", err
	}
	key := n.Metadata.Namespace + "/" + n.Metadata.Name
	if gone {
		delete(f.have, key)
	} else {
		f.have[key] = x
	}
	return n.Metadata.ResourceVersion, nil
}

// tell replaces what nobody has read yet.
func (f *follower[T]) tell() {
	var all []T
	for _, key := range slices.Sorted(maps.Keys(f.have)) {
		all = append(all, f.have[key])
	}
	select {
	case <-f.out:
	default:
	}
	f.out <- all
}

// watchFor is how long one stream lasts. One whose end the server does not tell, since the
// connection is dead, is given up a little later.
const (
	watchFor = 5 * time.Minute
	leeway   = 30 * time.Second
)

// watch reads changes until the server ends the stream.
func (f *follower[T]) watch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, watchFor+leeway)
	defer cancel()
	q := selecting(f.labels)
	maps.Copy(q, url.Values{"watch": {"true"}, "allowWatchBookmarks": {"true"}, "resourceVersion": {f.version}, "timeoutSeconds": {fmt.Sprint(int(watchFor.Seconds()))}})
	res, err := f.c.ask(ctx, http.MethodGet, f.kind.path("", ""), q, nil, "")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	d := json.NewDecoder(bufio.NewReader(res.Body))
	for {
		var e struct {
			Type   string
			Object json.RawMessage
		}
		if err := d.Decode(&e); err != nil {
			if ctx.Err() != nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil // the next stream goes on where this one was
			}
			return fmt.Errorf("following %s: %w", f.kind.Plural, err)
		}
		if e.Type == "ERROR" {
			return watchError(e.Object)
		}
		if e.Type == "BOOKMARK" {
			var n named
			if err := json.Unmarshal(e.Object, &n); err != nil {
				return err
			}
			f.version = n.Metadata.ResourceVersion
			continue
		}
		if f.version, err = f.take(e.Object, e.Type == "DELETED"); err != nil {
			return err
		}
		f.tell()
	}
}

// watchError is the error that a stream ends with.
func watchError(raw json.RawMessage) error {
	var st struct {
		Code    int
		Message string
	}
	if err := json.Unmarshal(raw, &st); err != nil {
		return err
	}
	if st.Code == http.StatusGone {
		return errs.New(errs.Precondition, "%s", st.Message)
	}
	return errs.New(errs.Unavailable, "%s", st.Message)
}
