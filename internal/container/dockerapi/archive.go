package dockerapi

import (
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/docker/docker/api/types/container"

	"github.com/strata-cloud/strata/internal/dockerwire"
	"github.com/strata-cloud/strata/internal/errs"
)

// archivePath is the path that a client names.
func (r *request) archivePath() (string, error) {
	if p := r.Value("path"); p != "" {
		return p, nil
	}
	return "", errs.Invalidf("bad parameter: 'path' cannot be empty")
}

// setPathStat puts what a file is into the header where clients look for it.
func setPathStat(w http.ResponseWriter, st container.PathStat) error {
	raw, err := json.Marshal(st)
	if err != nil {
		return err
	}
	w.Header().Set("X-Docker-Container-Path-Stat", base64.StdEncoding.EncodeToString(raw))
	return nil
}

func (s *Server) archiveStat(w http.ResponseWriter, r *request) error {
	path, err := r.archivePath()
	if err != nil {
		return err
	}
	st, err := s.engine.StatPath(r.Context(), r.Vars["id"], path)
	if err != nil {
		return err
	}
	return setPathStat(w, st)
}

func (s *Server) archiveGet(w http.ResponseWriter, r *request) error {
	path, err := r.archivePath()
	if err != nil {
		return err
	}
	begun := false
	var packed *gzip.Writer
	err = s.engine.CopyOut(r.Context(), r.Vars["id"], path, func(st container.PathStat) io.Writer {
		begun = true
		setPathStat(w, st)
		w.Header().Set("Content-Type", "application/x-tar")
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			packed = gzip.NewWriter(w)
			return packed
		}
		return w
	})
	if packed != nil && err == nil {
		err = packed.Close()
	}
	if err != nil && begun {
		panic(http.ErrAbortHandler) // or the client would take half an archive for all of it
	}
	return err
}

func (s *Server) archivePut(w http.ResponseWriter, r *request) error {
	path, err := r.archivePath()
	if err != nil {
		return err
	}
	return s.engine.CopyIn(r.Context(), r.Vars["id"], path, r.Flag("noOverwriteDirNonDir"), r.Flag("copyUIDGID"), r.Body)
}

func (s *Server) containerExport(w http.ResponseWriter, r *request) error {
	begun := false
	err := s.engine.Export(r.Context(), r.Vars["id"], func() io.Writer {
		begun = true
		w.Header().Set("Content-Type", "application/octet-stream")
		return w
	})
	if err != nil && begun {
		panic(http.ErrAbortHandler)
	}
	return err
}

func (s *Server) containerChanges(w http.ResponseWriter, r *request) error {
	list, err := s.engine.Changes(r.Context(), r.Vars["id"])
	if err != nil {
		return err
	}
	return dockerwire.Answer(w, http.StatusOK, list)
}

func (s *Server) containerUpdate(w http.ResponseWriter, r *request) error {
	var u container.UpdateConfig
	if err := r.Read(&u); err != nil {
		return err
	}
	warnings, err := s.engine.Update(r.Context(), r.Vars["id"], u)
	if err != nil {
		return err
	}
	return dockerwire.Answer(w, http.StatusOK, container.UpdateResponse{Warnings: warnings})
}
