package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
)

// exchange is one request on its way through the kit.
type exchange struct {
	w           http.ResponseWriter
	r           *http.Request
	id          string
	kit         *Kit
	api         *API
	pattern     string
	pathProject string
	version     Version
	outside     *Microversions // set when the version asked for is not supported
	status      int
	user        string
	project     string
}

type exchangeKey struct{}

func contextWith(ctx context.Context, x *exchange) context.Context {
	return context.WithValue(ctx, exchangeKey{}, x)
}

func exchangeOf(ctx context.Context) *exchange { return ctx.Value(exchangeKey{}).(*exchange) }

// RequestID gives the id of the request that ctx belongs to, or "".
func RequestID(ctx context.Context) string {
	if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return x.id
	}
	return ""
}

func (x *exchange) authenticate(req *Request, needed bool) error {
	token := x.r.Header.Get("X-Auth-Token")
	if token == "" && !needed {
		return nil
	}
	if token == "" {
		return errs.New(errs.Unauthenticated, "The request you have made requires authentication.")
	}
	creds, err := x.kit.Auth.Authenticate(x.r.Context(), token)
	if err != nil {
		if needed {
			return err
		}
		return nil
	}
	// An access rule names the path as the service's own process would see it:
	// without the prefix under which all APIs share a port, but for its version.
	if !creds.MayRequest(x.api.Name, x.r.Method, x.servicePath()) {
		return errs.New(errs.Unauthenticated, "The request you have made requires authentication.")
	}
	req.Creds = creds
	x.user, x.project = creds.UserID, creds.ProjectID
	if p := x.pathProject; p != "" && p != creds.ProjectID && !creds.Admin() {
		return errs.Invalidf("Malformed request url: the project in the path is not the token's.")
	}
	return nil
}

// servicePath is the path below the service's own root: "/compute/v2.1/servers"
// is "/v2.1/servers".
func (x *exchange) servicePath() string {
	root := x.api.Prefix
	if i := strings.LastIndex(root, "/"); i > 0 {
		root = root[:i]
	} else if strings.HasPrefix(root, "/v") {
		root = ""
	}
	return strings.TrimPrefix(x.r.URL.Path, root)
}

