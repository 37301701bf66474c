// Package keycli has the commands that manage keys: apikey create, list, show,
// revoke, disable, enable, rotate, import and export.
//
// It parses and prints; keystore.Keeper decides. Which keystore is meant is the
// caller's to say (see [Opener]). Standard output holds the result and nothing
// else; with --json that is one object. The path of the keystore, hints and
// errors go to standard error. A secret is printed in one place only: the new
// key of create and rotate.
package keycli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/hivegate/hivegate/internal/policy"
	"github.com/hivegate/hivegate/internal/totp"
	"github.com/hivegate/hivegate/keystore"
)

// Env is an open keystore and what the configuration says about keys.
type Env struct {
	Keeper *keystore.Keeper
	// Presets are named sets of scopes for --preset.
	Presets map[string][]string
	// Issuers are the names that --issuer may have.
	Issuers []string
	// Factors, Signing and Reseal need a master key; nil without one.
	Factors *totp.Factors
	Signing SigningSecrets
	Reseal  func(context.Context) (Resealed, error)
	// Path names the keystore on standard error; it must hold no secret.
	Path string
	// Close gives everything back; may be nil.
	Close func() error
}

// Opener opens the keystore that the configuration of cmd names (--config,
// --adapter, --envfile). Only with mayCreate it may make one that is missing.
type Opener func(cmd *cobra.Command, mayCreate bool) (*Env, error)

// UsageError says that the command line must be changed: exit code 2.
type UsageError string

func (e UsageError) Error() string { return string(e) }

// ExitCode returns what the program ends with: 0 done, 1 failed, 2 wrong usage.
func ExitCode(err error) int {
	var usage UsageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		return 2
	}
	return 1
}

// Commands returns the tree of "apikey", made anew with each call.
func Commands(open Opener) []*cobra.Command {
	apikey := &cobra.Command{
		Use:   "apikey",
		Short: "Makes, lists, changes and ends API keys",
		Long: `Makes, lists, changes and ends API keys.

The commands open the keystore that the configuration names, while the server
runs or not, and print its path on standard error. A running server sees each
change within a second. Only create and import make a keystore that is missing.`,
		Args: usageArgs(func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			var names []string
			for _, c := range cmd.Commands() {
				names = append(names, c.Name())
			}
			if near := policy.Nearest(args[0], names); near != "" {
				return fmt.Errorf("unknown command %q; did you mean %q?", args[0], near)
			}
			return fmt.Errorf("unknown command %q; see \"%s --help\"", args[0], cmd.CommandPath())
		}),
		RunE:         func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceUsage: true,
	}
	for _, c := range []*cobra.Command{
		createCommand(open), listCommand(open), showCommand(open), revokeCommand(open), disableCommand(open),
		enableCommand(open), rotateCommand(open), keySigningSecret(open), importCommand(open), exportCommand(open),
		reportCommand(open),
	} {
		c.SilenceUsage = true // an error is one line, not a page
		c.Args = usageArgs(c.Args)
		apikey.AddCommand(c)
	}
	apikey.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return UsageError(err.Error()) })
	return []*cobra.Command{apikey}
}

// usageArgs makes the errors of check usage errors.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return UsageError(err.Error())
		}
		return nil
	}
}

// session is one command at work on an open keystore.
type session struct {
	*Env
	cmd    *cobra.Command
	ctx    context.Context
	asJSON bool
	now    time.Time // the time that everything is shown for
}

// by is who makes the changes of the commands.
var by = keystore.Change{Actor: "command"}

// with opens the keystore, says which one it is, and runs fn.
func with(cmd *cobra.Command, open Opener, mayCreate bool, fn func(*session) error) (err error) {
	env, err := open(cmd, mayCreate)
	if err != nil {
		return err
	}
	if env.Close != nil {
		defer func() {
			if closeErr := env.Close(); closeErr != nil {
				err = errors.Join(err, fmt.Errorf("close keystore: %w", closeErr))
			}
		}()
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "keystore: "+env.Path)
	s := &session{Env: env, cmd: cmd, ctx: cmd.Context(), now: time.Now()}
	if env.Keeper.Now != nil {
		s.now = env.Keeper.Now()
	}
	if flag := cmd.Flags().Lookup("json"); flag != nil {
		s.asJSON = flag.Value.String() == "true"
	}
	return s.explain(fn(s))
}

// explain says in the words of the command line what went wrong.
func (s *session) explain(err error) error {
	var field *keystore.FieldError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, keystore.ErrNotFound):
		return fmt.Errorf("there is no key %s in %s", s.cmd.Flags().Arg(0), s.Path)
	case errors.Is(err, keystore.ErrRevoked):
		return fmt.Errorf("%s is revoked, which is for ever; make another key", s.cmd.Flags().Arg(0))
	case errors.As(err, &field):
		return UsageError(s.flagOf(field))
	}
	return err
}

// flagOf names the flag that a value came from.
func (s *session) flagOf(e *keystore.FieldError) string {
	flag := map[string]string{
		"name": "--name", "owner": "--owner", "plan": "--plan", "permissions": "--scope", "expires_at": "--expires",
		"ip_allowlist": "--allow-ip", "overlap": "--overlap",
	}[e.Field]
	switch {
	case e.Field == "limits": // its message begins with requests: or concurrent:
		return "--" + e.Msg
	case e.Field == "permissions" && s.cmd.Flags().Changed("preset"):
		flag = "--preset"
	case flag == "":
		flag = e.Field
	}
	return flag + ": " + e.Msg
}
