package sqlstore

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// PostgresDSN is what a DSN says, without its secrets.
type PostgresDSN struct {
	// Location names the database to people.
	Location string
	// Password: the DSN itself holds one, rather than a file or the environment.
	Password bool
	// Plain: keys' records may cross the network unencrypted, or to a server
	// that nobody has verified.
	Plain bool
}

type postgres struct {
	PostgresDSN
	config      *pgx.ConnConfig
	schema      string
	connections int
}

// ParsePostgres reads a DSN. It connects to nothing. Its errors hold no part of
// the DSN.
func ParsePostgres(dsn string) (PostgresDSN, error) {
	p, err := parsePostgres(dsn)
	if err != nil {
		return PostgresDSN{}, err
	}
	return p.PostgresDSN, nil
}

var errDSN = errors.New("not a DSN of PostgreSQL; write postgres://USER@HOST:5432/DATABASE?sslmode=verify-full, or host=HOST user=USER dbname=DATABASE")

func parsePostgres(dsn string) (*postgres, error) {
	if strings.TrimSpace(dsn) == "" {
		return nil, errDSN
	}
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errDSN // the driver's words may hold the password
	}
	p := &postgres{config: config, schema: defaultSchema, connections: defaultConnections}
	if path := config.RuntimeParams["search_path"]; path != "" {
		if strings.ContainsAny(path, ",\"") {
			return nil, errors.New("search_path of the DSN: name one schema, without quotes")
		}
		p.schema = strings.ToLower(strings.TrimSpace(path))
	}
	config.RuntimeParams["search_path"] = pgx.Identifier{p.schema}.Sanitize()
	if text, ok := config.RuntimeParams["pool_max_conns"]; ok {
		n, err := strconv.Atoi(text)
		if err != nil || n < minConnections || n > 1000 {
			return nil, fmt.Errorf("pool_max_conns of the DSN: must be %d to 1000", minConnections)
		}
		p.connections = n
		delete(config.RuntimeParams, "pool_max_conns")
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "hivegate"
	}
	if config.ConnectTimeout == 0 || config.ConnectTimeout > connectTimeout && !strings.Contains(dsn, "connect_timeout") {
		config.ConnectTimeout = connectTimeout
	}
	// A standby answers with what was: never trust one unless told to.
	if config.ValidateConnect == nil && !strings.Contains(dsn, "target_session_attrs") {
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	p.Location = location(config)
	p.Password = config.Password != "" && holds(dsn, config.Password)
	p.Plain = plain(config)
	return p, nil
}

// location is the address without secrets.
func location(c *pgx.ConnConfig) string {
	hosts := []string{hostPort(c.Host, c.Port)}
	for _, f := range c.Fallbacks {
		if h := hostPort(f.Host, f.Port); h != hosts[len(hosts)-1] {
			hosts = append(hosts, h)
		}
	}
	return "postgres://" + url.User(c.User).String() + "@" + strings.Join(hosts, ",") + "/" + url.PathEscape(c.Database)
}

func hostPort(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// holds reports whether a DSN contains a password, written in whatever way.
func holds(dsn, password string) bool {
	if strings.Contains(dsn, password) {
		return true
	}
	if plain, err := url.PathUnescape(dsn); err == nil && strings.Contains(plain, password) {
		return true
	}
	return strings.Contains(strings.ReplaceAll(dsn, `\`, ""), password)
}

// plain reports whether any way to the server that leaves this machine is without
// verified encryption.
func plain(c *pgx.ConnConfig) bool {
	open := func(host string, verified bool) bool {
		if strings.HasPrefix(host, "/") || host == "localhost" {
			return false
		}
		if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
			return false
		}
		return !verified
	}
	if open(c.Host, c.TLSConfig != nil && (!c.TLSConfig.InsecureSkipVerify || c.TLSConfig.VerifyPeerCertificate != nil)) {
		return true
	}
	for _, f := range c.Fallbacks {
		if open(f.Host, f.TLSConfig != nil && (!f.TLSConfig.InsecureSkipVerify || f.TLSConfig.VerifyPeerCertificate != nil)) {
			return true
		}
	}
	return false
}
