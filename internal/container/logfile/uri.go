package logfile

import (
	"net/url"
	"strconv"
)

const scheme = "strata-log"

// URI says where the output of a task goes; the shim is told so in the place of a
// pipe's path.
func URI(path string, l Limits) string {
	q := url.Values{"size": {strconv.FormatInt(l.Size, 10)}, "files": {strconv.Itoa(l.Files)}}
	return (&url.URL{Scheme: scheme, Path: path, RawQuery: q.Encode()}).String()
}

// ParseURI reverses URI; ok is false for what is no such URI.
func ParseURI(s string) (path string, l Limits, ok bool) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != scheme {
		return "", l, false
	}
	l.Size, err = strconv.ParseInt(u.Query().Get("size"), 10, 64)
	if err != nil {
		return "", l, false
	}
	l.Files, err = strconv.Atoi(u.Query().Get("files"))
	return u.Path, l, err == nil
}
