package caddymodule

import "time"

// wall is the time to judge the request by: what lies in a keystore that several
// machines share, tokens, codes and signed times are all about one time, whatever
// this machine's clock says (see keystore.Clock). Durations are measured by x.now.
func (x *exchange) wall() time.Time {
	if keys := x.rt.keys.ready.Load(); keys != nil {
		return keys.verifier.Wall(x.now)
	}
	return x.now
}
