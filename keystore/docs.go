package keystore

import "context"

// Doc is a small document beside the records: the second factor of a subject,
// a sealed signing secret. The store does not look inside.
type Doc struct {
	// Version changes with every change; never empty.
	Version string
	Data    []byte
}

// DocStore keeps documents by kind and name. Both are compared byte for byte.
// Stores that implement it pass storetest.RunDocs.
type DocStore interface {
	// LoadDoc returns a document, or ErrNotFound.
	LoadDoc(ctx context.Context, kind, name string) (Doc, error)
	// SwapDoc replaces a document if the stored one still has the version old,
	// atomically over all that share the store. An empty old asks that there be
	// none yet; a nil next removes it. It reports whether it did.
	SwapDoc(ctx context.Context, kind, name, old string, next *Doc) (bool, error)
	// DocNames returns names of a kind in ascending order of their bytes, those
	// after the given one (empty: from the first), at most limit of them.
	DocNames(ctx context.Context, kind, after string, limit int) ([]string, error)
}
