-- What would grow with the number of tasks, and need not.
--
-- How many tasks there are, and how many of them are switched on, so that nobody counts them. The file keeps both by
-- itself: a process of the version before may still write to it.

ALTER TABLE totals ADD COLUMN tasks INTEGER NOT NULL DEFAULT 0;
ALTER TABLE totals ADD COLUMN enabled INTEGER NOT NULL DEFAULT 0;
UPDATE totals SET (tasks, enabled) = (SELECT count(*), ifnull(sum(enabled), 0) FROM tasks);

CREATE TRIGGER task_added AFTER INSERT ON tasks BEGIN
    UPDATE totals SET tasks = tasks + 1, enabled = enabled + new.enabled;
END;
CREATE TRIGGER task_switched AFTER UPDATE OF enabled ON tasks WHEN new.enabled <> old.enabled BEGIN
    UPDATE totals SET enabled = enabled + new.enabled - old.enabled;
END;
CREATE TRIGGER task_dropped AFTER DELETE ON tasks BEGIN
    UPDATE totals SET tasks = tasks - 1, enabled = enabled - old.enabled;
END;

-- The few system tasks are looked for at every start.
CREATE INDEX tasks_system ON tasks (is_system) WHERE is_system = 1;
