"""Planning: every instant in (cursor, now] gets exactly one verdict, and the right one.

The oracle walks the instants one by one; the plan reckons with ranges. They must agree for every task, moment and room.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrine.domain import planning
from peregrine.domain.execution import Cause
from peregrine.domain.moment import DAY, HOUR, MINUTE, SECOND, Moment
from peregrine.domain.occurrence import Reason, Skip, occurrence_execution_id, occurrence_key
from peregrine.domain.planning import QUEUE_PATIENCE, DueTask, Plan, foreseen, plan
from peregrine.domain.policy import Misfire, OnWorkerLost, Overlap, Policy, Priority
from peregrine.domain.task import Pause, Task
from peregrine.testing.builders import NOW, a_task

PLENTY = 1_000
Decision = dict[Moment, Reason | None]
"""Why each instant does not run; None: it runs."""


# ── the oracle ───────────────────────────────────────────────────────────────────────────────────


def instants(task: Task, after: Moment, upto: Moment) -> Iterator[Moment]:
    moment = task.trigger.next_after(after)
    while moment is not None and moment <= upto:
        yield moment
        moment = task.trigger.next_after(moment)


def decided_one_by_one(due: DueTask, now: Moment, room: int) -> Decision | None:
    """The decision by the words of the documents, instant by instant; None to wait for room."""
    policy, decision = due.task.policy, Decision()
    late: list[Moment] = []
    in_time: list[Moment] = []
    for moment in instants(due.task, due.cursor, now):
        decision[moment] = None
        if due.task.pause is not None and (due.task.pause.until is None or moment < due.task.pause.until):
            decision[moment] = Reason.PAUSED
        elif now - moment <= policy.misfire_grace:
            in_time.append(moment)
        elif now - moment > policy.catchup_window:
            decision[moment] = Reason.TOO_OLD
        elif policy.misfire is Misfire.SKIP:
            decision[moment] = Reason.MISFIRE
        else:
            late.append(moment)
    runs = chosen_one_by_one(due, decision, late, in_time)
    if len(runs) > room and now - min(late + in_time) < QUEUE_PATIENCE:
        return None
    for moment in runs[room:]:
        decision[moment] = Reason.QUEUE_FULL
    return decision


def chosen_one_by_one(due: DueTask, decision: Decision, late: list[Moment], in_time: list[Moment]) -> list[Moment]:
    policy = due.task.policy
    once, alone = policy.misfire is Misfire.RUN_ONCE, policy.overlap is Overlap.SKIP
    if alone and due.active:
        leave_out(decision, late + in_time if once else in_time, 0, Reason.OVERLAP)
        return [] if once else leave_out(decision, late, policy.catchup_max, Reason.CATCHUP_MAX)
    if once:
        late = leave_out(decision, late, 1, Reason.COALESCED)
    late = leave_out(decision, late, policy.catchup_max, Reason.CATCHUP_MAX)
    in_time = leave_out(decision, in_time, policy.catchup_max, Reason.CATCHUP_MAX)
    if alone and policy.misfire is not Misfire.RUN_ALL:
        return leave_out(decision, late + in_time, 1, Reason.COALESCED)
    return leave_out(decision, late + in_time, policy.catchup_max, Reason.CATCHUP_MAX)


def leave_out(decision: Decision, moments: list[Moment], most: int, reason: Reason) -> list[Moment]:
    """The newest *most*; the others get *reason*."""
    rest = max(0, len(moments) - most)
    decision.update(dict.fromkeys(moments[:rest], reason))
    return moments[rest:]


def told(made: Plan, task: Task) -> Decision:
    """What a plan says of each instant; fails if it says two things of one, or speaks of what is none."""
    decision: Decision = {}
    for new in made.executions:
        assert new.scheduled_for is not None
        assert new.scheduled_for not in decision
        decision[new.scheduled_for] = None
    for skip in made.skips:
        covered = list(instants(task, skip.first - 1, skip.last))
        assert (covered[0], covered[-1], len(covered)) == (skip.first, skip.last, skip.count)
        assert not decision.keys() & set(covered)
        decision.update(dict.fromkeys(covered, skip.reason))
    return decision


# ── worlds ───────────────────────────────────────────────────────────────────────────────────────

SCHEDULES = (
    "@every 1s",
    "@every 7s",
    "@every 1m",
    "* * * * * *",
    "*/5 * * * * *",
    "0,1,2,30 * * * * *",
    "0 * * * * *",
    "@at 2026-01-01T12:01:00Z",
    "@manual",
)
SPANS = (0, 1, 999, SECOND, 1_500, 10 * SECOND, 59 * SECOND, MINUTE, 2 * MINUTE, 5 * MINUTE)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    return Policy(
        overlap=draw(st.sampled_from(Overlap)),
        misfire=draw(st.sampled_from(Misfire)),
        misfire_grace=draw(st.sampled_from(SPANS)),
        catchup_window=draw(st.sampled_from(SPANS)),
        catchup_max=draw(st.sampled_from((1, 2, 3, 10, 100))),
    )


@st.composite
def worlds(draw: st.DrawFn) -> tuple[DueTask, Moment, int]:
    """A due task, now, and the room in the queue; the clock may even have been set back."""
    cursor = NOW + draw(st.integers(-2 * SECOND, 2 * SECOND))
    now = cursor + draw(st.one_of(st.integers(0, 3 * SECOND), st.integers(-MINUTE, 4 * MINUTE)))
    until = st.one_of(st.none(), st.integers(cursor - 2 * SECOND, now + 2 * SECOND) if now > cursor else st.none())
    pause = draw(st.one_of(st.none(), st.none(), st.builds(Pause, since=st.just(NOW), until=until)))
    task = a_task(
        schedule=draw(st.sampled_from(SCHEDULES)),
        anchor=NOW - draw(st.integers(0, 5)) * SECOND,
        policy=draw(policies()),
        pause=pause,
        priority=draw(st.sampled_from(Priority)),
        generation=draw(st.integers(1, 3)),
    )
    active = draw(st.sampled_from((0, 0, 1, 3)))
    return DueTask(task, cursor, active), now, draw(st.sampled_from((0, 1, 2, 7, PLENTY)))


@given(worlds())
def test_every_instant_gets_the_one_right_verdict(world: tuple[DueTask, Moment, int]) -> None:
    due, now, room = world
    expected = decided_one_by_one(due, now, room)

    made = plan(due, now, room)

    if expected is None:
        assert made is None
        return
    assert made is not None
    assert told(made, due.task) == expected
    assert made.cursor_after == max([due.cursor, *expected]), "the last instant, and never back"
    assert made.next_run_at == due.task.next_run_at(made.cursor_after)
    assert made.next_run_at is None or made.next_run_at > now or now < due.cursor
    assert_in_order_and_bounds(made, due, room)


def assert_in_order_and_bounds(made: Plan, due: DueTask, room: int) -> None:
    moments = [new.scheduled_for or 0 for new in made.executions]
    assert moments == sorted(set(moments))
    assert len(moments) <= min(room, due.task.policy.catchup_max)
    ranges = [(skip.first, skip.last) for skip in made.skips]
    assert all(before[1] < after[0] for before, after in pairwise(ranges))
    assert (made.task_id, made.generation, made.cursor) == (due.task.id, due.task.generation, due.cursor)


@given(worlds())
def test_planning_again_gives_the_same_and_after_it_nothing(world: tuple[DueTask, Moment, int]) -> None:
    due, now, room = world
    made = plan(due, now, room)

    assert plan(due, now, room) == made
    if made is None:
        return
    after = plan(replace(due, cursor=made.cursor_after), now, room)
    assert after is not None
    assert (after.executions, after.skips, after.cursor_after) == ((), (), made.cursor_after)
    assert after.next_run_at == made.next_run_at


@given(worlds(), st.lists(st.integers(0, 90 * SECOND), min_size=1, max_size=5))
def test_plans_that_follow_each_other_leave_no_gap(world: tuple[DueTask, Moment, int], steps: list[int]) -> None:
    due, _, room = world
    begin, now, decision = due.cursor, due.cursor, Decision()
    for step in steps:
        now += step
        made = plan(due, now, room)
        if made is None:
            continue
        new = told(made, due.task)
        assert not decision.keys() & new.keys()
        decision |= new
        due = replace(due, cursor=made.cursor_after)

    assert sorted(decision) == list(instants(due.task, begin, due.cursor))


@given(worlds())
def test_the_usual_plan_is_the_general_one_made_faster(world: tuple[DueTask, Moment, int]) -> None:
    due, now, room = world
    quick = plan(due, now, room)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "_usual_plan", lambda *_: None)
        assert plan(due, now, room) == quick


@given(worlds(), st.integers(0, 2))
def test_what_is_foreseen_is_what_the_moment_brings(world: tuple[DueTask, Moment, int], active: int) -> None:
    """Whatever is active then, and as long as there is any room. Of what may not run beside itself nothing begins in
    between that is not active now.
    """
    due, now, _ = world
    early = foreseen(due, now)
    if due.task.policy.overlap is Overlap.SKIP:
        active = min(active, due.active)

    assert early is None or early == plan(replace(due, active=active), now, 1)


def test_what_is_lost_with_its_worker_is_not_foreseen() -> None:
    """It would fail without having begun."""
    assert foreseen(due_task(), NOW + MINUTE) is not None
    assert foreseen(due_task(on_worker_lost=OnWorkerLost.FAIL), NOW + MINUTE) is None


# ── tables ───────────────────────────────────────────────────────────────────────────────────────


def minutes(made: Plan | None) -> list[int]:
    assert made is not None
    return [((new.scheduled_for or 0) - NOW) // MINUTE for new in made.executions]


def skipped(made: Plan | None) -> list[tuple[int, int, int, Reason]]:
    assert made is not None
    return [((s.first - NOW) // MINUTE, (s.last - NOW) // MINUTE, s.count, s.reason) for s in made.skips]


def due_task(active: int = 0, **fields: object) -> DueTask:
    """A task that is due every minute, untouched since noon."""
    return DueTask(a_task(policy=Policy(**fields)), NOW, active)  # type: ignore[arg-type]


def test_the_usual_case_is_one_execution_made_from_task_and_moment() -> None:
    due = DueTask(a_task(priority=Priority.HIGH), NOW, 0)

    made = plan(due, NOW + MINUTE + 3, 1)

    assert made is not None
    (new,) = made.executions
    assert (new.id, new.key) == (
        occurrence_execution_id(due.task.id, NOW + MINUTE),
        occurrence_key(due.task.id, NOW + MINUTE),
    )
    assert (new.task_id, new.cause, new.priority) == (due.task.id, Cause.SCHEDULE, Priority.HIGH)
    assert (new.scheduled_for, new.available_at, new.queued_at) == (NOW + MINUTE, NOW + MINUTE, NOW + MINUTE + 3)
    assert (made.cursor_after, made.next_run_at, made.skips) == (NOW + MINUTE, NOW + 2 * MINUTE, ())


@pytest.mark.parametrize(
    ("overlap", "misfire", "active", "runs", "skips"),
    [
        # Ten minutes away; the eighth to tenth minute are within the grace of two and a half.
        (Overlap.SKIP, Misfire.RUN_ONCE, 0, [10], [(1, 9, 9, Reason.COALESCED)]),
        (Overlap.SKIP, Misfire.RUN_ONCE, 1, [], [(1, 10, 10, Reason.OVERLAP)]),
        (Overlap.SKIP, Misfire.RUN_ALL, 0, [*range(1, 11)], []),
        (Overlap.SKIP, Misfire.RUN_ALL, 1, [*range(1, 8)], [(8, 10, 3, Reason.OVERLAP)]),
        (Overlap.SKIP, Misfire.SKIP, 0, [10], [(1, 7, 7, Reason.MISFIRE), (8, 9, 2, Reason.COALESCED)]),
        (Overlap.SKIP, Misfire.SKIP, 1, [], [(1, 7, 7, Reason.MISFIRE), (8, 10, 3, Reason.OVERLAP)]),
        (Overlap.QUEUE, Misfire.RUN_ONCE, 0, [7, 8, 9, 10], [(1, 6, 6, Reason.COALESCED)]),
        (Overlap.QUEUE, Misfire.RUN_ONCE, 5, [7, 8, 9, 10], [(1, 6, 6, Reason.COALESCED)]),
        (Overlap.QUEUE, Misfire.RUN_ALL, 5, [*range(1, 11)], []),
        (Overlap.QUEUE, Misfire.SKIP, 5, [8, 9, 10], [(1, 7, 7, Reason.MISFIRE)]),
        (Overlap.ALLOW, Misfire.RUN_ONCE, 5, [7, 8, 9, 10], [(1, 6, 6, Reason.COALESCED)]),
        (Overlap.ALLOW, Misfire.RUN_ALL, 5, [*range(1, 11)], []),
        (Overlap.ALLOW, Misfire.SKIP, 5, [8, 9, 10], [(1, 7, 7, Reason.MISFIRE)]),
    ],
)
def test_overlap_and_misfire_after_an_absence(
    overlap: Overlap,
    misfire: Misfire,
    active: int,
    runs: list[int],
    skips: list[tuple[int, int, int, Reason]],
) -> None:
    due = due_task(active, overlap=overlap, misfire=misfire, misfire_grace=150 * SECOND)

    made = plan(due, NOW + 10 * MINUTE + 20 * SECOND, PLENTY)

    assert (minutes(made), skipped(made)) == (runs, skips)


@pytest.mark.parametrize(
    ("overlap", "active", "runs"),
    [
        (Overlap.SKIP, 0, [1]),
        (Overlap.SKIP, 1, []),
        (Overlap.QUEUE, 1, [1]),
        (Overlap.ALLOW, 1, [1]),
    ],
)
def test_one_occurrence_in_time_while_another_runs(overlap: Overlap, active: int, runs: list[int]) -> None:
    made = plan(due_task(active, overlap=overlap), NOW + MINUTE, PLENTY)

    assert minutes(made) == runs
    assert skipped(made) == ([] if runs else [(1, 1, 1, Reason.OVERLAP)])


@pytest.mark.parametrize("late", [0, 1, 59 * SECOND + 999, MINUTE, MINUTE + 1])
def test_the_grace_is_inclusive(late: int) -> None:
    made = plan(due_task(misfire=Misfire.SKIP), NOW + MINUTE + late, PLENTY)

    # A minute late the next one is due as well, and runs in its place.
    reason = Reason.COALESCED if late == MINUTE else Reason.MISFIRE
    in_time = minutes(made)[:1] == [1]
    assert in_time == (late < MINUTE)
    assert skipped(made) == ([] if in_time else [(1, 1, 1, reason)])


def test_what_is_in_time_is_never_too_old() -> None:
    """A window of zero means: catch nothing up. It must not refuse the moment that was due a millisecond ago."""
    due = due_task(catchup_window=0, misfire=Misfire.RUN_ALL, overlap=Overlap.QUEUE)

    made = plan(due, NOW + 3 * MINUTE + 1, PLENTY)

    assert (minutes(made), skipped(made)) == ([3], [(1, 2, 2, Reason.TOO_OLD)])


def test_catching_up_is_bounded_by_window_and_number() -> None:
    due = due_task(overlap=Overlap.QUEUE, misfire=Misfire.RUN_ALL, catchup_window=HOUR, catchup_max=10, misfire_grace=0)

    made = plan(due, NOW + DAY + 1, PLENTY)

    assert minutes(made) == [*range(1431, 1441)]
    assert skipped(made) == [(1, 1380, 1380, Reason.TOO_OLD), (1381, 1430, 50, Reason.CATCHUP_MAX)]


def test_a_year_of_seconds_is_reckoned_not_walked() -> None:
    due = DueTask(a_task(schedule="* * * * * *", policy=Policy(misfire=Misfire.RUN_ALL, catchup_max=5)), NOW, 0)

    made = plan(due, NOW + 365 * DAY, PLENTY)

    assert made is not None
    assert len(made.executions) == 5
    assert sum(skip.count for skip in made.skips) == 365 * 86_400 - 5
    assert len(made.skips) == 2


def test_neighbours_of_one_reason_are_one_range() -> None:
    due = due_task(1, misfire_grace=DAY, catchup_max=100)

    assert skipped(plan(due, NOW + HOUR, PLENTY)) == [(1, 60, 60, Reason.OVERLAP)]


@pytest.mark.parametrize(
    ("until", "now", "runs", "skips", "next_run_at"),
    [
        # The pause has no end: nothing runs, nothing is due.
        (None, 3, [], [(1, 3, 3, Reason.PAUSED)], None),
        # It still holds: due again at its end.
        (5, 3, [], [(1, 3, 3, Reason.PAUSED)], 5),
        # The end itself runs.
        (5, 5, [5], [(1, 4, 4, Reason.PAUSED)], 6),
        # It is long over: what came after it is judged as if there had been none.
        (3, 6, [6], [(1, 2, 2, Reason.PAUSED), (3, 5, 3, Reason.COALESCED)], 7),
        (0, 1, [1], [], 2),
    ],
)
def test_a_pause_is_skipped_up_to_its_end(
    until: int | None, now: int, runs: list[int], skips: list[tuple[int, int, int, Reason]], next_run_at: int | None
) -> None:
    pause = Pause(since=NOW, until=None if until is None else NOW + until * MINUTE)

    made = plan(DueTask(a_task(pause=pause), NOW, 0), NOW + now * MINUTE, PLENTY)

    assert made is not None
    assert (minutes(made), skipped(made)) == (runs, skips)
    assert made.next_run_at == (None if next_run_at is None else NOW + next_run_at * MINUTE)


@pytest.mark.parametrize("room", [0, 1, 2])
def test_a_full_queue_is_waited_for_a_little(room: int) -> None:
    task = a_task(schedule="* * * * * *", policy=Policy(overlap=Overlap.ALLOW))
    due = DueTask(task, NOW, 0)

    assert plan(due, NOW + SECOND + QUEUE_PATIENCE - 1, room) is None or room > 1
    made = plan(due, NOW + SECOND + QUEUE_PATIENCE, room)

    assert made is not None
    assert len(made.executions) == room
    refused = [skip for skip in made.skips if skip.reason is Reason.QUEUE_FULL]
    assert refused == [Skip(NOW + (room + 1) * SECOND, NOW + 3 * SECOND, 3 - room, Reason.QUEUE_FULL)]


@pytest.mark.parametrize("misfire", Misfire)
def test_a_task_of_each_second_waits_no_longer_for_room_than_others(misfire: Misfire) -> None:
    """Its newest moment is always young; what counts is how long the first one has waited."""
    due = DueTask(a_task(schedule="* * * * * *", policy=Policy(misfire=misfire)), NOW, 0)

    assert plan(due, NOW + SECOND + QUEUE_PATIENCE - 1, 0) is None
    made = plan(due, NOW + SECOND + QUEUE_PATIENCE, 0)

    assert made is not None
    assert made.cursor_after == NOW + SECOND + QUEUE_PATIENCE
    assert sum(skip.count for skip in made.skips) == 3


def test_a_clock_that_went_back_plans_nothing() -> None:
    due = due_task()

    made = plan(due, NOW - DAY, PLENTY)

    assert made is not None
    assert (made.executions, made.skips, made.cursor_after) == ((), (), NOW)
    assert made.next_run_at == NOW + MINUTE


def test_a_one_shot_runs_once_and_has_no_next() -> None:
    due = DueTask(a_task(schedule="@at 2026-01-01T12:01:00Z"), NOW, 0)

    made = plan(due, NOW + MINUTE, PLENTY)

    assert (minutes(made), made and made.next_run_at) == ([1], None)
