package totp

import (
	"bytes"
	"fmt"
	"io"

	"github.com/mdp/qrterminal/v3"
)

// maxURI is the longest text that fits into a QR code of level L.
const maxURI = 2900

// QR draws a URI as a QR code for terminals, in half blocks, light on dark.
func QR(w io.Writer, uri string) error {
	if len(uri) > maxURI {
		return fmt.Errorf("draw QR code: the URI has %d bytes, at most %d fit: type the secret instead", len(uri), maxURI)
	}
	var drawn bytes.Buffer
	qrterminal.GenerateHalfBlock(uri, qrterminal.L, &drawn)
	if _, err := w.Write(drawn.Bytes()); err != nil {
		return fmt.Errorf("draw QR code: %w", err)
	}
	return nil
}
