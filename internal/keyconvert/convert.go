// Package keyconvert turns the keys of other gates into lines for
// `apikey import`: Kong's key-auth, Tyk, nginx maps, Caddy's basic_auth.
//
// Keys that were kept in plain text are hashed here, and leave this package as
// hash and hint only: no key is in an error or a warning. An entry that cannot be
// converted is a [Problem] that says where it stands and what to do; so each entry
// of an export is either a line or a problem.
package keyconvert

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/hivegate/hivegate/internal/policy"
	"github.com/hivegate/hivegate/keystore"
)

// MaxSize bounds an export.
const MaxSize = 256 << 20

// Entry is one key as an export has it.
type Entry struct {
	// Where names it: "consumers[3].keyauth_credentials[0]", "line 12".
	Where string
	// Key is the key in plain text; with Hash, a bcrypt hash, it is empty.
	Key, Hash string
	// Hint is what is known of the beginning of a hashed key. That of another is
	// chosen by [Lines].
	Hint        string
	Name, Owner string
	// Groups are what it belonged to there: ACL groups, policies, tags.
	Groups    []string
	ExpiresAt time.Time
	// Notes are what import lines cannot say.
	Notes []string
}

// Problem is an entry, or a part of one, that did not become what it was.
type Problem struct {
	Where, Msg string
}

func (p Problem) String() string { return p.Where + ": " + p.Msg }

// Options say what import lines get that exports do not have.
type Options struct {
	// Cost of the hashes, 4 to 14. Default: 10.
	Cost int
	// Formats are the accepted forms of native keys, from which hints must differ.
	Formats []keystore.Format
	// Scopes are given to all keys, Groups to those of a group.
	Scopes []string
	Groups map[string][]string
	// Plan is that of all keys.
	Plan string
}

// Line is one import line.
type Line struct {
	Hash        string   `json:"hash"`
	Hint        string   `json:"hint"`
	Name        string   `json:"name"`
	Owner       string   `json:"owner,omitempty"`
	Permissions []string `json:"permissions,omitempty"`
	Plan        string   `json:"plan,omitempty"`
	ExpiresAt   string   `json:"expires_at,omitempty"`
}

// maxShared is how many imported keys may have one hint.
const maxShared = 16

// weakKey is the length below which a warning says that a key is short.
const weakKey = 20

// Lines makes import lines of entries. What could not be converted is in
// problems; warnings are about lines that were.
func Lines(entries []Entry, opts Options) (lines []Line, problems, warnings []Problem) {
	if opts.Cost == 0 {
		opts.Cost = 10
	}
	c := converter{opts: opts, beginnings: make(map[string]int)}
	entries = slices.Clone(entries)
	seen := make(map[string]string, len(entries))
	entries = slices.DeleteFunc(entries, func(e Entry) bool {
		err := c.check(&e)
		if first, twice := seen[e.Key+e.Hash]; err == nil && twice {
			err = fmt.Errorf("the same key as %s: one key stands for one record; take one of them out", first)
		}
		if err != nil {
			problems = append(problems, Problem{e.Where, err.Error()})
			return true
		}
		seen[e.Key+e.Hash] = e.Where
		for n := keystore.MinHint; n <= min(keystore.MaxHint, len(e.Key)); n++ {
			c.beginnings[e.Key[:n]]++
		}
		return false
	})
	made := make([]Line, len(entries))
	failed := c.hints(entries)
	work := make(chan int)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range work {
				made[i], failed[i] = c.line(&entries[i])
			}
		})
	}
	for i := range entries {
		if failed[i] == nil {
			work <- i
		}
	}
	close(work)
	wg.Wait()
	for i := range entries {
		if failed[i] != nil {
			problems = append(problems, Problem{entries[i].Where, failed[i].Error()})
			continue
		}
		lines = append(lines, made[i])
		for _, n := range c.notes(&entries[i], &made[i]) {
			warnings = append(warnings, Problem{entries[i].Where, n})
		}
	}
	return lines, problems, warnings
}

type converter struct {
	opts Options
	// beginnings counts the keys that begin so.
	beginnings map[string]int
}

