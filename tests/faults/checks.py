"""What must be true of services that were hurt, once they are left alone: looked at from outside, over their API."""

from __future__ import annotations

import time
from collections import Counter
from datetime import datetime
from typing import Final

from tests.faults.service import Service

QUIET_WITHIN: Final = 90.0


def calm(service: Service, tasks: list[str]) -> None:
    """Disable everything and wait until nothing runs or waits."""
    for task in tasks:
        assert service.ask("POST", f"/scheduler/tasks/{task}/disable")[0] == 200
    until = time.monotonic() + QUIET_WITHIN
    active: list[int] = []
    while time.monotonic() < until:
        active = [
            service.ask("GET", f"/scheduler/executions?status={status}")[1]["total"]
            for status in ("running", "pending")
        ]
        if active == [0, 0]:
            return
        time.sleep(0.1)  # not a wait: the queue drains
    raise AssertionError(f"{active} executions still run or wait after {QUIET_WITHIN} s")


def check_occurrences(service: Service, tasks: list[str]) -> int:
    """Each second of each of *tasks* has exactly one record, from its first to its last; how many seconds in all."""
    return sum(_seconds_of(service, task) for task in tasks)


def _seconds_of(service: Service, task: str) -> int:
    seen: Counter[int] = Counter()
    for entry in service.all(f"/scheduler/tasks/{task}/occurrences", "occurrences"):
        first, last = _second(entry["scheduled_for"]), _second(entry.get("last") or entry["scheduled_for"])
        assert entry["count"] == last - first + 1
        assert entry["verdict"] == "ran" or entry["reason"]
        seen.update(range(first, last + 1))
    twice = [moment for moment, count in seen.items() if count > 1]
    gaps = set(range(min(seen), max(seen) + 1)) - set(seen)
    assert (twice, sorted(gaps)) == ([], []), task
    return len(seen)


def _second(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp())


def check_effects(service: Service) -> None:
    """Every effect has its record, none came twice, and each attempt but the last says why there was another."""
    executions = {e["id"]: e for e in service.all("/scheduler/executions", "executions")}
    began = Counter((x["execution"], x["attempt"]) for x in service.seen() if x["what"] == "began")
    assert [key for key, count in began.items() if count > 1] == []
    recorded = {(id, a["attempt"]) for id, e in executions.items() for a in e["attempts"]}
    assert set(began) - recorded == set(), "effects without a record"
    for execution in executions.values():
        assert execution["status"] in ("completed", "failed"), execution
        for attempt in execution["attempts"][:-1]:
            assert attempt["outcome"] in ("lost", "failed", "timed_out", "interrupted"), execution
