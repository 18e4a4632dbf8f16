"""Tasks: what grows with a change, when one is due, and what its executions add up to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrine.domain.moment import DAY, HOUR, MINUTE, SECOND
from peregrine.domain.policy import AGEING_STEP, Overlap, Policy, Priority, rank
from peregrine.domain.query import TaskStatus
from peregrine.domain.task import Pause, Tally, Task, TaskView
from peregrine.domain.trigger import DstGap, DstOverlap
from peregrine.testing.builders import NOW, a_task

# ── change ───────────────────────────────────────────────────────────────────────────────────────

DUE_CHANGES: list[dict[str, object]] = [
    {"schedule": "@every 1h"},
    {"timezone": "Europe/Berlin"},
    {"dst_gap": DstGap.SKIP},
    {"dst_overlap": DstOverlap.BOTH},
    {"anchor": NOW - 1},
    {"enabled": False},
    {"pause": Pause(since=NOW)},
]
OTHER_CHANGES: list[dict[str, object]] = [
    {},
    {"name": "new"},
    {"description": "new"},
    {"priority": Priority.HIGH},
    {"policy": Policy(overlap=Overlap.ALLOW)},
    {"tags": ("a",)},
]


@pytest.mark.parametrize(
    ("fields", "generation"),
    [*((fields, 6) for fields in DUE_CHANGES), *((fields, 5) for fields in OTHER_CHANGES)],
    ids=str,
)
def test_the_generation_grows_when_what_is_due_may_differ(fields: dict[str, object], generation: int) -> None:
    old = a_task(revision=3, generation=5)

    # Whatever numbers the new value carries: it is the successor of the old one.
    new = replace(a_task(revision=99, generation=99, **fields)).changed(old, at=NOW + 1, by="ann")

    assert (new.revision, new.generation) == (4, generation)
    assert (new.updated_at, new.updated_by) == (NOW + 1, "ann")
    assert (new.created_at, new.created_by) == (old.created_at, old.created_by)


# ── when ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("pause", "now", "paused"),
    [
        (None, NOW, False),
        (Pause(since=NOW), NOW, True),
        (Pause(since=NOW), NOW + 1000 * DAY, True),
        (Pause(since=NOW, until=NOW + 1), NOW, True),
        (Pause(since=NOW, until=NOW + 1), NOW + 1, False),
    ],
)
def test_a_pause_holds_until_its_end(*, pause: Pause | None, now: int, paused: bool) -> None:
    assert a_task(pause=pause).is_paused(now) == paused


@pytest.mark.parametrize(
    ("fields", "cursor", "next_run_at"),
    [
        ({}, NOW - 1, NOW),
        ({}, NOW, NOW + MINUTE),
        ({}, NOW + 1, NOW + MINUTE),
        ({"enabled": False}, NOW, None),
        ({"pause": Pause(since=NOW)}, NOW, None),
        ({"pause": Pause(since=NOW, until=NOW + HOUR)}, NOW, NOW + HOUR),
        ({"pause": Pause(since=NOW, until=NOW + HOUR + 1)}, NOW, NOW + HOUR + MINUTE),
        ({"pause": Pause(since=NOW, until=NOW - HOUR)}, NOW, NOW + MINUTE),
        ({"pause": Pause(since=NOW, until=NOW + HOUR), "enabled": False}, NOW, None),
        ({"schedule": "@manual"}, NOW, None),
    ],
    ids=str,
)
def test_when_the_planner_must_look_again(fields: dict[str, object], cursor: int, next_run_at: int | None) -> None:
    assert a_task(**fields).next_run_at(cursor) == next_run_at


@given(st.integers(-DAY, DAY), st.one_of(st.none(), st.integers(-DAY, DAY)))
def test_the_next_run_is_after_the_cursor_and_outside_the_pause(offset: int, until: int | None) -> None:
    pause = None if until is None else Pause(since=NOW, until=NOW + until)

    found = a_task(pause=pause).next_run_at(NOW + offset)

    assert found is not None
    assert found > NOW + offset
    assert until is None or found >= NOW + until


# ── the tally ────────────────────────────────────────────────────────────────────────────────────

RUNS = st.tuples(st.booleans(), st.one_of(st.none(), st.integers(0, DAY)), st.integers(-SECOND, HOUR))


@given(st.lists(RUNS, max_size=20))
def test_a_tally_is_what_its_runs_add_up_to(runs: list[tuple[bool, int | None, int]]) -> None:
    tally, runtimes = Tally(), []
    for succeeded, offset, duration in runs:
        started_at = None if offset is None else NOW + offset
        tally = tally.counting(
            succeeded=succeeded, started_at=started_at, ended_at=(started_at or NOW) + duration, error="it broke"
        )
        if started_at is not None:
            runtimes.append(max(0, duration))

    assert tally.total_runs == len(runs) == tally.success_count + tally.failure_count
    assert tally.success_count == sum(succeeded for succeeded, _, _ in runs)
    assert tally.runtime_total == sum(runtimes)
    assert tally.average_runtime == (sum(runtimes) // len(runs) if runs else 0)
    assert tally.last_succeeded == (runs[-1][0] if runs else None)
    assert tally.last_error == ("it broke" if runs and not runs[-1][0] else None)
    assert tally.last_duration == (runtimes[-1] if runtimes else None)
    started = [NOW + offset for _, offset, _ in runs if offset is not None]
    assert tally.last_run_at == (started[-1] if started else None)


# ── status and rank ──────────────────────────────────────────────────────────────────────────────


def a_view(task: Task, *, running: int = 0, last_succeeded: bool | None = None) -> TaskView:
    tally = Tally(last_succeeded=last_succeeded)
    return TaskView(task=task, cursor=NOW, next_run_at=None, running=running, queued=1, tally=tally)


OFF, PAUSED, ON = a_task(enabled=False, pause=Pause(since=NOW)), a_task(pause=Pause(since=NOW)), a_task()


@pytest.mark.parametrize(
    ("view", "status"),
    [
        (a_view(OFF, running=1, last_succeeded=True), TaskStatus.DISABLED),
        (a_view(PAUSED, running=1, last_succeeded=True), TaskStatus.PAUSED),
        (a_view(a_task(pause=Pause(since=0, until=NOW)), running=1), TaskStatus.RUNNING),
        (a_view(ON, running=2, last_succeeded=False), TaskStatus.RUNNING),
        (a_view(ON, last_succeeded=True), TaskStatus.COMPLETED),
        (a_view(ON, last_succeeded=False), TaskStatus.FAILED),
        (a_view(ON), TaskStatus.PENDING),
    ],
)
def test_one_word_for_mode_and_activity(view: TaskView, status: TaskStatus) -> None:
    assert TaskStatus.of(view, NOW) is status


@given(st.sampled_from(Priority), st.sampled_from(Priority), st.integers(0, DAY), st.integers(0, DAY))
def test_a_class_is_worth_a_minute_of_waiting(one: Priority, two: Priority, first: int, second: int) -> None:
    """The stored rank orders as the ageing priority would, whenever one looks (decision 0015)."""
    look = NOW + 2 * DAY
    aged = [priority * AGEING_STEP + look - at for priority, at in ((one, NOW + first), (two, NOW + second))]

    assert (rank(one, NOW + first) < rank(two, NOW + second)) == (aged[0] > aged[1])


@pytest.mark.parametrize("priority", list(Priority))
def test_priorities_have_words(priority: Priority) -> None:
    assert Priority.from_word(priority.word) is priority


def test_a_schedule_that_cannot_be_read_any_more_never_comes() -> None:
    """A zone may leave the zone data under a stored task; mending the others must not fail for it."""
    gone = a_task(timezone="Nowhere/Gone")

    assert gone.next_run_if_readable(NOW) is None
    assert a_task().next_run_if_readable(NOW) == a_task().next_run_at(NOW)
