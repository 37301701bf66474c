package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"golang.org/x/sync/singleflight"

	"github.com/hivegate/hivegate/keystore"
)

// The connections of one process, by purpose. At rest a node has about three;
// what is idle is closed.
const (
	defaultConnections = 20 // all of the below, and the one that listens
	minConnections     = 13
	// feedConnections: one at rest, the others while answers are late (see hedged).
	feedConnections   = 6
	smallConnections  = 2
	writerConnections = 2
	// spareReaders are not for look-ups of keys: lists and documents use them.
	spareReaders = 1
	idleTime     = 30 * time.Second
)

// Times of PostgreSQL's own, as second line behind those of the callers.
const (
	connectTimeout = 5 * time.Second
	readTimeout    = 15 * time.Second
	// slowTimeout is for the feed, which nobody waits for.
	slowTimeout = 30 * time.Second
	// writeTimeout includes the wait for another writer's turn.
	writeTimeout = 60 * time.Second
	// abandoned ends a transaction whose process stopped in it: it holds the
	// row that all writers need.
	abandoned = 15 * time.Second
	openWait  = 10 * time.Second // for each step of opening but the migration
)

// remote is what a database on the network needs beside the queries.
type remote struct {
	config  *pgx.ConnConfig // for the connection that listens
	schema  string
	pings   singleflight.Group
	noNames atomic.Bool // the database does not tell its history
	doubt   atomic.Bool // the last answer was late, or none
	pools   []pool      // those that are not the feed's
}

type pool struct {
	db *sql.DB
	n  int // connections, all of which may be idle
}

var (
	_ keystore.Waker   = (*Store)(nil)
	_ keystore.Lineage = (*Store)(nil)
)

// OpenPostgres opens the keystore in the database that dsn names (libpq's forms:
// a URL or key=value words; pool_max_conns bounds the connections, 20 by
// default, and search_path names the schema, "hivegate" by default). The schema
// is brought up to date where it is old, and made with opts.Create. It may take as
// long as a migration; every other step takes ten seconds at most.
func OpenPostgres(ctx context.Context, dsn string, opts Options) (*Store, error) {
	p, err := parsePostgres(dsn)
	if err != nil {
		return nil, err
	}
	if opts.MaxWait <= 0 {
		opts.MaxWait = 30 * time.Second
	}
	patient := p.config.Copy()
	patient.ConnectTimeout = slowTimeout
	readers := p.connections - feedConnections - smallConnections - writerConnections - 1
	s := &Store{
		dialect: postgresDialect(p.schema, p.Location), maxWait: opts.MaxWait,
		lookups: make(chan struct{}, readers-spareReaders),
		reader:  connectPostgres(p.config, readers, readTimeout, nil),
		feed:    connectPostgres(patient, feedConnections, slowTimeout, nil, neverPing),
		small:   connectPostgres(p.config, smallConnections, readTimeout, durable),
		writer:  connectPostgres(p.config, writerConnections, writeTimeout, durable),
		remote:  &remote{config: p.config, schema: p.schema},
	}
	s.remote.pools = []pool{{s.reader, readers}, {s.small, smallConnections}, {s.writer, writerConnections}}
	if err := s.preparePostgres(ctx, opts.Create); err != nil {
		_ = s.Close() // the first error is the one that says what is wrong
		return nil, err
	}
	return s, nil
}

func (s *Store) preparePostgres(ctx context.Context, create bool) error {
	version, err := within(ctx, s.schemaVersion)
	if err != nil {
		return err
	}
	if version == 0 {
		if err := s.mayLook(ctx); err != nil {
			return err
		}
	}
	if version == 0 && !create {
		return errors.New("the database holds no keystore; \"hivegate migrate\" or \"hivegate apikey create\" makes it")
	}
	if err := s.migrate(ctx); err != nil {
		return err
	}
	_, err = within(ctx, func(ctx context.Context) (_ int, err error) {
		// A command has no feed that would learn what time it is.
		if _, _, err := s.SeqIn(ctx); err != nil {
			return 0, err
		}
		return 0, s.read(ctx, "read the schema", func() (err error) {
			s.get, err = s.reader.PrepareContext(ctx, s.dialect.sql(getQuery))
			return err
		})
	})
	return err
}

