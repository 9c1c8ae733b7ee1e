package region

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodelink"
	"github.com/strata-cloud/strata/internal/wait"
)

// memberCopies keeps a copy of one kind of files on this member, images' data or the
// registry's blobs: what the leader has and this member lacks is fetched from the
// leader, and by a leader from whoever has it.
type memberCopies struct {
	council *council
	of      string // one of what follows
	dir     string

	mu     sync.Mutex
	wanted map[string]int64 // files by name: bytes
	lacks  int
}

// What members copy, which is also a part of the paths that they ask for.
const (
	ofImages   = "images"
	ofRegistry = "registry"
)

// copied is what members copy of the leader's: images' data, and files that are not
// in the store.
type copied struct {
	Hash   string           `json:"hash"`
	Files  map[string]int64 `json:"files"`
	Policy []byte           `json:"policy,omitempty"` // policy.yaml
}

const (
	// copyPoll is how long the leader keeps a member waiting that has everything.
	copyPoll = 10 * time.Second
	// copyAgain is how long a member waits after a failure.
	copyAgain = time.Second
	// copyPart begins the name of a file that is being copied; the image service's
	// sweep knows it.
	copyPart = "tmp-"
)

func (r *Region) copied(of string) (*copied, error) {
	c := &copied{}
	if of == ofRegistry {
		c.Files = r.Registry.Files()
	} else {
		c.Files = r.Image.Files()
		raw, err := os.ReadFile(r.cfg.path(policyFile))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		c.Policy = raw
	}
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(c.Files)) {
		fmt.Fprintln(sum, name, c.Files[name])
	}
	fmt.Fprintf(sum, "%q", c.Policy)
	c.Hash = hex.EncodeToString(sum.Sum(nil))
	return c, nil
}

// copyList tells a member what to copy, once that is something else than it has.
func (r *Region) copyList(of string, w http.ResponseWriter, q *http.Request) {
	ctx, cancel := context.WithTimeout(q.Context(), copyPoll)
	defer cancel()
	changed := r.DB.Notify(ctx, map[string]string{ofImages: "image/image", ofRegistry: "registry/blob"}[of])
	for {
		_, over := r.council.state()
		if !r.council.works(r) {
			answer(w, nil, errs.New(errs.Unavailable, "this member leads no more"))
			return
		}
		c, err := r.copied(of)
		if err != nil || c.Hash != q.FormValue("have") || ctx.Err() != nil {
			answer(w, c, err)
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
		case <-over:
		}
	}
}

// run copies until ctx ends.
func (i *memberCopies) run(ctx context.Context) {
	var have, told string
	for ctx.Err() == nil {
		err := os.MkdirAll(i.dir, 0o750)
		if err == nil {
			have, err = i.once(ctx, have)
		}
		if err != nil && ctx.Err() == nil {
			have = ""
			if !errs.Is(err, errs.Unavailable) && err.Error() != told {
				told = err.Error()
				i.council.cfg.Log.Warn("copying data of other members", "of", i.of, "err", err)
			}
		}
		if err != nil || have == "" {
			wait.Pause(ctx, copyAgain)
		}
	}
}

// once makes this member have what the leader wants it to, and gives the state that it has.
func (i *memberCopies) once(ctx context.Context, have string) (string, error) {
	if r := i.council.leads(); r != nil {
		want, err := r.copied(i.of)
		if err != nil {
			return "", err
		}
		return "", i.fill(ctx, want, i.council.addrs())
	}
	var want copied
	if err := i.council.askLeader(ctx, http.MethodGet, "/"+i.of+"?have="+url.QueryEscape(have), &want); err != nil {
		return "", err
	}
	if want.Hash == have {
		return have, nil
	}
	lead, _ := i.council.state()
	addr, ok := i.council.addrOf(lead)
	if !ok {
		return "", errs.New(errs.Unavailable, "no member leads")
	}
	err := i.fill(ctx, &want, []string{addr})
	if err != nil {
		return "", err
	}
	if i.of == ofImages {
		err = i.policy(want.Policy)
	}
	return want.Hash, errors.Join(err, i.drop(&want))
}

