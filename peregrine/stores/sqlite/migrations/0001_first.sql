-- The first shape of a store. Moments are integer milliseconds; words with few values are small numbers (see rows.py).
--
-- What moves often is narrow and apart from what is wide: a turn of the hall then dirties few pages, and each dirty
-- page is written twice (to the log, then to the file). Ids that many rows repeat are written once and numbered.

CREATE TABLE task_ids (
    no INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE
) STRICT;
-- Outlives its task: history stays, and an id that is used again must find the keys of its former occurrences.

CREATE TABLE worker_ids (
    no INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE definitions (
    stamp INTEGER PRIMARY KEY AUTOINCREMENT,
    document TEXT NOT NULL
) STRICT;
-- One immutable row for each change of a task: a stamp never means two definitions, so they can be cached by it.

CREATE TABLE tasks (
    no INTEGER PRIMARY KEY REFERENCES task_ids (no),
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    kind TEXT NOT NULL,
    enabled INTEGER NOT NULL,
    paused_until INTEGER,          -- NULL: not paused; a moment beyond all others: paused without end
    priority INTEGER NOT NULL,
    is_system INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
-- What lists of tasks filter and sort by; the whole definition stands in `definitions`.

CREATE INDEX tasks_by_update ON tasks (updated_at, id);
CREATE INDEX tasks_by_creation ON tasks (created_at, id);
CREATE INDEX tasks_by_priority ON tasks (priority, id);
CREATE INDEX tasks_disabled ON tasks (enabled) WHERE enabled = 0;

CREATE TABLE task_tags (
    tag TEXT NOT NULL,
    no INTEGER NOT NULL REFERENCES tasks (no) ON DELETE CASCADE,
    PRIMARY KEY (tag, no)
) STRICT, WITHOUT ROWID;
CREATE INDEX task_tags_by_task ON task_tags (no);

CREATE TABLE task_progress (
    no INTEGER PRIMARY KEY REFERENCES tasks (no) ON DELETE CASCADE,
    stamp INTEGER NOT NULL,        -- of its definition
    revision INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    overlaps INTEGER NOT NULL,     -- 1: its executions may run beside each other
    cursor INTEGER NOT NULL,
    next_run_at INTEGER NOT NULL,  -- a moment beyond all others: never
    total_runs INTEGER NOT NULL DEFAULT 0,
    success_count INTEGER NOT NULL DEFAULT 0,
    runtime_total INTEGER NOT NULL DEFAULT 0,
    last_run_at INTEGER,
    last_duration INTEGER,
    last_succeeded INTEGER
) STRICT;
CREATE INDEX agenda ON task_progress (next_run_at, no);

CREATE TABLE task_errors (
    no INTEGER PRIMARY KEY REFERENCES tasks (no) ON DELETE CASCADE,
    error TEXT
) STRICT;
-- The error of the last run that failed; read only while `last_succeeded` is 0, so a success leaves it alone.

CREATE TABLE executions (
    seq INTEGER PRIMARY KEY,       -- the order of creation
    id TEXT NOT NULL,
    task_no INTEGER NOT NULL,
    occurrence INTEGER,            -- the second in a key `c:<its task>:<second>`; every other key stands in `key`
    key TEXT,
    cause INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    scheduled_for INTEGER,
    queued_at INTEGER NOT NULL,
    available_at INTEGER NOT NULL,
    rank INTEGER NOT NULL,
    parameters TEXT,
    requested_by TEXT NOT NULL,
    follows TEXT,
    state INTEGER NOT NULL DEFAULT 0,
    attempt INTEGER NOT NULL DEFAULT 0,
    epoch INTEGER NOT NULL DEFAULT 0,
    beat INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    losses INTEGER NOT NULL DEFAULT 0,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    worker_no INTEGER,
    claim_mark INTEGER,            -- a digest of the claim request's id
    started_at INTEGER,
    completed_at INTEGER,
    listed_at INTEGER,             -- `Execution.listed_at`; NULL while it waits
    outcome INTEGER,
    attempt_outcome INTEGER        -- of the newest attempt, when all else about that stands in this row (see rows.py)
) STRICT;
CREATE UNIQUE INDEX executions_by_id ON executions (id);
-- By second first, so new entries lie side by side at its end whatever tasks they belong to.
CREATE UNIQUE INDEX executions_by_occurrence ON executions (occurrence, task_no) WHERE occurrence IS NOT NULL;
CREATE UNIQUE INDEX executions_by_key ON executions (key) WHERE key IS NOT NULL;
-- These two hold only what has not ended, so a long history makes them neither deeper nor slower.
CREATE INDEX executions_waiting ON executions (rank, available_at, seq, task_no) WHERE state = 0;
CREATE INDEX executions_active ON executions (state, task_no) WHERE state < 2;
-- Entered when an execution starts and not touched when it ends.
CREATE INDEX executions_listed ON executions (listed_at, started_at IS NULL) WHERE listed_at IS NOT NULL;
-- The history of a task, in segments of 8,192 neighbours (see below).
CREATE INDEX executions_by_task ON executions (seq >> 13, task_no, scheduled_for IS NULL);
-- The few that are not of the common kind, for the filters that look for them.
CREATE INDEX executions_unsuccessful ON executions (listed_at) WHERE state > 2;
CREATE INDEX executions_asked_for ON executions (cause, listed_at) WHERE cause <> 0;

CREATE TABLE segments (
    no INTEGER PRIMARY KEY,        -- seq >> 13
    listed_min INTEGER NOT NULL,
    listed_max INTEGER NOT NULL,
    scheduled_min INTEGER NOT NULL,
    scheduled_max INTEGER NOT NULL
) STRICT;
-- Between which bounds the moments of a segment's executions lie. An index by task alone would put each new execution
-- of a thousand tasks on a page of its own, so every one would cost two pages; by segment and task they share a few
-- dozen. A reader of one task's history walks the segments from the newest bound down and stops when none can hold more.

CREATE TABLE attempts (
    seq INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    worker_no INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    completed_at INTEGER,
    outcome INTEGER,
    error TEXT,
    PRIMARY KEY (seq, epoch, attempt)
) STRICT, WITHOUT ROWID;
-- Ended attempts that do not stand in the row of their execution: all but the last, and a last one that differs.

CREATE TABLE results (
    seq INTEGER PRIMARY KEY,
    output TEXT NOT NULL,
    error TEXT,
    truncated INTEGER NOT NULL,
    detail TEXT NOT NULL
) STRICT;
-- What an attempt left behind, if it left anything: wide, written once, and read by nobody who decides.

CREATE TABLE skips (
    no INTEGER PRIMARY KEY,
    task_no INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    count INTEGER NOT NULL,
    reason TEXT NOT NULL,
    decided_at INTEGER NOT NULL
) STRICT;
CREATE INDEX skips_by_task ON skips (task_no, first);
CREATE INDEX skips_by_age ON skips (decided_at);

CREATE TABLE instances (
    no INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    counter INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    host TEXT NOT NULL,
    place TEXT NOT NULL,
    pid INTEGER NOT NULL,
    process_started INTEGER NOT NULL,
    version TEXT NOT NULL,
    slots INTEGER NOT NULL,
    started_at INTEGER NOT NULL
) STRICT;

CREATE TABLE days (
    day INTEGER PRIMARY KEY,       -- 00:00 UTC
    completed INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    timed INTEGER NOT NULL,        -- how many of both had a runtime
    runtime INTEGER NOT NULL
) STRICT;
-- What the ended executions that are still kept add up to; written with each settlement, so nobody need recount.

CREATE TABLE totals (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    queued INTEGER NOT NULL,
    pinged INTEGER NOT NULL
) STRICT;
INSERT INTO totals VALUES (1, 0, 0);
