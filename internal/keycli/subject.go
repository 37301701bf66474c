package keycli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hivegate/hivegate/internal/policy"
	"github.com/hivegate/hivegate/internal/totp"
	"github.com/hivegate/hivegate/keystore"
)

// SigningSecrets keeps the signing secrets of keys and subjects, by name:
// "key:key_…", "owner:…" or "jwt:…". Secret answers keystore.ErrNotFound where
// there is none.
type SigningSecrets interface {
	Secret(ctx context.Context, name string) (string, error)
	Rotate(ctx context.Context, name string, now time.Time) (string, error)
}

// Resealed is what `reseal` changed.
type Resealed struct {
	DataKey bool `json:"data_key"`
	Factors int  `json:"second_factors"`
	Signing int  `json:"signing_secrets"`
}

// errNoMaster is the answer where nothing can be sealed.
var errNoMaster = errors.New("this configuration says 'master_key none': second factors and signing secrets need a master key")

// subjectFlags choose whose second factor or signing secret is meant.
type subjectFlags struct{ owner, key, issuer, sub string }

func (f *subjectFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.owner, "owner", "", "Account")
	flags.StringVar(&f.key, "key", "", "Id of a key")
	flags.StringVar(&f.issuer, "issuer", "", "Issuer of JWTs, with --sub")
	flags.StringVar(&f.sub, "sub", "", "Subject of JWTs, with --issuer")
	addJSON(cmd)
}

// check says what is wrong with the choice.
func (f *subjectFlags) check() error {
	chosen := 0
	for _, set := range []bool{f.owner != "", f.key != "", f.issuer != "" || f.sub != ""} {
		if set {
			chosen++
		}
	}
	switch {
	case chosen == 0:
		return UsageError("say whose: --owner O, --key ID, or --issuer NAME --sub SUB")
	case chosen > 1:
		return UsageError("--owner, --key and --issuer with --sub exclude each other")
	case (f.issuer == "") != (f.sub == ""):
		return UsageError("--issuer and --sub go together")
	case f.owner != "" && keystore.ValidOwner(f.owner) != nil:
		return UsageError("--owner: " + keystore.ValidOwner(f.owner).Error())
	}
	return nil
}

// record reads the key that --key names.
func (f *subjectFlags) record(s *session) (*keystore.Record, error) {
	id, err := keystore.ParseID(f.key)
	if err != nil {
		return nil, UsageError("--key: " + err.Error())
	}
	rec, err := s.Keeper.Store.Get(s.ctx, id)
	if errors.Is(err, keystore.ErrNotFound) {
		return nil, fmt.Errorf("there is no key %s in %s", f.key, s.Path)
	}
	return rec, err
}

// subject is whose second factor is meant: a key's is that of its owner, where
// it has one.
func (f *subjectFlags) subject(s *session) (subject, shown string, err error) {
	switch {
	case f.owner != "":
		subject, shown = "owner:"+f.owner, f.owner
	case f.key != "":
		rec, err := f.record(s)
		if err != nil {
			return "", "", err
		}
		subject = rec.Subject()
		if shown = rec.Owner; shown == "" {
			shown = subject
		}
	default:
		if !slices.Contains(s.Issuers, f.issuer) {
			near := policy.Nearest(f.issuer, s.Issuers)
			if near != "" {
				near = "; did you mean " + near + "?"
			}
			return "", "", UsageError(fmt.Sprintf("--issuer: the configuration has no issuer %q%s", f.issuer, near))
		}
		subject = "jwt:" + f.issuer + ":" + f.sub
		shown = subject
	}
	if err := totp.CheckSubject(subject); err != nil {
		return "", "", UsageError(err.Error())
	}
	return subject, shown, nil
}

// signer is whose signing secret is meant: a key's own, not its owner's.
func (f *subjectFlags) signer(s *session) (name, shown string, err error) {
	if f.key == "" {
		return f.subject(s)
	}
	rec, err := f.record(s)
	if err != nil {
		return "", "", err
	}
	return keySigner(rec.ID), rec.ID.String(), nil
}

// ofKey begins the names of the signing secrets that belong to one key; owners and
// issuers have names of their own.
const ofKey = "key:"

func keySigner(id keystore.ID) string { return ofKey + id.String() }

// SubjectCommands returns the trees of "totp", "signing-secret" and "reseal",
// made anew with each call.
func SubjectCommands(open Opener) []*cobra.Command {
	factor := &cobra.Command{Use: "totp", Short: "Enrolls, confirms, shows and removes second factors"}
	factor.AddCommand(totpEnroll(open), totpConfirm(open), totpStatus(open), totpRemove(open))
	signing := &cobra.Command{Use: "signing-secret", Short: "Shows and rotates the secrets that requests are signed with"}
	signing.AddCommand(signingShow(open), signingRotate(open))
	return []*cobra.Command{factor, signing, resealCommand(open)}
}

