package sealed

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
)

// dataKeyAD is what the sealed data key belongs to.
var dataKeyAD = []byte("hivegate data key")

const dataKeyLen = 32

// DataKeyStore keeps the sealed data key; a keystore.Store is one.
type DataKeyStore interface {
	// DataKey returns the sealed data key, nil where there is none.
	DataKey(ctx context.Context) ([]byte, error)
	// PutDataKey stores sealed if what is stored still equals old (nil: none),
	// and returns what is stored afterwards.
	PutDataKey(ctx context.Context, old, sealed []byte) ([]byte, error)
}

// NewDataKey makes a random data key of 32 bytes.
func NewDataKey() []byte {
	key := make([]byte, dataKeyLen)
	rand.Read(key)
	return key
}

// SealDataKey seals a data key under the ring's primary key.
func SealDataKey(r Ring, key []byte) ([]byte, error) {
	if len(key) != dataKeyLen {
		return nil, fmt.Errorf("seal data key: it has %d bytes instead of %d", len(key), dataKeyLen)
	}
	return r.Seal(key, dataKeyAD)
}

// OpenDataKey opens a data key with any key of the ring.
func OpenDataKey(r Ring, sealed []byte) ([]byte, error) {
	key, err := r.Open(sealed, dataKeyAD)
	switch {
	case errors.Is(err, ErrOtherKey):
		return nil, fmt.Errorf("open data key: the keystore was sealed under another master_key: give that one, after the new one if it is to be replaced (%w)", err)
	case err != nil:
		return nil, fmt.Errorf("open data key: restore the keystore from a backup (%w)", err)
	case len(key) != dataKeyLen:
		return nil, fmt.Errorf("open data key: it has %d bytes instead of %d (%w)", len(key), dataKeyLen, ErrDamaged)
	}
	return key, nil
}

// LoadDataKey returns the data key that the store holds, opened, and makes one
// where there is none. Of several processes that do so at once, all get the same.
func LoadDataKey(ctx context.Context, store DataKeyStore, r Ring) ([]byte, error) {
	held, err := store.DataKey(ctx)
	if err != nil {
		return nil, fmt.Errorf("read data key: %w", err)
	}
	if len(held) == 0 {
		sealed, err := SealDataKey(r, NewDataKey())
		if err != nil {
			return nil, err
		}
		// Whatever is stored afterwards counts, ours or another's.
		if held, err = store.PutDataKey(ctx, nil, sealed); err != nil {
			return nil, fmt.Errorf("store data key: %w", err)
		}
	}
	return OpenDataKey(r, held)
}

// ResealDataKey seals the stored data key under the ring's primary key. It
// reports whether it had to, and wants another try where somebody changed the
// stored one meanwhile.
func ResealDataKey(ctx context.Context, store DataKeyStore, r Ring) (changed bool, err error) {
	held, err := store.DataKey(ctx)
	if err != nil {
		return false, fmt.Errorf("read data key: %w", err)
	}
	if len(held) == 0 {
		return false, nil
	}
	if _, err := OpenDataKey(r, held); err != nil {
		return false, err
	}
	fresh, changed, err := r.Reseal(held, dataKeyAD)
	if err != nil || !changed {
		return false, err
	}
	now, err := store.PutDataKey(ctx, held, fresh)
	if err != nil {
		return false, fmt.Errorf("store data key: %w", err)
	}
	if !bytes.Equal(now, fresh) {
		return false, errors.New("reseal data key: another process changed it meanwhile: run reseal again")
	}
	return true, nil
}
