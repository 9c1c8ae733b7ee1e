// Command compare sends one fixed sequence of HTTP requests, good and bad ones, to a real
// OpenStack and to Strata, and prints in what the answers differ: status, headers, keys,
// types and values, after what cannot be equal (ids, times, endpoints) is replaced.
//
//	go run ./test/compare -reference http://admin:PASSWORD@HOST:5000/v3 -strata http://admin:PASSWORD@OTHER/identity/v3
//
// The URLs are authentication URLs; the user in them needs the admin role on the project
// that ?project= names (default: admin). A file in place of a URL holds the answers of an
// earlier run, which -save-reference and -save-strata keep. Differences that the file of
// -known explains are counted and not printed; the exit status is 1 when others remain.
//
// The requests are in scripts/, one a line:
//
//	ACTOR METHOD SERVICE[@MICROVERSION] PATH [+Header=VALUE]... [BODY] [-> NAME=KEY.KEY ...]
//	login ACTOR USER PASSWORD PROJECT
//	wait ACTOR SERVICE PATH KEY.KEY VALUE|VALUE
//	gone ACTOR SERVICE PATH
//
// {NAME} stands for what an earlier request stored; PATH hangs below the service's
// unversioned endpoint; a BODY is JSON, or text after "<", or "@zeros:N" for N zero bytes.
// The actor "none" sends no token and "bad" one that no cloud has issued. Everything made
// carries the suffix {run} and is deleted by the scripts themselves.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := compare(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func compare(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	reference := flags.String("reference", "", "authentication URL of the reference, or a file of its saved answers")
	strata := flags.String("strata", "", "authentication URL of the cloud under test, or a file of its saved answers")
	saveReference := flags.String("save-reference", "", "save the reference's answers to this file")
	saveStrata := flags.String("save-strata", "", "save Strata's answers to this file")
	file := flags.String("known", "docs/compat-differences.yaml", "file of explained differences")
	if err := flags.Parse(args); err != nil {
		return err
	}
	known, err := readKnown(*file)
	if err != nil {
		return err
	}
	a, err := answers(ctx, *reference, *saveReference)
	if err != nil {
		return fmt.Errorf("-reference: %w", err)
	}
	b, err := answers(ctx, *strata, *saveStrata)
	if err != nil {
		return fmt.Errorf("-strata: %w", err)
	}
	return report(out, diffAll(a, b), known)
}

// answers runs the scripts against the cloud at a URL, or reads what an earlier run saved.
func answers(ctx context.Context, from, save string) ([]exchange, error) {
	if !strings.HasPrefix(from, "http") {
		return load(from)
	}
	list, err := scripts()
	if err != nil {
		return nil, err
	}
	c, err := dial(ctx, from)
	if err != nil {
		return nil, err
	}
	out, err := c.run(ctx, list)
	if err != nil {
		return nil, err
	}
	c.normalise(out)
	if save != "" {
		return out, store(save, out)
	}
	return out, nil
}

func report(out io.Writer, diffs []difference, known []explained) error {
	open, last := 0, ""
	for _, d := range diffs {
		if explains(known, d) {
			continue
		}
		open++
		if d.key != last {
			fmt.Fprintln(out, d.key)
			last = d.key
		}
		fmt.Fprintf(out, "    %-8s %s: %s | %s\n", d.kind, d.at, d.a, d.b)
	}
	for _, e := range known {
		if !e.used {
			fmt.Fprintf(out, "nothing differs so any more: %s: %s\n", e.API, e.What)
		}
	}
	fmt.Fprintf(out, "%d differences to explain, %d explained\n", open, len(diffs)-open)
	if open > 0 {
		return errors.New("the clouds differ")
	}
	return nil
}

// explained is an entry of the file of known differences: API, What and Why are for
// people; Match holds patterns of the lines "REQUEST KIND AT" that it explains.
type explained struct {
	API, What, Why string
	Match          []string
	match          []*regexp.Regexp
	used           bool
}

func readKnown(file string) ([]explained, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var out []explained
	if err := yaml.Unmarshal(raw, &out); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for i, e := range out {
		for _, m := range e.Match {
			re, err := regexp.Compile(m)
			if err != nil {
				return nil, fmt.Errorf("%s: entry %d: %w", file, i+1, err)
			}
			out[i].match = append(out[i].match, re)
		}
	}
	return out, nil
}

// explains tells whether one of the entries explains the difference, and marks it.
func explains(known []explained, d difference) bool {
	line := d.key + " " + d.kind + " " + d.at
	for i, e := range known {
		for _, re := range e.match {
			if re.MatchString(line) {
				known[i].used = true
				return true
			}
		}
	}
	return false
}
