package keystore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// The formats of an import.
const (
	// ImportJSONL is one JSON object per line:
	// {"hash","hint","name","owner","permissions","plan","expires_at"}. hash,
	// name and hint are required, null stands for a member that is left out.
	ImportJSONL = "jsonl"
	// ImportHtpasswd is Apache's user:hash per line. The user is the name of
	// the key; empty lines and lines that begin with # are passed over.
	ImportHtpasswd = "htpasswd"
)

// ImportOptions say how a file is read.
type ImportOptions struct {
	// Format is ImportJSONL or ImportHtpasswd. Default: jsonl where the file
	// begins with {, else htpasswd.
	Format string
	// Hint is the hint of lines that name none: the first 6 to 20 characters
	// of their keys. For htpasswd the default is the line's user, for files
	// whose users are named after the beginnings of their keys.
	Hint string
	// Random says that the keys were made by a generator and not chosen by
	// people. Then each gets a stored digest (see Crypto) when it is first
	// used: from a bcrypt hash alone none can be made.
	Random bool
}

// ImportResult is what an import has done.
type ImportResult struct {
	Imported int
}

// ImportError lists what is wrong with the lines of a file, the first 20 of
// them. Nothing was imported.
type ImportError struct {
	Lines []LineError
	// More is how many further lines are wrong.
	More int
}

// LineError is what is wrong with one line. It never holds a hash.
type LineError struct {
	Line int // from 1
	Err  error
}

func (e *ImportError) Error() string {
	var b strings.Builder
	for i, line := range e.Lines {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "line %d: %v", line.Line, line.Err)
	}
	if e.More > 0 {
		fmt.Fprintf(&b, "\nand %d more lines", e.More)
	}
	return b.String()
}

const (
	// MaxImport bounds one import, which is one transaction: other changes
	// wait for it, about ten seconds for this many.
	MaxImport      = 200_000
	maxImportLine  = 64 << 10 // bytes
	maxImportTold  = 20       // wrong lines in an error
	maxSharedHints = 16       // unrevoked records per hint, as stores hold it
)

// Import makes keys of the bcrypt hashes of another system: all of r or, when a
// line is wrong, none (*ImportError). A key that was imported before is an
// error, and so is a file of more than MaxImport keys. An expiry in the past is
// taken: such a key is expired.
func (k *Keeper) Import(ctx context.Context, by Change, r io.Reader, opts ImportOptions) (ImportResult, error) {
	im := importer{keeper: k, opts: opts, now: k.now(), byHash: make(map[string]int), byHint: make(map[string][]int)}
	switch opts.Format {
	case "", ImportJSONL, ImportHtpasswd:
	default:
		return ImportResult{}, fmt.Errorf("import keys: unknown format %q; it is %s or %s", opts.Format, ImportJSONL, ImportHtpasswd)
	}
	if err := im.read(r); err != nil {
		return ImportResult{}, fmt.Errorf("import keys: %w", err)
	}
	if err := im.checkStored(ctx); err != nil {
		return ImportResult{}, fmt.Errorf("import keys: %w", err)
	}
	if im.wrong.Lines != nil {
		slices.SortStableFunc(im.wrong.Lines, func(a, b LineError) int { return a.Line - b.Line })
		return ImportResult{}, &im.wrong
	}
	// In the order of the ids rows go into the indexes one behind the other.
	slices.SortFunc(im.recs, func(a, b *Record) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	by = k.change(by, "import", im.now)
	if err := k.Store.Create(ctx, by, im.recs...); err != nil {
		return ImportResult{}, fmt.Errorf("import keys: %w", err)
	}
	for _, rec := range im.recs {
		k.notify(rec)
		k.audit(by, nil, rec)
	}
	return ImportResult{Imported: len(im.recs)}, nil
}

// importer reads one file. Its maps and lists are bounded by MaxImport.
type importer struct {
	keeper *Keeper
	opts   ImportOptions
	now    time.Time
	recs   []*Record
	lines  []int            // the line of each of recs
	byHash map[string]int   // line of a hash
	byHint map[string][]int // indexes into recs of a hint
	wrong  ImportError
}

// importLine is one line, decoded.
type importLine struct {
	hash, hint, name, owner, plan string
	permissions                   []string
	expiresAt                     time.Time
}

// read reads all lines. The error is one of the file as a whole.
func (im *importer) read(r io.Reader) error {
	lines := newLineReader(r, maxImportLine)
	format := im.opts.Format
	for n := 1; lines.next(); n++ {
		text := lines.text
		if n == 1 {
			text = bytes.TrimPrefix(text, []byte("\ufeff")) // some editors begin a file so
		}
		if lines.tooLong {
			im.refuse(n, fmt.Errorf("longer than %d KiB", maxImportLine>>10))
			continue
		}
		if text = bytes.TrimSpace(text); len(text) == 0 {
			continue
		}
		if format == "" {
			if format = ImportHtpasswd; text[0] == '{' {
				format = ImportJSONL
			}
		}
		if format == ImportHtpasswd && text[0] == '#' {
			continue
		}
		rec, err := im.record(format, text)
		if err != nil {
			im.refuse(n, err)
			continue
		}
		if err := im.add(n, rec); err != nil {
			im.refuse(n, err)
		}
		if len(im.recs) > MaxImport {
			return fmt.Errorf("the file holds more than %d keys; split it", MaxImport)
		}
	}
	if lines.err != nil {
		return fmt.Errorf("read the file: %w", lines.err)
	}
	if len(im.recs) == 0 && im.wrong.Lines == nil {
		return errors.New("the file holds no key")
	}
	return nil
}

// record makes the record of one line.
func (im *importer) record(format string, text []byte) (*Record, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("not valid UTF-8")
	}
	var line importLine
	var err error
	if format == ImportJSONL {
		line, err = parseImportJSON(text)
	} else {
		line, err = parseHtpasswd(string(text), im.opts.Hint == "")
	}
	if err != nil {
		return nil, err
	}
	if line.hint == "" {
		line.hint = im.opts.Hint
	}
	k := im.keeper
	if line.hash == "" {
		return nil, &FieldError{"hash", "is missing"}
	}
	if err := ValidHash([]byte(line.hash)); err != nil {
		return nil, &FieldError{"hash", err.Error()}
	}
	if line.hint == "" {
		return nil, &FieldError{"hint", fmt.Sprintf("is missing: give the key's first %d to %d characters, here or with --hint for all lines", MinHint, MaxHint)}
	}
	if err := ValidHint(line.hint, k.accepted()); err != nil {
		if format == ImportHtpasswd && im.opts.Hint == "" {
			err = fmt.Errorf("%w (without --hint, the user is taken as the hint)", err)
		}
		return nil, &FieldError{"hint", err.Error()}
	}
	if err := ValidName(line.name); err != nil {
		return nil, &FieldError{"name", err.Error()}
	}
	if err := ValidOwner(line.owner); err != nil {
		return nil, &FieldError{"owner", err.Error()}
	}
	if err := k.checkPlan(line.plan); err != nil {
		return nil, err
	}
	scopes, err := k.checkScopes(line.permissions)
	if err != nil {
		return nil, err
	}
	expires := line.expiresAt
	if !expires.IsZero() {
		if expires, err = storedTime(expires); err != nil {
			return nil, err
		}
	}
	return &Record{
		ID: NewID(), Name: line.name, Prefix: shownOfHint(line.hint, k.accepted()), Owner: line.owner, Scopes: scopes,
		Plan: line.plan, CreatedAt: im.now, ExpiresAt: expires, Hint: line.hint,
		Secrets: []Secret{{Hash: []byte(line.hash), Random: im.opts.Random}},
	}, nil
}