// check says whether an entry can be a key here at all.
func (c *converter) check(e *Entry) error {
	if err := keystore.ValidName(e.Name); err != nil {
		return err
	}
	if err := keystore.ValidOwner(e.Owner); err != nil {
		return err
	}
	if e.Key == "" {
		if err := keystore.ValidHash([]byte(e.Hash)); err != nil {
			return err
		}
		if e.Hint == "" {
			return fmt.Errorf("of a hash the hint must be given: the first %d to %d characters of its password, as --hint %s=TEXT; or make a new key", keystore.MinHint, keystore.MaxHint, e.Name)
		}
		return keystore.ValidHint(e.Hint, c.opts.Formats)
	}
	switch {
	case len(e.Key) > keystore.MaxKeyLen:
		return fmt.Errorf("the key has more than %d characters, beyond which bcrypt does not look; make a new key", keystore.MaxKeyLen)
	case len(e.Key) < keystore.MinHint+2:
		return fmt.Errorf("the key has fewer than %d characters; make a new key", keystore.MinHint+2)
	case strings.ContainsFunc(e.Key, func(r rune) bool { return r < '!' || r > '~' }):
		return errors.New("the key holds a character that cannot be sent as a bearer token; make a new key")
	case strings.Count(e.Key, ".") == 2:
		return errors.New("the key has two dots, by which it would pass for a JWT; make a new key")
	}
	return nil
}

// hints gives each entry with a key its hint: the shortest beginning that not
// more than 16 keys share. Where even the longest is shared by more, the first 16
// get it.
func (c *converter) hints(entries []Entry) (failed []error) {
	failed = make([]error, len(entries))
	given := make(map[string]int)
	for i := range entries {
		e := &entries[i]
		if e.Key == "" {
			given[e.Hint]++
			continue
		}
		longest := min(keystore.MaxHint, len(e.Key)-1)
		crowded := false
		for n := keystore.MinHint; n <= longest && e.Hint == ""; n++ {
			hint := e.Key[:n]
			switch {
			case keystore.ValidHint(hint, c.opts.Formats) != nil:
			case c.beginnings[hint] <= maxShared || n == longest && given[hint] < maxShared:
				e.Hint = hint
				given[hint]++
			case n == longest:
				crowded = true
			}
		}
		switch {
		case e.Hint != "":
		case crowded:
			failed[i] = fmt.Errorf("more than %d keys share its first %d characters, and the first %d of them are converted: make a new key with 'apikey create', and let the client change to it while both gates run", maxShared, longest, maxShared)
		default:
			failed[i] = errors.New("its beginning is too near a key prefix of the configuration: make a new key with 'apikey create'")
		}
	}
	return failed
}

func (c *converter) line(e *Entry) (Line, error) {
	l := Line{Hash: e.Hash, Hint: e.Hint, Name: e.Name, Owner: e.Owner, Plan: c.opts.Plan}
	if e.Key != "" {
		hash, err := bcrypt.GenerateFromPassword([]byte(e.Key), c.opts.Cost)
		if err != nil {
			return Line{}, fmt.Errorf("hash the key: %w", err)
		}
		l.Hash = string(hash)
	}
	l.Permissions = slices.Clone(c.opts.Scopes)
	for _, g := range e.Groups {
		for _, s := range c.scopesOf(g) {
			if !slices.Contains(l.Permissions, s) {
				l.Permissions = append(l.Permissions, s)
			}
		}
	}
	if !e.ExpiresAt.IsZero() {
		l.ExpiresAt = e.ExpiresAt.UTC().Format(time.RFC3339)
	}
	return l, nil
}

// scopesOf are the scopes of a group: what was said, or its own name where that
// is a scope. A wildcard is never taken from an export.
func (c *converter) scopesOf(group string) []string {
	if scopes, ok := c.opts.Groups[group]; ok {
		return scopes
	}
	if policy.ParseScope(group) == nil && !strings.Contains(group, "*") {
		return []string{group}
	}
	return nil
}

func (c *converter) notes(e *Entry, l *Line) []string {
	notes := slices.Clone(e.Notes)
	if n := len(e.Key); n > 0 && n < weakKey {
		notes = append(notes, fmt.Sprintf("the key has %d characters, of which %d stand in clear as the hint; replace it soon", n, len(l.Hint)))
	}
	for _, g := range e.Groups {
		if len(c.scopesOf(g)) == 0 {
			notes = append(notes, fmt.Sprintf("the group %q gives it no scope; say which with --map %s=SCOPE", g, g))
		}
	}
	if len(l.Permissions) == 0 {
		notes = append(notes, "it gets no scope, and opens only routes that ask for none; give one with --scope or --map")
	}
	return notes
}
