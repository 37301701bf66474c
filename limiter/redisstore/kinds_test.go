package redisstore_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hivegate/hivegate/internal/testservers"
	"github.com/hivegate/hivegate/limiter"
	"github.com/hivegate/hivegate/limiter/limitertest"
)

func do(t *testing.T, r *testservers.Redis, words ...string) string {
	t.Helper()
	out, err := r.Do(words...)
	if err != nil {
		t.Fatalf("%v: %v", words, err)
	}
	return out
}

// startCluster starts three masters that share the slots.
func startCluster(t *testing.T) (nodes []*testservers.Redis, url string) {
	t.Helper()
	var hosts []string
	for i := range 3 {
		r := startServer(t, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "2000")
		from, to := i*5461, i*5461+5460
		if i == 2 {
			to = 16383
		}
		do(t, r, "CLUSTER", "ADDSLOTSRANGE", fmt.Sprint(from), fmt.Sprint(to))
		do(t, r, "CLUSTER", "SET-CONFIG-EPOCH", fmt.Sprint(i+1))
		nodes, hosts = append(nodes, r), append(hosts, r.Addr())
	}
	for _, r := range nodes[1:] {
		do(t, r, "CLUSTER", "MEET", "127.0.0.1", fmt.Sprint(nodes[0].Port))
	}
	eventually(t, 30*time.Second, "the cluster is one", func() bool {
		for _, r := range nodes {
			if out, err := r.Do("CLUSTER", "INFO"); err != nil || !strings.Contains(out, "cluster_state:ok") || !strings.Contains(out, "cluster_known_nodes:3") {
				return false
			}
		}
		return true
	})
	return nodes, "redis+cluster://" + strings.Join(hosts, ",") + "?timeout=2s"
}

// TestAClusterConforms, but for what no script does there: to look at two subjects
// in two places at one moment.
func TestAClusterConforms(t *testing.T) {
	nodes, url := startCluster(t)
	limitertest.RunBut(t, func(t *testing.T) limiter.Limiter {
		for _, r := range nodes {
			do(t, r, "FLUSHALL")
		}
		s := open(t, url, handClock)
		up(t, s)
		return s
	}, "NobodySeesHalfADecision")
	t.Run("TheKeysAreSpread", func(t *testing.T) {
		s := open(t, url, nil)
		up(t, s)
		for i := range 60 {
			decide(t, s, &limiter.Request{Demands: []limiter.Demand{one(mustLimit(t, "plan", 60, time.Minute, 0), fmt.Sprint("owner:", i))}})
		}
		for i, r := range nodes {
			if n := do(t, r, "DBSIZE"); n == "0" {
				t.Errorf("node %d holds no key", i)
			}
		}
		if !s.Up() {
			t.Error("the cluster was taken for away")
		}
	})
	t.Run("DecidesAsMemoryDoes", func(t *testing.T) {
		for _, r := range nodes {
			do(t, r, "FLUSHALL")
		}
		s := open(t, url, handClock)
		up(t, s)
		limitertest.Differential(t, newMemory(t), s, 7, 1500)
	})
	t.Run("LeasesAreKept", func(t *testing.T) {
		for _, r := range nodes {
			do(t, r, "FLUSHALL")
		}
		s := open(t, url, leased)
		up(t, s)
		other := newMemory(t)
		plan, ai := mustLimit(t, "plan", 600, time.Minute, 300), mustLimit(t, "ai", 300, time.Minute, 200)
		now, passed := limitertest.Epoch, 0
		for i := range 3000 {
			now = now.Add(5 * time.Millisecond)
			req := &limiter.Request{Demands: []limiter.Demand{one(plan, "owner:a"), one(ai, fmt.Sprint("203.0.113.", i%2))}}
			var dec, want limiter.Decision
			if err := s.Decide(context.Background(), now, req, &dec); err != nil || dec.Degraded {
				t.Fatal(dec, err)
			}
			if dec.Outcome != limiter.Allowed {
				continue
			}
			passed++
			if err := other.Decide(context.Background(), now, req, &want); err != nil || want.Outcome != limiter.Allowed {
				t.Fatalf("request %d: the cluster lets it through, one bucket does not: %+v", i, want)
			}
		}
		if s.Local() == 0 || passed < 300+150-20 || passed > 450 {
			t.Errorf("%d let through, %d of them on leased tokens", passed, s.Local())
		}
	})
	t.Run("ALostMasterIsAwayAndComesBack", func(t *testing.T) {
		s := open(t, strings.Replace(url, "timeout=2s", "timeout=200ms", 1), nil)
		up(t, s)
		l := mustLimit(t, "plan", 10, time.Hour, 0)
		ask := func() limiter.Decision {
			return decide(t, s, &limiter.Request{Demands: []limiter.Demand{one(l, "owner:lost")}})
		}
		ask()
		for _, r := range nodes {
			if err := r.Pause(); err != nil {
				t.Fatal(err)
			}
		}
		within(t, func() {
			if dec := ask(); dec.Outcome != limiter.Allowed || !dec.Degraded {
				t.Fatalf("%+v", dec)
			}
		})
		for _, r := range nodes {
			if err := r.Resume(); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, 20*time.Second, "it is back", s.Up)
		if dec := ask(); dec.States[0].Remaining > 7 {
			t.Errorf("%+v after the third of ten", dec)
		}
	})
}

