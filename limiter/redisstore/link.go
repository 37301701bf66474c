package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// States of the link to the server.
const (
	linkNew  int32 = iota // nothing was tried yet
	linkUp                // decisions are the server's
	linkAway              // decisions are this node's alone
)

const (
	// retryEvery is the time between attempts to reach a server that is away, and
	// otherwise between looks at what it must be told.
	retryEvery = 100 * time.Millisecond
	// lookEvery is how often a server that nobody asks is looked at, so that it is
	// known to be away before somebody does.
	lookEvery = time.Second
	// reachTimeout bounds one attempt, in which names are looked up, connections
	// made and encrypted. No request waits for it.
	reachTimeout = 2 * time.Second
	// renewAfter is after how many failed attempts a client is made anew: what it
	// knew of a cluster or its sentinels may be of no use.
	renewAfter = 20
)

var errReconnect = errors.New("the connection was lost")

// link is the connection to the server and what is known of it.
type link struct {
	mu     sync.Mutex // guards what follows; the tender alone writes client
	client rueidis.Client
	state  int32
	cause  error     // why it is away
	since  time.Time // when it went away
	tag    string    // the hash tag that was asked for when it went away
	tried  chan struct{}
	failed int // attempts in a row

	// reaching is set while the tender connects: it alone may dial.
	reaching bool
}

// start begins to tend the link, once.
func (s *Store) start() {
	s.once.Do(func() {
		s.ended.Go(s.tend)
		if s.opts.Lease {
			s.leases.start()
		}
	})
}

// usable returns the client where decisions are the server's. At first it
// waits, as long as a decision may take, until the server was tried.
func (s *Store) usable() rueidis.Client {
	if c := s.fast.Load(); c != nil {
		return c.Client
	}
	s.start()
	s.link.mu.Lock()
	state := s.link.state
	s.link.mu.Unlock()
	if state == linkNew {
		timer := time.NewTimer(s.addr.Timeout)
		defer timer.Stop()
		select {
		case <-s.link.tried:
		case <-timer.C:
		}
	}
	if c := s.fast.Load(); c != nil {
		return c.Client
	}
	return nil
}

// usableClient boxes a client for an atomic pointer.
type usableClient struct{ rueidis.Client }

// lost says that the server did not answer as it should: from now on this node
// decides alone, until the tender has found it well.
func (s *Store) lost(err error, tag string) {
	if s.ctx.Err() != nil {
		return // it is being closed
	}
	l := &s.link
	l.mu.Lock()
	was := l.state
	if was != linkAway {
		l.state, l.cause, l.since, l.tag = linkAway, err, time.Now(), tag
		s.fast.Store(nil)
	}
	l.mu.Unlock()
	if was == linkAway {
		return
	}
	s.leases.forget()
	s.wake()
	s.log().Warn("the limiter's server is away; this node decides alone as on_failure says",
		slog.String("server", s.addr.String()), slog.String("on_failure", s.opts.OnFailure.String()), slog.Any("error", err))
}

// cause is why the server is away.
func (s *Store) cause() error {
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	if s.link.cause == nil {
		return errors.New("not connected yet")
	}
	return s.link.cause
}

// wake lets the tender look at once.
func (s *Store) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// tend connects, notices when the server is well again, beats for the slots and
// tells what was decided alone. It ends with Close.
func (s *Store) tend() {
	retry := time.NewTicker(retryEvery)
	defer retry.Stop()
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	s.reach()
	for {
		select {
		case <-s.stop:
			return
		case <-s.kick:
			s.reach()
		case <-retry.C:
			s.reach()
			s.tidy()
		case <-look.C:
			s.look()
		case <-beat.C:
			s.keepSlots()
		}
	}
}

// reach tries to bring the link up. While it is up it does nothing.
func (s *Store) reach() {
	l := &s.link
	l.mu.Lock()
	if l.state == linkUp {
		l.mu.Unlock()
		return
	}
	l.reaching = true
	client, tag := l.client, l.tag
	l.mu.Unlock()

	ctx, cancel := context.WithTimeout(s.ctx, reachTimeout)
	defer cancel()
	err := s.bringBack(ctx, &client, tag)

	l.mu.Lock()
	defer l.mu.Unlock()
	l.client, l.reaching = client, false
	if l.state == linkNew {
		defer close(l.tried)
	}
	if err != nil {
		if l.state == linkNew && s.ctx.Err() == nil {
			l.since = time.Now()
			s.log().Warn("the limiter's server is away; this node decides alone as on_failure says",
				slog.String("server", s.addr.String()), slog.String("on_failure", s.opts.OnFailure.String()), slog.Any("error", err))
		}
		l.state, l.cause = linkAway, err
		if l.failed++; l.failed%renewAfter == 0 && l.client != nil {
			l.client.Close()
			l.client = nil
		}
		return
	}
	if l.state == linkAway {
		s.log().Info("the limiter's server is back", slog.String("server", s.addr.String()),
			slog.Duration("away", time.Since(l.since).Round(time.Millisecond)), slog.Uint64("decided_alone", s.alone.Swap(0)))
	}
	l.state, l.cause, l.failed = linkUp, nil, 0
	s.fast.Store(&usableClient{client})
}

