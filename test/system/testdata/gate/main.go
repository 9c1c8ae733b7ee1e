// Command gate runs in a pod, and is all that an API server speaks to in one: an admission
// webhook, an aggregated API, and a server for the proxy subresources. Each says whom it sees.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/judge", judge)
	http.HandleFunc("/apis/gate.test/v1", discover)
	http.HandleFunc("/apis/gate.test/v1/clients", clients)
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s for %s", os.Getenv("NAME"), client(r))
	})
	failed := make(chan error)
	go func() { failed <- http.ListenAndServe(":8080", nil) }()
	go func() { failed <- http.ListenAndServeTLS(":8443", "/tls/tls.crt", "/tls/tls.key", nil) }()
	fmt.Println("serving")
	log.Fatal(<-failed)
}

func client(r *http.Request) string {
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	return host
}

// judge refuses what is called refused, and says to whom.
func judge(w http.ResponseWriter, r *http.Request) {
	var review struct {
		APIVersion string         `json:"apiVersion"`
		Kind       string         `json:"kind"`
		Request    map[string]any `json:"request,omitempty"`
		Response   map[string]any `json:"response,omitempty"`
	}
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(body, &review)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	allowed := review.Request["name"] != "refused"
	review.Response = map[string]any{"uid": review.Request["uid"], "allowed": allowed, "status": map[string]any{"message": "judged for " + client(r)}}
	review.Request = nil
	answer(w, review)
}

func discover(w http.ResponseWriter, _ *http.Request) {
	answer(w, map[string]any{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "gate.test/v1", "resources": []any{
		map[string]any{"name": "clients", "singularName": "client", "namespaced": false, "kind": "Client", "verbs": []string{"list"}}}})
}

func clients(w http.ResponseWriter, r *http.Request) {
	answer(w, map[string]any{"kind": "ClientList", "apiVersion": "gate.test/v1", "metadata": map[string]any{}, "items": []any{
		map[string]any{"kind": "Client", "apiVersion": "gate.test/v1", "metadata": map[string]any{"name": client(r)}}}})
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		log.Print(err)
	}
}
