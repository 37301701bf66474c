package keycli

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/hivegate/hivegate/keystore"
)

func listCommand(open Opener) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list [--status active|disabled|expired|revoked] [--owner acme] [--q TEXT] [--json]",
		Short: "Lists the keys, the newest first",
		Long:  "Lists the keys, the newest first, revoked ones too. No secret is shown.",
		Args:  cobra.NoArgs,
	}
	flags := cmd.Flags()
	status := flags.String("status", "", "Only keys that are active, disabled, expired or revoked")
	owner := flags.String("owner", "", `Only keys of this owner ("" for those without)`)
	q := flags.String("q", "", "Only keys with this part in their name, or this beginning of their prefix")
	addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch keystore.Status(*status) {
		case "", keystore.StatusActive, keystore.StatusDisabled, keystore.StatusExpired, keystore.StatusRevoked:
		default:
			return UsageError(fmt.Sprintf("--status: %q is none of active, disabled, expired, revoked", *status))
		}
		return with(cmd, open, false, func(s *session) error {
			return s.list(keystore.Query{
				Limit: 200, Status: keystore.Status(*status), Owner: *owner, OwnerSet: cmd.Flags().Changed("owner"), Q: *q, Now: s.now,
			})
		})
	}
	return cmd
}

func showCommand(open Opener) *cobra.Command {
	return oneKey(open, &cobra.Command{
		Use:   "show ID [--json]",
		Short: "Shows one key",
		Long:  "Shows one key, a revoked one too. No secret is shown.",
	}, func(s *session, id keystore.ID) error {
		rec, err := s.Keeper.Store.Get(s.ctx, id)
		if err != nil {
			return err
		}
		if s.asJSON {
			return s.printJSON(keystore.RecordDetail(rec, s.now))
		}
		return s.printRecord(rec)
	})
}

func revokeCommand(open Opener) *cobra.Command {
	var wait bool
	cmd := oneKey(open, &cobra.Command{
		Use:   "revoke ID [--wait] [--json]",
		Short: "Ends a key for ever",
		Long: `Ends a key for ever. Revoking it again does nothing.

Gates refuse the key within a second, and end its open streams. With --wait the
command returns when each has confirmed that; after ten seconds it names those that
have not, and fails.`,
	}, func(s *session, id keystore.ID) error {
		rec, err := s.Keeper.Revoke(s.ctx, by, id)
		if err != nil {
			return err
		}
		if err := s.changed(rec, "is revoked, for ever"); err != nil || !wait {
			return err
		}
		return s.awaitGates(rec.Seq)
	})
	cmd.Flags().BoolVar(&wait, "wait", false, "Return when every gate has confirmed")
	return cmd
}

func disableCommand(open Opener) *cobra.Command {
	return oneKey(open, &cobra.Command{
		Use:   "disable ID [--json]",
		Short: "Makes a key unusable until it is enabled",
	}, func(s *session, id keystore.ID) error {
		rec, err := s.Keeper.Disable(s.ctx, by, id)
		if err != nil {
			return err
		}
		return s.changed(rec, "is disabled")
	})
}

func enableCommand(open Opener) *cobra.Command {
	return oneKey(open, &cobra.Command{
		Use:   "enable ID [--json]",
		Short: "Makes a disabled key usable again",
	}, func(s *session, id keystore.ID) error {
		rec, err := s.Keeper.Enable(s.ctx, by, id)
		if err != nil {
			return err
		}
		return s.changed(rec, "is enabled")
	})
}

func rotateCommand(open Opener) *cobra.Command {
	var overlapText string
	var overlap time.Duration
	cmd := oneKey(open, &cobra.Command{
		Use:   "rotate ID [--overlap 24h] [--json]",
		Short: "Gives a key a new secret and prints it once",
		Long: `Gives a key a new secret and prints it, the only time that it is shown. The id
stays. The old secret works until the overlap ends; one that still worked from a
rotation before ends at once.`,
		PreRunE: func(*cobra.Command, []string) (err error) {
			if overlap, err = parseSpan(overlapText); err != nil {
				return UsageError("--overlap: " + err.Error())
			}
			return nil
		},
	}, func(s *session, id keystore.ID) error {
		rec, key, err := s.Keeper.Rotate(s.ctx, by, id, overlap)
		if err != nil {
			return err
		}
		old := "The old secret has ended."
		if overlap > 0 && len(rec.Secrets) > 1 {
			old = "The old secret works until " + humanTime(rec.Secrets[1].NotAfter) + "."
		}
		return s.printKey(rec, key, "has a new secret. "+old)
	})
	cmd.Flags().StringVar(&overlapText, "overlap", "24h", "How long the old secret still works; 0s ends it now")
	return cmd
}

