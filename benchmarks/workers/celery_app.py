"""Celery's application: for the worker and for beat, which find it by its name, and for whoever asks for runs."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import Celery
from celery.schedules import schedule

from benchmarks import marks
from benchmarks.subjects.on_redis import BEAT, REDIS


def app_of(url: str) -> Any:
    """Queue and results in one Redis; results are kept for a day, which is Celery's habit."""
    made: Any = Celery("bench", broker=url, backend=url)
    made.conf.update(timezone="UTC", broker_connection_retry_on_startup=True)
    made.task(name="nothing")(marks.nothing_far)
    return made


def ticks(count: int, first: int) -> dict[str, Any]:
    """So many tasks on each whole second from *first* on."""
    before = datetime.fromtimestamp(first - 1, UTC)
    each = schedule(timedelta(seconds=1), relative=True)
    return {f"tick{n}": {"task": "nothing", "schedule": each, "last_run_at": before} for n in range(count)}


if REDIS in os.environ:
    app = app_of(os.environ[REDIS])
    app.conf.beat_schedule = ticks(*json.loads(os.environ.get(BEAT, "[0, 0]")))
