// Command dual runs in a pod of a cluster with both families. It serves who it is and whom it
// sees, asks another, and looks names up:
//
//	dual serve | dual ask URL | dual lookup NAME
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"slices"
	"time"
)

// patience bounds what is asked: what policies drop is never answered.
const patience = 2 * time.Second

func main() {
	if err := run(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "serve":
		return http.ListenAndServe(":8080", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			host, _, _ := net.SplitHostPort(r.RemoteAddr)
			fmt.Fprintf(w, "%s for %s", os.Getenv("NAME"), host)
		}))
	case len(args) == 2 && args[0] == "ask":
		res, err := (&http.Client{Timeout: patience}).Get(args[1])
		if err != nil {
			return err
		}
		defer res.Body.Close()
		_, err = io.Copy(os.Stdout, res.Body)
		return err
	case len(args) == 2 && args[0] == "lookup":
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		all, err := net.DefaultResolver.LookupHost(ctx, args[1])
		slices.Sort(all)
		for _, a := range all {
			fmt.Println(a)
		}
		return err
	}
	return fmt.Errorf("dual does not know %q", args)
}
