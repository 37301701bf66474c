-- Small documents beside the keys, each changed by compare-and-set.
CREATE TABLE docs (
	kind    TEXT  COLLATE "C" NOT NULL,
	name    TEXT  COLLATE "C" NOT NULL,
	version TEXT  NOT NULL,
	data    BYTEA NOT NULL,
	PRIMARY KEY (kind, name)
);
