// Command shop takes orders by HTTP and keeps them in PostgreSQL.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	_ "github.com/lib/pq"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "check" {
		check()
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx); err != nil {
		log.Fatal(err)
	}
	log.Print("stopped in order")
}

// check asks the service in the same container how it is.
func check() {
	res, err := (&http.Client{Timeout: 5 * time.Second}).Get("http://127.0.0.1:8080/health")
	if err != nil {
		log.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		log.Fatal(res.Status)
	}
}

func serve(ctx context.Context) error {
	db, err := sql.Open("postgres", os.Getenv("DATABASE"))
	if err != nil {
		return err
	}
	defer db.Close()
	if err := migrate(ctx, db); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) {
		if err := db.PingContext(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/version", func(w http.ResponseWriter, r *http.Request) { answer(w, len(migrations), nil) })
	mux.HandleFunc("/orders", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			var o order
			if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			err := insert(r.Context(), db, &o)
			answer(w, o, err)
			return
		}
		all, err := list(r.Context(), db)
		answer(w, all, err)
	})
	srv := &http.Server{Addr: ":8080", Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		_ = srv.Shutdown(context.Background())
	}()
	log.Printf("version %d serves", len(migrations))
	if err := srv.ListenAndServe(); err != http.ErrServerClosed {
		return err
	}
	return nil
}

func answer(w http.ResponseWriter, v any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// migrate brings the schema to this version. A newer one is left as it is: its columns have
// defaults.
func migrate(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	at := 0
	for _, q := range []string{"SELECT pg_advisory_xact_lock(1)", "CREATE TABLE IF NOT EXISTS schema (version int NOT NULL)"} {
		if _, err := tx.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	if err := tx.QueryRowContext(ctx, "SELECT coalesce(max(version), 0) FROM schema").Scan(&at); err != nil {
		return err
	}
	for ; at < len(migrations); at++ {
		if _, err := tx.ExecContext(ctx, migrations[at]); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO schema VALUES ($1)", at+1); err != nil {
			return err
		}
		log.Printf("the schema is of version %d", at+1)
	}
	return tx.Commit()
}
