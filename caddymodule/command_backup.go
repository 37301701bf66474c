package caddymodule

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hivegate/hivegate/keystore"
)

func backupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Copies the SQLite keystore to a new file while the server runs",
		Long: `Copies the SQLite keystore that the configuration names to a new file, as it is
at one moment, while the server runs or not. The file gets mode 0600 and must not
exist.

The master key is not in it. Keep a copy of the key file (or of what master_key
names) apart from the backup: without it the backup does not open, and whoever has
both has what was sealed.

To restore: stop the server, put FILE in the place of the keystore, remove the
files beside it that end in -wal and -shm, and start the server. A keystore in
PostgreSQL is backed up with PostgreSQL's own tools.`,
		Args: cobra.ExactArgs(1),
		RunE: backup,
	}
}

func backup(cmd *cobra.Command, args []string) error {
	return withStore(cmd, func(*App) bool { return false }, func(store keystore.Store) error {
		copied, ok := store.(interface {
			Backup(ctx context.Context, path string) error
		})
		if !ok {
			return errors.New("this keystore cannot be copied to a file")
		}
		if err := copied.Backup(cmd.Context(), args[0]); err != nil {
			return err
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), args[0])
		return err
	})
}

// withStore opens the configured keystore, without its data key, for a command,
// prints where it is and closes it again. mayMake says whether a missing
// database may be made.
func withStore(cmd *cobra.Command, mayMake func(*App) bool, use func(keystore.Store) error) (err error) {
	_, app, cancel, err := commandApp(cmd)
	if err != nil {
		return err
	}
	defer cancel()
	spec := &app.runtime.keys.spec
	fmt.Fprintln(cmd.ErrOrStderr(), "keystore: "+spec.location)
	store, err := spec.open(cmd.Context(), mayMake(app))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return use(store)
}
