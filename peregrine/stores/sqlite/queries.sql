-- Every statement of the store, by name, each with the line that says what it gives or does. `carray(?)` is a list of
-- numbers or texts given as one value: one step of SQLite works off a whole batch, and so it does with `{rows}`, places
-- for the values of some rows (`steps.write_rows`). What is read in batches is given as one JSON text, in one step too
-- (`steps.told`). Any other name in braces is replaced by entries of this file, never by anything a caller said.
--
-- `state < 2` beside `state = 0` says nothing new, but word for word what the partial index says; SQLite asks for that.

-- ── definitions ─────────────────────────────────────────────────────────────────────────────────

-- name: add_task_number
-- The number of a task's id, which it keeps for ever, made now.
INSERT INTO task_ids (id) VALUES (?1) RETURNING no;

-- name: task_number
-- The number of a task's id.
SELECT no FROM task_ids WHERE id = ?1;

-- name: task_id_exists
-- Whether a task with this id is there.
SELECT 1 FROM tasks WHERE id = ?1;

-- name: numbers_of_ids
-- The numbers of those of these ids that ever had a task.
SELECT json_group_array(json_array(t.id, t.no)) FROM carray(?1) c CROSS JOIN task_ids t ON t.id = c.value;

-- name: task_named
-- The id of the task with this name.
SELECT id FROM tasks WHERE name = ?1;

-- name: add_definition
-- A new definition; its stamp comes back.
INSERT INTO definitions (document) VALUES (?1) RETURNING stamp;

-- name: drop_definition
-- A definition that was replaced or whose task is gone.
DELETE FROM definitions WHERE stamp = ?1;

-- name: definitions
-- The definitions with these stamps.
SELECT d.stamp, d.document FROM carray(?1) c CROSS JOIN definitions d ON d.stamp = c.value;

