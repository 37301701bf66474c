package caddymodule

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/hivegate/hivegate/internal/keycli"
	"github.com/hivegate/hivegate/internal/openapi"
)

func routesCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "routes", Short: "Makes route files"}
	cmd.AddCommand(fromOpenAPICommand())
	return cmd
}

func fromOpenAPICommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "from-openapi FILE [--scope-from security|tag|method] [--resource NAME] [--prefix PATH]",
		Short: "Writes a route file from an OpenAPI description",
		Long: fmt.Sprintf(`Writes a route file from a description of an API to standard output: OpenAPI 3.0 to
3.2 or Swagger 2, in JSON or YAML. FILE may be - for standard input, and holds at
most %d MiB. Nothing else is read, and nothing is fetched.

Import the file into a site:

  hivegate {
      routes {
          import my.routes
      }
  }

--scope-from says where scopes come from:

  security  the scopes of the description's security, in hivegate's grammar:
            read:pets stays, repo becomes scope:repo. Alternatives become a|b.
            Without scopes, any valid credential passes.
  tag       the first tag and read or write: pets:read for GET, HEAD and OPTIONS,
            pets:write for the rest. Without tags, the first word of the path.
  method    api:read and api:write; --resource gives another word than api

An operation with 'security: []' is public in all of them. An operation that cannot
be a line stands in the file as a comment that begins with SKIPPED; the gate answers
404 or 405 there, or what another line says that matches the same path: that line is
made to require what the skipped operation does, too, and is left out where that
cannot be told. All this, and what the lines do not say exactly as the description
does, is told on standard error.`, openapi.MaxSize>>20),
		Example: "  hivegate routes from-openapi openapi.yaml --scope-from tag > my.routes",
		Args:    cobra.ExactArgs(1),
		RunE:    runFromOpenAPI,
	}
	flags := cmd.Flags()
	flags.String("scope-from", "security", "Where scopes come from: security, tag or method")
	flags.String("resource", "", "Resource of the scopes of --scope-from method (default: api)")
	flags.String("prefix", "", "What precedes all paths (default: the path of the first server, or basePath)")
	return cmd
}

func runFromOpenAPI(cmd *cobra.Command, args []string) error {
	from, _ := cmd.Flags().GetString("scope-from")
	opts := openapi.Options{ScopeFrom: openapi.ScopeFrom(from), Reserved: caddyRewrites}
	switch opts.ScopeFrom {
	case openapi.ScopeSecurity, openapi.ScopeTag, openapi.ScopeMethod:
	default:
		return keycli.UsageError(fmt.Sprintf("--scope-from: %q is none of security, tag, method", from))
	}
	opts.Resource, _ = cmd.Flags().GetString("resource")
	if opts.Resource != "" && opts.ScopeFrom != openapi.ScopeMethod {
		return keycli.UsageError("--resource goes with --scope-from method")
	}
	if cmd.Flags().Changed("prefix") {
		prefix, _ := cmd.Flags().GetString("prefix")
		if prefix != "" && prefix[0] != '/' {
			return keycli.UsageError("--prefix: begin with '/', as in /api/v2")
		}
		opts.Prefix = &prefix
	}
	data, err := readBounded(cmd, args[0], openapi.MaxSize)
	if err != nil {
		return err
	}
	result, err := openapi.Routes(data, opts)
	if err != nil {
		return err
	}
	for _, w := range result.Warnings {
		fmt.Fprintln(cmd.ErrOrStderr(), "warning: "+w)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%d lines, %d operations without one, %d scopes\n", result.Lines, result.Skipped, len(result.Scopes))
	_, err = cmd.OutOrStdout().Write(result.File)
	return err
}

// caddyRewrites reports whether Caddy replaces {name} in a Caddyfile.
func caddyRewrites(name string) bool {
	_, ok := caddyShorthands[name]
	return ok
}

// readBounded reads a file, or standard input for "-", of at most size bytes.
func readBounded(cmd *cobra.Command, name string, size int64) ([]byte, error) {
	in := cmd.InOrStdin()
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer func() { _ = file.Close() }() // it was only read
		in = file
	}
	data, err := io.ReadAll(io.LimitReader(in, size+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(data)) > size {
		return nil, fmt.Errorf("%s has more than %d MiB", name, size>>20)
	}
	return data, nil
}
