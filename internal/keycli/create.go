package keycli

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hivegate/hivegate/internal/policy"
	"github.com/hivegate/hivegate/keystore"
)

// createFlags are the flags of create, as typed.
type createFlags struct {
	name, owner, preset, plan, expires, requests string
	scopes, concurrent, allowIP                  []string
	signing                                      bool
}

func createCommand(open Opener) *cobra.Command {
	var f createFlags
	cmd := &cobra.Command{
		Use: "create --name ci [--owner acme] --scope crews:read --scope crews:write | --preset P\n" +
			"    [--plan operator] [--expires 90d|RFC3339] [--requests 5000/m] [--concurrent outcomes=50] [--signing] [--json]",
		Short: "Makes a key and prints it once",
		Long: `Makes a key and prints it, the only time that it is shown: nothing but a hash of
it is kept. A keystore that is missing is made.`,
		Example: `  hivegate apikey create --name ci --scope crews:read --scope crews:write
  hivegate apikey create --name "farm 42" --owner acme --scope workers:command@farmId=42,43 --expires 90d
  hivegate apikey create --name reports --preset read_only --plan operator --requests 5000/m`,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.StringVar(&f.name, "name", "", "Name of the key, 1 to 100 characters (required)")
	flags.StringVar(&f.owner, "owner", "", "Account that the key belongs to")
	flags.StringArrayVar(&f.scopes, "scope", nil, "Scope that the key gets; repeats, and is never split at commas")
	flags.StringVar(&f.preset, "preset", "", "Named set of scopes, instead of --scope")
	flags.StringVar(&f.plan, "plan", "", "Plan of the key (default: the configuration's default_plan)")
	flags.StringVar(&f.expires, "expires", "", "When the key expires: 90d, 12h, 2w, 1y, or a time such as 2027-01-31T00:00:00Z (default: never)")
	flags.StringVar(&f.requests, "requests", "", "Rate of this key instead of its plan's, such as 5000/m")
	flags.StringArrayVar(&f.concurrent, "concurrent", nil, "Slots of a class for this key, such as outcomes=50; repeats")
	flags.StringArrayVar(&f.allowIP, "allow-ip", nil, "Address or prefix that the key may be used from; repeats (default: any)")
	flags.BoolVar(&f.signing, "signing", false, "Make a signing secret as well, and print it once")
	addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		n, err := f.newKey(cmd)
		if err != nil {
			return err
		}
		return with(cmd, open, true, func(s *session) error {
			if f.expires != "" {
				if n.ExpiresAt, err = parseExpires(f.expires, s.now); err != nil {
					return UsageError("--expires: " + err.Error())
				}
			}
			if cmd.Flags().Changed("preset") {
				if n.Scopes, err = s.preset(f.preset); err != nil {
					return err
				}
			}
			if f.signing && s.Signing == nil {
				return errNoMaster
			}
			rec, key, err := s.Keeper.Create(s.ctx, by, n)
			if err != nil {
				return err
			}
			if f.signing {
				return s.printKeyAndSigning(rec, key)
			}
			return s.printKey(rec, key, "is made.")
		})
	}
	return cmd
}

// newKey reads everything that can be read without a configuration.
func (f *createFlags) newKey(cmd *cobra.Command) (n keystore.NewKey, err error) {
	scopes, preset := cmd.Flags().Changed("scope"), cmd.Flags().Changed("preset")
	switch {
	case f.name == "":
		return n, UsageError("--name is missing")
	case scopes && preset:
		return n, UsageError("--scope and --preset exclude each other: give one of them")
	case !scopes && !preset:
		return n, UsageError("--scope or --preset is missing: say what the key may do")
	}
	// An empty value is most often a variable that is not set: a key without
	// the expiry that was meant is worse than an error.
	for _, name := range []string{"owner", "plan", "expires", "requests"} {
		if flag := cmd.Flags().Lookup(name); flag.Changed && flag.Value.String() == "" {
			return n, UsageError("--" + name + " is empty: give a value, or leave it out")
		}
	}
	if err := keystore.ValidOwner(f.owner); err != nil {
		return n, UsageError("--owner: " + err.Error())
	}
	if f.expires != "" { // before a keystore is made; what counts is the Keeper's clock, later
		if _, err := parseExpires(f.expires, time.Time{}); err != nil {
			return n, UsageError("--expires: " + err.Error())
		}
	}
	n = keystore.NewKey{Name: f.name, Owner: f.owner, Plan: f.plan, Scopes: f.scopes}
	if n.IPAllowlist, err = parseAllowlist(f.allowIP); err != nil {
		return n, UsageError("--allow-ip: " + err.Error())
	}
	limits := keystore.Limits{Requests: f.requests}
	if limits.Concurrent, err = parseConcurrent(f.concurrent); err != nil {
		return n, UsageError("--concurrent: " + err.Error())
	}
	n.Limits = &limits
	return n, nil
}