// mayLook tells a schema that is not there from one that this user may not use:
// PostgreSQL shows neither.
func (s *Store) mayLook(ctx context.Context) error {
	hidden, err := within(ctx, func(ctx context.Context) (hidden bool, err error) {
		err = s.read(ctx, "look for the schema", func() error {
			return s.reader.QueryRowContext(ctx,
				`SELECT count(*) > 0 FROM pg_namespace WHERE nspname = $1 AND NOT has_schema_privilege(oid, 'USAGE')`, s.remote.schema).Scan(&hidden)
		})
		return hidden, err
	})
	if err == nil && hidden {
		err = fmt.Errorf("the database user lacks rights on the schema %s: grant as docs/operations.md shows", s.remote.schema)
	}
	return err
}

// within bounds one step of opening: a connection that hangs must not.
func within[T any](ctx context.Context, step func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	return step(ctx)
}

// connectPostgres makes a pool. It connects to nothing yet.
func connectPostgres(config *pgx.ConnConfig, n int, statement time.Duration,
	after func(context.Context, *pgx.Conn) error, more ...stdlib.OptionOpenDB,
) *sql.DB {
	c := config.Copy()
	for name, value := range map[string]string{
		"statement_timeout":                   milliseconds(statement),
		"idle_in_transaction_session_timeout": milliseconds(abandoned),
		// Of two that write, the later must see what the earlier has done; and
		// numbers must become visible in order.
		"default_transaction_isolation": "read committed",
	} {
		if _, given := config.RuntimeParams[name]; !given || name == "default_transaction_isolation" {
			c.RuntimeParams[name] = value
		}
	}
	if after != nil {
		more = append(more, stdlib.OptionAfterConnect(after))
	}
	db := stdlib.OpenDB(*c, more...)
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	db.SetConnMaxIdleTime(idleTime)
	return db
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// durable sees to it that a commit outlives a crash of the database: a
// revocation that was confirmed must hold.
func durable(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'`)
	return err
}

// neverPing is for connections that are used all the time: a dead one is found by
// the query, which is then asked again.
var neverPing = stdlib.OptionShouldPing(func(context.Context, stdlib.ShouldPingParams) bool { return false })

// hedgeEvery is how long the feed waits for an answer before it asks once more, on
// another connection: the first may have been cut without a word.
const (
	hedgeEvery = 1200 * time.Millisecond
	// hedgeLong attempts may take as long as the caller has: they wait for a
	// database that is slow, and connect to one. The others end early and so
	// leave room for the next: one of them is the first to find the network back.
	hedgeLong  = 2
	hedgeShort = (feedConnections - hedgeLong) * hedgeEvery
)

// hedged returns the first answer of ask, which is asked again while none comes. A
// slow database still answers the first call, as slow as it is; behind a dead
// connection a later call does. late says that it was a later one, or that one
// failed.
func hedged[T any](ctx context.Context, ask func(context.Context) (T, error)) (value T, late bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		value T
		err   error
		n     int
	}
	answers := make(chan answer, feedConnections)
	asked, waiting := 0, 0
	start := func() {
		asked, waiting = asked+1, waiting+1
		n := asked
		go func() {
			ctx := ctx
			if n > hedgeLong {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, hedgeShort)
				defer cancel()
			}
			value, err := ask(ctx)
			answers <- answer{value, err, n}
		}()
	}
	start()
	tick := time.NewTicker(hedgeEvery)
	defer tick.Stop()
	for {
		select {
		case a := <-answers:
			waiting--
			if a.err == nil {
				return a.value, a.n > 1, nil
			}
			if waiting == 0 {
				return a.value, true, a.err
			}
		case <-tick.C:
			if waiting < feedConnections {
				start()
			}
		}
	}
}

// refresh drops the connections that nobody uses: where one of the feed's was dead,
// they are too, and a request that took one would wait for nothing.
func (s *Store) refresh() {
	for _, p := range s.remote.pools {
		p.db.SetMaxIdleConns(0)
		p.db.SetMaxIdleConns(p.n)
	}
}

