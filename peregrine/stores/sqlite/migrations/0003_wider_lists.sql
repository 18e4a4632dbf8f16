-- The indexes that lists walk hold what lists filter by, so that a filter, a count or a jump to a far page looks at no
-- row but those it shows. Each new column is written in the same step as `listed_at`, or never changes: they cost room,
-- no further write.

DROP INDEX executions_listed;
CREATE INDEX executions_listed ON executions (listed_at, started_at IS NULL, worker_no, task_no, cause)
    WHERE listed_at IS NOT NULL;
DROP INDEX executions_unsuccessful;
CREATE INDEX executions_unsuccessful ON executions (listed_at, started_at IS NULL, outcome, worker_no, task_no, cause)
    WHERE state > 2;
DROP INDEX executions_asked_for;
CREATE INDEX executions_asked_for ON executions (cause, listed_at, started_at IS NULL, worker_no, task_no)
    WHERE cause <> 0;
