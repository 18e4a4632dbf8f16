-- How many executions each five minutes of the list hold: a far page is found by adding these up, not by walking there.

CREATE TABLE stretches (
    start INTEGER PRIMARY KEY,     -- a multiple of five minutes; it holds what is listed at a moment of those
    listed INTEGER NOT NULL,       -- all that do not wait
    completed INTEGER NOT NULL,    -- of these, as the wire's word is
    failed INTEGER NOT NULL
) STRICT;
INSERT INTO stretches
SELECT listed_at - (listed_at % 300000 + 300000) % 300000, count(*), sum(state = 2), sum(state > 2)
FROM executions WHERE listed_at IS NOT NULL GROUP BY 1;
