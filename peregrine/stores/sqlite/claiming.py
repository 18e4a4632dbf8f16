"""Owns the step from queued to claimed, and what keeps a claim; must not know how an attempt ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import apsw

from peregrine.domain.execution import Claim, Running
from peregrine.domain.ids import ExecutionId, WorkerId
from peregrine.domain.moment import Moment
from peregrine.domain.policy import AGEING_STEP, Priority
from peregrine.ports.store import ClaimBatch, ClaimRequest, RenewVerdict
from peregrine.stores.sqlite import rows, steps
from peregrine.stores.sqlite.definitions import Definitions
from peregrine.stores.sqlite.queries import SQL
from peregrine.stores.sqlite.stretches import Stretches

WAITING: Final = SQL["waiting"].format(
    classes=" UNION ALL ".join(
        SQL["waiting_of_class"].format(priority=int(one), ahead=one * AGEING_STEP) for one in Priority
    )
)


def claim(db: apsw.Connection, definitions: Definitions, request: ClaimRequest) -> ClaimBatch:
    claims, _ = _claim_until(db, definitions, request, request.now, request.limit)
    if len(claims) >= request.limit:
        return ClaimBatch(claims, None)
    coming = _next_available(db, request.now)
    early = min(request.early, request.limit - len(claims))
    if early > 0 and coming is not None and coming <= request.early_until:
        more, is_all = _claim_until(db, definitions, request, request.early_until, early)
        claims += more
        coming = _next_available(db, request.early_until if is_all else request.now)
    return ClaimBatch(claims, None if len(claims) >= request.limit else coming)


def _next_available(db: apsw.Connection, after: Moment) -> Moment | None:
    row = db.execute(SQL["next_available_at"], (after,)).fetchone()
    return None if row is None else row[0]


def _claim_until(
    db: apsw.Connection, definitions: Definitions, request: ClaimRequest, until: Moment, limit: int
) -> tuple[list[Claim], bool]:
    """Up to *limit* of what is available at *until*, and whether there is no more of that."""
    claims: list[Claim] = []
    while len(claims) < limit:
        wanted = limit - len(claims)
        found = steps.told(db, WAITING, (until, wanted, request.now))
        claims += _start(db, definitions, request, _one_each(found))
        # What was looked at and not taken waits for those that run now, and is not found again.
        if len(found) < wanted:
            return claims, True
    return claims, False


def _one_each(waiting: Sequence[list[Any]]) -> list[list[Any]]:
    """*waiting* without what its task can't run beside an earlier one of them."""
    chosen: list[list[Any]] = []
    offered: set[int] = set()
    for row in waiting:
        *_, task_no, overlaps = row
        if overlaps or task_no not in offered:
            chosen.append(row)
            offered.add(task_no)
    return chosen


def _start(
    db: apsw.Connection, definitions: Definitions, request: ClaimRequest, chosen: Sequence[list[Any]]
) -> list[Claim]:
    if not chosen:
        return []
    seqs = steps.integers(row[14] for row in chosen)
    worker_no = steps.number_of(db, "worker", request.worker_id)
    mark = rows.claim_mark(request.claim_id)
    db.execute(SQL["start"], (apsw.carray(seqs), worker_no, mark, request.now))
    starts = [row[8] for row in chosen]
    steps.spread_listed(db, seqs, min(starts), max(starts))
    stretches = Stretches()
    for start, count in Counter(starts).items():
        stretches.add(start, listed=count)
    stretches.write(db)
    steps.count_queued(db, -len(chosen))
    tasks = steps.tasks_of(db, definitions, [row[13] for row in chosen])
    given = [row[14] for row in chosen if row[9]]
    texts = dict(db.execute(SQL["parameters"], (apsw.carray(steps.integers(given)),))) if given else {}
    for row in chosen:
        row[9] = texts.get(row[14])
    return [rows.claim(row, tasks[row[13]], request.worker_id) for row in chosen]


def claimed_by(db: apsw.Connection, definitions: Definitions, claim_id: str) -> Sequence[Claim]:
    found = list(db.execute(SQL["claimed_by"], (rows.claim_mark(claim_id),)))
    tasks = steps.tasks_of(db, definitions, [row[13] for row in found])
    return [rows.claim(row, tasks[row[13]], WorkerId(row[14])) for row in found]


def renew(db: apsw.Connection, claims: Sequence[tuple[ExecutionId, int]]) -> Sequence[RenewVerdict]:
    found = steps.by_texts(db, "claims_of", [id for id, _ in claims])
    stands = {(id, epoch): (seq, cancelled) for id, seq, epoch, cancelled in found}
    kept = [stands[key][0] for key in claims if key in stands]
    if kept:
        db.execute(SQL["renew"], (apsw.carray(steps.integers(kept)),))
    return [
        RenewVerdict.LOST if key not in stands else RenewVerdict.CANCEL if stands[key][1] else RenewVerdict.KEPT
        for key in claims
    ]


def cancel_wishes(db: apsw.Connection, worker_id: WorkerId) -> Sequence[tuple[ExecutionId, int]]:
    return [(ExecutionId(id), epoch) for id, epoch in db.execute(SQL["cancel_wishes"], (worker_id,))]


def running(db: apsw.Connection, definitions: Definitions) -> Sequence[Running]:
    found = list(db.execute(SQL["running"]))
    tasks = steps.tasks_of(db, definitions, [row[6] for row in found if row[6] is not None])
    return [rows.running(row, None if row[6] is None else tasks[row[6]]) for row in found]
