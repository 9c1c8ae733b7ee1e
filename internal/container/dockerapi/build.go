package dockerapi

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/api/types/versions"

	builder "github.com/strata-cloud/strata/internal/container/build"
	"github.com/strata-cloud/strata/internal/dockerwire"
	"github.com/strata-cloud/strata/internal/errs"
)

// buildSink tells a client of a build. A failure before the first line has a status.
type buildSink struct {
	mu    sync.Mutex
	w     http.ResponseWriter
	begun bool
}

// Stream implements build.Sink.
func (s *buildSink) Stream(text string) { s.line(progress{Stream: text}) }

// Aux implements build.Sink.
func (s *buildSink) Aux(id string, v any) { s.line(map[string]any{"id": id, "aux": v}) }

func (s *buildSink) line(v any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := v.(map[string]any); ok && m["id"] == "" {
		delete(m, "id")
	}
	if !s.begun {
		s.begun = true
		s.w.WriteHeader(http.StatusOK)
	}
	e := json.NewEncoder(s.w)
	e.SetEscapeHTML(false)
	e.Encode(v)
	flush(s.w)
}

// maxIgnored is how much of a refused context is read all the same.
const maxIgnored = 64 << 20

func (s *Server) build(w http.ResponseWriter, r *request) error {
	o, err := buildOptions(r)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	sink := &buildSink{w: w}
	_, err = s.engine.Build(r.Context(), o, r.Body, sink)
	if err != nil && !sink.begun { // a client that still sends would not hear of it
		io.Copy(io.Discard, io.LimitReader(r.Body, maxIgnored))
	}
	if err == nil && !sink.begun {
		w.WriteHeader(http.StatusOK)
	}
	if err == nil {
		return nil
	}
	var f *builder.Failure
	failed := errors.As(err, &f)
	if !sink.begun && !failed {
		return err
	}
	detail := map[string]any{"message": err.Error()}
	if failed {
		detail["code"] = f.Code
	}
	sink.line(progress{Error: err.Error(), Detail: detail})
	return dockerwire.Late(err)
}

// buildOptions reads the query of POST /build.
func buildOptions(r *request) (builder.Options, error) {
	o := builder.Options{Dockerfile: r.Value("dockerfile"), Target: r.Value("target"), Remote: r.Value("remote"), SessionID: r.Value("session"), BuildID: r.Value("buildid"), Tags: r.Form["t"],
		NoCache: r.Flag("nocache"), Pull: r.Flag("pull"), Quiet: r.Flag("q"), Network: r.Value("networkmode"), ExtraHosts: r.Form["extrahosts"]}
	switch v := r.Value("version"); v {
	case "", "1":
		o.Classic = true
	case "2":
	default:
		return o, errs.Invalidf("invalid version %q", v)
	}
	if versions.GreaterThanOrEqualTo(r.Version, "1.32") {
		o.Platform = r.Value("platform")
	}
	if v := r.Value("shmsize"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return o, errs.Invalidf("invalid shmsize: %q is not a number", v)
		}
		o.ShmSize = n
	}
	for key, into := range map[string]any{"buildargs": &o.Args, "labels": &o.Labels, "cachefrom": &o.CacheFrom, "ulimits": &o.Ulimits, "outputs": &o.Outputs} {
		if v := r.Value(key); v != "" {
			if err := json.Unmarshal([]byte(v), into); err != nil {
				return o, errs.Invalidf("error reading %s: %s", key, err)
			}
		}
	}
	for _, u := range o.Ulimits {
		if u == nil {
			return o, errs.Invalidf("error reading ulimits: one is null")
		}
	}
	o.Auth = registryConfig(r.Header.Get("X-Registry-Config"))
	return o, unsupportedBuild(r)
}

// unsupportedBuild refuses what would silently not be done.
func unsupportedBuild(r *request) error {
	for _, key := range []string{"memory", "memswap", "cpushares", "cpuperiod", "cpuquota", "cpusetcpus", "cpusetmems", "cgroupparent", "squash"} {
		switch strings.ToLower(r.Value(key)) {
		case "", "0", "false":
		default:
			return errs.Invalidf("%s of a build is not supported by this engine", key)
		}
	}
	if len(r.Form["securityopt"]) > 0 {
		return errs.Invalidf("security options are not supported on linux")
	}
	if v := r.Value("isolation"); v != "" && v != "default" {
		return errs.Invalidf("unsupported isolation: %q", v)
	}
	return nil
}

