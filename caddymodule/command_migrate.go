package caddymodule

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/keystore/sqlstore"
)

func migrateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "migrate",
		Short: "Brings the keystore's schema up to date",
		Long: `Brings the schema of the keystore that the configuration names up to date, and
says what was done. A server does that by itself when it may. Where its database
user must not change the schema, run this first, as the schema's owner: the same
configuration, with the owner's DSN in the environment. It makes what is missing in
PostgreSQL; a missing SQLite file is an error.

It is safe to run several at once, and beside running servers.`,
		Args: cobra.NoArgs,
		RunE: migrate,
	}
}

func migrate(cmd *cobra.Command, _ []string) error {
	mayMake := func(app *App) bool {
		g, ok := app.runtime.guest.(interface{ migratesMissing() bool })
		return ok && g.migratesMissing()
	}
	return withStore(cmd, mayMake, func(store keystore.Store) error {
		versioned, ok := store.(interface{ Schema() sqlstore.Schema })
		if !ok {
			return errors.New("this keystore has no schema to migrate")
		}
		text := "The schema is version %d already; nothing was to do.\n"
		args := []any{versioned.Schema().To}
		switch s := versioned.Schema(); {
		case s.From == 0 && s.To != 0:
			text = "The schema was made, version %d.\n"
		case s.From != s.To:
			text, args = "The schema went from version %d to %d.\n", []any{s.From, s.To}
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), text, args...)
		return err
	})
}
