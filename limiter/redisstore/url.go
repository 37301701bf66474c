package redisstore

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// Defaults of an [Address].
const (
	DefaultPrefix  = "hivegate:"
	DefaultTimeout = 200 * time.Millisecond

	maxTimeout = 2 * time.Second
	minTimeout = 10 * time.Millisecond
)

// Address is where counters live: what a URL says.
type Address struct {
	// Hosts are host:port each, or the path of a socket where Socket is set.
	Hosts []string
	// Cluster: the hosts are nodes of a cluster. Master: they are sentinels,
	// which know the address of the master that has this name.
	Cluster bool
	Master  string
	Socket  bool
	// TLS asks for an encrypted connection, verified against CAFile (PEM), or
	// the system's roots where it is empty, under ServerName or the host's name.
	TLS        bool
	CAFile     string
	ServerName string

	User, Password                 string
	SentinelUser, SentinelPassword string
	DB                             int
	// Prefix begins every key.
	Prefix string
	// Timeout is how long one decision may take before this node goes on alone.
	Timeout time.Duration
}

// ParseURL reads
//
//	redis://[USER[:PASSWORD]@]HOST[:PORT][/DB]
//	redis+sentinel://[USER[:PASSWORD]@]HOST[:PORT],…/MASTER[/DB]
//	redis+cluster://[USER[:PASSWORD]@]HOST[:PORT],…
//	redis+unix://[USER[:PASSWORD]@]/PATH
//
// with rediss in the place of redis for TLS, and valkey and valkeys as other
// names. USER and PASSWORD are percent-encoded. After a "?" may stand prefix=
// (of keys, default hivegate:), timeout= (default 200ms), db=, ca= (a PEM file),
// server_name=, sentinel_user= and sentinel_password=.
//
// Errors say what to write and never repeat the URL, which may hold a password.
func ParseURL(text string) (*Address, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return nil, errors.New("the URL has no scheme: write redis://HOST:6379")
	}
	a := &Address{Prefix: DefaultPrefix, Timeout: DefaultTimeout}
	kind, err := a.scheme(scheme)
	if err != nil {
		return nil, err
	}
	if strings.Contains(rest, "#") {
		return nil, errors.New("the URL holds a '#': write %23 in a name or password")
	}
	rest, query, _ := strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		if err := a.userinfo(authority[:i]); err != nil {
			return nil, err
		}
		authority = authority[i+1:]
	}
	if err := a.query(query, kind); err != nil {
		return nil, err
	}
	if kind == "unix" {
		if authority != "" || path == "" {
			return nil, errors.New("the URL of a socket needs a path: write redis+unix:///run/redis.sock")
		}
		a.Socket, a.Hosts = true, []string{"/" + path}
		return a, nil
	}
	if err := a.hosts(authority, kind); err != nil {
		return nil, err
	}
	if err := a.path(path, kind); err != nil {
		return nil, err
	}
	return a, nil
}

// String names the address to people, without secrets.
func (a *Address) String() string {
	kind := "redis"
	if a.TLS {
		kind = "rediss"
	}
	switch {
	case a.Cluster:
		kind += "+cluster"
	case a.Master != "":
		kind += "+sentinel"
	case a.Socket:
		kind += "+unix"
	}
	s := kind + "://" + strings.Join(a.Hosts, ",")
	if a.Master != "" {
		s += "/" + a.Master
	}
	if a.DB != 0 {
		s += "/" + strconv.Itoa(a.DB)
	}
	return s
}

func (a *Address) scheme(scheme string) (kind string, _ error) {
	name, kind, _ := strings.Cut(scheme, "+")
	switch name {
	case "redis", "valkey":
	case "rediss", "valkeys":
		a.TLS = true
	default:
		return "", errors.New("the URL's scheme is unknown: write redis://, rediss://, redis+sentinel://, redis+cluster:// or redis+unix://")
	}
	switch kind {
	case "", "sentinel", "cluster":
		return kind, nil
	case "unix":
		if !a.TLS {
			return kind, nil
		}
	}
	return "", errors.New("the URL's scheme is unknown: write redis://, rediss://, redis+sentinel://, redis+cluster:// or redis+unix://")
}

