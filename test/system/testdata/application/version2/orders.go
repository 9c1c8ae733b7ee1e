package main

import (
	"context"
	"database/sql"
)

var migrations = []string{
	"CREATE TABLE orders (id serial PRIMARY KEY, item text NOT NULL)",
	"ALTER TABLE orders ADD note text NOT NULL DEFAULT 'none'",
}

type order struct {
	ID   int    `json:"id"`
	Item string `json:"item"`
	Note string `json:"note"`
}

func insert(ctx context.Context, db *sql.DB, o *order) error {
	return db.QueryRowContext(ctx, "INSERT INTO orders (item, note) VALUES ($1, $2) RETURNING id", o.Item, o.Note).Scan(&o.ID)
}

func list(ctx context.Context, db *sql.DB) ([]order, error) {
	rows, err := db.QueryContext(ctx, "SELECT id, item, note FROM orders ORDER BY id")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := []order{}
	for rows.Next() {
		var o order
		if err := rows.Scan(&o.ID, &o.Item, &o.Note); err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	return all, rows.Err()
}