// add takes a record unless the file has its like already.
func (im *importer) add(line int, rec *Record) error {
	hash := string(rec.Secrets[0].Hash)
	if first, ok := im.byHash[hash]; ok {
		return &FieldError{"hash", fmt.Sprintf("the same as in line %d", first)}
	}
	sharing := im.byHint[rec.Hint]
	if len(sharing) >= maxSharedHints {
		return &FieldError{"hint", fmt.Sprintf("%d lines before have it too; give longer hints (up to %d characters), so that at most %d keys share one", len(sharing), MaxHint, maxSharedHints)}
	}
	im.byHash[hash] = line
	im.byHint[rec.Hint] = append(sharing, len(im.recs))
	im.recs = append(im.recs, rec)
	im.lines = append(im.lines, line)
	return nil
}

// checkStored compares with what was imported before, so that the error can
// name a line. The store itself holds the bound.
func (im *importer) checkStored(ctx context.Context) error {
	var shared []string
	err := im.keeper.Store.Hints(ctx, func(hint string) {
		if im.byHint[hint] != nil {
			shared = append(shared, hint)
		}
	})
	if err != nil {
		return err
	}
	for _, hint := range shared {
		stored, err := im.keeper.Store.ByHint(ctx, hint)
		if err != nil {
			return err
		}
		known := make(map[string]ID, len(stored)) // at most 16 records
		for _, rec := range stored {
			for _, secret := range rec.Secrets {
				known[string(secret.Hash)] = rec.ID
			}
		}
		for i, at := range im.byHint[hint] {
			if id, ok := known[string(im.recs[at].Secrets[0].Hash)]; ok {
				im.refuse(im.lines[at], &FieldError{"hash", "this key was imported before, as " + id.String()})
			} else if len(stored)+i+1 > maxSharedHints {
				im.refuse(im.lines[at], &FieldError{"hint", fmt.Sprintf("%d imported keys have it already; give longer hints, so that at most %d share one", len(stored)+i, maxSharedHints)})
			}
		}
	}
	return nil
}

func (im *importer) refuse(line int, err error) {
	if len(im.wrong.Lines) >= maxImportTold {
		im.wrong.More++
		return
	}
	im.wrong.Lines = append(im.wrong.Lines, LineError{line, err})
}

// shownOfHint returns what may be shown of an imported key: an accepted prefix
// and 4 characters, as of any key, else 6 characters; never the whole hint of
// a long one.
func shownOfHint(hint string, formats []Format) string {
	for _, f := range formats {
		if strings.HasPrefix(hint, f.Prefix) {
			return hint[:min(len(hint), len(f.Prefix)+hintBeyond)]
		}
	}
	return hint[:min(len(hint), MinHint)]
}
