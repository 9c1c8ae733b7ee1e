// Package cli is the command line: one file per command, each a thin layer over
// the region (for what runs a cloud) or over its public APIs (for what uses one).
//
// Every command says what it is waiting for, prints tables for people and, with
// --output json, the same facts for programs, and ends an error with what to do
// next. Exit status: 0 done, 1 failed, 2 wrong usage.
package cli
