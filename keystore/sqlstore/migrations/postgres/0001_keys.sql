-- Times are whole microseconds since the Unix epoch, UTC: exact to compare and
-- to sort, and the same in every dialect. NULL stands for Go's zero time.
-- Text that is sorted or paged through is compared by its bytes (COLLATE "C"),
-- whatever the database's locale.

CREATE TABLE keys (
	id           TEXT    COLLATE "C" NOT NULL PRIMARY KEY, -- 12 characters, without "key_"
	name         TEXT    NOT NULL,
	name_fold    TEXT    NOT NULL,             -- lower case, for searching
	prefix       TEXT    NOT NULL,
	owner        TEXT    COLLATE "C" NOT NULL,
	scopes       TEXT    NOT NULL,             -- JSON list, in the order granted
	plan         TEXT    NOT NULL,
	limits       TEXT,                         -- JSON object
	disabled     BOOLEAN NOT NULL,
	created_at   BIGINT  NOT NULL,
	expires_at   BIGINT,
	revoked_at   BIGINT,
	last_used_at BIGINT,
	last_addr    TEXT    NOT NULL,
	last_route   TEXT    NOT NULL,
	ip_allowlist TEXT,                         -- JSON list of prefixes
	hint         TEXT    COLLATE "C" NOT NULL, -- empty for keys made here
	seq          BIGINT  NOT NULL              -- change number of the last change
);

-- Lists are newest first; the id settles equal times.
CREATE INDEX keys_created ON keys (created_at, id);
CREATE INDEX keys_owner ON keys (owner, created_at, id);
-- One change number is one change of one key.
CREATE UNIQUE INDEX keys_seq ON keys (seq);
-- Few keys are imported with a hint, few are revoked: partial indexes.
CREATE INDEX keys_hint ON keys (hint) WHERE hint <> '';
CREATE INDEX keys_revoked ON keys (created_at, id) WHERE revoked_at IS NOT NULL;

CREATE TABLE secrets (
	key_id       TEXT    COLLATE "C" NOT NULL REFERENCES keys (id),
	pos          INTEGER NOT NULL,             -- 0: current; 1: old, until its overlap ends
	hash         BYTEA   NOT NULL,             -- bcrypt
	digest       BYTEA,                        -- HMAC-SHA256 under the data key
	random       BOOLEAN NOT NULL,
	not_after    BIGINT,
	last_used_at BIGINT,
	PRIMARY KEY (key_id, pos)
);

-- One row: the highest change number given out. Writers raise it first in
-- their transaction and so queue up behind each other: change numbers become
-- visible in order, and a reader never skips one.
CREATE TABLE counter (
	"only" INTEGER NOT NULL PRIMARY KEY CHECK ("only" = 1),
	seq    BIGINT  NOT NULL
);
INSERT INTO counter ("only", seq) VALUES (1, 0);

-- Named values; "data_key" is the sealed data key.
CREATE TABLE meta (
	name  TEXT  COLLATE "C" NOT NULL PRIMARY KEY,
	value BYTEA NOT NULL
);
