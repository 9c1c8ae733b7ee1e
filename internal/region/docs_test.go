package region

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

var update = flag.Bool("update", false, "write the generated documents")

// docsDir is where the documents are.
const docsDir = "../../docs"

// absence is what docs/compat-absent.yaml says of one API: what upstream has and
// we do not, and where we differ on purpose.
type absence struct {
	Upstream    string            `yaml:"upstream"`
	Absent      map[string]string `yaml:"absent"` // "GET /path" or a range of them: why
	Differences []string          `yaml:"differences"`
}

// difference is an entry of docs/compat-differences.yaml: how we answer otherwise
// than upstream. Match is for test/compare, which finds differences.
type difference struct {
	API, What, Why string
	Match          []string
}

// differences reads the file, which may speak of an API's name or of all.
func differences(t *testing.T, apis []*rest.API) []difference {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(docsDir, "compat-differences.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var out []difference
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	dec.KnownFields(true)
	if err := dec.Decode(&out); err != nil {
		t.Fatalf("compat-differences.yaml: %v", err)
	}
	for i, d := range out {
		named := d.API == "all" || slices.ContainsFunc(apis, func(a *rest.API) bool { return a.Name == d.API })
		if !named || d.What == "" || d.Why == "" || len(d.Match) == 0 {
			t.Errorf("compat-differences.yaml: entry %d is incomplete or speaks of no API: %+v", i+1, d)
		}
	}
	return out
}

// TestGeneratedDocs holds docs/compat.md and docs/policy.md to the code. make docs writes them.
func TestGeneratedDocs(t *testing.T) {
	r := tables(t)
	raw, err := os.ReadFile(filepath.Join(docsDir, "compat-absent.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var absent map[string]absence
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	dec.KnownFields(true)
	if err := dec.Decode(&absent); err != nil {
		t.Fatalf("compat-absent.yaml: %v", err)
	}
	checkAbsent(t, r.apis(), absent)
	diffs := differences(t, r.apis())
	for name, want := range map[string]string{"compat.md": compat(r.apis(), absent, diffs), "policy.md": policies(r)} {
		path := filepath.Join(docsDir, name)
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if have, err := os.ReadFile(path); err != nil || string(have) != want {
			t.Errorf("docs/%s is stale (%v): run make docs", name, err)
		}
	}
}

// tables builds a region over memory for what its APIs declare.
func tables(t *testing.T) *Region {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(t.Context(), store.Options{Backend: store.NewMemory(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	r := &Region{DB: db, cfg: Config{DataDir: t.TempDir(), Log: log}}
	if err := r.cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	if err := r.build(); err != nil {
		t.Fatal(err)
	}
	return r
}

// checkAbsent refuses to call absent what is there.
func checkAbsent(t *testing.T, apis []*rest.API, absent map[string]absence) {
	t.Helper()
	known := map[string]bool{}
	for _, a := range apis {
		known[docName(a)] = true
		for _, r := range a.Routes {
			for _, key := range []string{r.Method + " " + r.Path, r.Method + " " + r.Path + " " + r.Action} {
				if _, ok := absent[docName(a)].Absent[key]; ok {
					t.Errorf("compat-absent.yaml calls %s of %s absent, and it is there", key, docName(a))
				}
			}
		}
	}
	for name := range absent {
		if !known[name] {
			t.Errorf("compat-absent.yaml speaks of %s, which is no API", name)
		}
	}
}

// docName is the API's heading: two APIs may have one name and different prefixes.
func docName(a *rest.API) string { return a.Name + " " + a.Prefix }

func compat(apis []*rest.API, absent map[string]absence, diffs []difference) string {
	var b strings.Builder
	b.WriteString("# Compatibility\n\nGenerated from the route tables by `make docs`; do not edit. " +
		"What is listed behaves as upstream does; what is not listed is not there and answers 404. " +
		"What is absent or different on purpose is kept in `compat-absent.yaml`; what differs in single answers is [listed last](#differences-from-upstream) and kept in `compat-differences.yaml`.\n\n| API | path | routes | microversions |\n|---|---|---|---|\n")
	for _, a := range apis {
		fmt.Fprintf(&b, "| [%s](#%s) | `%s` | %d | %s |\n", a.Name, anchor(docName(a)), a.Prefix, len(a.Routes), versions(a))
	}
	for i, a := range apis {
		fmt.Fprintf(&b, "\n## %s\n\n", docName(a))
		if i > 0 && a.Name == apis[i-1].Name && len(a.Routes) == len(apis[i-1].Routes) {
			fmt.Fprintf(&b, "The same as `%s`.\n", apis[i-1].Prefix)
			continue
		}
		x := absent[docName(a)]
		if x.Upstream != "" {
			fmt.Fprintf(&b, "Upstream: %s.\n\n", x.Upstream)
		}
		b.WriteString("| method | path | microversions | policy |\n|---|---|---|---|\n")
		for _, r := range sorted(a.Routes) {
			fmt.Fprintf(&b, "| %s | `%s`%s | %s | %s |\n", r.Method, strings.ReplaceAll(r.Path, "{$}", ""), action(r), span(a, r), code(r.Policy))
		}
		listAbsent(&b, x)
	}
	b.WriteString("\n## Differences from upstream\n\nFound by `test/compare`, which sends the same requests to a real OpenStack and to Strata.\n\n| API | Strata | why |\n|---|---|---|\n")
	for _, d := range diffs {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", d.API, d.What, d.Why)
	}
	return b.String()
}

func listAbsent(b *strings.Builder, x absence) {
	if len(x.Absent) > 0 {
		b.WriteString("\nAbsent:\n\n")
		for _, k := range slices.Sorted(maps.Keys(x.Absent)) {
			fmt.Fprintf(b, "- %s: %s\n", code(k), x.Absent[k])
		}
	}
	if len(x.Differences) > 0 {
		b.WriteString("\nDifferences explained:\n\n")
		for _, d := range x.Differences {
			fmt.Fprintf(b, "- %s\n", d)
		}
	}
}

func sorted(routes []rest.Route) []rest.Route {
	out := slices.Clone(routes)
	slices.SortStableFunc(out, func(a, b rest.Route) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Method, b.Method), cmp.Compare(a.Action, b.Action))
	})
	return out
}

func action(r rest.Route) string {
	if r.Action == "" {
		return ""
	}
	return " `" + r.Action + "`"
}

func code(s string) string {
	if s == "" {
		return "no token needed"
	}
	return "`" + s + "`"
}

func versions(a *rest.API) string {
	if a.Versions == nil {
		return "none"
	}
	return a.Versions.Min.String() + " to " + a.Versions.Max.String()
}

// span is the range of microversions that a route exists in, when it is not all.
func span(a *rest.API, r rest.Route) string {
	open := rest.Version{}
	switch {
	case a.Versions == nil, r.Min == open && r.Max == open:
		return ""
	case r.Max == open:
		return "from " + r.Min.String()
	case r.Min == open:
		return "to " + r.Max.String()
	}
	return r.Min.String() + " to " + r.Max.String()
}

func anchor(heading string) string {
	return strings.ReplaceAll(strings.Map(func(c rune) rune {
		if strings.ContainsRune("/._", c) && c != '_' {
			return -1
		}
		return c
	}, strings.ToLower(heading)), " ", "-")
}

func policies(r *Region) string {
	var b strings.Builder
	b.WriteString("# Policy rules\n\nGenerated by `make docs`; do not edit. The names and defaults are upstream's (secure RBAC), but for those of the registry, which upstream has not. " +
		"An operator overrides them in `policy.yaml` in the data directory, in the same language, and restarts the cloud; a name that is not in this list is refused there.\n\n" +
		"| rule | default |\n|---|---|\n")
	for _, x := range r.Policy.Rules() {
		fmt.Fprintf(&b, "| `%s` | `%s` |\n", x.Name, strings.ReplaceAll(cmp.Or(x.Check, "@"), "|", "\\|"))
	}
	return b.String()
}
