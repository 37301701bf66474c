package caddymodule

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/hivegate/hivegate/internal/refusal"
)

// healthAnswer is the body of the health and ready paths.
type healthAnswer struct {
	Status   string `json:"status"`
	Keystore string `json:"keystore"`
	Limiter  string `json:"limiter"`
}

// readyTimeout bounds how long a store may take to answer; a probe that waits
// longer has its answer already.
const readyTimeout = 2 * time.Second

// answersProbe reports whether the gate itself answers a request, with its
// health. Such a request may come over plain HTTP wherever keys may not: it needs
// no credential, the answer holds none, and an orchestrator's probe of the
// gate's own address has no TLS.
func (g *Gate) answersProbe(method, path string) bool {
	return g.isOwn(path) && (method == http.MethodGet || method == http.MethodHead)
}

// isOwn reports whether path is exactly the health or the ready path.
func (g *Gate) isOwn(path string) bool {
	return path != "" && (path == g.Health || path == g.Ready)
}

// ownPath answers the health and ready paths. They need no credential, touch no
// limit and say nothing but up or down.
func (g *Gate) ownPath(x *exchange) bool {
	if !g.isOwn(x.path) {
		return false
	}
	if !g.answersProbe(x.r.Method, x.path) {
		ref := &refusal.Refusal{Reason: refusal.ReasonMethodNotAllowed, Allow: "GET, HEAD"}
		_ = x.refuse(ref)
		return true
	}
	answer := x.rt.health(x.r.Context())
	status := http.StatusOK
	if answer.Status != "ok" {
		// Alive means that this process answers. Ready means that it can do
		// its work, which needs the stores.
		if x.path == g.Ready {
			status = http.StatusServiceUnavailable
		} else {
			answer.Status = "ok"
		}
	}
	body, err := json.Marshal(answer)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{}`)
	}
	h := x.responder.ResponseWriter.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	x.responder.WriteHeader(status)
	if x.r.Method != http.MethodHead {
		_, _ = x.responder.Write(body) // the prober left
	}
	return true
}

// health asks the stores.
func (rt *runtime) health(ctx context.Context) healthAnswer {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	a := healthAnswer{Status: "ok", Keystore: "ok", Limiter: "ok"}
	keys, err := rt.keys.opened(ctx)
	if err == nil {
		err = keys.store.Ping(ctx)
	}
	if err != nil {
		a.Status, a.Keystore = "unavailable", "unavailable"
	}
	if err := rt.limits.Ping(ctx); err != nil {
		a.Status, a.Limiter = "unavailable", "unavailable"
	}
	return a
}
