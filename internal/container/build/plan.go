package build

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/strata-cloud/strata/internal/errs"
)

// step is an instruction of a Dockerfile as the classic builder counts them.
type step struct {
	text  string
	stage string
	index int // of BuildKit's work in its stage; 0: it is no work
}

// plan lists the steps of a build: those of the stages that the target needs.
type plan []step

// readPlan reads the Dockerfile of a context.
func readPlan(dir, name, target string) (plan, error) {
	if name == "" || name == "." {
		name = "Dockerfile"
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	raw, err := root.ReadFile(name)
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return nil, errs.Invalidf("Cannot locate specified Dockerfile: %s", name)
	}
	if err != nil {
		return nil, err
	}
	return newPlan(raw, name, target)
}

func newPlan(raw []byte, name, target string) (plan, error) {
	file, err := parser.Parse(bytes.NewReader(raw))
	if err != nil {
		return nil, errs.Invalidf("%s", err)
	}
	stages, args, err := instructions.Parse(file.AST, nil)
	if err != nil {
		return nil, errs.Invalidf("dockerfile parse error: %s", strings.TrimPrefix(err.Error(), "dockerfile parse error "))
	}
	if len(stages) == 0 {
		return nil, errs.Invalidf("the Dockerfile (%s) has no build stage", name)
	}
	last := len(stages) - 1
	if target != "" {
		if last = stageOf(stages, target, len(stages)); last < 0 {
			return nil, errs.Invalidf("failed to reach build target %s in Dockerfile", target)
		}
	}
	var out plan
	for _, a := range args {
		out = append(out, step{text: a.String()})
	}
	for i, wanted := range needed(stages, last) {
		if wanted {
			out = append(out, steps(stages[i], i, len(stages), stageOf(stages, stages[i].BaseName, i) >= 0)...)
		}
	}
	return out, nil
}

// stageOf finds a stage among the first n by name or number; -1 if none is meant.
func stageOf(stages []instructions.Stage, ref string, n int) int {
	for i := n - 1; i >= 0; i-- {
		if stages[i].Name != "" && strings.EqualFold(stages[i].Name, ref) {
			return i
		}
	}
	if i, err := strconv.Atoi(ref); err == nil && i >= 0 && i < n {
		return i
	}
	return -1
}

// needed tells which stages the last one is made of.
func needed(stages []instructions.Stage, last int) []bool {
	out := make([]bool, len(stages))
	var visit func(int)
	visit = func(i int) {
		if i < 0 || out[i] {
			return
		}
		out[i] = true
		visit(stageOf(stages, stages[i].BaseName, i))
		for _, c := range stages[i].Commands {
			switch c := c.(type) {
			case *instructions.CopyCommand:
				if c.From != "" {
					visit(stageOf(stages, c.From, i))
				}
			case *instructions.RunCommand:
				for _, f := range c.FlagsUsed {
					if f == "mount" {
						for _, from := range mountSources(c.String()) {
							visit(stageOf(stages, from, i))
						}
						break
					}
				}
			}
		}
	}
	visit(last)
	return out
}

// mountSources are the stages that an instruction mounts.
func mountSources(text string) (out []string) {
	for f := range strings.FieldsSeq(text) {
		opts, ok := strings.CutPrefix(f, "--mount=")
		if !ok {
			continue
		}
		for o := range strings.SplitSeq(opts, ",") {
			if from, ok := strings.CutPrefix(o, "from="); ok {
				out = append(out, from)
			}
		}
	}
	return out
}

// steps counts a stage as BuildKit does (dockerfile2llb: cmdTotal and prefixCommand):
// the base unless it is a stage, and what changes files.
func steps(s instructions.Stage, i, n int, onStage bool) plan {
	name := s.Name
	if name == "" {
		name = "stage-" + strconv.Itoa(i)
	}
	if n == 1 {
		name = ""
	}
	from := step{text: s.SourceCode, stage: name}
	count := 0
	if !onStage && !strings.EqualFold(s.BaseName, "scratch") {
		count, from.index = 1, 1
	}
	out := plan{from}
	for _, c := range s.Commands {
		st := step{text: text(c), stage: name}
		switch c.(type) {
		case *instructions.AddCommand, *instructions.CopyCommand, *instructions.RunCommand, *instructions.WorkdirCommand:
			count++
			st.index = count
		}
		out = append(out, st)
	}
	return out
}

// text is an instruction as it was written.
func text(c instructions.Command) string {
	if s, ok := c.(interface{ String() string }); ok {
		return s.String()
	}
	return strings.ToUpper(c.Name())
}
