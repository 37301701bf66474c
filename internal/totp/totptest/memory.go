package totptest

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/hivegate/hivegate/internal/totp"
)

// Memory is a [totp.Store] in memory, for tests. It is not bounded: a test
// enrolls what it enrolls.
type Memory struct {
	mu     sync.Mutex // guards states
	states map[string]*totp.State
}

// NewMemory returns an empty store.
func NewMemory() *Memory { return &Memory{states: map[string]*totp.State{}} }

// Load implements [totp.Store].
func (m *Memory) Load(ctx context.Context, subject string) (*totp.State, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.states[subject]
	if s == nil {
		return nil, totp.ErrNotEnrolled
	}
	return s.Clone(), nil
}

// Swap implements [totp.Store].
func (m *Memory) Swap(ctx context.Context, subject, old string, next *totp.State) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	version := ""
	if s := m.states[subject]; s != nil {
		version = s.Version
	}
	switch {
	case version != old:
		return false, nil
	case next != nil:
		m.states[subject] = next.Clone()
	case version == "":
		return false, nil
	default:
		delete(m.states, subject)
	}
	return true, nil
}

// Subjects implements [totp.Store].
func (m *Memory) Subjects(ctx context.Context, after string, limit int) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	all := slices.Sorted(maps.Keys(m.states))
	all = slices.DeleteFunc(all, func(s string) bool { return s <= after })
	return all[:min(len(all), limit)], nil
}
