"""A task each second: every occurrence is present once, and started within milliseconds of its moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from tests.faults.service import Service, a_task
from tests.faults.test_storage import eventually

SECONDS = 60


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_each_second_of_a_minute(tmp_path: Path, make_service: Callable[..., Service]) -> None:
    """Sixty occurrences, none twice, none missing; at the 99th percentile less than 20 ms late on an idle machine."""
    service = make_service(tmp_path)
    service.start()
    status, task = service.ask("POST", "/scheduler/tasks", a_task("tick"))
    assert status == 201

    path = f"/scheduler/tasks/{task['id']}/history"
    began = time.monotonic()
    eventually(
        lambda: time.monotonic() - began > 2 and len(service.all(path, "executions")) > SECONDS, within=SECONDS + 20
    )
    executions = [e for e in service.all(path, "executions") if e["status"] == "completed"]

    late = sorted(_millis(e["started_at"]) - _millis(e["scheduled_for"]) for e in executions)
    moments = sorted(_millis(e["scheduled_for"]) for e in executions)
    assert moments == list(range(moments[0], moments[0] + 1000 * len(moments), 1000))
    assert late[-1] < 20, f"late by {late[len(late) // 2]} ms at the median, {late[-1]} ms at most"
    assert service.stop() == 0


def _millis(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)
