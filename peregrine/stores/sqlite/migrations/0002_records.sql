-- The shelf beside the spine: policies, API keys, remembered answers, the audit trail. One JSON document a row.

CREATE TABLE records (
    collection TEXT NOT NULL,
    key TEXT NOT NULL,
    revision INTEGER NOT NULL,
    expires_at INTEGER,            -- NULL: never
    document TEXT NOT NULL,
    PRIMARY KEY (collection, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX records_by_expiry ON records (expires_at) WHERE expires_at IS NOT NULL;
