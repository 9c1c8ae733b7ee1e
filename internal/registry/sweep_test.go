package registry

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func (w *world) files() int {
	w.t.Helper()
	entries, err := os.ReadDir(w.svc.BlobsDir())
	if err != nil {
		w.t.Fatal(err)
	}
	return len(entries)
}

func TestSweep(t *testing.T) {
	w := newWorld(t)
	max, mona := w.ofDemo("max"), w.ofDemo("mona")
	d1 := max.push("demo/web", "1", "shared", "only in one", "{}")
	max.push("demo/web", "2", "shared", "{}")
	max.push("demo/copy", "1", "shared", "{}")
	max.layer("demo/web", "pushed, and never named")
	w.later(time.Hour)
	w.sweepAll()
	if got := w.kept(); got != "6 blobs, 12 links" || w.files() != 6 {
		t.Fatalf("nothing is to be removed yet: %s, %d files", got, w.files())
	}

	// What a push has asked for lately stays.
	w.later(5 * time.Hour)
	max.want(200, "HEAD", "/v2/demo/web/blobs/"+sum("pushed, and never named"), "")
	w.sweepAll()
	max.want(200, "HEAD", "/v2/demo/web/blobs/"+sum("pushed, and never named"), "")
	w.later(6 * time.Hour)
	w.sweepAll()
	w.sweepAll() // the blobs of layers that went
	if got := w.kept(); got != "5 blobs, 11 links" || w.files() != 5 {
		t.Errorf("after the layer that nobody wants: %s, %d files", got, w.files())
	}

	// Keys are only a reason to look.
	for _, l := range w.svc.links.All() {
		for _, key := range []string{sweepLayer + l.ID(), sweepBlob + l.Digest, sweepProject + l.Project, sweepUpload + "nothing"} {
			if err := w.svc.sweep(t.Context(), key); err != nil {
				t.Error(err)
			}
		}
	}
	if got := w.kept(); got != "5 blobs, 11 links" {
		t.Errorf("after a look at what is wanted: %s", got)
	}

	// A deleted image frees what no other image has.
	mona.want(202, "DELETE", "/v2/demo/web/manifests/"+d1, "")
	w.later(6 * time.Hour)
	w.sweepAll()
	w.sweepAll()
	if got := w.kept(); got != "3 blobs, 8 links" || w.files() != 3 {
		t.Errorf("after an image was deleted: %s, %d files", got, w.files())
	}
	max.pull(200, "demo/web", "2")
	max.want(200, "GET", "/v2/demo/web/blobs/"+sum("shared"), "")
	max.want(200, "GET", "/v2/demo/copy/blobs/"+sum("shared"), "")

	// A project that is gone takes its repositories along.
	w.ofOther("max").push("other/web", "1", "theirs", "{}")
	w.keystone("DELETE", "/projects/"+w.demo, nil)
	w.later(6 * time.Hour)
	w.sweepAll()
	w.sweepAll()
	if got := w.kept(); got != "3 blobs, 4 links" || w.files() != 3 {
		t.Errorf("after a project was deleted: %s, %d files", got, w.files())
	}
	w.ofOther("max").pull(200, "other/web", "1")
}

func TestSweepOfUploads(t *testing.T) {
	w := newWorld(t)
	max := w.ofDemo("max")
	dead := max.want(202, "POST", "/v2/demo/web/blobs/uploads/", "")
	dead = max.want(202, "PATCH", dead.header.Get("Location"), "abc")
	w.later(5 * time.Hour)
	w.sweepAll()
	max.want(204, "GET", strings.Split(dead.header.Get("Location"), "?")[0], "")
	w.later(2 * time.Hour)
	w.sweepAll()
	max.want(404, "GET", strings.Split(dead.header.Get("Location"), "?")[0], "")
	if g := max.want(404, "PATCH", dead.header.Get("Location"), "def"); g.code() != "BLOB_UPLOAD_UNKNOWN" {
		t.Errorf("an upload that was given up: %s", g.body)
	}
	w.leaves("an upload that was given up", "0 blobs, 0 links")
}

