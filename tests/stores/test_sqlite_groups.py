"""Group commit: a crowd shares one commit, and one that fails sinks nobody else."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from peregrine.domain.errors import Conflict
from peregrine.stores.sqlite import connection
from peregrine.stores.sqlite.connection import GROUP_MAX, Writer, open_connection
from peregrine.stores.sqlite.migrate import create

pytestmark = pytest.mark.anyio

STEPS = ["CREATE TABLE kept (x INTEGER UNIQUE) STRICT;"]
Operation = Callable[[apsw.Connection], object]


class Calm:
    """Surroundings in which nothing ever happens."""

    def opened(self, db: apsw.Connection) -> None: ...

    def before(self, db: apsw.Connection) -> None: ...

    def may_grow(self, db: apsw.Connection) -> bool:
        return True

    def after(self, db: apsw.Connection) -> None: ...

    def full(self) -> None: ...


class Crowd:
    """A writer whose thread can be held up, so that what is asked for meanwhile waits together."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.statements: list[str] = []
        self.writer = Writer(self._connect, Calm(), damaged=lambda: None)

    def _connect(self) -> apsw.Connection:
        db = open_connection(self.path)
        db.exec_trace = self._note
        return db

    def _note(self, _: object, statement: str, __: object) -> bool:
        self.statements.append(statement)
        return True

    async def at_once(self, *operations: Operation) -> list[object]:
        """What becomes of *operations* that wait together."""
        begun, go = threading.Event(), threading.Event()

        def hold_up(_: apsw.Connection) -> None:
            begun.set()
            go.wait()

        held = asyncio.ensure_future(self.writer.run(hold_up))
        await asyncio.to_thread(begun.wait)
        waiting = [asyncio.ensure_future(self.writer.run(operation)) for operation in operations]
        await asyncio.sleep(0)
        self.statements.clear()
        go.set()
        answers = await asyncio.gather(held, *waiting, return_exceptions=True)
        return answers[1:]

    def count(self, statement: str) -> int:
        return sum(said.startswith(statement) for said in self.statements)

    def kept(self) -> set[int]:
        db = open_connection(self.path, reads_only=True)
        try:
            return {x for (x,) in db.execute("SELECT x FROM kept")}
        finally:
            db.close()


@pytest.fixture
async def crowd(folder: Path) -> AsyncIterator[Crowd]:
    path = folder / "store.db"
    create(path, STEPS)
    crowd = Crowd(path)
    crowd.writer.start()
    yield crowd
    await crowd.writer.stop()


def keeping(number: int) -> Operation:
    def keep(db: apsw.Connection) -> int:
        db.execute("INSERT INTO kept VALUES (?)", (number,))
        return number

    return keep


def keeping_then(number: int, error: Exception) -> Operation:
    def fail(db: apsw.Connection) -> None:
        db.execute("INSERT INTO kept VALUES (?)", (number,))
        raise error

    return fail


async def test_a_crowd_pays_for_one_commit(crowd: Crowd) -> None:
    answers = await crowd.at_once(*(keeping(number) for number in range(100)))

    assert answers == list(range(100))
    # One more ends the group of the one that was held up.
    assert crowd.count("COMMIT") == 2
    assert crowd.kept() == set(range(100))


async def test_a_group_is_bounded(crowd: Crowd) -> None:
    await crowd.at_once(*(keeping(number) for number in range(2 * GROUP_MAX + 1)))

    assert crowd.count("COMMIT") == 1 + 3
    assert len(crowd.kept()) == 2 * GROUP_MAX + 1


@pytest.mark.parametrize(
    "error",
    [Conflict("taken"), ValueError("a bug"), AssertionError("a worse one"), KeyError("x")],
    ids=lambda error: type(error).__name__,
)
async def test_one_that_fails_sinks_nobody_else(crowd: Crowd, error: Exception) -> None:
    answers = await crowd.at_once(keeping(1), keeping_then(2, error), keeping(3))

    assert answers == [1, error, 3]
    assert crowd.kept() == {1, 3}
    assert crowd.count("COMMIT") == 2


async def test_one_that_fails_by_itself_leaves_nothing(crowd: Crowd) -> None:
    """Alone in its transaction it has no savepoint; what it wrote before it failed goes with the transaction."""

    def failing(db: apsw.Connection) -> None:
        db.execute("INSERT INTO kept VALUES (1)")
        raise Conflict("changed its mind")

    with pytest.raises(Conflict):
        await crowd.writer.run(failing)

    assert crowd.kept() == set()
    assert await crowd.writer.run(keeping(2)) == 2
    assert crowd.kept() == {2}


async def test_one_that_sqlite_refuses_sinks_nobody_else(crowd: Crowd) -> None:
    answers = await crowd.at_once(keeping(1), keeping(1), keeping(3))

    assert answers[0] == 1
    assert isinstance(answers[1], apsw.ConstraintError)
    assert answers[2] == 3
    assert crowd.kept() == {1, 3}


async def test_one_that_breaks_the_transaction_sinks_nobody_else(crowd: Crowd) -> None:
    def breaking(db: apsw.Connection) -> None:
        db.execute("INSERT INTO kept VALUES (2)")
        db.execute("ROLLBACK")

    answers = await crowd.at_once(keeping(1), breaking, keeping(3))

    assert answers[0] == 1
    assert isinstance(answers[1], apsw.SQLError)
    assert answers[2] == 3
    assert crowd.kept() == {1, 3}


async def test_who_stopped_waiting_does_not_hurt(crowd: Crowd) -> None:
    waiting = asyncio.ensure_future(crowd.writer.run(keeping(1)))
    await asyncio.sleep(0)
    waiting.cancel()

    assert await crowd.writer.run(keeping(2)) == 2

    # It was asked for, so it may have been done; what counts is that the next one was answered.
    assert crowd.kept() >= {2}


async def test_what_was_asked_for_is_done_before_the_end(crowd: Crowd) -> None:
    waiting = [asyncio.ensure_future(crowd.writer.run(keeping(number))) for number in range(20)]
    await asyncio.sleep(0)

    await crowd.writer.stop()

    assert await asyncio.gather(*waiting) == list(range(20))
    assert crowd.kept() == set(range(20))


async def test_answers_arrive_in_one_visit_to_the_loop(crowd: Crowd) -> None:
    loop = asyncio.get_running_loop()
    await crowd.at_once(keeping(-1))
    visits = 0
    visit = loop.call_soon_threadsafe

    def counted(callback: Callable[..., object], *arguments: object, **settings: Any) -> asyncio.Handle:
        nonlocal visits
        visits += callback is connection._deliver
        return visit(callback, *arguments, **settings)

    loop.call_soon_threadsafe = counted  # type: ignore[method-assign]
    try:
        await crowd.at_once(*(keeping(number) for number in range(50)))
    finally:
        loop.call_soon_threadsafe = visit  # type: ignore[method-assign]

    assert visits == 2


async def test_a_connection_does_not_cross_a_fork(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)

    with pytest.raises(AssertionError, match="fork"):
        await crowd.writer.run(keeping(1))


async def test_a_bug_in_one_is_answered_when_it_is_alone(crowd: Crowd) -> None:
    waiting: Awaitable[object] = crowd.writer.run(keeping_then(1, ValueError("a bug")))

    with pytest.raises(ValueError, match="a bug"):
        await waiting

    assert crowd.kept() == set()
