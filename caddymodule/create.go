package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hivegate/hivegate/keystore"
)

// KeyRequest is a key to be made by [CreateKeys].
type KeyRequest struct {
	Name, Owner, Plan string
	Scopes            []string
}

// CreatedKey is a key that was made. Key is the only copy of the secret.
type CreatedKey struct{ ID, Key string }

// CreateKeys makes keys in the keystore that a configuration (Caddy's JSON)
// names, which is created where it is missing: all of them or an error.
func CreateKeys(ctx context.Context, config []byte, requests ...KeyRequest) (_ []CreatedKey, err error) {
	var cfg struct {
		Apps map[string]json.RawMessage `json:"apps"`
	}
	if err := json.Unmarshal(config, &cfg); err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	app, cancel, err := (&commandConfig{apps: cfg.Apps}).app()
	if err != nil {
		return nil, err
	}
	defer cancel()
	store, crypto, _, err := app.runtime.keys.spec.openStore(ctx, true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	keeper := app.runtime.keeper(store, crypto)
	created := make([]CreatedKey, 0, len(requests))
	for _, r := range requests {
		by := keystore.Change{Action: "create", Actor: "command", At: time.Now()}
		rec, key, err := keeper.Create(ctx, by, keystore.NewKey{Name: r.Name, Owner: r.Owner, Plan: r.Plan, Scopes: r.Scopes})
		if err != nil {
			return nil, fmt.Errorf("create key %s: %w", r.Name, err)
		}
		created = append(created, CreatedKey{ID: rec.ID.String(), Key: key})
	}
	return created, nil
}