func (a *Address) userinfo(text string) error {
	user, password, _ := strings.Cut(text, ":")
	var err1, err2 error
	a.User, err1 = url.PathUnescape(user)
	a.Password, err2 = url.PathUnescape(password)
	if err1 != nil || err2 != nil {
		return errors.New("the user or password of the URL is not percent-encoded: write %25 for a '%'")
	}
	if a.User != "" && a.Password == "" {
		return errors.New("the URL has a user without a password: write USER:PASSWORD@, or :PASSWORD@ for the default user")
	}
	return nil
}

func (a *Address) hosts(text, kind string) error {
	for _, h := range strings.Split(text, ",") {
		host, port := h, "6379"
		if kind == "sentinel" {
			port = "26379"
		}
		if bare, ok := strings.CutPrefix(h, "["); ok && strings.HasSuffix(bare, "]") {
			host = strings.TrimSuffix(bare, "]")
		} else if strings.Contains(h, ":") {
			var err error
			if host, port, err = net.SplitHostPort(h); err != nil {
				return errors.New("a host of the URL is malformed: write HOST:PORT, and an IPv6 address in brackets")
			}
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" || strings.ContainsAny(host, " %@") {
			return errors.New("a host of the URL is malformed: write HOST:PORT, and an IPv6 address in brackets")
		}
		a.Hosts = append(a.Hosts, net.JoinHostPort(host, port))
	}
	if kind == "" && len(a.Hosts) > 1 {
		return errors.New("the URL names several hosts: write redis+cluster:// or redis+sentinel://")
	}
	a.Cluster = kind == "cluster"
	return nil
}

func (a *Address) path(path, kind string) error {
	if kind == "sentinel" {
		a.Master, path, _ = strings.Cut(path, "/")
		if a.Master == "" {
			return errors.New("the URL names no master: write redis+sentinel://HOST:26379/MASTER")
		}
	}
	if path == "" {
		return nil
	}
	return a.database(path, kind)
}

func (a *Address) database(text, kind string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > 1<<16 {
		return errors.New("the database of the URL is no number: write redis://HOST:6379/0")
	}
	if kind == "cluster" && n != 0 {
		return errors.New("a cluster has database 0 alone: leave the number out")
	}
	a.DB = n
	return nil
}

func (a *Address) query(text, kind string) error {
	values, err := url.ParseQuery(text)
	if err != nil {
		return errors.New("what follows the URL's '?' is malformed: write name=value, joined with '&'")
	}
	for name, list := range values {
		if len(list) != 1 {
			return fmt.Errorf("%q stands %d times in the URL: write it once", name, len(list))
		}
		if err := a.option(name, list[0], kind); err != nil {
			return err
		}
	}
	return nil
}

func (a *Address) option(name, value, kind string) error {
	switch name {
	case "prefix":
		// Braces say which part of a key chooses its place in a cluster.
		if value == "" || len(value) > 64 || strings.ContainsAny(value, "{} \t\r\n") {
			return errors.New("prefix= of the URL must be 1 to 64 characters without braces and spaces")
		}
		a.Prefix = value
	case "timeout":
		d, err := time.ParseDuration(value)
		if err != nil || d < minTimeout || d > maxTimeout {
			return fmt.Errorf("timeout= of the URL must be %v to %v, as in timeout=200ms", minTimeout, maxTimeout)
		}
		a.Timeout = d
	case "db":
		return a.database(value, kind)
	case "ca", "server_name":
		if !a.TLS || value == "" {
			return fmt.Errorf("%s= of the URL needs a value and a scheme with TLS, rediss://", name)
		}
		if name == "ca" {
			a.CAFile = value
		} else {
			a.ServerName = value
		}
	case "sentinel_user", "sentinel_password":
		if kind != "sentinel" {
			return fmt.Errorf("%s= of the URL is for redis+sentinel:// alone", name)
		}
		if name == "sentinel_user" {
			a.SentinelUser = value
		} else {
			a.SentinelPassword = value
		}
	default:
		return fmt.Errorf("the URL has an unknown option %q: there are prefix, timeout, db, ca, server_name, sentinel_user and sentinel_password", name)
	}
	return nil
}

// tlsConfig reads the CA file, if there is one.
func (a *Address) tlsConfig() (*tls.Config, error) {
	if !a.TLS {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: a.ServerName}
	if a.CAFile != "" {
		pem, err := os.ReadFile(a.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the CA of Redis: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read the CA of Redis: %s holds no PEM certificate", a.CAFile)
		}
	}
	return c, nil
}
