package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"time"

	"github.com/hivegate/hivegate/keystore"
)

var _ keystore.NodeStore = (*Store)(nil)

const (
	// nodeKind are the documents that nodes write of themselves. Their version is
	// the time of the last word by the database's clock: nodes need not agree on
	// the time.
	nodeKind = "node"
	// nodesForgotten is when a row is removed: long after it counts for nothing.
	nodesForgotten = 48 * time.Hour
)

// nodeDoc is what a node says of itself.
type nodeDoc struct {
	Name         string `json:"name"`
	Seq          int64  `json:"seq"`
	MaxStaleness int64  `json:"max_staleness_us"`
}

// Beat implements keystore.NodeStore.
func (s *Store) Beat(ctx context.Context, n keystore.Node) error {
	data, err := json.Marshal(nodeDoc{Name: n.Name, Seq: n.Seq, MaxStaleness: n.MaxStaleness.Microseconds()})
	if err != nil {
		return fmt.Errorf("encode heartbeat: %w", err)
	}
	clock := s.dialect.clock
	return s.writeOn(ctx, s.small, "write heartbeat", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, s.dialect.sql(
			`INSERT INTO docs (kind, name, version, data) VALUES (?, ?, CAST(`+clock+` AS TEXT), ?)
			ON CONFLICT (kind, name) DO UPDATE SET version = excluded.version, data = excluded.data`), nodeKind, n.ID, data)
		if err != nil {
			return err
		}
		// Both are 16 digits until the year 2286, so they compare as text does.
		_, err = tx.ExecContext(ctx, s.dialect.sql(
			`DELETE FROM docs WHERE kind = ? AND version < CAST(`+clock+` - ? AS TEXT)`), nodeKind, nodesForgotten.Microseconds())
		return err
	})
}

// Leave implements keystore.NodeStore.
func (s *Store) Leave(ctx context.Context, id string) error {
	return s.writeOn(ctx, s.small, "remove heartbeat", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, s.dialect.sql(`DELETE FROM docs WHERE kind = ? AND name = ?`), nodeKind, id)
		return err
	})
}

// Nodes implements keystore.NodeStore.
func (s *Store) Nodes(ctx context.Context) (list []keystore.Node, err error) {
	query := s.dialect.sql(`SELECT name, version, data, ` + s.dialect.clock + ` FROM docs WHERE kind = ?`)
	err = s.read(ctx, "read heartbeats", func() error {
		list = list[:0]
		rows, err := s.feed.QueryContext(ctx, query, nodeKind)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var id, version string
			var data []byte
			var now int64
			if err := rows.Scan(&id, &version, &data, &now); err != nil {
				return err
			}
			n, err := decodeNode(id, version, data, now)
			if err != nil {
				return err
			}
			if n.Silent <= n.MaxStaleness+keystore.NodeGrace {
				list = append(list, n)
			}
		}
		return rows.Err()
	})
	sort.Slice(list, func(i, j int) bool {
		if list[i].Name != list[j].Name {
			return list[i].Name < list[j].Name
		}
		return list[i].ID < list[j].ID
	})
	return list, err
}

func decodeNode(id, version string, data []byte, now int64) (keystore.Node, error) {
	var doc nodeDoc
	if err := json.Unmarshal(data, &doc); err != nil {
		return keystore.Node{}, fmt.Errorf("read heartbeat of %q: %w", id, err)
	}
	at, err := strconv.ParseInt(version, 10, 64)
	if err != nil {
		return keystore.Node{}, fmt.Errorf("read heartbeat of %q: %w", id, err)
	}
	return keystore.Node{
		ID: id, Name: doc.Name, Seq: doc.Seq,
		MaxStaleness: time.Duration(doc.MaxStaleness) * time.Microsecond,
		Silent:       max(0, time.Duration(now-at)*time.Microsecond),
	}, nil
}
