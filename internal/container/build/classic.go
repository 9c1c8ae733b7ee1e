package build

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	controlapi "github.com/moby/buildkit/api/services/control"
	gateway "github.com/moby/buildkit/frontend/gateway/pb"
)

// Failure is an instruction that ended badly.
type Failure struct {
	Code    int
	Message string
}

// Error implements error.
func (f *Failure) Error() string { return f.Message }

// classic tells of a build as the classic builder does: step by step, in the
// Dockerfile's order. BuildKit works on several at a time, so that what belongs to a
// later step is held back until it is that one's turn.
type classic struct {
	tell  Sink
	o     Options
	plan  plan
	open  bool   // it is made as work comes
	work  []work // per step
	at    int    // the step whose turn it is
	shown bool   // its heading
	byKey map[string]int
	byID  map[string]int // by vertex
}

// work is what is known of a step.
type work struct {
	begun, done, cached, failed bool
	output                      []byte
}

// newClassic reads what there is to do. Without a context here it is BuildKit that
// knows, and tells of its work as it comes.
func newClassic(dir string, o Options, tell Sink) (*classic, error) {
	c := &classic{tell: tell, o: o, byKey: map[string]int{}, byID: map[string]int{}}
	if dir == "" {
		c.open = true
		return c, nil
	}
	var err error
	if c.plan, err = readPlan(dir, o.Dockerfile, o.Target); err != nil {
		return nil, err
	}
	c.work = make([]work, len(c.plan))
	for i, s := range c.plan {
		if s.index > 0 {
			c.byKey[key(s.stage, s.index)] = i
		}
	}
	return c, nil
}

func key(stage string, index int) string { return stage + "\x00" + strconv.Itoa(index) }

// vertexRE is the name of an instruction's work: [PLATFORM STAGE 2/7] RUN …
var vertexRE = regexp.MustCompile(`^\[(?:(.*) )?\s*(\d+)/\d+\] (.*)`)

// find gives the step of a vertex; -1 is work that no instruction asks for.
func (c *classic) find(v *controlapi.Vertex) int {
	if i, ok := c.byID[v.Digest]; ok {
		return i
	}
	m := vertexRE.FindStringSubmatch(v.Name)
	if m == nil {
		return -1
	}
	stage := strings.TrimSpace(m[1])
	if i := strings.LastIndexByte(stage, ' '); i >= 0 {
		stage = stage[i+1:]
	}
	n, _ := strconv.Atoi(m[2])
	i, ok := c.byKey[key(stage, n)]
	if !ok && c.open {
		i, ok = len(c.work), true
		c.work = append(c.work, work{})
		c.plan = append(c.plan, step{text: m[3], stage: stage, index: n})
		c.byKey[key(stage, n)] = i
	}
	if !ok {
		return -1
	}
	c.byID[v.Digest] = i
	return i
}

func (c *classic) status(s *controlapi.StatusResponse) error {
	for _, v := range s.Vertexes {
		i := c.find(v)
		if i < 0 {
			continue
		}
		w := &c.work[i]
		w.begun = w.begun || v.Started != nil
		w.done = w.done || v.Completed != nil
		w.cached = w.cached || v.Cached
		w.failed = w.failed || v.Error != ""
	}
	for _, l := range s.Logs {
		if i, ok := c.byID[l.Vertex]; ok {
			c.work[i].output = append(c.work[i].output, l.Msg...)
		}
	}
	c.advance()
	return nil
}

// advance tells what can be told.
func (c *classic) advance() {
	for ; c.at < len(c.plan); c.at, c.shown = c.at+1, false {
		w := &c.work[c.at]
		if c.plan[c.at].index > 0 && !w.begun && !w.done && !c.passed(c.at) {
			return
		}
		c.heading()
		c.output(w)
		if c.plan[c.at].index > 0 && w.begun && !w.done || w.failed {
			return
		}
		if w.cached && c.plan[c.at].index > 0 && !strings.HasPrefix(strings.ToUpper(c.plan[c.at].text), "FROM") {
			c.say(" ---> Using cache\n")
		}
	}
}

// passed tells whether a later step of the stage has begun: this one had no work of its
// own, as another stage's was the same.
func (c *classic) passed(at int) bool {
	for i := at + 1; i < len(c.plan) && c.plan[i].stage == c.plan[at].stage; i++ {
		if c.work[i].begun || c.work[i].done {
			return true
		}
	}
	return false
}

func (c *classic) heading() {
	if !c.shown {
		c.shown = true
		c.say(fmt.Sprintf("Step %d/%d : %s\n", c.at+1, len(c.plan), c.plan[c.at].text))
	}
}

func (c *classic) output(w *work) {
	if len(w.output) > 0 {
		c.say(string(w.output))
		w.output = nil
	}
}

func (c *classic) say(text string) {
	if !c.o.Quiet {
		c.tell.Stream(text)
	}
}

func (c *classic) finished(string) {}

// commandRE finds the command in BuildKit's error.
var commandRE = regexp.MustCompile(`process ("(?:[^"\\]|\\.)*") did not complete successfully`)

// end tells of the result.
func (c *classic) end(id string, err error) error {
	var exit *gateway.ExitError
	if errors.As(err, &exit) {
		command := "RUN"
		if m := commandRE.FindStringSubmatch(err.Error()); m != nil {
			if s, e := strconv.Unquote(m[1]); e == nil {
				command = s
			}
		}
		return &Failure{int(exit.ExitCode), fmt.Sprintf("The command '%s' returned a non-zero code: %d", command, exit.ExitCode)}
	}
	if err != nil {
		return err
	}
	for ; c.at < len(c.plan); c.at, c.shown = c.at+1, false {
		c.heading()
		c.output(&c.work[c.at])
	}
	if id == "" {
		return nil
	}
	if c.o.Quiet {
		c.tell.Stream(id + "\n")
		return nil
	}
	c.tell.Aux("", map[string]string{"ID": id})
	c.say("Successfully built " + strings.TrimPrefix(id, "sha256:")[:12] + "\n")
	for _, t := range c.o.Tags {
		if r, err := reference.ParseNormalizedNamed(t); err == nil {
			c.say("Successfully tagged " + reference.FamiliarString(reference.TagNameOnly(r)) + "\n")
		}
	}
	return nil
}
