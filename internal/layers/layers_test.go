package layers

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/strata-cloud/strata/"

var (
	vocabulary = []string{"errs", "keyed", "listener", "wait", "nodeapi"}
	base       = append([]string{"policy", "store"}, vocabulary...)
	kit        = append([]string{"rest", "saga", "reconcile", "nodes"}, base...)
	services   = []string{"identity", "image", "placement", "network", "compute", "volume", "registry", "docker", "loadbalancer", "cluster"}
	drivers    = []string{"netns", "hypervisor", "dataplane", "blockdev", "cgroup", "configdrive", "guest", "process", "kube", "kubeapi"}
)

// clustersEtcd copies what the etcds of Kubernetes clusters hold, which are not the region's.
const clustersEtcd = "internal/kube/backup.go"

// mayImport lists, by the first element below internal/, what else below internal/ it may import.
func mayImport(pkg string) []string {
	switch {
	case pkg == "dockerwire":
		return []string{"errs"}
	case slices.Contains(vocabulary, pkg):
		return nil
	case pkg == "policy", pkg == "store":
		return vocabulary
	case pkg == "rest":
		return append([]string{"policy"}, vocabulary...)
	case slices.Contains(kit, pkg):
		return base
	case pkg == "docker":
		return append([]string{"dockerwire"}, kit...)
	case pkg == "cluster": // the names that certificates are made out to are kube's
		return append([]string{"kube", "kubeapi"}, kit...)
	case slices.Contains(services, pkg):
		return kit
	case slices.Contains(drivers, pkg):
		return append(slices.Clone(vocabulary), drivers...)
	case pkg == "container":
		return append(slices.Clone(vocabulary), "dockerwire", "netns", "dataplane", "cgroup")
	case pkg == "node":
		return append(append([]string{"reconcile"}, vocabulary...), drivers...)
	}
	return []string{"*"}
}

// source is one parsed file.
type source struct {
	path, pkg string // pkg: first element below internal/
	dir       string
	ast       *ast.File
	test      bool
}

func sources(t *testing.T, root string) []source {
	t.Helper()
	var out []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && path != root) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		pkg := ""
		if parts := strings.Split(rel, string(filepath.Separator)); parts[0] == "internal" {
			pkg = parts[1]
		}
		out = append(out, source{path: rel, pkg: pkg, dir: filepath.Dir(rel), ast: f, test: strings.HasSuffix(path, "_test.go")})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestImportDirections(t *testing.T) {
	for _, s := range sources(t, "../..") {
		if s.pkg == "" || s.test {
			continue
		}
		allowed := mayImport(s.pkg)
		for _, i := range s.ast.Imports {
			path := strings.Trim(i.Path.Value, `"`)
			inner, ours := strings.CutPrefix(path, module+"internal/")
			if !ours {
				if strings.HasPrefix(path, "go.etcd.io/") && s.pkg != "store" && s.path != clustersEtcd {
					t.Errorf("%s imports %s: only store speaks to the region's etcd", s.path, path)
				}
				continue
			}
			to := strings.Split(inner, "/")[0]
			if to != s.pkg && !slices.Contains(allowed, to) && !slices.Contains(allowed, "*") {
				t.Errorf("%s imports %s: internal/%s may import only itself and %v", s.path, path, s.pkg, allowed)
			}
		}
	}
}

func TestPackageComments(t *testing.T) {
	has := map[string]bool{}
	for _, s := range sources(t, "../..") {
		if !s.test {
			has[s.dir] = has[s.dir] || s.ast.Doc != nil
		}
	}
	for dir, ok := range has {
		if !ok {
			t.Errorf("package %s has no package comment", dir)
		}
	}
}

// What is not done anywhere, and why.
func TestForbidden(t *testing.T) {
	for _, s := range sources(t, "../..") {
		for _, d := range s.ast.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == "init" && f.Recv == nil {
				t.Errorf("%s has an init function: build things visibly in internal/region", s.path)
			}
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			switch x.Name + "." + sel.Sel.Name {
			case "time.Sleep":
				t.Errorf("%s sleeps: wait for a condition (package wait)", s.path)
			case "context.TODO":
				t.Errorf("%s uses context.TODO: take the caller's context", s.path)
			case "context.Background":
				if !s.test && s.ast.Name.Name != "main" && s.dir != "internal/cli" && s.dir != "kubernetes/internal/component" && !strings.HasSuffix(s.dir, "test") {
					t.Errorf("%s uses context.Background: take the caller's context", s.path)
				}
			}
			return true
		})
	}
}

// Long files are hard to hold in the head. The soft limit is 400 lines.
func TestFileLength(t *testing.T) {
	const limit = 500
	for _, s := range sources(t, "../..") {
		raw, err := os.ReadFile(filepath.Join("../..", s.path))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(raw), "\n"); n > limit && !s.test {
			t.Errorf("%s has %d lines, more than %d: split it by verb or resource", s.path, n, limit)
		}
	}
}
