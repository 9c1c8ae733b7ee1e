package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/needs"
)

// TestMain lets the doctor try hardware virtualisation: that runs this program
// again, and without ProbeMain the child would run all the tests, whose doctor
// runs a child, and so on.
func TestMain(m *testing.M) {
	hypervisor.ProbeMain()
	os.Exit(m.Run())
}

// strata runs the command line in a data directory that has no cloud.
func strata(t *testing.T, dir string, args ...string) (status int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	status = Main(append([]string{"--data-dir", dir}, args...), &o, &e)
	return status, o.String(), e.String()
}

func TestCommandLine(t *testing.T) {
	for _, c := range []struct {
		args   string
		status int
		says   string // what standard error says, the next step above all
	}{
		{"fly", 1, `unknown command "fly"`},
		{"status --output yaml", 2, "use table or json"},
		{"status --colour", 2, "unknown flag"},
		{"image build", 2, "strata image build tiny|debian"},
		{"image build windows", 2, "strata image build tiny|debian"},
		{"image build tiny", 1, "strata up --data-dir"},
		{"launch", 2, "strata launch NAME"},
		{"launch a b", 2, "strata launch NAME"},
		{"launch demo", 1, "start one with strata up"},
		{"cluster create", 2, "strata cluster create CLUSTER"},
		{"cluster create a b", 2, "strata cluster create CLUSTER"},
		{"cluster scale one many", 2, "strata cluster scale CLUSTER NODES"},
		{"cluster list", 1, "start one with strata up"},
		{"cluster kubeconfig one", 1, "start one with strata up"},
		{"ssh", 2, "strata ssh NAME"},
		{"console", 2, "strata console SERVER"},
		{"ssh demo", 1, "start one with strata up"},
		{"env", 1, "start one with strata up"},
		{"backup", 2, "strata backup FILE"},
		{"restore /nonexistent/backup.zip", 1, "no such file"},
		{"doctor --port a --server b", 2, "choose one"},
		{"doctor --server b", 1, "up --detach"},
		{"up --listen nowhere", 2, "HOST:PORT"},
		{"up --public-cidr 10.0.0.1/24", 2, "such as"},
		{"down", 0, "not running"},
	} {
		t.Run(c.args, func(t *testing.T) {
			status, out, errs := strata(t, t.TempDir(), strings.Fields(c.args)...)
			if status != c.status || !strings.Contains(errs, c.says) {
				t.Errorf("status %d, %q; want %d and %q", status, errs, c.status, c.says)
			}
			if out != "" {
				t.Errorf("an error is on standard output: %q", out)
			}
		})
	}
}

func TestStatusOfNothing(t *testing.T) {
	dir := t.TempDir()
	status, out, errs := strata(t, dir, "status", "--output", "json")
	var got struct {
		Running bool
		DataDir string `json:"data_dir"`
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.Running || got.DataDir != dir {
		t.Errorf("%q: %v", out, err)
	}
	if status != notRunning || !strings.Contains(errs, "up --detach") {
		t.Errorf("status %d, %q", status, errs)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("asking left %v, %v", entries, err)
	}
}

func TestDoctorOfNothing(t *testing.T) {
	needs.Root(t, "trying kernel features")
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	dir := filepath.Join(t.TempDir(), "not", "yet")
	status, out, errs := strata(t, dir, "doctor", "--output", "json", "--listen", "127.0.0.1:0")
	var got findings
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	seen := map[string]finding{}
	for _, f := range got {
		seen[f.Check] = f
		if (f.Verdict == fine) != (f.Fix == "") {
			t.Errorf("%+v: a fix is there exactly when something is wrong", f)
		}
	}
	for _, check := range []string{"root", "programs", "kernel", "control groups", "acceleration", "memory", "disk", "disk latency", "clock", "address", "cloud"} {
		if _, ok := seen[check]; !ok {
			t.Errorf("%s is not checked", check)
		}
	}
	if want := map[bool]int{true: 1, false: 0}[got.failed() > 0]; status != want {
		t.Errorf("status %d with %d failures: %s", status, got.failed(), errs)
	}
	if _, err := os.Stat(filepath.Dir(dir)); err == nil {
		t.Error("the doctor made the data directory")
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("the doctor left %v, %v", left, err)
	}
}

func TestShow(t *testing.T) {
	var out bytes.Buffer
	a := &app{out: &out, output: "table"}
	one := table{head: []string{"NAME", "N"}}
	one.add("long name", 1)
	two := table{}
	two.add("x", "y")
	if err := a.show(nil, one, two); err != nil {
		t.Fatal(err)
	}
	if want := "NAME       N\nlong name  1\n\nx  y\n"; out.String() != want {
		t.Errorf("%q", out.String())
	}
	out.Reset()
	a.output = "json"
	if err := a.show(map[string]int{"n": 1}, one); err != nil || out.String() != "{\n  \"n\": 1\n}\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

func TestTexts(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 32 << 20: "32.0 MiB", 3 << 29: "1.5 GiB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{1234 * time.Microsecond: "1ms", 1260 * time.Millisecond: "1.3s", 83 * time.Second: "1m23s"} {
		if got := short(d); got != want {
			t.Errorf("%d: %s, want %s", d, got, want)
		}
	}
}

// Every API family's envelope gives its message.
func TestReason(t *testing.T) {
	for body, want := range map[string]string{
		`{"badRequest":{"code":400,"message":"Invalid name"}}`:                                "Invalid name",
		`{"NeutronError":{"type":"Q","message":"Quota exceeded","detail":""}}`:                "Quota exceeded",
		`{"error":{"code":401,"title":"Unauthorized","message":"Log in"}}`:                    "Log in",
		`{"errors":[{"status":409,"request_id":"r","detail":"In use","title":"Conflict"}]}`:   "In use",
		`{"message":"Image too big<br />","code":"413 x","title":"Request Entity Too Large"}`: "Image too big<br />",
		"plain text\n": "plain text",
	} {
		if got := reason([]byte(body)); got != want {
			t.Errorf("%s: %q", body, got)
		}
	}
}

func TestUserData(t *testing.T) {
	dir := t.TempDir()
	small, large := filepath.Join(dir, "small"), filepath.Join(dir, "large")
	for file, n := range map[string]int{small: 49149, large: 49150} {
		if err := os.WriteFile(file, make([]byte, n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for file, ok := range map[string]bool{"": true, small: true, large: false, filepath.Join(dir, "none"): false} {
		o := launchOptions{userData: file}
		if _, err := o.readUserData(); (err == nil) != ok {
			t.Errorf("%q: %v", file, err)
		}
	}
}
