package build

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	controlapi "github.com/moby/buildkit/api/services/control"
	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const twoStages = `# syntax=none/such
ARG BASE=busybox
FROM $BASE AS one
ENV A=b
RUN make
FROM other AS unused
RUN waste
FROM scratch
COPY --from=one /x /x
WORKDIR /w
CMD ["x"]
`

func TestPlan(t *testing.T) {
	p, err := newPlan([]byte(twoStages), "Dockerfile", "")
	if err != nil {
		t.Fatal(err)
	}
	want := []step{
		{"ARG BASE=busybox", "", 0}, {"FROM $BASE AS one", "one", 1}, {"ENV A=b", "one", 0}, {"RUN make", "one", 2},
		{"FROM scratch", "stage-2", 0}, {"COPY --from=one /x /x", "stage-2", 1}, {"WORKDIR /w", "stage-2", 2}, {`CMD ["x"]`, "stage-2", 0},
	}
	if fmt.Sprint(p) != fmt.Sprint(plan(want)) {
		t.Errorf("planned\n%v, want\n%v", p, want)
	}
	if p, err = newPlan([]byte(twoStages), "Dockerfile", "ONE"); err != nil || len(p) != 4 {
		t.Errorf("to a target: %v, %v", p, err)
	}
	for text, want := range map[string]string{"": "", "FROM": "", "RUN x": "", "FROM a\nNONSENSE": "unknown instruction"} {
		if _, err := newPlan([]byte(text), "Dockerfile", ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := newPlan([]byte(twoStages), "Dockerfile", "nothing"); err == nil || !strings.Contains(err.Error(), "failed to reach build target nothing") {
		t.Errorf("to no target: %v", err)
	}
}

// heard is what a client was told.
type heard struct{ strings.Builder }

func (h *heard) Stream(text string)   { h.WriteString(text) }
func (h *heard) Aux(id string, v any) { fmt.Fprintf(h, "aux %s %v\n", id, v) }

func vertex(id, name string, done, cached bool) *controlapi.Vertex {
	v := &controlapi.Vertex{Digest: id, Name: name, Started: timestamppb.Now(), Cached: cached}
	if done {
		v.Completed = timestamppb.Now()
	}
	return v
}

func classicOf(t *testing.T, o Options) (*classic, *heard) {
	t.Helper()
	h := &heard{}
	c, err := newClassic("", o, h)
	if err != nil {
		t.Fatal(err)
	}
	if c.plan, err = newPlan([]byte(twoStages), "Dockerfile", ""); err != nil {
		t.Fatal(err)
	}
	c.open, c.work = false, make([]work, len(c.plan))
	for i, s := range c.plan {
		if s.index > 0 {
			c.byKey[key(s.stage, s.index)] = i
		}
	}
	return c, h
}

// TestClassicOrder has a later step speak before an earlier one.
func TestClassicOrder(t *testing.T) {
	c, h := classicOf(t, Options{Tags: []string{"here/x", "y:v1"}})
	for _, s := range []*controlapi.StatusResponse{
		{Vertexes: []*controlapi.Vertex{vertex("0", "[internal] load build definition", true, false), vertex("1", "[one 1/2] FROM docker.io/library/busybox", true, true)}},
		{Vertexes: []*controlapi.Vertex{vertex("3", "[stage-2 2/2] WORKDIR /w", true, true)}, Logs: []*controlapi.VertexLog{{Vertex: "3", Msg: []byte("late\n")}}},
		{Vertexes: []*controlapi.Vertex{vertex("2", "[one 2/2] RUN make", false, false)}, Logs: []*controlapi.VertexLog{{Vertex: "2", Msg: []byte("made\n")}}},
		{Vertexes: []*controlapi.Vertex{vertex("2", "[one 2/2] RUN make", true, false)}},
	} {
		if err := c.status(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.end("sha256:"+strings.Repeat("ab", 32), nil); err != nil {
		t.Fatal(err)
	}
	want := `Step 1/8 : ARG BASE=busybox
Step 2/8 : FROM $BASE AS one
Step 3/8 : ENV A=b
Step 4/8 : RUN make
made
Step 5/8 : FROM scratch
Step 6/8 : COPY --from=one /x /x
Step 7/8 : WORKDIR /w
late
 ---> Using cache
Step 8/8 : CMD ["x"]
aux  map[ID:sha256:` + strings.Repeat("ab", 32) + `]
Successfully built abababababab
Successfully tagged here/x:latest
Successfully tagged y:v1
`
	if got := h.String(); got != want {
		t.Errorf("told\n%s\nwant\n%s", got, want)
	}
}

func TestClassicFailure(t *testing.T) {
	c, h := classicOf(t, Options{})
	v := vertex("2", "[one 2/2] RUN make", true, false)
	v.Error = "exit code: 7"
	c.status(&controlapi.StatusResponse{Vertexes: []*controlapi.Vertex{vertex("1", "[one 1/2] FROM busybox", true, false), v}})
	err := c.end("", fmt.Errorf(`process "/bin/sh -c make \"it\"" did not complete successfully: %w`, &gateway.ExitError{ExitCode: 7}))
	var f *Failure
	if !errors.As(err, &f) || f.Code != 7 || f.Message != `The command '/bin/sh -c make "it"' returned a non-zero code: 7` {
		t.Errorf("the failure is %v", err)
	}
	if got := h.String(); !strings.HasSuffix(got, "Step 4/8 : RUN make\n") {
		t.Errorf("told\n%s", got)
	}
}

func TestClassicQuiet(t *testing.T) {
	c, h := classicOf(t, Options{Quiet: true})
	c.status(&controlapi.StatusResponse{Vertexes: []*controlapi.Vertex{vertex("1", "[one 1/2] FROM busybox", true, false)}})
	if err := c.end("sha256:x", nil); err != nil || h.String() != "sha256:x\n" {
		t.Errorf("told %q, %v", h, err)
	}
}

// TestClassicUnknown follows a build whose Dockerfile is not here.
func TestClassicUnknown(t *testing.T) {
	h := &heard{}
	c, err := newClassic("", Options{}, h)
	if err != nil {
		t.Fatal(err)
	}
	c.status(&controlapi.StatusResponse{Vertexes: []*controlapi.Vertex{vertex("1", "[linux/amd64 1/2] FROM busybox", true, false)}})
	c.status(&controlapi.StatusResponse{Vertexes: []*controlapi.Vertex{vertex("2", "[linux/amd64 2/2] RUN x", true, false)}, Logs: []*controlapi.VertexLog{{Vertex: "2", Msg: []byte("out\n")}}})
	if got := h.String(); got != "Step 1/1 : FROM busybox\nStep 2/2 : RUN x\nout\n" {
		t.Errorf("told %q", got)
	}
}
