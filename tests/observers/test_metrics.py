"""What the numbers say: each event counted where the reference says, on a page whose length no task changes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from peregrine.domain.event import Claimed, Recovered, Settled, StoreFailed
from peregrine.domain.execution import AttemptOutcome, Cause
from peregrine.domain.statistics import Statistics
from peregrine.observers.metrics import MetricsObserver
from peregrine.ports.engine_view import EngineFacts, EngineMode, LockFacts
from peregrine.testing.builders import NOW
from tests.observers.scenes import ONE_OF_EACH, a_claim, ended

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"


class StillEngine:
    def facts(self) -> EngineFacts:
        return EngineFacts(
            mode=EngineMode.RUNNING, slots=8, active=3, failing={"reaper": "x"}, stale=2, clock_skew=1500
        )


@dataclass
class StillLocks:
    now: LockFacts

    def facts(self) -> LockFacts:
        return self.now


def numbers(metrics: MetricsObserver) -> dict[str, float]:
    """Every sample by its name and labels, as it would be asked for."""
    page = metrics.render().decode()
    return {
        sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


@pytest.fixture
def metrics() -> MetricsObserver:
    return MetricsObserver(StillEngine())


def test_one_of_each_event_is_counted(metrics: MetricsObserver) -> None:
    for event in ONE_OF_EACH:
        metrics.observe(event)

    found = numbers(metrics)
    expected = {
        "occurrences_queued_total": 1, "occurrences_left_out_total[overlap]": 2, "plans_moved_total": 1,
        "tasks_unplannable_total": 1, "attempts_started_total": 1, "attempts_ended_total[succeeded]": 1,
        "attempts_ended_total[failed]": 1, "attempts_ended_total[lost]": 2, "executions_ended_total[succeeded]": 1,
        "recoveries_total": 1, "results_refused_total": 1, "leases_lost_total": 1, "attempts_abandoned_total": 1,
        "went_stale_total": 1, "clock_steps_total": 1, "cursors_reanchored_total": 3,
        "store_failures_total[planner]": 1, "store_away_seconds_total": 1.5, "loop_crashes_total[reaper]": 1,
        "redis_away_total": 1, "redis_away_seconds_total": 2.5, "redis_degraded_total": 3,
        "claims_put_back_total": 1, "clock_astray_total": 1,
        "purged_total[executions]": 4, "purged_total[ledger]": 5,
    }  # fmt: skip
    assert {name: found[f"peregrine_{name}"] for name in expected} == expected


def test_lateness_is_of_first_attempts_by_schedule_alone(metrics: MetricsObserver) -> None:
    """As late as it really was, whatever moment it was claimed for."""
    late = a_claim(started_at=NOW)
    metrics.observe(Claimed([late, a_claim(attempt=2), a_claim(cause=Cause.MANUAL, scheduled_for=None)], NOW + 700))

    found = numbers(metrics)
    assert found["peregrine_start_lateness_seconds_count"] == 1
    assert found["peregrine_start_lateness_seconds_bucket[0.5]"] == 0
    assert found["peregrine_start_lateness_seconds_bucket[1.0]"] == 1


def test_a_recovered_attempt_is_an_ended_one(metrics: MetricsObserver) -> None:
    metrics.observe(Recovered([ended(AttemptOutcome.LOST)]))
    metrics.observe(Settled([ended(AttemptOutcome.FAILED)]))

    found = numbers(metrics)
    assert found["peregrine_attempts_ended_total[lost]"] == 1
    assert found["peregrine_attempt_seconds_count"] == 2


def test_gauges_are_read_when_asked_for(metrics: MetricsObserver) -> None:
    metrics.note(
        Statistics(
            total_tasks=5,
            enabled_tasks=4,
            running=3,
            queued=2,
            completed_today=1,
            failed_today=0,
            average_runtime=7,
            next_run_at=None,
        )
    )

    found = numbers(metrics)
    names = ("running", "slots", "ready", "stale", "loops_failing", "clock_skew_seconds", "queue", "tasks")
    assert [found[f"peregrine_{name}"] for name in names] == [3, 8, 1, 2, 1, 1.5, 2, 5]


def test_a_redis_that_is_away_is_seen(metrics: MetricsObserver) -> None:
    assert numbers(metrics)["peregrine_redis_up"] == 1

    metrics.locks = StillLocks(LockFacts(latency=20))
    found = numbers(metrics)
    assert (found["peregrine_redis_up"], found["peregrine_redis_latency_seconds"]) == (1, 0.02)

    metrics.locks = StillLocks(LockFacts(latency=None, reason="it can't be reached"))
    assert numbers(metrics)["peregrine_redis_up"] == 0


def test_the_length_of_the_page_does_not_depend_on_what_ran(metrics: MetricsObserver) -> None:
    before = len(numbers(metrics))
    for event in ONE_OF_EACH:
        metrics.observe(event)

    assert len(numbers(metrics)) == before


def test_a_loop_that_is_new_is_counted_too(metrics: MetricsObserver) -> None:
    metrics.observe(StoreFailed("a-loop-of-tomorrow", "away"))

    assert numbers(metrics)["peregrine_store_failures_total[a-loop-of-tomorrow]"] == 1


def test_two_observers_do_not_share_numbers(metrics: MetricsObserver) -> None:
    metrics.observe(StoreFailed("planner", "away"))

    assert numbers(MetricsObserver())["peregrine_store_failures_total[planner]"] == 0


def test_the_reference_names_every_metric_and_no_other(metrics: MetricsObserver) -> None:
    families = text_string_to_metric_families(metrics.render().decode())
    ours = {
        f"| `{family.name}{'_total' if family.type == 'counter' else ''}` | {family.type} | {family.documentation} |"
        for family in families
        if family.name.startswith("peregrine_")
    }
    rows = {row for row in REFERENCE.read_text(encoding="utf-8").splitlines() if row.startswith("| `peregrine_")}

    assert rows == ours