func TestSentinelsLeadToTheNewMaster(t *testing.T) {
	master, replica := startServer(t), startServer(t)
	do(t, replica, "REPLICAOF", "127.0.0.1", fmt.Sprint(master.Port))
	eventually(t, 20*time.Second, "the replica follows", func() bool {
		out, err := replica.Do("INFO", "replication")
		return err == nil && strings.Contains(out, "master_link_status:up")
	})
	sentinel, err := testservers.StartSentinel("main", master.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sentinel.Close() })
	eventually(t, 20*time.Second, "the sentinel knows the replica", func() bool {
		out, err := sentinel.Do("SENTINEL", "REPLICAS", "main")
		return err == nil && strings.Contains(out, fmt.Sprint(replica.Port))
	})
	s := open(t, "redis+sentinel://"+sentinel.Addr()+"/main", nil)
	up(t, s)
	l := mustLimit(t, "plan", 10, time.Hour, 0)
	ask := func() limiter.Decision {
		return decide(t, s, &limiter.Request{Demands: []limiter.Demand{one(l, "ada")}})
	}
	for range 4 {
		ask()
	}
	if err := master.Kill(); err != nil {
		t.Fatal(err)
	}
	within(t, func() {
		if dec := ask(); dec.Outcome != limiter.Allowed || !dec.Degraded || dec.States[0].Remaining != 5 {
			t.Fatalf("alone: %+v", dec)
		}
	})
	eventually(t, 40*time.Second, "the replica is the master, and known as such", s.Up)
	if dec := ask(); dec.Degraded || dec.Outcome != limiter.Allowed || dec.States[0].Remaining != 4 {
		t.Fatalf("afterwards: %+v", dec)
	}
}

// certificate writes a CA and a server certificate for 127.0.0.1 into dir.
func certificate(t *testing.T, dir string) {
	t.Helper()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "redis"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	caDER, err1 := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	leafDER, err2 := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	keyDER, err3 := x509.MarshalPKCS8PrivateKey(key)
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	for name, block := range map[string]*pem.Block{"ca.pem": {Type: "CERTIFICATE", Bytes: caDER}, "redis.pem": {Type: "CERTIFICATE", Bytes: leafDER}, "redis.key": {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTLSWithAnACLUserADatabaseAndAPrefix: the user may do what docs/operations.md
// lists, under the prefix alone.
func TestTLSWithAnACLUserADatabaseAndAPrefix(t *testing.T) {
	dir := t.TempDir()
	certificate(t, dir)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
	_ = l.Close()
	r := startServer(t, "--tls-port", port, "--tls-cert-file", dir+"/redis.pem", "--tls-key-file", dir+"/redis.key",
		"--tls-ca-cert-file", dir+"/ca.pem", "--tls-auth-clients", "no")
	do(t, r, "ACL", "SETUSER", "gate", "on", ">s3cr/t", "~eu:*", "-@all",
		"+eval", "+evalsha", "+script|load", "+get", "+set", "+del", "+zadd", "+zcard", "+zrem", "+zremrangebyscore", "+pexpire",
		"+time", "+ping", "+hello", "+select", "+client|setname")
	url := "rediss://gate:s3cr%2Ft@127.0.0.1:" + port + "/3?prefix=eu:&timeout=2s&ca=" + dir + "/ca.pem"
	s := open(t, url, nil)
	up(t, s)
	req := &limiter.Request{Demands: []limiter.Demand{one(mustLimit(t, "plan", 60, time.Minute, 0), "ada")}, Holds: []limiter.Hold{{Name: "all", Subject: "ada", Max: 1}}}
	dec := decide(t, s, req)
	if dec.Outcome != limiter.Allowed || dec.Degraded || dec.States[0].Remaining != 59 {
		t.Fatalf("%+v (%v)", dec, s.Ping(context.Background()))
	}
	if second := decide(t, s, req); second.Outcome != limiter.ConcurrencyLimited || second.Degraded {
		t.Fatalf("%+v", second)
	}
	s.Release(req, &dec)
	if third := decide(t, s, req); third.Outcome != limiter.Allowed || third.Degraded {
		t.Fatalf("%+v", third)
	}
	if n := do(t, r, "DBSIZE"); n != "0" {
		t.Errorf("%s keys in database 0", n)
	}
	for name, bad := range map[string]string{
		"no CA":          strings.Replace(url, "&ca="+dir+"/ca.pem", "", 1),
		"another name":   url + "&server_name=elsewhere.test",
		"wrong password": strings.Replace(url, "s3cr%2Ft", "wrong", 1),
		"no TLS":         "redis://gate:s3cr%2Ft@127.0.0.1:" + port,
		"other prefix":   strings.Replace(url, "prefix=eu:", "prefix=us:", 1),
		"CA missing":     strings.Replace(url, "/ca.pem", "/none.pem", 1),
	} {
		s := open(t, bad, nil)
		s.Start()
		if dec := decide(t, s, req); !dec.Degraded {
			t.Errorf("%s: the server decided", name)
		}
		if err := s.Ping(context.Background()); err == nil {
			t.Errorf("%s: the server is there", name)
		} else if strings.Contains(err.Error(), "s3cr") {
			t.Errorf("%s: the error holds the password: %v", name, err)
		}
	}
}

func TestAUnixSocketServes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.sock")
	startServer(t, "--unixsocket", path)
	s := open(t, "redis+unix://"+path+"?timeout=2s&db=2", nil)
	up(t, s)
	if dec := decide(t, s, &limiter.Request{Demands: []limiter.Demand{one(mustLimit(t, "plan", 60, time.Minute, 0), "ada")}}); dec.Degraded {
		t.Fatal("the server did not decide")
	}
}
