-- Times are whole microseconds since the Unix epoch, UTC: exact to compare and
-- to sort, and the same in every dialect. NULL stands for Go's zero time.

CREATE TABLE keys (
	id           TEXT    NOT NULL PRIMARY KEY, -- 12 characters, without "key_"
	name         TEXT    NOT NULL,
	name_fold    TEXT    NOT NULL,             -- lower case, for searching
	prefix       TEXT    NOT NULL,
	owner        TEXT    NOT NULL,
	scopes       TEXT    NOT NULL,             -- JSON list, in the order granted
	plan         TEXT    NOT NULL,
	limits       TEXT,                         -- JSON object
	disabled     INTEGER NOT NULL,
	created_at   INTEGER NOT NULL,
	expires_at   INTEGER,
	revoked_at   INTEGER,
	last_used_at INTEGER,
	last_addr    TEXT    NOT NULL,
	last_route   TEXT    NOT NULL,
	ip_allowlist TEXT,                         -- JSON list of prefixes
	hint         TEXT    NOT NULL,             -- empty for keys made here
	seq          INTEGER NOT NULL              -- change number of the last change
) STRICT;

-- Lists are newest first; the id settles equal times.
CREATE INDEX keys_created ON keys (created_at, id);
CREATE INDEX keys_owner ON keys (owner, created_at, id);
-- One change number is one change of one key.
CREATE UNIQUE INDEX keys_seq ON keys (seq);
-- Few keys are imported with a hint, few are revoked: partial indexes.
CREATE INDEX keys_hint ON keys (hint) WHERE hint <> '';
CREATE INDEX keys_revoked ON keys (created_at, id) WHERE revoked_at IS NOT NULL;

CREATE TABLE secrets (
	key_id       TEXT    NOT NULL REFERENCES keys (id),
	pos          INTEGER NOT NULL,             -- 0: current; 1: old, until its overlap ends
	hash         BLOB    NOT NULL,             -- bcrypt
	digest       BLOB,                         -- HMAC-SHA256 under the data key
	random       INTEGER NOT NULL,
	not_after    INTEGER,
	last_used_at INTEGER,
	PRIMARY KEY (key_id, pos)
) STRICT, WITHOUT ROWID;

-- One row: the highest change number given out. Writers raise it first in
-- their transaction and so queue up behind each other: change numbers become
-- visible in order, and a reader never skips one.
CREATE TABLE counter (
	only INTEGER NOT NULL PRIMARY KEY CHECK (only = 1),
	seq  INTEGER NOT NULL
) STRICT;
INSERT INTO counter (only, seq) VALUES (1, 0);

-- Named values; "data_key" is the sealed data key.
CREATE TABLE meta (
	name  TEXT NOT NULL PRIMARY KEY,
	value BLOB NOT NULL
) STRICT;
