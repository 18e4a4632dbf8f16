"""Each setting reaches the part it speaks of: the wiring itself, without a port or a process."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from peregrine.api.patience import Rate
from peregrine.app.build import Parts, built, engine_settings, rate_of, redis_probe
from peregrine.app.datadir import DataDir
from peregrine.app.settings import Settings, child_environment, load
from peregrine.domain.errors import BadConfiguration, Unavailable
from peregrine.domain.ids import TaskId
from peregrine.domain.moment import DAY, HOUR, MINUTE, SECOND
from peregrine.observers.log import start_log
from peregrine.ports.engine_view import LockFacts
from peregrine.ports.shelves import VAULT


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    flags = {"SCHEDULER_DATA_DIR": str(tmp_path / "data"), "SCHEDULER_RETENTION": "90d"}
    async with built(load(flags), prepared(tmp_path), port=8000, log=a_log()) as parts:
        yield parts


def prepared(folder: Path) -> DataDir:
    data_dir = DataDir(folder / "data")
    data_dir.prepare()
    return data_dir


def a_log() -> Any:
    return start_log(level="info", as_json=True, stream=io.StringIO())


def test_every_time_and_size_reaches_the_engine() -> None:
    texts = {
        "SCHEDULER_WORKER_COUNT": "3", "SCHEDULER_QUEUE_SIZE": "7", "SCHEDULER_LEASE": "9s",
        "SCHEDULER_HEARTBEAT": "2s", "SCHEDULER_POLL": "4s", "SCHEDULER_SHUTDOWN_GRACE": "5s",
        "SCHEDULER_STALE_TIMEOUT": "6m", "SCHEDULER_CLEANUP_INTERVAL": "8h", "SCHEDULER_RETENTION": "10d",
    }  # fmt: skip
    engine = engine_settings(load(texts).settings)

    assert (engine.slots, engine.queue_size, engine.lease, engine.heartbeat) == (3, 7, 9 * SECOND, 2 * SECOND)
    assert (engine.poll, engine.shutdown_grace, engine.stale_after) == (4 * SECOND, 5 * SECOND, 6 * MINUTE)
    assert (engine.cleanup_interval, engine.retention) == (8 * HOUR, 10 * DAY)


async def test_one_retention_holds_for_the_loop_and_the_task(parts: Parts) -> None:
    view = await parts.store.get_task(TaskId("system-task-cleanup"))

    assert view is not None
    assert view.task.description.endswith("older than 90d")
    assert getattr(view.task.payload, "parameters", {}) == {"retention": "2160h"}


async def test_the_metrics_page_sees_the_engine(parts: Parts) -> None:
    assert b"peregrine_slots 10.0" in parts.metrics.render()


async def test_what_runs_and_what_is_asked_have_one_vault(parts: Parts) -> None:
    """The word on the shelf was sealed by the kept key: without it, nothing would be."""
    record = await parts.store.get_record(VAULT, "keys", now=parts.clock.now())

    assert record is not None
    assert record.document["swept"] is True
    assert len(record.document["words"]) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(("per_second", "limit"), [(0, None), (3, Rate(burst=30, per_second=3))])
def test_a_rate_of_zero_is_none(per_second: int, limit: Rate | None) -> None:
    assert rate_of(per_second) == limit


async def test_a_module_that_fails_at_import_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "breaks_at_import.py").write_text("raise RuntimeError('first line\\nsecond line')")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(BadConfiguration) as caught:
        async with built(load({"SCHEDULER_FUNCTIONS": "breaks_at_import"}), prepared(tmp_path), port=8000, log=a_log()):
            pass

    assert str(caught.value) == "SCHEDULER_FUNCTIONS: breaks_at_import can't be imported: RuntimeError: first line"


def test_children_get_the_environment_without_our_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JWT_SECRET", "JWT_SECRET_FILE", "REDIS_URL", "MONGODB_URI", "SCHEDULER_SECRET_CHAT"):
        monkeypatch.setenv(name, "canary")
    monkeypatch.setenv("DATABASE_OF_THE_USER", "theirs")

    environment = child_environment()

    assert "canary" not in environment.values()
    assert environment["DATABASE_OF_THE_USER"] == "theirs"
    assert environment["PATH"] == os.environ["PATH"]


def test_settings_can_not_be_changed_once_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]


class _LockView:
    """A lock service as the last look saw it."""

    def __init__(self, facts: LockFacts) -> None:
        self._facts = facts

    def facts(self) -> LockFacts:
        return self._facts


async def test_the_health_check_asks_the_lock_service_where_there_is_one() -> None:
    assert redis_probe(None) == {}
    await redis_probe(_LockView(LockFacts(latency=1)))["redis"]()
    with pytest.raises(Unavailable, match="frozen"):
        await redis_probe(_LockView(LockFacts(latency=None, reason="frozen")))["redis"]()
