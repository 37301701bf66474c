package caddymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/spf13/cobra"

	"github.com/hivegate/hivegate/internal/keycli"
	"github.com/hivegate/hivegate/internal/keyconvert"
	"github.com/hivegate/hivegate/internal/policy"
	"github.com/hivegate/hivegate/keystore"
)

func convertCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "convert --from kong|tyk|nginx|caddy FILE [--scope SCOPE]… [--map GROUP=SCOPE]…\n" +
			"    [--plan NAME] [--hint TEXT|USER=TEXT]… [--cost N]",
		Short: "Turns the keys of another gate into lines for import",
		Long: `Turns the keys of another gate into lines for 'apikey import', on standard output.
FILE may be - for standard input.

  kong   a declarative configuration, YAML or JSON: consumers, keyauth_credentials
         and acls
  tyk    keys with their sessions, JSON: [{"key":…,"data":{…}}], {"keys":[…]} or
         {KEY: SESSION}; keys that Tyk kept as hashes cannot be converted
  nginx  maps from $http_…, $arg_… or $cookie_… to a client
  caddy  the users of basic_auth, in a Caddyfile or JSON; the password becomes the
         key, and --hint says how it begins

Keys that were kept in plain text are hashed here; they are neither printed nor
logged. Every entry becomes a line, or is named on standard error with what to do;
then the exit code is 1, and the lines of the others are written nevertheless.

--map gives the members of a group (an ACL group, policy or tag) a scope; a group
whose name is a scope needs none. A configuration need not be there; where there is
one, its bcrypt_cost and key formats hold.`,
		Example: `  hivegate apikey convert --from kong kong.yaml --map gold=farms:read --map gold=farms:write > keys.jsonl
  hivegate apikey import keys.jsonl --random && rm keys.jsonl`,
		Args: cobra.ExactArgs(1),
		RunE: runConvert,
	}
	flags := cmd.Flags()
	flags.String("from", "", "Where the keys come from: kong, tyk, nginx or caddy (required)")
	flags.StringArray("scope", nil, "Scope that every key gets; repeats")
	flags.StringArray("map", nil, "GROUP=SCOPE: a scope for the keys of a group; repeats")
	flags.String("plan", "", "Plan of every key (default: the configuration's default_plan)")
	flags.StringArray("hint", nil, "caddy: the first characters of the passwords, as TEXT for all or USER=TEXT for one; repeats")
	flags.Int("cost", 0, "bcrypt cost of the hashes that are made, 4 to 14 (default: the configuration's bcrypt_cost, else 10)")
	return cmd
}