// onSubject makes a command on one subject.
func onSubject(open Opener, cmd *cobra.Command, fn func(*session, *subjectFlags) error) *cobra.Command {
	var f subjectFlags
	f.add(cmd)
	cmd.Args = usageArgs(cobra.NoArgs)
	cmd.SilenceUsage = true
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return UsageError(err.Error()) })
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := f.check(); err != nil {
			return err
		}
		return with(cmd, open, false, func(s *session) error { return fn(s, &f) })
	}
	return cmd
}

// onFactor makes a command on the second factor of one subject.
func onFactor(open Opener, cmd *cobra.Command, fn func(s *session, subject, shown string) error) *cobra.Command {
	return onSubject(open, cmd, func(s *session, f *subjectFlags) error {
		if s.Factors == nil {
			return errNoMaster
		}
		subject, shown, err := f.subject(s)
		if err != nil {
			return err
		}
		return fn(s, subject, shown)
	})
}

func totpEnroll(open Opener) *cobra.Command {
	return onFactor(open, &cobra.Command{
		Use:   "enroll (--owner O | --key ID | --issuer NAME --sub SUB) [--json]",
		Short: "Makes a second factor and shows it once",
		Long: `Makes a second factor and shows its secret, a QR code for authenticator apps and
eight recovery codes, the only time that they are shown. It counts once
'totp confirm' has seen a code.`,
	}, func(s *session, subject, shown string) error {
		e, err := s.Factors.Enroll(s.ctx, s.now, subject)
		if err != nil {
			return err
		}
		if s.asJSON {
			return s.printJSON(struct {
				Owner     string   `json:"owner"`
				Secret    string   `json:"secret"`
				URI       string   `json:"otpauth_uri"`
				Recovery  []string `json:"recovery_codes"`
				Confirmed bool     `json:"confirmed"`
			}{shown, e.Secret, e.URI, e.RecoveryCodes, false})
		}
		out := s.cmd.OutOrStdout()
		fmt.Fprintf(out, "Second factor of %s. It is shown only this once.\n\n", shown)
		if err := totp.QR(out, e.URI); err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "\nsecret          %s\nuri             %s\nrecovery codes  %s\n\nIt counts once a code was seen: hivegate totp confirm … --code NNNNNN\n",
			e.Secret, e.URI, strings.Join(e.RecoveryCodes, "\n                "))
		return err
	})
}

func totpConfirm(open Opener) *cobra.Command {
	var code string
	cmd := onFactor(open, &cobra.Command{
		Use:   "confirm --code N (--owner O | --key ID | --issuer NAME --sub SUB)",
		Short: "Puts a second factor in force, given a code of it",
		Long:  "Puts a second factor in force, given a code of it. The code is used up.",
	}, func(s *session, subject, shown string) error {
		if code == "" {
			return UsageError("--code is missing")
		}
		out, err := s.Factors.Confirm(s.ctx, s.now, subject, code)
		switch {
		case errors.Is(err, totp.ErrNotEnrolled):
			return fmt.Errorf("%s has no second factor: make one with 'totp enroll'", shown)
		case err != nil:
			return err
		case out.Result == totp.Locked:
			return fmt.Errorf("too many wrong codes: try again in %s", out.RetryAfter.Round(time.Second))
		case out.Result != totp.OK:
			return errors.New("the code is wrong: give the six digits that the app shows now")
		}
		return s.factorStatus(subject, shown)
	})
	cmd.Flags().StringVar(&code, "code", "", "The six digits that the app shows (required)")
	return cmd
}

func totpStatus(open Opener) *cobra.Command {
	return onFactor(open, &cobra.Command{
		Use:   "status (--owner O | --key ID | --issuer NAME --sub SUB) [--json]",
		Short: "Says whether a second factor is in force",
	}, func(s *session, subject, shown string) error {
		return s.factorStatus(subject, shown)
	})
}

// factorView is a second factor as `totp status --json` prints it.
type factorView struct {
	Owner        string     `json:"owner"`
	Enrolled     bool       `json:"enrolled"`
	Confirmed    bool       `json:"confirmed"`
	RecoveryLeft int        `json:"recovery_codes_left"`
	LockedUntil  *time.Time `json:"locked_until"`
	LastUsedAt   *time.Time `json:"last_used_at"`
}

