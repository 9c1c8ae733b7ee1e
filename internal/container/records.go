package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// records are files of JSON, one per object, in a directory. A write is whole or not at
// all, and durable before it returns unless brief is set: then it survives our end, but
// not the machine's.
type records[T any] struct {
	dir   string
	brief bool
}

func openRecords[T any](dir string) (records[T], error) {
	return records[T]{dir: dir}, os.MkdirAll(dir, 0o700)
}

func (r records[T]) path(id string) string { return filepath.Join(r.dir, id+".json") }

func (r records[T]) put(id string, v *T) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(r.dir, ".new-")
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if !r.brief {
		err = errors.Join(err, f.Sync())
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), r.path(id))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("keeping the record of %s: %w", id, err), os.Remove(f.Name()))
	}
	return r.sync()
}

func (r records[T]) remove(id string) error {
	if err := os.Remove(r.path(id)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return r.sync()
}

// sync makes the directory's entries durable.
func (r records[T]) sync() error {
	if r.brief {
		return nil
	}
	d, err := os.Open(r.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// all reads every record and removes what a crash left of an unfinished write.
func (r records[T]) all() (map[string]*T, error) {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, err
	}
	out := map[string]*T{}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			if err := os.Remove(filepath.Join(r.dir, e.Name())); err != nil {
				return nil, err
			}
			continue
		}
		raw, err := os.ReadFile(r.path(id))
		if err != nil {
			return nil, err
		}
		v := new(T)
		err = json.Unmarshal(raw, v)
		if err != nil && r.brief { // of before the machine's end
			if err := os.Remove(r.path(id)); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("the record %s: %w", r.path(id), err)
		}
		out[id] = v
	}
	return out, nil
}