func runConvert(cmd *cobra.Command, args []string) error {
	opts, hints, err := convertOptions(cmd)
	if err != nil {
		return err
	}
	data, err := readBounded(cmd, args[0], keyconvert.MaxSize)
	if err != nil {
		return err
	}
	var entries []keyconvert.Entry
	var problems []keyconvert.Problem
	from, _ := cmd.Flags().GetString("from")
	switch from {
	case "kong":
		entries, problems, err = keyconvert.Kong(data)
	case "tyk":
		entries, problems, err = keyconvert.Tyk(data)
	case "nginx":
		entries, problems, err = keyconvert.Nginx(data)
	case "caddy":
		entries, problems, err = convertCaddy(args[0], data, hints)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	lines, more, warnings := keyconvert.Lines(entries, opts)
	problems = append(problems, more...)
	errs := cmd.ErrOrStderr()
	for _, w := range warnings {
		fmt.Fprintf(errs, "warning: %s: %s\n", args[0], w)
	}
	for _, p := range problems {
		fmt.Fprintf(errs, "not converted: %s: %s\n", args[0], p)
	}
	out := json.NewEncoder(cmd.OutOrStdout())
	out.SetEscapeHTML(false)
	for i := range lines {
		if err := out.Encode(&lines[i]); err != nil {
			return err
		}
	}
	fmt.Fprintf(errs, "%d keys converted, %d not\n", len(lines), len(problems))
	if len(problems) > 0 {
		return fmt.Errorf("%d entries could not be converted", len(problems))
	}
	return nil
}

// convertOptions reads the flags, and the configuration where there is one.
func convertOptions(cmd *cobra.Command) (opts keyconvert.Options, hints map[string]string, err error) {
	flags := cmd.Flags()
	from, _ := flags.GetString("from")
	switch from {
	case "kong", "tyk", "nginx", "caddy":
	case "":
		return opts, nil, keycli.UsageError("--from is missing: kong, tyk, nginx or caddy")
	default:
		return opts, nil, keycli.UsageError(fmt.Sprintf("--from: %q is none of kong, tyk, nginx, caddy", from))
	}
	opts.Plan, _ = flags.GetString("plan")
	opts.Scopes, _ = flags.GetStringArray("scope")
	for _, s := range opts.Scopes {
		if _, err := policy.ParseGrant(s); err != nil {
			return opts, nil, keycli.UsageError("--scope: " + err.Error())
		}
	}
	maps, _ := flags.GetStringArray("map")
	opts.Groups = make(map[string][]string)
	for _, m := range maps {
		group, scope, ok := strings.Cut(m, "=")
		if _, err := policy.ParseGrant(scope); !ok || group == "" || err != nil {
			return opts, nil, keycli.UsageError(fmt.Sprintf("--map: %q is not GROUP=SCOPE, such as gold=farms:read", m))
		}
		opts.Groups[group] = append(opts.Groups[group], scope)
	}
	list, _ := flags.GetStringArray("hint")
	if len(list) > 0 && from != "caddy" {
		return opts, nil, keycli.UsageError("--hint goes with --from caddy: of other keys the hint is taken from the key")
	}
	hints = make(map[string]string)
	for _, h := range list {
		user, text, ok := strings.Cut(h, "=")
		if !ok {
			user, text = "", h
		}
		hints[user] = text
	}
	opts.Formats = []keystore.Format{keystore.DefaultFormat()}
	switch _, app, cancel, err := commandApp(cmd); {
	case err == nil:
		opts.Cost, opts.Formats = app.runtime.cost, app.runtime.formats
		cancel()
	case !errors.Is(err, errNoConfig):
		return opts, nil, err
	}
	if flags.Changed("cost") {
		if opts.Cost, _ = flags.GetInt("cost"); opts.Cost < 4 || opts.Cost > 14 {
			return opts, nil, keycli.UsageError("--cost: must be 4 to 14")
		}
	}
	return opts, hints, nil
}

// convertCaddy reads basic_auth from a Caddyfile or from JSON. A Caddyfile is
// read as tokens alone: what else is in it may need modules that are not here.
func convertCaddy(name string, data []byte, hints map[string]string) ([]keyconvert.Entry, []keyconvert.Problem, error) {
	if text := bytes.TrimSpace(data); len(text) > 0 && text[0] == '{' && json.Valid(text) {
		return keyconvert.CaddyJSON(text, hints)
	}
	blocks, err := caddyfile.Parse(name, data)
	if err != nil {
		return nil, nil, fmt.Errorf("read the Caddyfile: %w", err)
	}
	var accounts []keyconvert.Account
	var broken []keyconvert.Problem
	for _, b := range blocks {
		for _, segment := range b.Segments {
			found, bad := basicAccounts(segment)
			accounts, broken = append(accounts, found...), append(broken, bad...)
		}
	}
	if len(accounts)+len(broken) == 0 {
		return nil, nil, errors.New("the Caddyfile has no basic_auth with users")
	}
	entries, problems := keyconvert.Accounts(accounts, hints)
	return entries, append(broken, problems...), nil
}

// basicAccounts reads the users of each basic_auth block in a directive's tokens,
// at whatever depth.
func basicAccounts(tokens []caddyfile.Token) (accounts []keyconvert.Account, broken []keyconvert.Problem) {
	for i := 0; i < len(tokens); i++ {
		first := i == 0 || tokens[i-1].Line != tokens[i].Line || tokens[i-1].File != tokens[i].File
		if !first || tokens[i].Text != "basic_auth" && tokens[i].Text != "basicauth" {
			continue
		}
		line := tokens[i].Line
		for i++; i < len(tokens) && tokens[i].Line == line && tokens[i].Text != "{"; i++ {
		}
		for i++; i < len(tokens) && tokens[i].Text != "}"; {
			end := i + 1
			for end < len(tokens) && tokens[end].Line == tokens[i].Line && tokens[end].Text != "}" {
				end++
			}
			where := fmt.Sprintf("line %d", tokens[i].Line)
			if words := tokens[i:end]; len(words) == 2 {
				accounts = append(accounts, keyconvert.Account{Where: where, User: words[0].Text, Hash: words[1].Text})
			} else {
				broken = append(broken, keyconvert.Problem{Where: where, Msg: "is not 'user hash'"})
			}
			i = end
		}
	}
	return accounts, broken
}
