package system

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/region"
	"github.com/strata-cloud/strata/test/cloud"
)

// dock is an unmodified docker in front of a cloud.
type dock struct {
	t     *testing.T
	cloud *cloud.Cloud
	cli   string
	host  string        // address of an engine, when it is not the cloud's
	env   []string      // over the usual
	slow  bool          // commands may take minutes
	limit time.Duration // of a command; 0: the usual
}

// newDock starts a cloud with a container engine, and loads an image.
func newDock(t *testing.T, flags ...string) *dock { return dockOn(t, cloud.Plan(t), flags...) }

// dockOn does so with a cloud that has not begun.
func dockOn(t *testing.T, c *cloud.Cloud, flags ...string) *dock {
	if _, err := exec.LookPath("runc"); err != nil {
		needs.Missing(t, "containers need runc: make deps")
	}
	c.Flags = append([]string{"--containers", "on"}, flags...)
	c.Up()
	d := &dock{t: t, cloud: c, cli: dockerCLI(t)}
	d.importImage()
	return d
}

// dockerCLI is the client that is installed, or Debian's out of its package: the
// package is not installed, since that would start a daemon.
func dockerCLI(t *testing.T) string {
	if path, err := exec.LookPath("docker"); err == nil {
		return path
	}
	return fromDebian(t, "docker.io", "usr/bin/docker")
}

// fromDebian is a file of one of Debian's packages that is not installed.
func fromDebian(t *testing.T, pkg, file string) string {
	t.Helper()
	return filepath.Join(cloud.Debian(t, pkg), file)
}

// importImage makes the image busybox from a static program and a few files.
func (d *dock) importImage() {
	d.t.Helper()
	root := d.t.TempDir()
	for _, dir := range []string{"bin", "etc", "tmp", "data"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			d.t.Fatal(err)
		}
	}
	program := must[[]byte](d.t)(os.ReadFile(fromDebian(d.t, "busybox-static", "bin/busybox")))
	for name, text := range map[string]string{"bin/busybox": string(program), "etc/passwd": "root:x:0:0::/:/bin/sh\napp:x:1000:1000::/:/bin/sh\n", "etc/group": "root:x:0:\nwheel:x:10:root\napp:x:1000:\n", "data/seed": "of the image\n"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o755); err != nil {
			d.t.Fatal(err)
		}
	}
	for _, a := range strings.Fields("sh sleep echo cat ls id env nc true false seq ps ip hostname kill stty dd touch mount grep stat readlink mkdir ln rm df head wc") {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", a)); err != nil {
			d.t.Fatal(err)
		}
	}
	archive := exec.Command("tar", "-C", root, "-c", ".")
	d.must2(must[[]byte](d.t)(archive.Output()), "import", "-c", `CMD ["/bin/sh"]`, "-c", "ENV FROM=image", "-", "busybox")
}

// result is what a docker command did.
type result struct {
	out, errs string
	code      int
}

// patience bounds a docker command, and slowPatience one that is known to be slow.
const (
	patience     = 30 * time.Second
	slowPatience = 3 * time.Minute
)

// command prepares docker with our socket.
func (d *dock) command(args ...string) *exec.Cmd {
	limit := patience
	if d.slow {
		limit = slowPatience
	}
	if d.limit > 0 {
		limit = d.limit
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(d.t.Context()), limit) // clean-up runs docker, too
	d.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, d.cli, args...)
	cmd.WaitDelay = time.Second
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, d.where()...)
	return cmd
}

// where tells a client of the engine, and of its own configuration.
func (d *dock) where() []string {
	host, home := d.host, os.TempDir()
	if d.cloud != nil {
		host, home = "unix://"+filepath.Join(d.cloud.Dir, region.DockerSocket), d.cloud.Dir
	}
	return append([]string{"HOME=" + home, "DOCKER_HOST=" + host}, d.env...)
}

// run runs docker.
func (d *dock) run(stdin []byte, args ...string) result {
	d.t.Helper()
	cmd := d.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &errs
	err := cmd.Run()
	if _, ended := err.(*exec.ExitError); err != nil && !ended {
		d.t.Fatal(err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// must runs docker, which has to succeed, and gives what it printed.
func (d *dock) must(args ...string) string {
	d.t.Helper()
	return d.must2(nil, args...)
}

func (d *dock) must2(stdin []byte, args ...string) string {
	d.t.Helper()
	r := d.run(stdin, args...)
	if r.code != 0 {
		d.t.Fatalf("docker %s: exit %d: %s", strings.Join(args, " "), r.code, r.errs)
	}
	return strings.TrimSpace(r.out)
}

// inspect gives a field of a container.
func (d *dock) inspect(name, field string) string {
	d.t.Helper()
	return d.must("inspect", "--format", "{{"+field+"}}", name)
}

// ask sends a request to the engine by itself, without a client, and gives the status
// and the answer.
func (d *dock) ask(method, path string, head http.Header, body []byte) (int, []byte) {
	d.t.Helper()
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(d.cloud.Dir, region.DockerSocket))
	}}
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	req := must[*http.Request](d.t)(http.NewRequestWithContext(ctx, method, "http://docker"+path, bytes.NewReader(body)))
	maps.Copy(req.Header, head)
	res := must[*http.Response](d.t)(tr.RoundTrip(req))
	defer res.Body.Close()
	return res.StatusCode, must[[]byte](d.t)(io.ReadAll(res.Body))
}