// history names the database and its timeline, which rises with each promotion of
// a standby.
const history = `(SELECT system_identifier FROM pg_control_system()) || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)`

// SeqIn implements keystore.Lineage. Where the database does not let its user read
// the name of its history, there is none. The answer says what time it is, too.
func (s *Store) SeqIn(ctx context.Context) (seq int64, name string, err error) {
	if s.remote == nil {
		seq, err = s.Seq(ctx)
		return seq, "", err
	}
	if s.remote.noNames.Load() {
		err = s.read(ctx, "read the change number", func() error {
			return s.timed(ctx, `seq, ''`, &seq, &name)
		})
		return seq, "", err
	}
	type answer struct {
		seq  int64
		name string
	}
	a, late, err := hedged(ctx, func(ctx context.Context) (a answer, err error) {
		err = s.read(ctx, "read the change number", func() error {
			return s.timed(ctx, `seq, `+history, &a.seq, &a.name)
		})
		return a, err
	})
	switch postgresCode(err) {
	case codeInsufficientRights, codeUndefinedFunction, codeNotSupported:
		s.remote.noNames.Store(true)
		return s.SeqIn(ctx)
	}
	if late || err != nil {
		s.remote.doubt.Store(true)
	}
	if err == nil && s.remote.doubt.CompareAndSwap(true, false) {
		s.refresh()
	}
	return a.seq, a.name, err
}

// timed reads two columns of the counter, and the database's clock beside them.
func (s *Store) timed(ctx context.Context, columns string, seq *int64, name *string) error {
	var clock int64
	sent := time.Now()
	if err := s.feed.QueryRowContext(ctx, `SELECT `+columns+`, `+s.dialect.clock+` FROM counter WHERE "only" = 1`).Scan(seq, name, &clock); err != nil {
		return err
	}
	s.clock.note(sent, time.Now(), time.UnixMicro(clock))
	return nil
}

// pingShared asks once for all who ask at the same time: health checks come from
// anybody.
func (s *Store) pingShared(ctx context.Context) error {
	ch := s.remote.pings.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), openWait)
		defer cancel()
		return nil, s.read(ctx, "ask the database", func() error {
			var seq int64
			return s.small.QueryRowContext(ctx, seqQuery).Scan(&seq)
		})
	})
	select {
	case r := <-ch:
		return r.Err
	case <-ctx.Done():
		return fmt.Errorf("ask the database: %w", ctx.Err())
	}
}

const (
	listenIdle  = 20 * time.Second      // without news the connection is tried
	listenAgain = 10 * time.Millisecond // after a connection that worked
	listenRetry = 200 * time.Millisecond
	listenPause = 5 * time.Second // the longest
)

// Watch implements keystore.Waker by LISTEN on a connection of its own.
func (s *Store) Watch(ctx context.Context, wake func()) {
	if s.remote == nil {
		return
	}
	pause := listenRetry
	for ctx.Err() == nil {
		if s.listen(ctx, wake) {
			pause = listenAgain
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		pause = min(max(2*pause, listenRetry), listenPause)
	}
}

// listen wakes until the connection ends, and reports whether there was one. Its
// errors need no report: the poll beside it meets the same, and says so.
func (s *Store) listen(ctx context.Context, wake func()) (connected bool) {
	connecting, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	conn, err := pgx.ConnectConfig(connecting, s.remote.config.Copy())
	if err != nil {
		return false
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	if _, err := conn.Exec(connecting, `LISTEN `+channel); err != nil {
		return false
	}
	for {
		wake()
		for {
			quiet, cancel := context.WithTimeout(ctx, listenIdle)
			_, err := conn.WaitForNotification(quiet)
			cancel()
			if err == nil {
				break
			}
			if ctx.Err() != nil || conn.IsClosed() || !errors.Is(err, context.DeadlineExceeded) {
				return true
			}
			trying, cancel := context.WithTimeout(ctx, openWait)
			err = conn.Ping(trying)
			cancel()
			if err != nil {
				return true
			}
		}
	}
}