// Whatever is swept while images come and go, an image that was accepted is whole.
func TestSweepDuringPushes(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Keep = time.Second })
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
	defer cancel()
	var group, sweeps sync.WaitGroup
	done := make(chan struct{})
	removed := 0
	sweeps.Go(func() {
		for before := w.svc.blobs.Len(); ; before = w.svc.blobs.Len() {
			w.sweepAll()
			removed += max(0, before-w.svc.blobs.Len())
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	for i := range 4 {
		group.Go(func() {
			a, repo := w.ofDemo("mona"), fmt.Sprintf("demo/r%d", i%2)
			for n := 0; ctx.Err() == nil; n++ {
				layers := []string{fmt.Sprint("layer ", n%3), fmt.Sprint("layer ", (n+i)%5), fmt.Sprint("once ", i, " ", n), "{}"}
				d := a.push(repo, fmt.Sprint("t", i), layers...)
				for _, l := range layers {
					a.want(200, "GET", "/v2/"+repo+"/blobs/"+sum(l), "")
				}
				if n%5 > 0 {
					a.want(202, "DELETE", "/v2/"+repo+"/manifests/"+d, "")
				}
				if n%8 == 7 { // what is shared is not asked for meanwhile
					select {
					case <-time.After(1200 * time.Millisecond):
					case <-ctx.Done():
					}
				}
			}
		})
	}
	group.Wait()
	close(done)
	sweeps.Wait()
	if removed == 0 {
		t.Error("nothing was swept: the test shows nothing")
	}
	for _, l := range w.svc.links.All() {
		if l.Kind != manifestLink {
			continue
		}
		for _, d := range l.Refs {
			if _, err := w.svc.links.Get(linkID(l.Repo, layerLink, d)); err != nil {
				t.Errorf("%s has lost its layer %s", l.ID(), d)
			}
			if _, err := os.Stat(w.svc.blob(d)); err != nil {
				t.Errorf("%s has lost its content %s", l.ID(), d)
			}
		}
	}
}

// What a crash leaves goes at the next start, and what is missing can be sent again.
func TestCrash(t *testing.T) {
	w := newWorld(t)
	max := w.ofDemo("max")
	max.push("demo/web", "1", "layer", "{}")
	begun := max.want(202, "POST", "/v2/demo/web/blobs/uploads/", "")
	for _, name := range []string{"tmp-123", blobFile(sum("of no record"))} {
		if err := os.WriteFile(filepath.Join(w.svc.BlobsDir(), name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.start()
	if w.files() != 3 {
		t.Errorf("%d files are left", w.files())
	}
	if g := max.do("PATCH", begun.header.Get("Location"), "x"); g.status < 400 || g.status >= 500 {
		t.Errorf("an upload of before: %d %s", g.status, g.body)
	}
	max.pull(200, "demo/web", "1")

	// This member has not got the content, as one that leads before it has copied all.
	for _, content := range []string{"layer", manifest("layer", "{}")} {
		if err := os.Remove(w.svc.blob(sum(content))); err != nil {
			t.Fatal(err)
		}
	}
	if g := max.want(503, "GET", "/v2/demo/web/blobs/"+sum("layer"), ""); g.code() != "UNAVAILABLE" || g.header.Get("Retry-After") == "" {
		t.Errorf("content that is elsewhere: %s %v", g.body, g.header)
	}
	if g := max.pull(503, "demo/web", "1"); g.code() != "UNAVAILABLE" {
		t.Errorf("a manifest that is elsewhere: %s", g.body)
	}
	max.push("demo/web", "1", "layer", "{}")
	max.pull(200, "demo/web", "1")
	max.want(200, "GET", "/v2/demo/web/blobs/"+sum("layer"), "")
	if len(w.svc.Files()) != 3 || w.svc.Files()[blobFile(sum("layer"))] != 5 {
		t.Errorf("what is to be copied is %v", w.svc.Files())
	}
}