func (s *session) factorStatus(subject, shown string) error {
	st, err := s.Factors.Status(s.ctx, s.now, subject)
	view := factorView{Owner: shown}
	switch {
	case errors.Is(err, totp.ErrNotEnrolled):
	case err != nil:
		return err
	default:
		view.Enrolled, view.Confirmed, view.RecoveryLeft = true, st.Confirmed, st.RecoveryLeft
		view.LockedUntil, view.LastUsedAt = timeOrNil(st.LockedUntil), timeOrNil(st.LastUsedAt)
	}
	if s.asJSON {
		return s.printJSON(view)
	}
	switch {
	case !view.Enrolled:
		return s.say(shown + " has no second factor.")
	case !view.Confirmed:
		return s.say(shown + " has a second factor that does not count yet: confirm it with 'totp confirm'.")
	case view.LockedUntil != nil:
		return s.say(fmt.Sprintf("The second factor of %s is locked until %s.", shown, view.LockedUntil.UTC().Format(time.RFC3339)))
	}
	return s.say(fmt.Sprintf("The second factor of %s is in force; %d recovery codes are left.", shown, view.RecoveryLeft))
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func totpRemove(open Opener) *cobra.Command {
	return onFactor(open, &cobra.Command{
		Use:   "remove (--owner O | --key ID | --issuer NAME --sub SUB)",
		Short: "Removes a second factor; routes that ask for one then refuse",
	}, func(s *session, subject, shown string) error {
		err := s.Factors.Remove(s.ctx, subject)
		if errors.Is(err, totp.ErrNotEnrolled) {
			return fmt.Errorf("%s has no second factor", shown)
		}
		if err != nil {
			return err
		}
		return s.factorStatus(subject, shown)
	})
}

func signingShow(open Opener) *cobra.Command {
	return onSubject(open, &cobra.Command{
		Use:   "show (--owner O | --key ID | --issuer NAME --sub SUB) [--json]",
		Short: "Prints a signing secret",
		Long:  "Prints a signing secret. The key of the HMAC is the bytes of the printed text.",
	}, func(s *session, f *subjectFlags) error { return s.signing(f, false) })
}

func signingRotate(open Opener) *cobra.Command {
	return onSubject(open, &cobra.Command{
		Use:   "rotate (--owner O | --key ID | --issuer NAME --sub SUB) [--json]",
		Short: "Makes a new signing secret; the old one is good for nothing at once",
	}, func(s *session, f *subjectFlags) error { return s.signing(f, true) })
}

func (s *session) signing(f *subjectFlags, rotate bool) error {
	name, shown, err := f.signer(s)
	if err != nil {
		return err
	}
	return s.printSigning(name, shown, rotate)
}

func (s *session) printSigning(name, shown string, rotate bool) error {
	if s.Signing == nil {
		return errNoMaster
	}
	var secret string
	var err error
	if rotate {
		secret, err = s.rotateSigning(name)
	} else {
		secret, err = s.Signing.Secret(s.ctx, name)
	}
	switch {
	case errors.Is(err, keystore.ErrNotFound):
		return fmt.Errorf("%s has no signing secret: make one with rotate", shown)
	case err != nil:
		return err
	case s.asJSON:
		return s.printJSON(struct {
			ID     string `json:"id"`
			Secret string `json:"signing_secret"`
		}{shown, secret})
	}
	_, err = fmt.Fprintln(s.cmd.OutOrStdout(), secret)
	return err
}

// rotateSigning makes a signing secret. A key's is a change of the key, and so in
// the audit trail; its row comes first, so that no secret is made without one.
func (s *session) rotateSigning(name string) (string, error) {
	if text, ok := strings.CutPrefix(name, ofKey); ok {
		id, err := keystore.ParseID(text)
		if err != nil {
			return "", err
		}
		if err := s.Keeper.NewSigningSecret(s.ctx, by, id); err != nil {
			return "", err
		}
	}
	return s.Signing.Rotate(s.ctx, name, s.now)
}

func keySigningSecret(open Opener) *cobra.Command {
	var rotate bool
	cmd := oneKey(open, &cobra.Command{
		Use:   "signing-secret ID [--rotate] [--json]",
		Short: "Prints the secret that a key's requests are signed with",
		Long: `Prints the secret that a key's requests are signed with, or makes a new one. The
key of the HMAC is the bytes of the printed text.`,
	}, func(s *session, id keystore.ID) error {
		if _, err := s.Keeper.Store.Get(s.ctx, id); err != nil {
			return err
		}
		return s.printSigning(keySigner(id), id.String(), rotate)
	})
	cmd.Flags().BoolVar(&rotate, "rotate", false, "Make a new secret; the old one is good for nothing at once")
	return cmd
}

func resealCommand(open Opener) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reseal [--json]",
		Short: "Seals the data key and all secrets under the current master key",
		Long: `Seals the data key, the second factors and the signing secrets under the first
key of 'master_key NEW OLD'. When it is done OLD can go from the configuration.`,
		Args:         usageArgs(cobra.NoArgs),
		SilenceUsage: true,
	}
	addJSON(cmd)
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return UsageError(err.Error()) })
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return with(cmd, open, false, func(s *session) error {
			if s.Reseal == nil {
				return errNoMaster
			}
			done, err := s.Reseal(s.ctx)
			if err != nil {
				return err
			}
			if s.asJSON {
				return s.printJSON(done)
			}
			what := "The data key was sealed under the current master key already"
			if done.DataKey {
				what = "The data key is sealed under the current master key"
			}
			return s.say(fmt.Sprintf("%s; resealed %d second factors and %d signing secrets.", what, done.Factors, done.Signing))
		})
	}
	return cmd
}
