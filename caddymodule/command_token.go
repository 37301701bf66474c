package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hivegate/hivegate/internal/keycli"
)

// maxTokenInput bounds what `token inspect` reads; tokens end at 16 KiB.
const maxTokenInput = 64 << 10

func tokenCommand() *cobra.Command {
	inspect := &cobra.Command{
		Use:   "inspect < token",
		Short: "Reads a JWT from standard input and says what the gate thinks of it",
		Long: `Reads a JWT from standard input and prints its header and claims, which issuer
of the configuration would take it, and why it would be refused. It never prints
the signature. The keys of the issuers are fetched as the server would.`,
		Args: cobra.NoArgs,
		RunE: inspectToken,
	}
	inspect.Flags().Bool("json", false, "Print one JSON object")
	cmd := &cobra.Command{Use: "token", Short: "Looks into JWTs"}
	cmd.AddCommand(inspect)
	return cmd
}

func inspectToken(cmd *cobra.Command, _ []string) error {
	asJSON, err := cmd.Flags().GetBool("json")
	if err != nil {
		return err
	}
	raw, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxTokenInput))
	if err != nil {
		return fmt.Errorf("read standard input: %w", err)
	}
	token := strings.TrimSpace(string(raw))
	if rest, ok := strings.CutPrefix(token, "Bearer "); ok {
		token = rest
	}
	if token == "" {
		return keycli.UsageError("standard input is empty: write 'token inspect < FILE'")
	}
	_, app, cancel, err := commandApp(cmd)
	if err != nil {
		return err
	}
	defer cancel()
	if app.runtime.tokens == nil {
		return errors.New("the configuration has no issuer")
	}
	set, err := app.runtime.tokens.ready(cmd.Context())
	if err != nil {
		return err
	}
	report := set.Inspect(cmd.Context(), time.Now(), token)
	if asJSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(report)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.TrimRight(report.String(), "\n"))
	return err
}
