package sqlstore

import (
	"context"
	"fmt"
	"math/bits"
	"strings"

	"github.com/hivegate/hivegate/keystore"
)

var _ keystore.Prober = (*Store)(nil)

// maxProbe is how many ids are asked for at once: with 16 an id takes a fifth of what
// it takes alone, and with more hardly less.
const maxProbe = 16

// Prober implements keystore.Prober where asking costs no round trip, which is
// SQLite: by their number alone, whole records take three times as long.
func (s *Store) Prober() (batch int, probe func(ctx context.Context, ids []keystore.ID, known []bool) error) {
	if s.known == nil {
		return 0, nil
	}
	return maxProbe, s.probe
}

// knownQuery asks which of n ids are those of keys.
func knownQuery(n int) string {
	return `SELECT id FROM keys WHERE id IN (?` + strings.Repeat(`,?`, n-1) + `)`
}

func (s *Store) probe(ctx context.Context, ids []keystore.ID, known []bool) error {
	if len(ids) == 0 || len(ids) > maxProbe {
		return fmt.Errorf("read key: %d ids are asked for at once, not 1 to %d", len(ids), maxProbe)
	}
	stmt := s.known[bits.Len(uint(len(ids)-1))]
	// Places that are too many hold the last id again.
	args := make([]any, 1<<bits.Len(uint(len(ids)-1)))
	for i := range args {
		args[i] = string(ids[min(i, len(ids)-1)][:])
	}
	return s.read(ctx, "read key", func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		// In SQLite a context that can end costs two goroutines a query, and looks by
		// primary key into a local file are over before it could matter.
		rows, err := stmt.QueryContext(context.WithoutCancel(ctx), args...)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				return err
			}
			for i := range ids {
				if string(ids[i][:]) == id {
					known[i] = true // and again where it was asked for twice
				}
			}
		}
		return rows.Err()
	})
}