-- name: put_task
-- What lists of tasks look at, new or replaced.
INSERT INTO tasks (no, id, name, description, kind, enabled, paused_until, priority, is_system, created_by,
    created_at, updated_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
ON CONFLICT (no) DO UPDATE SET name = excluded.name, description = excluded.description, kind = excluded.kind,
    enabled = excluded.enabled, paused_until = excluded.paused_until, priority = excluded.priority,
    is_system = excluded.is_system, created_by = excluded.created_by, created_at = excluded.created_at,
    updated_at = excluded.updated_at;

-- name: add_progress
-- Where the schedule of a new task stands.
INSERT INTO task_progress (no, stamp, revision, generation, overlaps, cursor, next_run_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7);

-- name: put_progress
-- Where the schedule of a changed task stands.
UPDATE task_progress SET stamp = ?2, revision = ?3, generation = ?4, overlaps = ?5, cursor = ?6, next_run_at = ?7
WHERE no = ?1;

-- name: progress_of
-- Where the schedule of one task stands.
SELECT p.no, p.stamp, p.revision, p.generation, p.cursor, p.next_run_at
FROM tasks t JOIN task_progress p ON p.no = t.no WHERE t.id = ?1;

-- name: drop_tags
-- The tags of a task that is about to be written anew.
DELETE FROM task_tags WHERE no = ?1;

-- name: add_tag
-- One tag of a task.
INSERT INTO task_tags (tag, no) VALUES (?1, ?2) ON CONFLICT DO NOTHING;

-- name: drop_task
-- A task; tags, progress and error go with it, its number and its history stay.
DELETE FROM tasks WHERE no = ?1;

-- name: numbers_of_tasks
-- The numbers of those of these ids whose tasks exist.
SELECT json_group_array(json_array(t.id, t.no)) FROM carray(?1) c CROSS JOIN tasks t ON t.id = c.value;

-- name: numbers_of_names
-- The numbers of the tasks that have these names.
SELECT json_group_array(json_array(t.name, t.no)) FROM carray(?1) c CROSS JOIN tasks t ON t.name = c.value;

-- name: task_views
-- Tasks as readers see them, by number, in no order.
SELECT p.no, p.stamp, p.cursor, p.next_run_at,
    (SELECT count(*) FROM executions e WHERE e.state < 2 AND e.state = 1 AND e.task_no = p.no),
    (SELECT count(*) FROM executions e WHERE e.state < 2 AND e.state = 0 AND e.task_no = p.no),
    p.total_runs, p.success_count, p.runtime_total, p.last_run_at, p.last_duration, p.last_succeeded,
    CASE WHEN p.last_succeeded = 0 THEN (SELECT x.error FROM task_errors x WHERE x.no = p.no) END
FROM carray(?1) c CROSS JOIN task_progress p ON p.no = c.value;

-- name: list_tasks
-- The numbers of the tasks on a page, each with what the list is sorted by.
SELECT t.no, {place}, t.id FROM tasks t {indexed} {joined} WHERE {conditions}
ORDER BY {order} LIMIT :limit OFFSET :offset;

-- name: list_tasks_by_next_run
-- The same, walking the agenda.
SELECT t.no, p.next_run_at, t.id FROM task_progress p INDEXED BY agenda CROSS JOIN tasks t ON t.no = p.no
WHERE {conditions} ORDER BY {order} LIMIT :limit OFFSET :offset;

-- name: count_tasks
-- How many tasks match, up to a bound.
SELECT count(*) FROM (SELECT 1 FROM tasks t {joined} WHERE {conditions} LIMIT :most);

-- name: count_all_tasks
-- How many tasks there are.
SELECT tasks FROM totals;

-- name: task_is_disabled
-- Condition: switched off.
t.enabled = 0;

-- name: task_is_enabled
-- Condition: switched on.
t.enabled = 1;

-- name: task_is_paused
-- Condition: switched on, and a pause holds.
t.enabled = 1 AND t.paused_until > :now;

-- name: task_is_live
-- Condition: switched on, and no pause holds.
t.enabled = 1 AND (t.paused_until IS NULL OR t.paused_until <= :now);

-- name: task_is_running
-- Condition: one of its executions runs.
t.no IN (SELECT e.task_no FROM executions e WHERE e.state < 2 AND e.state = 1);

-- name: task_is_idle
-- Condition: none of its executions runs.
t.no NOT IN (SELECT e.task_no FROM executions e WHERE e.state < 2 AND e.state = 1);

-- name: task_last_succeeded
-- Condition: how its last ended execution went (NULL: none has ended).
p.last_succeeded IS :last_succeeded;

-- name: task_has_kind
-- Condition: its kind.
t.kind = :kind;

-- name: task_has_priority
-- Condition: its priority.
t.priority = :priority;

-- name: task_is_system
-- Condition: it is a system task (word for word what the index of those says).
t.is_system = 1;

-- name: task_is_ordinary
-- Condition: it is none.
t.is_system = 0;

-- name: task_has_creator
-- Condition: who made it.
t.created_by = :created_by;

-- name: task_has_text
-- Condition: a text in its name or description. Not LIKE: that stops at a NUL and needs its signs escaped.
(instr(lower(t.name), :text) > 0 OR instr(lower(t.description), :text) > 0);

-- name: task_has_any_tag
-- Condition: one of some tags (a JSON list).
t.no IN (SELECT g.no FROM task_tags g WHERE g.tag IN (SELECT value FROM json_each(:tags_any)));

-- name: task_has_all_tags
-- Condition: each of some tags (a JSON list without repetition).
t.no IN (SELECT g.no FROM task_tags g WHERE g.tag IN (SELECT value FROM json_each(:tags_all))
    GROUP BY g.no HAVING count(*) = json_array_length(:tags_all));

-- ── due → queued ────────────────────────────────────────────────────────────────────────────────

-- name: due
-- Tasks whose next moment has come, the longest due first.
SELECT json_group_array(json_array(stamp, cursor, next_run_at, active))
FROM (
    SELECT p.stamp, p.cursor, p.next_run_at,
        (SELECT count(*) FROM executions e WHERE e.state < 2 AND e.state = 0 AND e.task_no = p.no)
        + (SELECT count(*) FROM executions e WHERE e.state < 2 AND e.state = 1 AND e.task_no = p.no) AS active
    FROM task_progress p INDEXED BY agenda WHERE p.next_run_at <= ?1 ORDER BY p.next_run_at, p.no LIMIT ?2);

-- name: next_due_at
-- The first next moment behind a moment.
SELECT min(next_run_at) FROM task_progress INDEXED BY agenda WHERE next_run_at > ?1;

-- name: progress_of_tasks
-- What plans are compared with, by task id.
SELECT json_group_array(json_array(t.id, p.no, p.cursor, p.generation))
FROM carray(?1) c CROSS JOIN tasks t ON t.id = c.value CROSS JOIN task_progress p ON p.no = t.no;

-- name: advance
-- The cursors and the next moments of tasks.
UPDATE task_progress SET cursor = r.column2, next_run_at = r.column3 FROM (VALUES {rows}) r WHERE no = r.column1;

-- name: add_execution
-- Executions that wait, each unless its key or id is there.
INSERT INTO executions (id, task_no, occurrence, key, cause, priority, scheduled_for, queued_at, available_at, rank,
    parameters, requested_by, follows)
VALUES {rows} ON CONFLICT DO NOTHING;

-- name: spread_scheduled
-- A segment has new executions, scheduled for moments between two bounds.
INSERT INTO segments (no, listed_min, listed_max, scheduled_min, scheduled_max)
VALUES (?1, 9223372036854775807, -9223372036854775808, ?2, ?3)
ON CONFLICT (no) DO UPDATE SET scheduled_min = min(scheduled_min, ?2), scheduled_max = max(scheduled_max, ?3);

-- name: spread_listed
-- Something in a segment is listed between two moments.
UPDATE segments SET listed_min = min(listed_min, ?2), listed_max = max(listed_max, ?3) WHERE no = ?1;

-- name: add_skip
-- Ranges of occurrences that did not run.
INSERT INTO skips (task_no, first, last, count, reason, decided_at) VALUES {rows};

-- name: queued
-- How many executions wait.
SELECT queued FROM totals;

-- name: count_queued
-- So many more wait now (or fewer).
UPDATE totals SET queued = queued + ?1;

-- name: seq_of_occurrence
-- The execution of an occurrence.
SELECT e.seq FROM task_ids t JOIN executions e ON e.task_no = t.no AND e.occurrence = ?2 WHERE t.id = ?1;

-- name: seq_of_key
-- The execution with a key that is not an occurrence's.
SELECT seq FROM executions WHERE key = ?1;

-- ── queued → claimed → settled ──────────────────────────────────────────────────────────────────

-- name: waiting
-- What is available at ?1, in the order of the queue, as the claims will say it that are made at ?3: the first of each
-- priority class (`waiting_of_class`, made once), sorted together. Of parameters only whether there are any: a batch of
-- the largest would be longer than any text may be.
SELECT json_group_array(json_array(e.id, e.epoch + 1, e.attempt + 1, e.cause, e.priority, e.scheduled_for, e.queued_at,
    e.available_at, max(?3, e.available_at), e.parameters IS NOT NULL, e.failures, e.losses, e.beat, w.stamp, e.seq, e.task_no, w.overlaps))
FROM (SELECT * FROM ({classes}) ORDER BY rank, available_at, seq LIMIT ?2) w CROSS JOIN executions e ON e.seq = w.seq;

-- name: parameters
-- What executions were given, by number.
SELECT e.seq, e.parameters FROM carray(?1) c CROSS JOIN executions e ON e.seq = c.value;

-- name: waiting_of_class
-- The first of one class; what a running execution of its task keeps waiting is left out. Nothing that comes later is
-- looked at, however much that is.
SELECT * FROM (
    SELECT e.seq, e.available_at, e.available_at - {ahead} AS rank, p.stamp, p.overlaps
    FROM executions e INDEXED BY executions_waiting CROSS JOIN task_progress p ON p.no = e.task_no
    WHERE e.state = 0 AND e.priority = {priority} AND e.available_at <= ?1
        AND (p.overlaps OR NOT EXISTS (
            SELECT 1 FROM executions r WHERE r.state < 2 AND r.state = 1 AND r.task_no = e.task_no))
    ORDER BY e.available_at, e.seq LIMIT ?2);

-- name: start
-- Executions are claimed: ?2 worker, ?3 mark of the request, ?4 now. One that is claimed early starts at its moment.
UPDATE executions SET state = 1, attempt = attempt + 1, epoch = epoch + 1, worker_no = ?2, claim_mark = ?3,
    started_at = max(?4, available_at), listed_at = max(?4, available_at)
WHERE seq IN carray(?1);

-- name: next_available_at
-- When the first of those that wait for their moment gets there: one look for each class.
SELECT min(first) FROM (
    SELECT (SELECT min(e.available_at) FROM executions e INDEXED BY executions_waiting
        WHERE e.state = 0 AND e.priority = c.column1 AND e.available_at > ?1) AS first
    FROM (VALUES (0), (1), (2), (3)) c);

-- name: add_worker_number
-- The number of a worker's id, made now.
INSERT INTO worker_ids (id) VALUES (?1) RETURNING no;

-- name: worker_number
-- The number of a worker's id.
SELECT no FROM worker_ids WHERE id = ?1;

-- name: claimed_by
-- The running executions that one claim request got, of tasks that are still there.
SELECT e.id, e.epoch, e.attempt, e.cause, e.priority, e.scheduled_for, e.queued_at, e.available_at, e.started_at,
    e.parameters, e.failures, e.losses, e.beat, p.stamp, w.id
FROM executions e INDEXED BY executions_active
JOIN task_progress p ON p.no = e.task_no JOIN worker_ids w ON w.no = e.worker_no
WHERE e.state < 2 AND e.state = 1 AND e.claim_mark = ?1 ORDER BY e.rank, e.available_at, e.seq;

-- name: claims_of
-- What a renewal looks at, by execution id.
SELECT json_group_array(json_array(e.id, e.seq, e.epoch, e.cancel_requested))
FROM carray(?1) c CROSS JOIN executions e ON e.id = c.value WHERE e.state = 1;

-- name: renew
-- One more beat.
UPDATE executions SET beat = beat + 1 WHERE seq IN carray(?1);

-- name: settled_against
-- What a settlement is compared with, by execution id.
SELECT json_group_array(json_array(e.id, e.seq, e.task_no, e.state, e.epoch, e.beat, e.attempt, e.priority,
    e.available_at, e.cancel_requested, e.started_at, w.id))
FROM carray(?1) c CROSS JOIN executions e ON e.id = c.value LEFT JOIN worker_ids w ON w.no = e.worker_no;

-- name: end_execution
-- The last attempts of executions have ended.
UPDATE executions SET state = r.column2, failures = r.column3, losses = r.column4, completed_at = r.column5,
    outcome = r.column6, attempt_outcome = r.column7
FROM (VALUES {rows}) r WHERE seq = r.column1;

-- name: queue_again
-- Attempts have ended and the executions wait for their next.
UPDATE executions SET state = 0, epoch = epoch + 1, available_at = r.column2, rank = r.column3, failures = r.column4,
    losses = r.column5, completed_at = NULL, outcome = r.column6, attempt_outcome = NULL, listed_at = NULL
FROM (VALUES {rows}) r WHERE seq = r.column1;

-- name: add_attempt
-- Ended attempts that do not stand in the rows of their executions.
INSERT INTO attempts (seq, attempt, epoch, worker_no, started_at, completed_at, outcome, error, detail)
VALUES {rows}
ON CONFLICT DO UPDATE SET worker_no = excluded.worker_no, started_at = excluded.started_at,
    completed_at = excluded.completed_at, outcome = excluded.outcome, error = excluded.error,
    detail = ifnull(excluded.detail, detail);

-- name: earlier_details
-- What the attempts of an execution left behind that were tried again.
SELECT a.epoch, a.detail FROM executions e JOIN attempts a ON a.seq = e.seq WHERE e.id = ?1 AND a.detail IS NOT NULL;

-- name: forget_attempt_outcome
-- The newest attempt does not stand in the row any more.
UPDATE executions SET attempt_outcome = NULL WHERE seq = ?1;

-- name: put_result
-- What attempts left behind.
INSERT INTO results (seq, output, error, truncated, detail) VALUES {rows}
ON CONFLICT (seq) DO UPDATE SET output = excluded.output, error = excluded.error, truncated = excluded.truncated,
    detail = excluded.detail;

-- name: put_cancelled_result
-- The words of a cancel, over what an earlier attempt left behind.
INSERT INTO results (seq, output, error, truncated, detail) VALUES (?1, ?2, ?3, 0, '{}')
ON CONFLICT (seq) DO UPDATE SET output = excluded.output, error = excluded.error;

-- name: tally
-- More ended executions of tasks: 2 how many, 3 of them succeeded, 4 their runtimes' sum, 5 start and 6 runtime of the
-- last that ever started (NULL: none), 7 whether the last succeeded.
UPDATE task_progress SET total_runs = total_runs + r.column2, success_count = success_count + r.column3,
    runtime_total = runtime_total + r.column4, last_run_at = ifnull(r.column5, last_run_at),
    last_duration = ifnull(r.column6, last_duration), last_succeeded = r.column7
FROM (VALUES {rows}) r WHERE no = r.column1;

-- name: put_task_error
-- The errors of tasks' last runs.
INSERT INTO task_errors (no, error)
SELECT p.no, r.column2 FROM (VALUES {rows}) r CROSS JOIN task_progress p ON p.no = r.column1 WHERE true
ON CONFLICT (no) DO UPDATE SET error = excluded.error;

-- name: count_day
-- More (or fewer) ended executions of a day.
INSERT INTO days (day, completed, failed, timed, runtime) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (day) DO UPDATE SET completed = completed + excluded.completed, failed = failed + excluded.failed,
    timed = timed + excluded.timed, runtime = runtime + excluded.runtime;

-- name: count_stretch
-- More (or fewer) executions in a stretch of the list.
INSERT INTO stretches (start, listed, completed, failed) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (start) DO UPDATE SET listed = listed + excluded.listed, completed = completed + excluded.completed,
    failed = failed + excluded.failed;

-- name: drop_empty_stretch
-- A stretch, if nothing is left of it.
DELETE FROM stretches WHERE start = ?1 AND listed = 0;

-- name: active_of_task
-- What a task has that has not ended, the oldest first.
SELECT e.seq, e.id, e.task_no, e.state, e.started_at
FROM task_ids t JOIN executions e INDEXED BY executions_active ON e.task_no = t.no
WHERE t.id = ?1 AND e.state < 2 AND e.state IN (0, 1) ORDER BY e.seq;

-- name: state_of
-- Where one execution stands.
SELECT seq, id, task_no, state, started_at FROM executions WHERE id = ?1;

-- name: mark_cancel
-- A wish that its worker stops it.
UPDATE executions SET cancel_requested = 1 WHERE seq = ?1;

-- name: cancel_waiting
-- It ends before it started (again).
UPDATE executions SET state = 4, cancel_requested = 1, completed_at = ?2, outcome = ?3,
    listed_at = ifnull(started_at, ?2)
WHERE seq = ?1;

-- name: cancel_wishes
-- What one worker runs and somebody wants stopped.
SELECT e.id, e.epoch FROM executions e INDEXED BY executions_active JOIN worker_ids w ON w.no = e.worker_no
WHERE e.state < 2 AND e.state = 1 AND e.cancel_requested AND w.id = ?1;

-- name: running
-- Everything that runs, the oldest first.
SELECT e.id, e.epoch, e.beat, e.attempt, w.id, e.started_at, p.stamp, t.id, e.scheduled_for, e.failures, e.losses,
    e.cancel_requested
FROM executions e INDEXED BY executions_active JOIN worker_ids w ON w.no = e.worker_no
JOIN task_ids t ON t.no = e.task_no LEFT JOIN task_progress p ON p.no = e.task_no
WHERE e.state < 2 AND e.state = 1 ORDER BY e.seq;

-- ── instances, care ─────────────────────────────────────────────────────────────────────────────

-- name: announce
-- This process is here: one more count.
INSERT INTO instances (id, counter, seen_at, host, place, pid, process_started, version, slots, started_at)
VALUES (?1, 1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
ON CONFLICT (id) DO UPDATE SET counter = counter + 1, seen_at = excluded.seen_at, host = excluded.host,
    place = excluded.place, pid = excluded.pid, process_started = excluded.process_started,
    version = excluded.version, slots = excluded.slots, started_at = excluded.started_at;

-- name: instances
-- All announced processes, in the order in which they came.
SELECT id, counter, seen_at, host, place, pid, process_started, version, slots, started_at FROM instances ORDER BY no;

-- name: retire
-- A process that has ended.
DELETE FROM instances WHERE id = ?1;

-- name: strayed
-- Tasks decided beyond a moment.
SELECT no, stamp FROM task_progress WHERE cursor > ?1;

-- name: strayed_among
-- One that was decided beyond a moment among the tasks with a number from ?2 to ?3.
SELECT no FROM task_progress WHERE no BETWEEN ?2 AND ?3 AND cursor > ?1 LIMIT 1;

-- name: last_task
-- The highest number of a task.
SELECT ifnull(max(no), 0) FROM task_progress;

-- name: put_off
-- What is queued for later than a moment.
SELECT seq, priority FROM executions INDEXED BY executions_waiting
WHERE state = 0 AND priority IN (0, 1, 2, 3) AND available_at > ?1;

-- name: make_available
-- Let one be claimed from a moment on.
UPDATE executions SET available_at = ?2, rank = ?3 WHERE seq = ?1;

-- name: old_executions
-- The oldest that ended before a moment, those that ended first among the ?3 that started first. (What ended before it
-- also started before it, so one index serves lists and retention, and nothing old is passed over for ever.)
SELECT seq, completed_at, state, started_at FROM (
    SELECT seq, completed_at, state, started_at, id FROM executions INDEXED BY executions_listed
    WHERE listed_at < ?1 AND completed_at < ?1 ORDER BY listed_at LIMIT ?3)
ORDER BY completed_at, id LIMIT ?2;

-- name: drop_results
-- What these executions left behind.
DELETE FROM results WHERE seq IN carray(?1);

-- name: drop_attempts
-- The earlier attempts of these executions.
DELETE FROM attempts WHERE seq IN carray(?1);

-- name: drop_executions
-- These executions, and with them their keys.
DELETE FROM executions WHERE seq IN carray(?1);

-- name: drop_empty_segment
-- A segment, if nothing is left of it.
DELETE FROM segments
WHERE no = ?1 AND NOT EXISTS (SELECT 1 FROM executions e WHERE e.seq BETWEEN ?1 << 13 AND (?1 << 13) + 8191);

-- name: drop_empty_days
-- Days of which nothing is left.
DELETE FROM days WHERE completed = 0 AND failed = 0;

-- name: drop_skips
-- The oldest ledger rows decided before a moment.
DELETE FROM skips WHERE no IN (
    SELECT no FROM skips INDEXED BY skips_by_age WHERE decided_at < ?1 ORDER BY decided_at, no LIMIT ?2);

-- name: ping
-- A write that changes nothing anybody reads.
UPDATE totals SET pinged = 1 - pinged;

-- ── reads ───────────────────────────────────────────────────────────────────────────────────────

-- name: seq_of
-- The number of an execution.
SELECT seq FROM executions WHERE id = ?1;

-- name: executions
-- Executions as readers see them, by number, in no order; without the attempts that stand apart.
SELECT e.seq, e.id, t.id, e.cause, e.state, e.priority, e.scheduled_for, e.queued_at, e.available_at, e.parameters,
    e.requested_by, e.follows, e.attempt, e.epoch, e.beat, e.failures, e.losses, e.cancel_requested, w.id, e.started_at,
    e.completed_at, e.outcome, e.attempt_outcome, r.output, r.error, r.truncated, r.detail
FROM carray(?1) c CROSS JOIN executions e ON e.seq = c.value JOIN task_ids t ON t.no = e.task_no
LEFT JOIN worker_ids w ON w.no = e.worker_no LEFT JOIN results r ON r.seq = e.seq;

-- name: attempts
-- The attempts that stand apart from these executions, oldest first.
SELECT a.seq, a.attempt, a.epoch, w.id, a.started_at, a.completed_at, a.outcome, a.error
FROM carray(?1) c CROSS JOIN attempts a ON a.seq = c.value JOIN worker_ids w ON w.no = a.worker_no
ORDER BY a.seq, a.epoch, a.attempt;

-- name: list_waiting
-- The executions on a page that wait, in the order of their ids.
SELECT e.seq, e.id FROM executions e INDEXED BY executions_active WHERE e.state < 2 AND e.state = 0 AND {conditions}
ORDER BY e.id DESC LIMIT :limit OFFSET :offset;

-- name: count_waiting
-- How many of those that wait match.
SELECT count(*) FROM executions e INDEXED BY executions_active WHERE e.state < 2 AND e.state = 0 AND {conditions};

-- name: list_started
-- The executions on a page that do not wait, the newest first.
SELECT e.listed_at, e.id, e.seq FROM executions e {indexed} WHERE e.listed_at IS NOT NULL AND {conditions}
ORDER BY e.listed_at DESC, e.id DESC LIMIT :limit OFFSET :offset;

-- name: places_of_started
-- The moments at which two neighbours on that list are listed, the newest first.
SELECT e.listed_at FROM executions e {indexed} WHERE e.listed_at IS NOT NULL AND {conditions}
ORDER BY e.listed_at DESC LIMIT 2 OFFSET :offset;

-- name: count_started_newer
-- How many on that list are newer than a moment.
SELECT count(*) FROM executions e {indexed} WHERE e.listed_at > :from AND {conditions};

-- name: days_of_stretches
-- How many executions of a list the stretches of each day hold, the newest first; each is added up when it is asked for.
WITH RECURSIVE newer (day) AS (
    SELECT max(start) - (max(start) % 86400000 + 86400000) % 86400000 FROM stretches
    UNION ALL SELECT day - 86400000 FROM newer WHERE day > (SELECT min(start) FROM stretches))
SELECT day, (SELECT ifnull(sum({counted}), 0) FROM stretches WHERE start >= day AND start < day + 86400000) FROM newer
WHERE day IS NOT NULL;

-- name: stretches
-- How many executions of a list each stretch of a day holds, the newest first.
SELECT start, {counted} FROM stretches WHERE start >= ?1 AND start < ?1 + 86400000 ORDER BY start DESC;

-- name: count_started
-- How many of those that do not wait match, up to a bound.
SELECT count(*) FROM (
    SELECT 1 FROM executions e {indexed} WHERE e.listed_at IS NOT NULL AND {conditions} LIMIT :most);

-- name: count_ended
-- How many ended executions there are: all, completed, not completed.
SELECT ifnull(sum(completed + failed), 0), ifnull(sum(completed), 0), ifnull(sum(failed), 0) FROM days;

-- name: count_running
-- How many executions run.
SELECT count(*) FROM executions WHERE state < 2 AND state = 1;

-- name: execution_after
-- Condition: stands behind a cursor.
e.listed_at <= :at AND (e.listed_at < :at OR e.id < :id);

-- name: execution_before
-- Condition: older than a moment.
e.listed_at < :before;

-- name: execution_not_newer
-- Condition: not newer than a moment.
e.listed_at <= :from;

-- name: execution_not_older
-- Condition: not older than a moment.
e.listed_at >= :until;

-- name: execution_is_running
-- Condition: it runs (word for word what the index of those that have not ended says).
e.state < 2 AND e.state = 1;

-- name: execution_waits_after
-- Condition: stands behind a cursor, among those that wait.
e.id < :id;

-- name: execution_of_task
-- Condition: its task.
e.task_no = :task_no;

-- name: execution_in_state
-- Condition: its state.
e.state = :state;

-- name: execution_failed
-- Condition: it ended without success.
e.state > 2;

-- name: execution_with_outcome
-- Condition: how it ended.
e.outcome = :outcome;

-- name: execution_by_cause
-- Condition: why it exists.
e.cause = :cause;

-- name: execution_asked_for
-- Condition: it was not made by a schedule.
e.cause <> 0;

-- name: execution_by_worker
-- Condition: who ran it last.
e.worker_no = :worker_no;

-- name: execution_waits_since
-- Condition, among those that wait: its newest attempt began then or later.
e.started_at >= :started_after;

-- name: execution_waits_from_before
-- Condition, among those that wait: its newest attempt began earlier.
e.started_at < :started_before;

-- name: execution_started_after
-- Condition, among those that do not wait: its newest attempt began then or later (an index knows all of this).
e.listed_at >= :started_after AND (e.started_at IS NULL) = 0;

-- name: execution_started_before
-- Condition, among those that do not wait: its newest attempt began earlier.
e.listed_at < :started_before AND (e.started_at IS NULL) = 0;

-- name: execution_has_text
-- Condition: a text in its output or error.
EXISTS (SELECT 1 FROM results r WHERE r.seq = e.seq
    AND (instr(lower(r.output), :text) > 0 OR instr(lower(r.error), :text) > 0));

-- name: segments_listed
-- The segments that may hold what is listed at a moment or earlier, each with its upper bound, the newest first.
SELECT no, listed_max FROM segments WHERE listed_min <= ?1 ORDER BY listed_max DESC;

-- name: segments_scheduled
-- The segments that may hold what is scheduled for a moment or earlier, each with its upper bound, the newest first.
SELECT no, scheduled_max FROM segments WHERE scheduled_min <= ?1 ORDER BY scheduled_max DESC;

-- name: segments
-- All segments.
SELECT no FROM segments;

-- name: list_started_of_task
-- The same as list_started for one task, from some segments.
SELECT e.listed_at, e.id, e.seq FROM carray(:segments) c CROSS JOIN executions e INDEXED BY executions_by_task
WHERE (e.seq >> 13) = c.value AND e.task_no = :task_no AND e.listed_at IS NOT NULL AND {conditions}
ORDER BY e.listed_at DESC, e.id DESC LIMIT :limit;

-- name: pieces_of_task
-- How many of a task's executions that do not wait each segment holds, and between which bounds, by the upper one; each
-- is counted when it is asked for. (`LIMIT -1` keeps it so. `+`: a column has an affinity, what is indexed has none.)
SELECT s.no, s.listed_min, s.listed_max, (
    SELECT count(*) FROM executions e INDEXED BY executions_by_task
    WHERE (e.seq >> 13) = +s.no AND e.task_no = :task_no) - ifnull(w.waiting, 0)
FROM (SELECT no, listed_min, listed_max FROM segments ORDER BY listed_max DESC LIMIT -1) s LEFT JOIN (
    SELECT e.seq >> 13 AS no, count(*) AS waiting FROM executions e INDEXED BY executions_active
    WHERE e.state < 2 AND e.state = 0 AND e.task_no = :task_no GROUP BY 1) w ON w.no = s.no;

-- name: count_newer_of_task
-- How many of a task's executions in some segments are listed later than a moment.
SELECT count(*) FROM carray(:segments) c CROSS JOIN executions e INDEXED BY executions_by_task
WHERE (e.seq >> 13) = c.value AND e.task_no = :task_no AND e.listed_at > :upto;

-- name: count_started_of_task
-- How many of a task's executions that do not wait match, up to a bound.
SELECT count(*) FROM (
    SELECT 1 FROM carray(:segments) c CROSS JOIN executions e INDEXED BY executions_by_task
    WHERE (e.seq >> 13) = c.value AND e.task_no = :task_no AND e.listed_at IS NOT NULL AND {conditions} LIMIT :most);

-- name: counts_of_task
-- How many executions of a task each segment holds, each counted when it is asked for. (A bound on the rows instead, in
-- a query around it, takes three times as long.)
SELECT (SELECT count(*) FROM executions e INDEXED BY executions_by_task
    WHERE (e.seq >> 13) = +s.no AND e.task_no = ?1) FROM segments s;

-- name: ledger_of_executions
-- The occurrences of a task that have executions, from some segments, the newest first.
SELECT e.scheduled_for, printf('e%020d', e.seq), e.scheduled_for, 1, NULL, e.id, e.queued_at
FROM carray(:segments) c CROSS JOIN executions e INDEXED BY executions_by_task
WHERE (e.seq >> 13) = c.value AND e.task_no = :task_no AND (e.scheduled_for IS NULL) = 0 AND e.scheduled_for <= :at
    AND (e.scheduled_for < :at OR printf('e%020d', e.seq) < :mark)
ORDER BY e.scheduled_for DESC, e.seq DESC LIMIT :limit;

-- name: ledger_of_skips
-- The occurrences of a task that did not run, the newest first.
SELECT s.first, printf('s%020d', s.no), s.last, s.count, s.reason, NULL, s.decided_at
FROM skips s INDEXED BY skips_by_task
WHERE s.task_no = :task_no AND s.first <= :at AND (s.first < :at OR printf('s%020d', s.no) < :mark)
ORDER BY s.first DESC, s.no DESC LIMIT :limit;

-- name: pieces_of_ledger
-- How many lines of a task's ledger that have executions each segment holds, in the same way.
SELECT s.no, s.scheduled_min, s.scheduled_max, (
    SELECT count(*) FROM executions e INDEXED BY executions_by_task
    WHERE (e.seq >> 13) = +s.no AND e.task_no = :task_no AND (e.scheduled_for IS NULL) = 0)
FROM (SELECT no, scheduled_min, scheduled_max FROM segments ORDER BY scheduled_max DESC LIMIT -1) s;

-- name: pieces_of_skips
-- The moment at which each thousand of a task's ranges that did not run begins, the newest first.
SELECT NULL, NULL, first, 1000 FROM (
    SELECT first, row_number() OVER (ORDER BY first DESC) AS place FROM skips INDEXED BY skips_by_task
    WHERE task_no = :task_no)
WHERE place % 1000 = 1;

-- name: count_newer_of_ledger
-- How many lines of a task's ledger are newer than a moment: in some segments, and of those that did not run all.
SELECT (
    SELECT count(*) FROM carray(:segments) c CROSS JOIN executions e INDEXED BY executions_by_task
    WHERE (e.seq >> 13) = c.value AND e.task_no = :task_no AND (e.scheduled_for IS NULL) = 0
        AND e.scheduled_for > :upto) + (
    SELECT count(*) FROM skips INDEXED BY skips_by_task WHERE task_no = :task_no AND first > :upto);

-- name: count_ledger_of_executions
-- How many occurrences of a task have executions, up to a bound.
SELECT count(*) FROM (
    SELECT 1 FROM carray(:segments) c CROSS JOIN executions e INDEXED BY executions_by_task
    WHERE (e.seq >> 13) = c.value AND e.task_no = :task_no AND (e.scheduled_for IS NULL) = 0 LIMIT :most);

-- name: count_ledger_of_skips
-- How many ranges of occurrences of a task did not run, up to a bound.
SELECT count(*) FROM (SELECT 1 FROM skips WHERE task_no = ?1 LIMIT ?2);

-- name: statistics
-- The numbers of the status page; ?1 is the start of today.
SELECT (SELECT tasks FROM totals), (SELECT enabled FROM totals),
    (SELECT count(*) FROM executions WHERE state < 2 AND state = 1), (SELECT queued FROM totals),
    ifnull(sum(completed), 0), ifnull(sum(failed), 0), ifnull(sum(timed), 0), ifnull(sum(runtime), 0),
    (SELECT min(next_run_at) FROM task_progress)
FROM days WHERE day >= ?1;

-- ── the shelf ───────────────────────────────────────────────────────────────────────────────────

-- name: record
-- One record that has not expired by ?3.
SELECT revision, expires_at, document FROM records
WHERE collection = ?1 AND key = ?2 AND (expires_at IS NULL OR expires_at > ?3);

-- name: put_record
-- A record, new or replaced; its revision comes back. One that had expired by ?3 does not count.
INSERT INTO records (collection, key, revision, expires_at, document) VALUES (?1, ?2, 1, ?4, ?5)
ON CONFLICT (collection, key) DO UPDATE SET revision = iif(expires_at <= ?3, 1, revision + 1),
    expires_at = excluded.expires_at, document = excluded.document
RETURNING revision;

-- name: records_after
-- Records of a collection behind a key, in order.
SELECT key, revision, expires_at, document FROM records
WHERE collection = ?1 AND key > ?2 AND (expires_at IS NULL OR expires_at > ?3) ORDER BY key LIMIT ?4;

-- name: records_before
-- Records of a collection before a key (a blob is behind every text: all), the last first.
SELECT key, revision, expires_at, document FROM records
WHERE collection = ?1 AND key < ?2 AND (expires_at IS NULL OR expires_at > ?3)
ORDER BY key DESC LIMIT ?4;

-- name: drop_record
-- One record.
DELETE FROM records WHERE collection = ?1 AND key = ?2 RETURNING expires_at;

-- name: sweep_records
-- Expired records, a bounded number.
DELETE FROM records WHERE (collection, key) IN (
    SELECT collection, key FROM records WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2);

-- ── moving: all of it, out of one file and into another ─────────────────────────────────────────

-- name: count_all_records
-- How many records there are, expired ones included.
SELECT count(*) FROM records;

-- name: count_all_executions
-- How many executions there are.
SELECT count(*) FROM executions;

-- name: count_all_skips
-- How many ranges did not run.
SELECT count(*) FROM skips;

-- name: move_records
-- Records of every collection behind a place.
SELECT collection, key, revision, expires_at, document FROM records WHERE (collection, key) > (?1, ?2)
ORDER BY collection, key LIMIT ?3;

-- name: move_tasks
-- The numbers of the tasks behind one.
SELECT no FROM tasks WHERE no > ?1 ORDER BY no LIMIT ?2;

-- name: move_executions
-- The numbers and keys of the executions behind one.
SELECT seq, occurrence, key FROM executions WHERE seq > ?1 ORDER BY seq LIMIT ?2;

-- name: move_skips
-- Ranges that did not run, behind one.
SELECT s.no, t.id, s.first, s.last, s.count, s.reason, s.decided_at
FROM skips s JOIN task_ids t ON t.no = s.task_no WHERE s.no > ?1 ORDER BY s.no LIMIT ?2;

-- name: lay_record
-- A record as it was elsewhere, unless there is one.
INSERT INTO records (collection, key, revision, expires_at, document) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT DO NOTHING;

-- name: lay_tally
-- What the executions of a task added up to elsewhere.
UPDATE task_progress SET total_runs = ?2, success_count = ?3, runtime_total = ?4, last_run_at = ?5,
    last_duration = ?6, last_succeeded = ?7
WHERE no = ?1;

-- name: lay_skip
-- A range that did not run, unless it is there.
INSERT INTO skips (task_no, first, last, count, reason, decided_at)
SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE NOT EXISTS (
    SELECT 1 FROM skips s WHERE s.task_no = ?1 AND s.first = ?2 AND s.last = ?3 AND s.count = ?4 AND s.reason = ?5
        AND s.decided_at = ?6);

-- name: lay_execution
-- An execution as it was elsewhere, unless its key or id is there.
INSERT INTO executions (id, task_no, occurrence, key, cause, priority, scheduled_for, queued_at, available_at, rank,
    parameters, requested_by, follows, state, attempt, epoch, beat, failures, losses, cancel_requested, worker_no,
    started_at, completed_at, listed_at, outcome, attempt_outcome)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24,
    ?25, ?26)
ON CONFLICT DO NOTHING RETURNING seq;