func importCommand(open Opener) *cobra.Command {
	var opts keystore.ImportOptions
	cmd := &cobra.Command{
		Use:   "import FILE [--format jsonl|htpasswd] [--hint TEXT] [--random] [--json]",
		Short: "Imports keys of another system by their bcrypt hashes",
		Long: fmt.Sprintf(`Imports keys of another system by their bcrypt hashes: all of a file, or none
when a line is wrong. FILE may be - for standard input, and holds at most %d
keys, one a line:

  jsonl     {"hash","hint","name","owner","permissions","plan","expires_at"};
            hash, hint and name are required
  htpasswd  user:hash; the user is the key's name

Hashes are $2a$, $2b$ or $2y$ of cost 4 to %d. The hint is the first %d to %d
characters of the key, at least 4 beyond an accepted prefix; at most 16 imported
keys may share one. --hint gives it for the lines that have none; for htpasswd
without --hint the user is taken as the hint.

--random says that the keys were made by a generator, not chosen by people: a
keyed digest of each is then stored at its first use, and later uses need no
hashing.`, keystore.MaxImport, keystore.MaxCost, keystore.MinHint, keystore.MaxHint),
		Args: cobra.ExactArgs(1),
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.Format, "format", "", "jsonl or htpasswd (default: jsonl where the file begins with {, else htpasswd)")
	flags.StringVar(&opts.Hint, "hint", "", "Hint of the lines that have none")
	flags.BoolVar(&opts.Random, "random", false, "The keys are random, not chosen by people")
	addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch opts.Format {
		case "", keystore.ImportJSONL, keystore.ImportHtpasswd:
		default:
			return UsageError(fmt.Sprintf("--format: %q is neither jsonl nor htpasswd", opts.Format))
		}
		if cmd.Flags().Changed("hint") && opts.Hint == "" {
			return UsageError("--hint is empty: give the first characters of the keys, or leave it out")
		}
		in := io.NopCloser(cmd.InOrStdin())
		if args[0] != "-" {
			// Before the keystore: a misspelt name must not make one.
			file, err := os.Open(args[0])
			if err != nil {
				return err
			}
			in = file
		}
		defer func() { _ = in.Close() }() // it was only read
		return with(cmd, open, true, func(s *session) error {
			result, err := s.Keeper.Import(s.ctx, by, in, opts)
			switch {
			case err != nil:
				return err
			case s.asJSON:
				return s.printJSON(map[string]int{"imported": result.Imported})
			}
			return s.say(fmt.Sprintf("Imported %d keys.", result.Imported))
		})
	}
	return cmd
}

func exportCommand(open Opener) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Writes every key as one line of JSON, without secrets",
		Long: `Writes every key as one line of JSON to standard output, the newest first,
revoked ones too. Secrets, hashes and hints are not in it: it is no backup.`,
		Args: cobra.NoArgs,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return with(cmd, open, false, func(s *session) error {
			return s.Keeper.Export(s.ctx, cmd.OutOrStdout())
		})
	}
	return cmd
}

// oneKey completes a command on the key that its argument names.
func oneKey(open Opener, cmd *cobra.Command, run func(*session, keystore.ID) error) *cobra.Command {
	cmd.Args = cobra.ExactArgs(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := keystore.ParseID(args[0])
		if err != nil {
			// The argument itself is not repeated: it may be a key.
			return UsageError(err.Error() + ` (see "apikey list")`)
		}
		return with(cmd, open, false, func(s *session) error { return run(s, id) })
	}
	addJSON(cmd)
	return cmd
}

func addJSON(cmd *cobra.Command) {
	cmd.Flags().Bool("json", false, "Print one JSON object and nothing else")
}