// registryConfig reads the credentials of all registries. As upstream: what cannot be
// read is none.
func registryConfig(header string) map[string]registry.AuthConfig {
	out := map[string]registry.AuthConfig{}
	if json.NewDecoder(base64.NewDecoder(base64.URLEncoding, strings.NewReader(header))).Decode(&out) != nil {
		return nil
	}
	return out
}

func (s *Server) buildCancel(_ http.ResponseWriter, r *request) error {
	id := r.Value("id")
	if id == "" {
		return errs.Invalidf("build ID not provided")
	}
	return s.engine.CancelBuild(id)
}

func (s *Server) buildPrune(w http.ResponseWriter, r *request) error {
	f, err := r.filters(append(builder.PruneFilters(), "label", "label!")...)
	if err != nil {
		return errs.Invalidf("failed to prune build cache: %w", err)
	}
	o := builder.PruneOptions{All: r.Flag("all"), Filters: f}
	until := append(f.Get("until"), f.Get("unused-for")...)
	if len(until) > 1 {
		return errs.Invalidf("filters expect only one value")
	}
	if len(until) == 1 {
		at, err := timestamp("until", until[0])
		if err != nil {
			return err
		}
		o.Until = time.Since(at)
	}
	if err := r.spaces(&o); err != nil {
		return err
	}
	ids, freed, err := s.engine.PruneBuilds(r.Context(), o)
	if err != nil {
		return err
	}
	return dockerwire.Answer(w, http.StatusOK, build.CachePruneReport{CachesDeleted: ids, SpaceReclaimed: uint64(freed)})
}

// spaces reads how much of the cache is to stay, under the names of the request's version.
func (r *request) spaces(o *builder.PruneOptions) error {
	names := map[string]*int64{"keep-storage": &o.Keep}
	if versions.GreaterThanOrEqualTo(r.Version, "1.48") {
		names["max-used-space"], names["min-free-space"] = &o.MaxUsed, &o.MinFree
		if r.Value("reserved-space") != "" {
			delete(names, "keep-storage")
			names["reserved-space"] = &o.Keep
		}
	}
	for name, to := range names {
		v := r.Value(name)
		if v == "" {
			continue
		}
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return errs.Invalidf("%s is in bytes and expects an integer, got %v", name, v)
		}
		*to = n
	}
	return nil
}

// buildSession turns the connection around: BuildKit asks the client for files,
// secrets and credentials on it.
func (s *Server) buildSession(w http.ResponseWriter, r *request) error {
	if r.Header.Get("Upgrade") != "h2c" {
		return errs.Invalidf("protocol %s not supported", r.Header.Get("Upgrade"))
	}
	if err := s.engine.BuildSession(r.Context(), w, r.Request.Request); err != nil {
		return errs.Invalidf("%s", err)
	}
	return nil
}

// grpc gives the connection to BuildKit.
func (s *Server) grpc(w http.ResponseWriter, r *request) error {
	if r.Header.Get("Upgrade") != "h2c" {
		return errs.Invalidf("protocol %s not supported", r.Header.Get("Upgrade"))
	}
	h, ok := w.(http.Hijacker)
	if !ok {
		return errors.New("this connection cannot carry a stream")
	}
	conn, rw, err := h.Hijack()
	if err != nil {
		return err
	}
	if _, err := conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")); err != nil {
		return errors.Join(dockerwire.Late(err), conn.Close())
	}
	if err := s.engine.ServeBuildKit(ahead{conn, rw.Reader}); err != nil {
		return errors.Join(dockerwire.Late(err), conn.Close())
	}
	return nil
}

// ahead is a connection of which something has been read already.
type ahead struct {
	net.Conn
	r *bufio.Reader
}

// Read implements net.Conn.
func (a ahead) Read(p []byte) (int, error) { return a.r.Read(p) }
