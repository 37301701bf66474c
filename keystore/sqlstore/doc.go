// Package sqlstore keeps keys in an SQL database: one [Store] over
// database/sql, and a [dialect] for what databases do differently: SQLite
// ([OpenSQLite]) and PostgreSQL ([OpenPostgres]).
//
// # Change numbers
//
// Every change of a key gets the next number of one counter row, and raising
// that row is the first thing that a writing transaction does. The row stays
// locked until the commit (in SQLite the whole database does), so numbers
// become visible in the order in which they were given out. A reader that has
// seen number n will never meet a smaller new one: ChangedSince(n) is
// complete, although readers take no lock. The same lock makes "at most 16
// keys share a hint" and the compare-and-set of the data key exact.
//
// # SQLite
//
// One connection writes, a few read; the file is in WAL mode, so that readers
// never wait for a writer. Writing transactions begin with BEGIN IMMEDIATE: a
// transaction that first reads and then wants to write could otherwise find
// its snapshot stale and would have to fail. Another process, such as the
// command beside a running server, is waited for: by SQLite's busy handler,
// and then by repeating the transaction within [Options.MaxWait].
//
// synchronous is FULL. In WAL mode the next lower level, NORMAL, is safe
// against a killed process, but a power cut may take back the last commits: a
// key that its owner was told exists, or, worse, a revocation. FULL costs one
// fsync per commit, and commits are rare (last uses come in batches).
//
// The file is made by this package with mode 0600 before SQLite opens it, and
// SQLite gives its -wal and -shm files the same mode.
//
// # PostgreSQL
//
// Connections are divided by purpose, so that what anybody can cause (look-ups of
// unknown ids, health checks) never takes the place of what must go on (the feed of
// changes, second factors, heartbeats). Raising the counter announces the change
// on a channel; [Store.Watch] listens there. Reads whose connection ended are
// asked again, writes only while nothing has been done. A transaction that its process
// abandoned is ended by the server after 15 s: it may hold the counter's row.
//
// The feed's queries are hedged: see [hedged]. A database that was restored, or a
// standby that took over, is told by its history ([Store.SeqIn]).
//
// # Time
//
// Times are kept in whole microseconds; what is finer is cut off.
package sqlstore
