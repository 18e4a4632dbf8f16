-- What waits is kept by priority class and moment, so that a claim looks at nothing that may be claimed only later.
--
-- By `rank` alone, whatever a minute's ageing puts before now was walked by every claim: all that is queued for the next
-- one to three minutes, and every retry that waits for its turn.

DROP INDEX executions_waiting;
CREATE INDEX executions_waiting ON executions (priority, available_at, seq, task_no) WHERE state = 0;
