package keycli_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/keystore/sqlstore"
)

// node plays a gate on the shell's keystore: it confirms whatever changes, until
// the test ends.
func (sh *shell) node(name string, confirms bool) {
	sh.t.Helper()
	// Not the test's context: it ends before the node is stopped.
	store, err := sqlstore.OpenSQLite(context.Background(), sh.path, sqlstore.Options{})
	if err != nil {
		sh.t.Fatal(err)
	}
	beat := func() error {
		n := keystore.Node{ID: name, Name: name, MaxStaleness: time.Minute}
		if confirms {
			if n.Seq, err = store.Seq(context.Background()); err != nil {
				return err
			}
		}
		return store.Beat(context.Background(), n)
	}
	if err := beat(); err != nil {
		sh.t.Fatal(err)
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				if err := beat(); err != nil {
					sh.t.Error(err)
					return
				}
			}
		}
	}()
	sh.t.Cleanup(func() {
		close(stop)
		<-ended
		if err := store.Close(); err != nil {
			sh.t.Error(err)
		}
	})
}

func (sh *shell) newID() string {
	sh.t.Helper()
	out := sh.ok("create", "--name", "x", "--scope", "crews:read")
	i := strings.Index(out, "key_")
	if i < 0 {
		sh.t.Fatalf("no id in %q", out)
	}
	return out[i : i+16]
}

func TestRevokeWaitReturnsWhenAllGatesHaveConfirmed(t *testing.T) {
	sh := newShell(t)
	id := sh.newID()
	for i := range 3 {
		sh.node(fmt.Sprintf("host pid %d", i), true)
	}
	begin := time.Now()
	if out := sh.ok("revoke", id, "--wait"); !strings.Contains(out, "All 3 gates have confirmed") {
		t.Errorf("it said %q", out)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestRevokeWaitNamesTheGatesThatHaveNotConfirmed(t *testing.T) {
	sh := newShell(t)
	id := sh.newID()
	sh.node("host pid 1", true)
	sh.node("host pid 2", false)
	stdout, stderr, err := sh.run("revoke", id, "--wait")
	if err == nil || !strings.Contains(err.Error(), "host pid 2") || strings.Contains(err.Error(), "host pid 1") {
		t.Errorf("%v, %q, %q; want the name of the second alone", err, stdout, stderr)
	}
	if !strings.Contains(stdout, "is revoked") {
		t.Errorf("it does not say that the key is revoked all the same: %q", stdout)
	}
}
