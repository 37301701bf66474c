package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/hivegate/hivegate/internal/sealed"
	"github.com/hivegate/hivegate/keystore"
)

// keyFromFile reads the master key beside the database. Where there is none it
// is made, but never for a database that already holds a data key: a new key
// could not open it, and would hide that the old one is lost.
func (s *keyBackendSpec) keyFromFile(ctx context.Context, store keystore.Store) ([32]byte, error) {
	if s.keyFile == "" {
		return [32]byte{}, errors.New("master_key is missing: this keystore needs it given, or 'master_key none'")
	}
	key, err := sealed.LoadKeyFile(s.keyFile)
	if !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			return key, fmt.Errorf("read master key: %w", err)
		}
		return key, nil
	}
	held, err := store.DataKey(ctx)
	if err != nil {
		return key, fmt.Errorf("read the data key of %s: %w", s.location, err)
	}
	if held != nil {
		return key, fmt.Errorf("the key file %s is missing, and %s was sealed with it: put the file back, or give the key with master_key", s.keyFile, s.location)
	}
	key, err = sealed.CreateKeyFile(s.keyFile)
	if errors.Is(err, fs.ErrExist) {
		// Another process was first: its key counts.
		if key, err = sealed.LoadKeyFile(s.keyFile); err != nil {
			return key, fmt.Errorf("read master key: %w", err)
		}
		return key, nil
	}
	if err != nil {
		return key, fmt.Errorf("make master key: %w", err)
	}
	processLogger().Info("made a new master key; back it up apart from the database", "path", s.keyFile)
	return key, nil
}
