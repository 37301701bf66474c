package sealed

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

var errKeyForm = errors.New("the master key must be 32 random bytes as base64 or hex: make one with 'openssl rand -base64 32'")

// ParseKey reads a master key: 32 bytes as 64 hex digits, or as base64 in the
// standard or URL alphabet, padded or not. Space around it is ignored. The error
// never holds what was given.
func ParseKey(s string) (key [32]byte, err error) {
	s = strings.TrimSpace(s)
	var raw []byte
	if len(s) == hex.EncodedLen(len(key)) {
		raw, err = hex.DecodeString(s)
	} else {
		text := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
		if len(s)-len(text) > 1 || strings.ContainsAny(s, "\r\n") {
			return key, errKeyForm
		}
		raw, err = base64.RawStdEncoding.Strict().DecodeString(text)
	}
	if err != nil || len(raw) != len(key) {
		return key, errKeyForm
	}
	copy(key[:], raw)
	clear(raw)
	return key, nil
}

// maxKeyFile is more than a key file ever holds.
const maxKeyFile = 4 << 10

// LoadKeyFile reads a master key from a file that only its owner may read. A
// file that is not there is an error that wraps fs.ErrNotExist.
func LoadKeyFile(path string) (key [32]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return key, fmt.Errorf("open key file: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	// The open file is asked, not the path, which may lead elsewhere by now.
	info, err := f.Stat()
	if err != nil {
		return key, fmt.Errorf("examine key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return key, fmt.Errorf("the key file %s is not a regular file", path)
	}
	if err := checkMode(path, info.Mode()); err != nil {
		return key, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return key, fmt.Errorf("read key file: %w", err)
	}
	defer clear(text)
	switch {
	case len(text) > maxKeyFile:
		return key, fmt.Errorf("the key file %s is longer than a key: it must hold one line", path)
	case len(strings.TrimSpace(string(text))) == 0:
		return key, fmt.Errorf("the key file %s is empty: put the key back, from a backup if need be", path)
	}
	if key, err = ParseKey(string(text)); err != nil {
		return key, fmt.Errorf("read key file %s: %w", path, err)
	}
	return key, nil
}

// checkMode refuses what others than the owner may read or write. Windows keeps
// no such bits.
func checkMode(path string, mode fs.FileMode) error {
	if runtime.GOOS != "windows" && mode.Perm()&0o077 != 0 {
		return fmt.Errorf("the key file %s may be used by others than its owner (mode %04o): run chmod 600 %s", path, mode.Perm(), path)
	}
	return nil
}

// CreateKeyFile makes a random master key and writes it to a new file, mode
// 0600, complete and on disk when it returns. Where there is a file already the
// error wraps fs.ErrExist, and the file is left alone.
func CreateKeyFile(path string) (key [32]byte, err error) {
	rand.Read(key[:])
	// Written aside and linked into place: whoever sees the file sees all of it,
	// and of several processes one wins.
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".key-*") // mode 0600, O_EXCL
	if err != nil {
		return [32]byte{}, fmt.Errorf("make key file: %w", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	if err := writeKey(tmp, &key); err != nil {
		return [32]byte{}, fmt.Errorf("write key file: %w", err)
	}
	err = os.Link(tmp.Name(), path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		// Some file systems have no links; an exclusive file is next best.
		err = writeExclusive(path, &key)
	}
	if err != nil {
		return [32]byte{}, fmt.Errorf("make key file %s: %w", path, err)
	}
	if err := syncDir(dir); err != nil {
		return [32]byte{}, fmt.Errorf("write key file: %w", err)
	}
	return key, nil
}

func writeExclusive(path string, key *[32]byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := writeKey(f, key); err != nil {
		_ = os.Remove(path) // ours, and no key: the next start may try again
		return err
	}
	return nil
}

// writeKey writes key as a line, waits until it is on disk, and closes f.
func writeKey(f *os.File, key *[32]byte) error {
	line := append(base64.StdEncoding.AppendEncode(nil, key[:]), '\n')
	defer clear(line)
	_, err := f.Write(line)
	return errors.Join(err, f.Sync(), f.Close())
}

// syncDir makes the file's name last; not every system can do that.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}
