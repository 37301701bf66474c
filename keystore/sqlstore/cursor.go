package sqlstore

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"github.com/hivegate/hivegate/keystore"
)

// cursor is the last record of a page: the next page holds what was created
// before it. It stays right while keys are added, because it names a place and
// not a number of rows.
type cursor struct {
	created int64 // microseconds since the epoch
	id      keystore.ID
}

const cursorBytes = 8 + len(keystore.ID{})

// encode returns the cursor as callers see it: opaque, and safe in a URL.
func (c cursor) encode() string {
	var raw [cursorBytes]byte
	binary.BigEndian.PutUint64(raw[:8], uint64(c.created))
	copy(raw[8:], c.id[:])
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

// decodeCursor reads what encode made. The error wraps keystore.ErrCursor.
func decodeCursor(text string) (c cursor, err error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err == nil && len(raw) == cursorBytes {
		c.created = int64(binary.BigEndian.Uint64(raw[:8]))
		copy(c.id[:], raw[8:])
		// The decoder passes over line ends; one text per cursor is enough.
		if _, err := keystore.ParseID(c.id.String()); err == nil && c.encode() == text {
			return c, nil
		}
	}
	return cursor{}, fmt.Errorf("%w: use next_cursor of the page before as it is", keystore.ErrCursor)
}
