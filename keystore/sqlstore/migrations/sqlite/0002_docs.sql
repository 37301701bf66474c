-- Small documents beside the keys, each changed by compare-and-set.
CREATE TABLE docs (
	kind    TEXT NOT NULL COLLATE BINARY,
	name    TEXT NOT NULL COLLATE BINARY,
	version TEXT NOT NULL,
	data    BLOB NOT NULL,
	PRIMARY KEY (kind, name)
) WITHOUT ROWID;