// preset returns the scopes of a preset.
func (s *session) preset(name string) ([]string, error) {
	if scopes, ok := s.Presets[name]; ok {
		return scopes, nil
	}
	names := slices.Sorted(maps.Keys(s.Presets))
	switch near := policy.Nearest(name, names); {
	case near != "":
		return nil, UsageError(fmt.Sprintf("--preset: unknown preset %q; did you mean %q?", name, near))
	case len(names) == 0:
		return nil, UsageError(fmt.Sprintf("--preset: unknown preset %q; the configuration has none, give --scope", name))
	}
	return nil, UsageError(fmt.Sprintf("--preset: unknown preset %q; there are %s", name, strings.Join(names, ", ")))
}

// parseConcurrent reads CLASS=N.
func parseConcurrent(list []string) (map[string]int, error) {
	if len(list) == 0 {
		return nil, nil
	}
	slots := make(map[string]int, len(list))
	for _, text := range list {
		class, count, ok := strings.Cut(text, "=")
		n, err := strconv.Atoi(count)
		if !ok || class == "" || err != nil {
			return nil, fmt.Errorf("%q is not CLASS=N, such as outcomes=50", text)
		}
		if _, ok := slots[class]; ok {
			return nil, fmt.Errorf("the class %q is given twice", class)
		}
		slots[class] = n
	}
	return slots, nil
}

// parseAllowlist reads prefixes, and addresses for prefixes of one address.
func parseAllowlist(list []string) (prefixes []netip.Prefix, err error) {
	for _, text := range list {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			addr, err := netip.ParseAddr(text)
			if err != nil || addr.Zone() != "" {
				return nil, fmt.Errorf("%q is neither an address nor a prefix; write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32", text)
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		prefixes = append(prefixes, prefix)
	}
	return prefixes, nil
}

// parseExpires reads a span from now, or a time with its zone. It must be in
// the future.
func parseExpires(text string, now time.Time) (time.Time, error) {
	if at, err := keystore.ParseTime(text); err == nil {
		if !at.After(now) {
			return time.Time{}, fmt.Errorf("%s is not in the future", text)
		}
		return at, nil
	}
	span, err := parseSpan(text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is neither a span such as 90d, 12h or 1y nor a time with its zone such as 2027-01-31T00:00:00Z", text)
	}
	if span <= 0 {
		return time.Time{}, fmt.Errorf("%s is not in the future", text)
	}
	return now.Add(span), nil
}

// spanUnits are the units of a span. A year has 365 days.
var spanUnits = map[byte]time.Duration{
	's': time.Second, 'm': time.Minute, 'h': time.Hour,
	'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour, 'y': 365 * 24 * time.Hour,
}

// parseSpan reads whole numbers with units: 90d, 1d12h, 0s. Each unit may stand
// once, from large to small; the whole is at most 292 years.
func parseSpan(text string) (span time.Duration, err error) {
	bad := fmt.Errorf("%q is not a span; write a number and a unit: s, m, h, d, w or y, such as 24h or 90d", text)
	if text == "" {
		return 0, bad
	}
	last := time.Duration(1<<63 - 1)
	for rest := text; rest != ""; {
		end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
		if end < 1 {
			return 0, bad
		}
		n, err := strconv.ParseInt(rest[:end], 10, 64)
		unit := spanUnits[rest[end]]
		if err != nil && !errors.Is(err, strconv.ErrRange) || unit == 0 || unit >= last {
			return 0, bad
		}
		if err != nil || n > int64((1<<63-1-span)/unit) {
			return 0, fmt.Errorf("%q is too long", text)
		}
		span, last, rest = span+time.Duration(n)*unit, unit, rest[end+1:]
	}
	return span, nil
}