// bringBack connects, checks that the server can be written to, and tells it what
// it may have missed or lost: slots that are held and tokens that are spent.
func (s *Store) bringBack(ctx context.Context, client *rueidis.Client, tag string) error {
	if *client == nil {
		c, err := s.dial()
		if err != nil {
			return err
		}
		*client = c
	}
	c := *client
	probe := c.B().Set().Key(s.addr.Prefix + "{" + tag + "}probe").Value("1").Px(time.Second).Build()
	if err := c.Do(ctx, probe).Error(); err != nil {
		return err
	}
	if s.addr.Cluster {
		s.greet(ctx, c)
	}
	if err := s.dropGhosts(ctx, c); err != nil {
		return err
	}
	if err := s.beat(ctx, c); err != nil {
		return err
	}
	if err := s.merge(ctx, c, true); err != nil {
		return err
	}
	if s.opts.Lease {
		return s.leases.bringBack(c, time.Now(), backStale)
	}
	return nil
}

// greet connects to all nodes of a cluster, so that no request has to. One that
// is away is left to the requests that need it.
func (s *Store) greet(ctx context.Context, c rueidis.Client) {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout/4)
	defer cancel()
	var all sync.WaitGroup
	for _, n := range c.Nodes() {
		all.Go(func() { _ = n.Do(ctx, n.B().Ping().Build()).Error() })
	}
	all.Wait()
}

// dial makes a client and connects it.
func (s *Store) dial() (rueidis.Client, error) {
	tlsConfig, err := s.addr.tlsConfig()
	if err != nil {
		return nil, err
	}
	a := s.addr
	opt := rueidis.ClientOption{
		InitAddress: a.Hosts, TLSConfig: tlsConfig, DialCtxFn: s.dialConn,
		Username: a.User, Password: a.Password, SelectDB: a.DB, ClientName: "hivegate",
		Dialer:           net.Dialer{Timeout: reachTimeout / 2},
		ConnWriteTimeout: reachTimeout,
		// A command that failed is not sent again by the client: the node decides
		// alone, and at once.
		DisableRetry: true, DisableCache: true,
		// One connection to a server: the commands of all requests go through it
		// together. Buffers for some hundred of them.
		PipelineMultiplex: -1, ReadBufferEachConn: 64 << 10, WriteBufferEachConn: 64 << 10,
		ForceSingleClient: !a.Cluster && a.Master == "",
	}
	if a.Master != "" {
		opt.Sentinel = rueidis.SentinelOption{
			MasterSet: a.Master, Username: a.SentinelUser, Password: a.SentinelPassword,
			TLSConfig: tlsConfig, Dialer: opt.Dialer, ClientName: opt.ClientName,
			TopologyRefreshInterval: 5 * time.Second,
		}
	}
	c, err := rueidis.NewClient(opt)
	if err != nil {
		return nil, fmt.Errorf("connect to Redis: %w", err)
	}
	return c, nil
}

// dialConn makes one connection. Only the tender may: what a request finds
// broken is broken for all, and a server that was restarted has forgotten what
// only the tender can tell it again.
func (s *Store) dialConn(ctx context.Context, addr string, d *net.Dialer, tlsConfig *tls.Config) (net.Conn, error) {
	s.link.mu.Lock()
	reaching := s.link.reaching
	s.link.mu.Unlock()
	if !reaching {
		s.lost(errReconnect, "")
		if !s.addr.Cluster && s.addr.Master == "" {
			return nil, errReconnect
		}
	}
	network := "tcp"
	if s.addr.Socket {
		network = "unix"
	}
	if tlsConfig != nil {
		return (&tls.Dialer{NetDialer: d, Config: tlsConfig}).DialContext(ctx, network, addr)
	}
	return d.DialContext(ctx, network, addr)
}

// look asks the server for a sign of life.
func (s *Store) look() {
	c := s.fast.Load()
	if c == nil {
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, max(s.addr.Timeout, lookEvery/2))
	defer cancel()
	if err := c.Do(ctx, c.B().Ping().Build()).Error(); err != nil {
		s.lost(err, "")
	}
}

// keepSlots beats for this node's slots.
func (s *Store) keepSlots() {
	c := s.fast.Load()
	if c == nil {
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, reachTimeout)
	defer cancel()
	err := s.dropGhosts(ctx, c.Client)
	if err == nil {
		err = s.beat(ctx, c.Client)
	}
	if err != nil {
		s.lost(err, "")
	}
}

// tidy tells the server what this node decided alone while the link came up.
func (s *Store) tidy() {
	c := s.fast.Load()
	if c == nil {
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, reachTimeout)
	defer cancel()
	if err := s.merge(ctx, c.Client, false); err != nil {
		s.lost(err, "")
	}
	if s.opts.Lease && !s.opts.HandClock {
		if err := s.leases.bringBack(c.Client, time.Now(), backUnused); err != nil {
			s.lost(err, "")
		}
	}
}