// choose finds the row for the negotiated version and, for actions, for the key of the body.
func (g *group) choose(x *exchange, req *Request) (*Route, error) {
	if !g.rows[0].Raw {
		body, err := readBody(x.w, req.HTTP, maxBody)
		if err != nil {
			return nil, err
		}
		if len(body) > 0 && !jsonBody(req.HTTP, x.api.Family.JSONOnly) {
			return nil, errs.New(errs.MediaType, "Unsupported Content-Type: use application/json.")
		}
		req.body = body
	}
	if g.rows[0].Action == "" {
		for _, row := range g.rows {
			if req.Version.In(row.Min, row.Max) {
				return row, nil
			}
		}
		return nil, errs.NotFoundf("The resource could not be found.")
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(req.body, &keys); err != nil {
		return nil, errs.Invalidf("Malformed request body")
	}
	if len(keys) > 1 {
		return nil, errs.Invalidf("Malformed request body")
	}
	for _, row := range g.rows {
		if _, ok := keys[row.Action]; ok && req.Version.In(row.Min, row.Max) {
			return row, nil
		}
	}
	for key := range keys {
		return nil, errs.Invalidf("There is no such action: %s", key)
	}
	return nil, errs.Invalidf("Malformed request body: no action is named")
}

func jsonBody(r *http.Request, only bool) bool {
	ct := r.Header.Get("Content-Type")
	return ct == "" || strings.Contains(ct, "json") || !only && strings.HasPrefix(ct, "text/plain")
}

// fail answers with the fault of err in the API's family.
func (x *exchange) fail(err error) {
	kind, code := errs.KindOf(err), errs.CodeOf(err)
	status := x.api.Family.status(kind)
	text := err.Error()
	if kind == errs.Internal {
		x.kit.Log.Error("request failed", "req", x.id, "method", x.r.Method, "path", x.r.URL.Path, "err", err)
		text = "Unexpected API Error. Please report this with the request id " + x.id + "."
	}
	if kind == errs.Unauthenticated {
		x.w.Header().Set("WWW-Authenticate", fmt.Sprintf("Keystone uri=%q", base(x.r)+x.kit.AuthURL))
	}
	if kind == errs.Unauthenticated && !x.api.Family.PlainAuth {
		f := IdentityFaults()
		body, ct := f.Encode(Fault{Status: status, Message: text})
		x.writeRaw(status, ct, body)
		return
	}
	if kind == errs.TooMany || kind == errs.Unavailable {
		x.w.Header().Set("Retry-After", "1")
	}
	x.write(x.fault(status, code, text))
}

func (x *exchange) fault(status int, code, text string) *Response {
	return x.encoded(x.api.Family.Encode, status, code, text)
}

func (x *exchange) encoded(encode FaultEncoder, status int, code, text string) *Response {
	body, ct := encode(Fault{Status: status, Code: code, Message: text, RequestID: x.id,
		Accept: x.r.Header.Get("Accept"), Version: x.version, Range: x.outside})
	return &Response{Status: status, Header: http.Header{"Content-Type": {ct}}, Stream: func(w http.ResponseWriter) error {
		_, err := w.Write(body)
		return err
	}}
}

func (x *exchange) discover(doc Document) {
	x.pattern = "discovery"
	if x.r.Method != http.MethodGet && x.r.Method != http.MethodHead {
		x.w.Header().Set("Allow", "GET, HEAD")
		x.write(x.fault(http.StatusMethodNotAllowed, "", "The method is not allowed for this resource."))
		return
	}
	x.write(doc(base(x.r)))
}

func (x *exchange) write(resp *Response) {
	h := x.w.Header()
	for k, v := range resp.Header {
		h[k] = v
	}
	if resp.Stream != nil {
		x.status = resp.Status
		x.w.WriteHeader(resp.Status)
		if x.r.Method == http.MethodHead {
			return
		}
		if err := resp.Stream(x.w); err != nil {
			x.kit.Log.Warn("answer cut short", "req", x.id, "err", err)
		}
		return
	}
	if resp.Body == nil {
		x.status = resp.Status
		if resp.Status != http.StatusNoContent {
			h.Set("Content-Length", "0")
		}
		x.w.WriteHeader(resp.Status)
		return
	}
	ct := h.Get("Content-Type")
	if ct == "" {
		ct = jsonType
	}
	x.writeRaw(resp.Status, ct, marshal(resp.Body))
}

func (x *exchange) writeRaw(status int, ct string, body []byte) {
	x.status = status
	h := x.w.Header()
	h.Set("Content-Type", ct)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	x.w.WriteHeader(status)
	if x.r.Method != http.MethodHead {
		if _, err := x.w.Write(body); err != nil {
			x.kit.Log.Debug("client went away", "req", x.id, "err", err)
		}
	}
}

// finish logs and counts. A panic becomes a 500 here, and the process lives on.
func (x *exchange) finish(start time.Time) {
	if p := recover(); p != nil && p != http.ErrAbortHandler {
		x.fail(fmt.Errorf("panic: %v\n%s", p, stack()))
	}
	if x.api == nil {
		return
	}
	dur := time.Since(start)
	x.kit.Metrics.observe(x.api.Name, x.pattern, x.r.Method, x.status, dur)
	x.kit.Log.Debug("request", "req", x.id, "method", x.r.Method, "path", x.r.URL.Path, "status", x.status,
		"user", x.user, "project", x.project, "dur", dur)
	if x.r.Body != nil && x.status >= 400 {
		// Reading what little is left keeps the connection usable for the client's next request.
		_, _ = io.CopyN(io.Discard, x.r.Body, 64<<10)
	}
}
