-- The audit trail: one row for each change of a key, written in the same
-- transaction. hash covers the row and the hash before it.
CREATE TABLE audit (
	n            INTEGER NOT NULL PRIMARY KEY, -- from 1, without gaps
	at           INTEGER NOT NULL,
	seq          INTEGER NOT NULL,             -- change number of the change
	key_id       TEXT    NOT NULL,
	action       TEXT    NOT NULL,
	actor        TEXT    NOT NULL,
	address      TEXT    NOT NULL,
	before_state TEXT    NOT NULL,             -- JSON; empty: there was no key
	after_state  TEXT    NOT NULL,             -- JSON
	keyed        INTEGER NOT NULL,             -- 1: hash is an HMAC under the data key
	hash         BLOB    NOT NULL
) STRICT;
-- Change numbers rise with n: the index grows at its end.
CREATE INDEX audit_seq ON audit (seq);

-- One row: the end of the trail, so that a tail that was cut off is missed.
-- base is the change number at which the trail began.
CREATE TABLE audit_head (
	one   INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
	n     INTEGER NOT NULL,
	hash  BLOB    NOT NULL,
	base  INTEGER NOT NULL,
	keyed INTEGER NOT NULL,
	mac   BLOB    NOT NULL
) STRICT;
INSERT INTO audit_head (one, n, hash, base, keyed, mac) SELECT 1, 0, x'', seq, 0, x'' FROM counter;

-- When each scope of a key was last of use.
CREATE TABLE scope_uses (
	key_id       TEXT    NOT NULL,
	scope        TEXT    NOT NULL,
	last_used_at INTEGER NOT NULL,
	PRIMARY KEY (key_id, scope)
) STRICT, WITHOUT ROWID;
