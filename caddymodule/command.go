package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"os"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/hivegate/hivegate/internal/keycli"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "hivegate",
		Short: "Manages the API keys of hivegate and explains its decisions",
		Long: `Manages the API keys of hivegate and explains its decisions.

The commands open the keystore that the configuration names, while the server
runs or not, and print its path on standard error. Changes hold on a running
server within a second.`,
		CobraFunc: func(cmd *cobra.Command) {
			for _, c := range commandTree() {
				cmd.AddCommand(c)
			}
			cmd.AddCommand(versionCommand())
			finishCommands(cmd)
		},
	})
}

// TopLevelCommands registers the commands a second time without the word
// "hivegate", for a binary that has that name itself, and the binary's own ones,
// so that all of them end alike.
func TopLevelCommands(own ...*cobra.Command) {
	for _, c := range append(commandTree(), own...) {
		caddycmd.RegisterCommand(caddycmd.Command{
			Name: c.Name(), Short: c.Short, Long: c.Long,
			CobraFunc: func(cmd *cobra.Command) { become(cmd, c) },
		})
	}
}

// become makes cmd what c is.
func become(cmd, c *cobra.Command) {
	children := c.Commands()
	c.RemoveCommand(children...)
	*cmd = *c
	cmd.AddCommand(children...)
	finishCommands(cmd)
}

// commandTree makes the commands anew: a cobra command has one parent only.
func commandTree() []*cobra.Command {
	keys := keycli.Commands(openEnv)
	keys[0].AddCommand(convertCommand()) // apikey
	cmds := append(keys, keycli.SubjectCommands(openEnv)...)
	cmds = append(cmds, keycli.AuditCommand(openEnv), explainCommand(), tokenCommand(), migrateCommand(), lintCommand(), backupCommand())
	for _, c := range cmds {
		addConfigFlags(c)
	}
	return append(cmds, routesCommand()) // it reads no configuration
}

func addConfigFlags(cmd *cobra.Command) {
	cmd.PersistentFlags().String("config", "", "Configuration file (default ./Caddyfile, then $HIVEGATE_CONFIG)")
	cmd.PersistentFlags().String("adapter", "", "Name of the config adapter to apply")
	cmd.PersistentFlags().StringSlice("envfile", nil, "Environment file(s) to load")
}

// finishCommands gives a tree of commands the exit codes that users rely on: 0
// done, 1 failed, 2 wrong usage, with the reason in one plain line on standard
// error.
func finishCommands(cmd *cobra.Command) {
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return exit(c, 2, err) })
	if args := cmd.Args; args != nil {
		cmd.Args = func(c *cobra.Command, words []string) error {
			if err := args(c, words); err != nil {
				return exit(c, 2, err)
			}
			return nil
		}
	}
	if pre := cmd.PreRunE; pre != nil {
		cmd.PreRunE = func(c *cobra.Command, words []string) error {
			if err := pre(c, words); err != nil {
				return exit(c, keycli.ExitCode(err), err)
			}
			return nil
		}
	}
	switch {
	case cmd.RunE != nil:
		run := cmd.RunE
		cmd.RunE = func(c *cobra.Command, words []string) error {
			if err := run(c, words); err != nil {
				return exit(c, keycli.ExitCode(err), err)
			}
			return nil
		}
	case cmd.Run == nil:
		// A group of commands: naming none, or one that does not exist.
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = func(c *cobra.Command, words []string) error {
			if len(words) == 0 {
				return c.Help()
			}
			return exit(c, 2, fmt.Errorf("unknown command %q; see '%s --help'", words[0], c.CommandPath()))
		}
	}
	for _, c := range cmd.Commands() {
		finishCommands(c)
	}
}

// exit prints the reason and makes the error that ends the program with code.
func exit(cmd *cobra.Command, code int, err error) error {
	fmt.Fprintln(cmd.ErrOrStderr(), "Error: "+err.Error())
	if code < 2 {
		return err
	}
	// Only Caddy can make the error that carries a code to its main function.
	return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return code, nil })(cmd, nil)
}

// openEnv opens the keystore that the configuration names.
func openEnv(cmd *cobra.Command, mayCreate bool) (*keycli.Env, error) {
	_, app, cancel, err := commandApp(cmd)
	if err != nil {
		return nil, err
	}
	rt := app.runtime
	store, crypto, vault, err := rt.keys.spec.openStore(cmd.Context(), mayCreate)
	if err != nil {
		cancel()
		return nil, err
	}
	env := &keycli.Env{
		Keeper:  rt.keeper(store, crypto),
		Presets: rt.presets,
		Issuers: rt.issuers,
		Path:    rt.guest.Location(),
		Close: func() error {
			err := store.Close()
			cancel()
			return err
		},
	}
	if vault != nil {
		env.Factors, env.Signing = vault.factors, vault.signing
		env.Reseal = func(ctx context.Context) (keycli.Resealed, error) { return vault.reseal(ctx, store) }
	}
	return env, nil
}

// environment variables and files of the commands.
const configEnv = "HIVEGATE_CONFIG"

var errNoConfig = errors.New("no configuration: there is no ./Caddyfile; name one with --config or $" + configEnv)

// configPath is the configuration file that a command reads.
func configPath(cmd *cobra.Command) (string, error) {
	if path, err := cmd.Flags().GetString("config"); err == nil && path != "" {
		return path, nil
	}
	if _, err := os.Stat("Caddyfile"); err == nil {
		return "Caddyfile", nil
	}
	if path := os.Getenv(configEnv); path != "" {
		return path, nil
	}
	return "", errNoConfig
}
