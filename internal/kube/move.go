package kube

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/process"
)

// A control plane moves by a copy of its state: where it was, all but etcd ends, and the last
// copy is made (Control.Sealed); where it is to be, its data begins with that copy
// (Control.State).
const (
	beganFile  = "began"  // the copy that the data began with
	sealedFile = "sealed" // the last copy, while the control plane is about to move
)

// Sealed names the last copy of a control plane here that is about to move; "": it is not
// made yet.
func (m *Machine) Sealed(cluster string) string {
	return line(filepath.Join(m.Dir, cluster, controlDir, sealedFile))
}

// line is what a file of one line says; "": nothing, or there is none.
func line(path string) string {
	raw, _ := os.ReadFile(path) //nolint:errcheck // what cannot be read says nothing
	return strings.TrimSpace(string(raw))
}

// adopt has a control plane begin with the copy that it is to begin with, unless its data
// began with that or with a later one.
func (m *Machine) adopt(ctx context.Context, p *plane) error {
	want, ok := ParseCopy(p.State)
	if !ok {
		return nil
	}
	if began, ok := ParseCopy(line(filepath.Join(p.dir, beganFile))); ok && !want.Made.After(began.Made) {
		return nil
	}
	if !exists(filepath.Join(p.dir, snapshotFile)) || exists(filepath.Join(p.dir, dataDir)) { // else it was put here by a run that ended, or by an operator
		if err := m.replace(ctx, p, want.Name); err != nil {
			return fmt.Errorf("the state of cluster %s: %w", p.ID, err)
		}
	}
	return writeFile(filepath.Join(p.dir, beganFile), []byte(want.Name+"\n"))
}

// replace has a copy in the place of the control plane's data.
func (m *Machine) replace(ctx context.Context, p *plane, name string) (err error) {
	if err := m.Copies.Obtain(ctx, name); err != nil {
		return err
	}
	if err := m.stopControl(ctx, p.dir, ""); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(p.dir, dataDir)); err != nil {
		return err
	}
	r, err := m.Copies.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return Put(m.Dir, p.ID, r)
}

// seal ends a control plane but for its etcd, and makes the last copy of it.
func (m *Machine) seal(ctx context.Context, p *plane) error {
	if err := m.stopControl(ctx, p.dir, etcdProgram); err != nil {
		return err
	}
	if err := m.keep(ctx, p.ID, p.dir, p.programs()[:1], nil); err != nil || m.Sealed(p.ID) != "" {
		return err
	}
	name, err := m.Copies.Make(ctx, m.Dir, p.ID)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(p.dir, sealedFile), []byte(name+"\n"))
}

// unseal forgets that it was about to move.
func (p *plane) unseal() error {
	err := os.Remove(filepath.Join(p.dir, sealedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// stopControl ends the programs of a control plane but one, what reads before what is read.
func (m *Machine) stopControl(ctx context.Context, dir, but string) error {
	k := &process.Keeper{Dir: dir}
	for _, name := range slices.Backward([]string{etcdProgram, apiserverProgram, managerProgram, schedulerProgram, metricsProgram, volumesName}) {
		if name == but {
			continue
		}
		if err := k.Stop(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