// fill fetches what is missing from the first of the members that has it.
func (i *memberCopies) fill(ctx context.Context, want *copied, from []string) error {
	missing := map[string]int64{}
	for name, size := range want.Files {
		if _, err := os.Stat(filepath.Join(i.dir, name)); errors.Is(err, fs.ErrNotExist) && fileName(name) {
			missing[name] = size
		}
	}
	i.note(want.Files, len(missing))
	var failed []error
	for name, size := range missing {
		if err := i.fetch(ctx, name, size, from); err != nil {
			failed = append(failed, err)
		} else {
			delete(missing, name)
			i.note(want.Files, len(missing))
		}
	}
	return errors.Join(failed...)
}

func (i *memberCopies) note(wanted map[string]int64, lacks int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.wanted, i.lacks = wanted, lacks
}

// counts are how many files there should be, and how many are not there.
func (i *memberCopies) counts() (all, missing int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.wanted), i.lacks
}

func (i *memberCopies) fetch(ctx context.Context, name string, size int64, from []string) (err error) {
	for _, addr := range from {
		if addr == i.council.cfg.Cluster {
			continue
		}
		var body io.ReadCloser
		if body, err = i.council.ask(ctx, addr, http.MethodGet, "/"+i.of+"/"+name, nil); err != nil {
			continue
		}
		err = i.keep(name, size, body)
		if err = errors.Join(err, body.Close()); err == nil {
			return nil
		}
	}
	return err
}

// keep writes a file, which has its name only when it is whole.
func (i *memberCopies) keep(name string, size int64, data io.Reader) error {
	part := filepath.Join(i.dir, copyPart+name)
	f, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, data)
	if err == nil && n != size {
		err = fmt.Errorf("%s has %d bytes, not %d", name, n, size)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(part, filepath.Join(i.dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return nil
}

// drop removes what the leader has no image for any more.
func (i *memberCopies) drop(want *copied) error {
	entries, err := os.ReadDir(i.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, ok := want.Files[strings.TrimPrefix(e.Name(), copyPart)]; ok || !e.Type().IsRegular() || i.council.leads() != nil {
			continue
		}
		if err := os.Remove(filepath.Join(i.dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// policy makes this member's overrides of policy rules those of the leader.
func (i *memberCopies) policy(raw []byte) error {
	path := i.council.cfg.path(policyFile)
	old, err := os.ReadFile(path)
	switch {
	case err == nil && bytes.Equal(old, raw), errors.Is(err, fs.ErrNotExist) && len(raw) == 0:
		return nil
	case len(raw) == 0:
		return os.Remove(path)
	}
	return replaceFile(path, raw, 0o644)
}

// serve gives another member a file.
func (i *memberCopies) serve(w http.ResponseWriter, q *http.Request) {
	name := q.PathValue("file")
	if !fileName(name) {
		answer(w, nil, errs.Invalidf("%q is no file of the %s", name, i.of))
		return
	}
	f, err := os.Open(filepath.Join(i.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		err = errs.NotFoundf("this member has no file %s", name)
	}
	if err != nil {
		answer(w, nil, err)
		return
	}
	defer f.Close()
	if _, err := io.Copy(w, f); err != nil {
		panic(http.ErrAbortHandler) // a part must not look whole
	}
}

// nearby is the control plane as a control member's agent sees it: the leader, with
// images' data from the copies that are here.
type nearby struct {
	*nodelink.Client
	images *memberCopies
}

// Image implements node.Control.
func (l nearby) Image(ctx context.Context, id string) (path, format string, err error) {
	name, err := l.ImageFile(ctx, id)
	if err != nil {
		return "", "", err
	}
	path = filepath.Join(l.images.dir, name)
	if _, err := os.Stat(path); err != nil || !fileName(name) {
		return l.Client.Image(ctx, id)
	}
	format, err = l.ImageFormat(ctx, id)
	return path, format, err
}
