package system

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strata-cloud/strata/internal/region"
)

// recordFrom is the address of a dockerd of Debian's docker.io, 20.10, to write the
// transcript from; see testdata/README.md.
var recordFrom = flag.String("record-dockerd", "", "record testdata/dockerd.txt from the dockerd at this address, such as unix:///run/docker.sock")

const (
	transcriptFile  = "testdata/dockerd.txt"
	differencesFile = "testdata/dockerd-differences.txt"
)

// exchange is a command and what came of it.
type exchange struct {
	command string
	out     []string // "> " standard output, "! " standard error, "= " exit code
}

// TestAgainstDockerd runs the commands of a transcript of dockerd 20.10 with the same
// client, and compares output and exit codes.
func TestAgainstDockerd(t *testing.T) {
	cli := fromDebian(t, "docker.io", "usr/bin/docker")
	if *recordFrom != "" {
		recordTranscript(t, cli)
		return
	}
	d := newDock(t)
	d.must("tag", "busybox", "keep:it")
	known, met, home := readDifferences(t), map[string]bool{}, t.TempDir()
	for _, want := range readTranscript(t) {
		got := runExchange(t, cli, "unix://"+filepath.Join(d.cloud.Dir, region.DockerSocket), home, want.command)
		diff := cmp.Diff(want.out, got.out)
		if reason, ok := known[want.command]; ok {
			met[want.command] = true
			if diff == "" {
				t.Errorf("%s: there is no difference any more: %s", want.command, reason)
			}
			continue
		}
		if diff != "" {
			t.Errorf("%s (-dockerd +strata):\n%s", want.command, diff)
		}
	}
	for command := range known {
		if !met[command] {
			t.Errorf("%s: a difference of a command that is not run", command)
		}
	}
}

// recordTranscript writes the transcript anew, with the commands that are in it.
func recordTranscript(t *testing.T, cli string) {
	d := &dock{t: t, cli: cli, host: *recordFrom}
	d.importImage()
	d.must("tag", "busybox", "keep:it")
	var b bytes.Buffer
	home := t.TempDir()
	for _, e := range readTranscript(t) {
		b.WriteString("$ " + e.command + "\n")
		for _, line := range runExchange(t, cli, *recordFrom, home, e.command).out {
			b.WriteString(line + "\n")
		}
	}
	if err := os.WriteFile(transcriptFile, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readTranscript(t *testing.T) (out []exchange) {
	t.Helper()
	raw, err := os.ReadFile(transcriptFile)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSuffix(line, "\n")
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			out = append(out, exchange{command: command})
		} else if len(out) > 0 {
			out[len(out)-1].out = append(out[len(out)-1].out, line)
		}
	}
	return out
}

func readDifferences(t *testing.T) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(differencesFile)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		command, reason, ok := strings.Cut(strings.TrimSpace(line), " ## ")
		if !ok || reason == "" {
			t.Fatalf("%s: a difference without a reason: %s", differencesFile, line)
		}
		out[command] = reason
	}
	return out
}

// runExchange runs a line of shell in which docker is the client.
func runExchange(t *testing.T, cli, host, home, command string) exchange {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
	cmd.Dir = home
	cmd.Env = []string{"PATH=" + filepath.Dir(cli) + ":/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + home, "DOCKER_HOST=" + host, "TZ=UTC"}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	e := exchange{command: command}
	e.add("> ", out.String())
	e.add("! ", errs.String())
	e.add("= ", cmd.ProcessState.String())
	return e
}

// varying is what differs from run to run.
var varying = []struct {
	re *regexp.Regexp
	by string
}{
	{regexp.MustCompile(`[0-9a-f]{64}`), "ID"},
	{regexp.MustCompile(`\b[0-9a-f]{12}\b`), "ID"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| \+0000 UTC)?`), "TIME"},
	{regexp.MustCompile(`(Less than a second|About a minute|\d+ seconds?|\d+ minutes?)( ago)?`), "A WHILE"},
	{regexp.MustCompile(`[\d.]+ ?[kM]i?B\b`), "SIZE"},
	{regexp.MustCompile(` {2,}`), " "},
	{regexp.MustCompile(`\s+$`), ""},
	{regexp.MustCompile(`failed to create task for container: |: unknown\b`), ""}, // docker 28 says the first, 20.10 the second
}

func (e *exchange) add(prefix, text string) {
	for line := range strings.Lines(text) {
		for _, v := range varying {
			line = v.re.ReplaceAllString(line, v.by)
		}
		if prefix == "! " { // versions differ in how messages begin
			line = strings.ToLower(line)
		}
		if strings.Contains(line, "error waiting for container: context canceled") {
			continue // the client's own, which it has time to say or has not
		}
		e.out = append(e.out, strings.TrimRight(prefix+line, " \n"))
	}
	e.out = slices.DeleteFunc(e.out, func(l string) bool { return l == strings.TrimSpace(prefix) })
}
