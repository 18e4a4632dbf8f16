"""Which store and which company the settings ask for, and what is said when they can't be had."""

from __future__ import annotations

import importlib.util
import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from peregrine.app.credentials import tell_other_signer
from peregrine.app.datadir import DataDir
from peregrine.app.settings import Settings, load
from peregrine.app.stores import (
    TRY_AGAIN_AFTER,
    WAIT_FOR_STORE,
    check_drivers,
    embedded_store,
    hints_of,
    patiently,
    shared_store,
)
from peregrine.app.together import Footing, together
from peregrine.auth.jwt import JwtRules
from peregrine.cli.house import Undone
from peregrine.coordination.clock import SystemClock, SystemEntropy
from peregrine.coordination.memory import MemoryBus, MemoryLocks
from peregrine.domain.errors import BadConfiguration, Unavailable
from peregrine.observers.several import SeveralObservers
from peregrine.stores.memory_records import MemoryRecords
from peregrine.stores.sqlite.store import SqliteStore
from peregrine.testing.clock import ManualClock
from tests.engine.hall import virtual

SAME = {"JWT_SECRET": "s" * 32, "SCHEDULER_ENCRYPTION_KEY": "A" * 43 + "="}


def values(**texts: str) -> Settings:
    return load(texts).settings


def test_without_an_address_the_store_is_a_file(tmp_path: Path) -> None:
    assert isinstance(embedded_store(values(), DataDir(tmp_path)), SqliteStore)
    assert shared_store(values()) is None


def test_with_an_address_it_is_no_file(tmp_path: Path) -> None:
    assert embedded_store(values(MONGODB_URI="mongodb://db"), DataDir(tmp_path)) is None


@pytest.mark.parametrize(
    ("setting", "text", "extra"), [("MONGODB_URI", "mongodb://db", "mongo"), ("REDIS_HOST", "redis", "redis")]
)
def test_a_driver_that_is_not_installed_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, setting: str, text: str, extra: str
) -> None:
    find = importlib.util.find_spec
    missing = {"pymongo", "redis"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else find(name))

    with pytest.raises(BadConfiguration, match=rf"{setting} is set, .*pip install 'peregrine\[{extra}\]'"):
        check_drivers(values(**{setting: text}))
    check_drivers(values())


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({}, []),
        ({"REDIS_HOST": "redis", "REDIS_PASSWORD": "x"}, []),
        ({"REDIS_PASSWORD": "x"}, ["REDIS_PASSWORD without REDIS_HOST"]),
        ({"REDIS_HOST": "redis", "REDIS_CA_FILE": "ca.pem"}, ["without REDIS_TLS"]),
        ({"REDIS_URL": "rediss://redis", "REDIS_CA_FILE": "ca.pem"}, []),
        ({"MONGODB_URI": "mongodb://db"}, ["without REDIS_HOST", "without JWT_SECRET", "without SCHEDULER_ENCRYPTION"]),
        (
            {"MONGODB_URI": "mongodb://m", "REDIS_HOST": "r", **SAME},
            [],
        ),
    ],
    ids=["embedded", "redis", "a password alone", "papers alone", "papers", "mongodb alone", "all"],
)
def test_what_may_surprise_is_said(texts: dict[str, str], said: list[str]) -> None:
    hints = hints_of(values(**texts))

    assert len(hints) == len(said)
    assert all(part in hint for part, hint in zip(said, hints, strict=True))


@dataclass
class Reluctant:
    """A store that can be reached after some tries."""

    tries: int
    asked: int = 0
    told: list[str] = field(default_factory=list)

    async def reach(self) -> str:
        self.asked += 1
        if self.asked <= self.tries:
            raise Unavailable("nobody is there" if self.asked < 3 else "it is starting")
        return "reached"


@virtual
async def test_a_store_that_starts_with_us_is_awaited() -> None:
    store, clock = Reluctant(4), ManualClock()

    assert await patiently(store.reach, clock, store.told.append) == "reached"

    assert store.told == ["nobody is there", "it is starting"]
    assert clock.monotonic() >= 4 * TRY_AGAIN_AFTER


@virtual
async def test_a_store_that_never_answers_ends_the_start_with_one_line() -> None:
    store, clock = Reluctant(10_000), ManualClock()
    began = clock.monotonic()

    with pytest.raises(Undone, match=r"did not answer for 1m: it is starting; is MONGODB_URI right\?"):
        await patiently(store.reach, clock, store.told.append)

    assert clock.monotonic() - began < WAIT_FOR_STORE + 2 * TRY_AGAIN_AFTER


@pytest.mark.anyio
async def test_alone_everything_stays_in_the_process() -> None:
    footing = Footing(SystemClock(), SystemEntropy(), SeveralObservers([]))
    async with AsyncExitStack() as stack:
        made = await together(values(), footing, stack)

    assert isinstance(made.bus, MemoryBus)
    assert isinstance(made.locks, MemoryLocks)
    assert (made.view, made.shared, made.reference) == (None, None, None)


@pytest.mark.anyio
async def test_a_redis_that_is_not_there_keeps_nobody_from_starting() -> None:
    footing = Footing(SystemClock(), SystemEntropy(), SeveralObservers([]))
    async with AsyncExitStack() as stack:
        made = await together(values(REDIS_HOST="127.0.0.1", REDIS_PORT="1"), footing, stack)

        assert made.view is not None
        assert made.view.facts().latency is None
        assert made.shared is not None


@pytest.mark.anyio
async def test_an_instance_that_signs_with_another_secret_is_told_aloud(caplog: pytest.LogCaptureFixture) -> None:
    records, clock = MemoryRecords(), SystemClock()

    def rules(letter: bytes) -> Any:
        return JwtRules(algorithm="HS256", secret=letter * 32, key_set=None, issuer="", audience="")

    await tell_other_signer(records, rules(b"a"), clock)
    await tell_other_signer(records, rules(b"a"), clock)
    assert caplog.records == []

    await tell_other_signer(records, rules(b"b"), clock)

    [line] = caplog.records
    assert (line.levelno, line.message) == (logging.ERROR, "signing_secret_differs")
    kept = await records.get_record("house", "signer", now=clock.now())
    assert kept is not None
    assert "bbbb" not in str(kept.document)
