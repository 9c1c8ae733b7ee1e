package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"

	"github.com/strata-cloud/strata/internal/dockerwire"
	"github.com/strata-cloud/strata/internal/errs"
)

// transport speaks to a node's engine, over a connection of its own for each request:
// they are streams of one connection to the node, and cost next to nothing.
func (s *Service) transport(node string) *http.Transport {
	return &http.Transport{DisableKeepAlives: true, DisableCompression: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := s.Nodes.Containers(node)
		if err != nil {
			return nil, errs.New(errs.Unavailable, "the node %s, which the container is on, cannot be reached now: %s", node, err)
		}
		return c.DockerAPI(context.WithoutCancel(ctx)) // the connection is the request's until it is closed
	}}
}

// ask makes a request of our own to a node's engine; out may be nil.
func (s *Service) ask(ctx context.Context, node, method, path string, query url.Values, out any) error {
	r, err := http.NewRequestWithContext(ctx, method, "http://"+node+"/v"+dockerwire.MaxVersion+path+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := s.transport(node).RoundTrip(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 && resp.StatusCode != http.StatusNotModified {
		return nodeError(resp)
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

// nodeError is an engine's error, of our kinds.
func nodeError(resp *http.Response) error {
	var body struct{ Message string }
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil {
		err = json.Unmarshal(raw, &body)
	}
	if err != nil || body.Message == "" {
		body.Message = fmt.Sprintf("the node answers %s", resp.Status)
	}
	return errs.New(errs.KindOfStatus(resp.StatusCode), "%s", body.Message)
}

// forward passes a request on to the container's node, for a path of the engine's.
// change, unless nil, may change the answer.
func (s *Service) forward(w http.ResponseWriter, r *request, node, path string, change func(*http.Response) error) error {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	var failed error
	proxy := &httputil.ReverseProxy{Transport: s.transport(node), FlushInterval: -1, ModifyResponse: change,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.URL.Path, p.Out.URL.RawPath = "http", node, r.Prefix+path, ""
			p.Out.URL.RawQuery, p.Out.Host = p.In.URL.RawQuery, node
			for _, secret := range []string{"Authorization", "X-Auth-Token", "X-Registry-Auth", "X-Registry-Config"} {
				p.Out.Header.Del(secret)
			}
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) { failed = err }}
	for _, h := range []string{"Api-Version", "Docker-Experimental", "Ostype", "Server"} { // the engine says them
		w.Header().Del(h)
	}
	proxy.ServeHTTP(w, r.WithContext(ctx))
	if errors.Is(failed, context.Canceled) {
		return dockerwire.Late(failed)
	}
	return failed
}

// rewritten changes the JSON of an answer that is not an error.
func rewritten(change func(map[string]any)) func(*http.Response) error {
	return func(resp *http.Response) error {
		if resp.StatusCode != http.StatusOK {
			return nil
		}
		var v map[string]any
		d := json.NewDecoder(resp.Body)
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			return err
		}
		if err := resp.Body.Close(); err != nil {
			return err
		}
		change(v)
		raw, err := json.Marshal(v)
		if err != nil {
			return err
		}
		resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(raw)), int64(len(raw))
		resp.Header.Set("Content-Length", strconv.Itoa(len(raw)))
		return nil
	}
}

// each changes every object of an answer that is a stream of them.
func each(change func(map[string]any)) func(*http.Response) error {
	return func(resp *http.Response) error {
		if resp.StatusCode != http.StatusOK {
			return nil
		}
		from := resp.Body
		r, w := io.Pipe()
		go func() {
			d, e := json.NewDecoder(from), json.NewEncoder(w)
			d.UseNumber()
			for {
				var v map[string]any
				err := d.Decode(&v)
				if err == nil {
					change(v)
					err = e.Encode(v)
				}
				if err != nil {
					w.CloseWithError(err)
					return
				}
			}
		}()
		resp.Body, resp.ContentLength = both{r, from}, -1
		resp.Header.Del("Content-Length")
		return nil
	}
}

// both is a stream, and where it is from.
type both struct {
	*io.PipeReader
	from io.Closer
}

// Close ends the goroutine between the two as well.
func (b both) Close() error { return errors.Join(b.from.Close(), b.PipeReader.Close()) }
