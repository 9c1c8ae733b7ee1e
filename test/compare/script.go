package main

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed scripts/*.txt
var files embed.FS

// script is one file of steps.
type script struct {
	name  string
	steps []step
}

// step is one line: a request, or one of the words login, wait and gone with its arguments.
type step struct {
	key                          string
	word                         string
	args                         []string
	actor, method, service, path string
	version                      string
	header                       [][2]string
	body                         string
	hasBody                      bool
	save                         [][2]string
}

// words are the steps that are no comparison, with how many arguments they take.
func words() map[string]int { return map[string]int{"login": 4, "wait": 5, "gone": 3} }

// order is that in which the scripts run: the first makes the actors of the others.
func order() []string {
	return []string{"actors", "discovery", "identity", "image", "placement", "network", "compute", "servers", "end"}
}

// scripts reads the embedded files.
func scripts() ([]script, error) {
	var out []script
	for _, name := range order() {
		raw, err := files.ReadFile("scripts/" + name + ".txt")
		if err != nil {
			return nil, err
		}
		s, err := parse(name, string(raw))
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func parse(name, text string) (script, error) {
	s := script{name: name}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		st, err := parseStep(line)
		if err != nil {
			return s, fmt.Errorf("%s.txt:%d: %w", name, i+1, err)
		}
		st.key = fmt.Sprintf("%s.txt:%d %s", name, i+1, line)
		s.steps = append(s.steps, st)
	}
	return s, nil
}

func parseStep(line string) (step, error) {
	first, _, _ := strings.Cut(line, " ")
	if n, ok := words()[first]; ok {
		f := strings.Fields(line)[1:]
		if len(f) != n {
			return step{}, fmt.Errorf("%s takes %d arguments, not %d", first, n, len(f))
		}
		return step{word: first, args: f}, nil
	}
	var st step
	line, save, _ := strings.Cut(line, " -> ")
	for _, f := range strings.Fields(save) {
		name, at, ok := strings.Cut(f, "=")
		if !ok {
			return st, fmt.Errorf("%q is no NAME=KEY", f)
		}
		st.save = append(st.save, [2]string{name, at})
	}
	fields := strings.SplitN(line, " ", 5)
	if len(fields) < 4 {
		return st, fmt.Errorf("want ACTOR METHOD SERVICE PATH")
	}
	st.actor, st.method, st.path = fields[0], fields[1], fields[3]
	st.service, st.version, _ = strings.Cut(fields[2], "@")
	rest := ""
	if len(fields) == 5 {
		rest = strings.TrimSpace(fields[4])
	}
	for strings.HasPrefix(rest, "+") {
		h, tail, _ := strings.Cut(rest, " ")
		name, value, _ := strings.Cut(h[1:], "=")
		st.header = append(st.header, [2]string{name, value})
		rest = strings.TrimSpace(tail)
	}
	st.body, st.hasBody = strings.TrimPrefix(rest, "<"), rest != ""
	return st, nil
}
