package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Backup writes the database as it is at one moment to a new file of mode 0600,
// while others use it. The file must not exist, and is gone again when the copy
// fails. A copy of PostgreSQL is made with PostgreSQL's own tools.
func (s *Store) Backup(ctx context.Context, path string) (err error) {
	if s.remote != nil {
		return errors.New("back up the keystore: it is PostgreSQL; use pg_dump")
	}
	// SQLite fills an empty file, and would itself make one that all may read.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("back up the keystore: %w", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	// VACUUM INTO reads in one transaction and writes nothing here.
	if _, err := s.writer.ExecContext(ctx, `VACUUM INTO ?`, path); err != nil {
		return fmt.Errorf("back up the keystore to %s: %w", path, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("back up the keystore to %s: %w", path, err)
	}
	return nil
}
