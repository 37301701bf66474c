package redisstore_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hivegate/hivegate/limiter/redisstore"
)

func TestURLsAreRead(t *testing.T) {
	base := redisstore.Address{Prefix: "hivegate:", Timeout: 200 * time.Millisecond}
	with := func(change func(*redisstore.Address)) redisstore.Address {
		a := base
		change(&a)
		return a
	}
	for text, want := range map[string]redisstore.Address{
		"redis://r":             with(func(a *redisstore.Address) { a.Hosts = []string{"r:6379"} }),
		"valkey://r:1/":         with(func(a *redisstore.Address) { a.Hosts = []string{"r:1"} }),
		"redis://[::1]":         with(func(a *redisstore.Address) { a.Hosts = []string{"[::1]:6379"} }),
		"redis://[::1]:7/3":     with(func(a *redisstore.Address) { a.Hosts, a.DB = []string{"[::1]:7"}, 3 }),
		"redis://:p%40w%2F@r/2": with(func(a *redisstore.Address) { a.Hosts, a.Password, a.DB = []string{"r:6379"}, "p@w/", 2 }),
		"rediss://gate:a:b@r?prefix=eu:&timeout=1s&ca=/ca.pem&server_name=r.internal&db=4": with(func(a *redisstore.Address) {
			a.Hosts, a.User, a.Password, a.TLS, a.DB = []string{"r:6379"}, "gate", "a:b", true, 4
			a.Prefix, a.Timeout, a.CAFile, a.ServerName = "eu:", time.Second, "/ca.pem", "r.internal"
		}),
		"redis+sentinel://u:p@a,b:1/main/5?sentinel_user=s&sentinel_password=x": with(func(a *redisstore.Address) {
			a.Hosts, a.Master, a.DB, a.User, a.Password = []string{"a:26379", "b:1"}, "main", 5, "u", "p"
			a.SentinelUser, a.SentinelPassword = "s", "x"
		}),
		"rediss+cluster://a:1,b:2": with(func(a *redisstore.Address) {
			a.Hosts, a.Cluster, a.TLS = []string{"a:1", "b:2"}, true, true
		}),
		"redis+unix:///run/redis.sock?db=1": with(func(a *redisstore.Address) {
			a.Hosts, a.Socket, a.DB = []string{"/run/redis.sock"}, true, 1
		}),
	} {
		got, err := redisstore.ParseURL(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if !reflect.DeepEqual(*got, want) {
			t.Errorf("%s:\n %+v, want\n %+v", text, *got, want)
		}
	}
}

func TestMistakesInURLsAreNamedWithoutTheirSecrets(t *testing.T) {
	const secret = "hunter2"
	for text, names := range map[string]string{
		"":                                   "no scheme",
		"r:6379":                             "no scheme",
		"http://:hunter2@r":                  "redis://",
		"redis+http://:hunter2@r":            "redis://",
		"rediss+unix://:hunter2@/s":          "redis://",
		"redis://:hunter2@":                  "HOST:PORT",
		"redis://:hunter2@r:0":               "HOST:PORT",
		"redis://:hunter2@r:port":            "HOST:PORT",
		"redis://:hunter2@::1":               "brackets",
		"redis://:hunter2@a,b":               "several hosts",
		"redis://:hunter2@r/x":               "database",
		"redis://:hunter2@r/-1":              "database",
		"redis+cluster://:hunter2@a/1":       "database 0",
		"redis+sentinel://:hunter2@a":        "no master",
		"redis://user@r":                     "without a password",
		"redis://:hunter2%zz@r":              "%25",
		"redis://:hunter2#@r":                "%23",
		"redis://:hunter2@r?timeout=5s":      "timeout=",
		"redis://:hunter2@r?timeout=1ms":     "timeout=",
		"redis://:hunter2@r?prefix={a}":      "prefix=",
		"redis://:hunter2@r?prefix=":         "prefix=",
		"redis://:hunter2@r?ca=x":            "rediss://",
		"redis://:hunter2@r?colour=red":      "colour",
		"redis://:hunter2@r?db=1&db=2":       "once",
		"redis://:hunter2@r?sentinel_user=a": "redis+sentinel://",
		"redis+unix://:hunter2@host/run/s":   "path",
		"redis+unix://:hunter2@":             "path",
		"redis://:hunter2@r?%zz":             "name=value",
		"redis+sentinel://:hunter2@a/m/x":    "database",
		"redis://:hunter2@r?prefix=a%20b":    "prefix=",
	} {
		_, err := redisstore.ParseURL(text)
		if err == nil {
			t.Errorf("%s was read", text)
			continue
		}
		if !strings.Contains(err.Error(), names) {
			t.Errorf("%s: %v, want %q named", text, err, names)
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error repeats the password: %v", text, err)
		}
	}
	a, err := redisstore.ParseURL("rediss+sentinel://gate:hunter2@a,b/main/3?sentinel_password=hunter2")
	if err != nil || a.String() != "rediss+sentinel://a:26379,b:26379/main/3" {
		t.Errorf("shown as %v (%v)", a, err)
	}
}

func FuzzParseURL(f *testing.F) {
	f.Add("redis://:p%40w@r:1/2?prefix=a:&timeout=1s")
	f.Add("redis+sentinel://u:p@a,b:1/main/5?sentinel_user=s")
	f.Add("redis+unix:///run/redis.sock")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := redisstore.ParseURL(text)
		if err != nil {
			return
		}
		if len(a.Hosts) == 0 || a.Prefix == "" || a.Timeout <= 0 || strings.ContainsAny(a.Prefix, "{}") {
			t.Fatalf("%q gives %+v", text, a)
		}
		if len(a.Password) > 3 && strings.Contains(a.String(), a.Password) && !strings.Contains(strings.Join(a.Hosts, ",")+a.Master, a.Password) {
			t.Fatalf("%q is shown with its password", text)
		}
	})
}
