"""Locks, wakes and shared texts on a real Redis keep their contracts, and keep nobody waiting when it is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import pytest

from peregrine.coordination.clock import SystemClock, SystemEntropy
from peregrine.coordination.redis.bus import RedisBus
from peregrine.coordination.redis.link import Link, Place
from peregrine.coordination.redis.locks import RedisLocks
from peregrine.coordination.redis.shared import RedisShared
from peregrine.domain.errors import Unavailable
from peregrine.domain.event import Event, LocksAnswered, LocksFailed
from peregrine.domain.ids import WorkerId
from peregrine.domain.moment import MINUTE
from peregrine.ports.bus import Topic
from peregrine.ports.lock import LockVerdict
from peregrine.testing import bus_contract, lock_contract, shared_contract
from peregrine.testing.bus_contract import Sleeper
from peregrine.testing.lock_contract import a_hold
from tests.services.redis_places import RedisServer, need_redis

pytestmark = [pytest.mark.anyio, pytest.mark.services]

AGAIN_WITHIN = 10.0
"""Promised: found again by itself in ten seconds."""
Found = TypeVar("Found")


class Ears:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def observe(self, event: Event) -> None:
        self.events.append(event)

    @property
    def reasons(self) -> list[str]:
        return [event.error for event in self.events if isinstance(event, LocksFailed)]


MakeRedis: TypeAlias = Callable[..., RedisServer]


@pytest.fixture(name="make_redis")
def _make_redis(tmp_path: Path) -> Iterator[MakeRedis]:
    """``RedisServer(…options).start()``, ended with the test."""
    need_redis()
    made: list[RedisServer] = []

    def make(*options: str) -> RedisServer:
        made.append(RedisServer(tmp_path, *options))
        return made[-1].start()

    yield make
    for server in made:
        server.end()


@pytest.fixture(name="redis")
def _redis(make_redis: MakeRedis) -> RedisServer:
    return make_redis()


@asynccontextmanager
async def reached(port: int, observer: Ears | None = None, **place: Any) -> AsyncIterator[Link]:
    """An open link to a server."""
    link = Link(
        Place(host="127.0.0.1", port=port, **place),
        clock=SystemClock(),
        entropy=SystemEntropy(),
        observer=observer or Ears(),
    )
    await link.open()
    try:
        yield link
    finally:
        await link.close()


@asynccontextmanager
async def listening(link: Link, name: str) -> AsyncIterator[RedisBus]:
    bus = RedisBus(link, me=WorkerId(name), entropy=SystemEntropy())
    await bus.open()
    try:
        await until(lambda: bus.is_listening)
        yield bus
    finally:
        await bus.close()


async def until(is_so: Callable[[], bool], within: float = AGAIN_WITHIN) -> None:
    async with asyncio.timeout(within):
        while not is_so():  # noqa: ASYNC110  so is a real server
            await asyncio.sleep(0.005)  # not a wait: a real server is looked at until it is so


async def timed(call: Awaitable[Found]) -> tuple[Found, float]:
    began = time.monotonic()
    return await call, time.monotonic() - began


@pytest.fixture(name="pair")
async def _pair(redis: RedisServer) -> AsyncIterator[tuple[Link, Link]]:
    async with reached(redis.port) as ours, reached(redis.port) as theirs:
        yield ours, theirs


@pytest.mark.parametrize("check", lock_contract.LOCK_CHECKS, ids=lambda check: check.__name__)
async def test_locks_keep_their_contract(check: lock_contract.Check, pair: tuple[Link, Link]) -> None:
    await check(RedisLocks(pair[0]), RedisLocks(pair[1]))


@pytest.mark.parametrize("check", bus_contract.BUS_CHECKS, ids=lambda check: check.__name__)
async def test_wakes_keep_their_contract(check: bus_contract.Check, pair: tuple[Link, Link]) -> None:
    async with listening(pair[0], "ours") as ours, listening(pair[1], "theirs") as theirs:
        await check(ours, theirs)


@pytest.mark.parametrize("check", shared_contract.SHARED_STATE_CHECKS, ids=lambda check: check.__name__)
async def test_shared_texts_keep_their_contract(check: shared_contract.Check, pair: tuple[Link, Link]) -> None:
    ours, theirs = (RedisShared(link, entropy=SystemEntropy()) for link in pair)

    await check(ours, theirs)


async def test_a_lock_is_what_other_programs_expect(redis: RedisServer) -> None:
    async with reached(redis.port) as link:
        await RedisLocks(link).acquire([a_hold("t-1", "e-1", 7)], 30_000)

        assert redis.value("scheduler:lock:t-1") == "e-1:7"
        assert 0 < int(redis.say("PTTL", "scheduler:lock:t-1")[1:]) <= 30_000

        await RedisLocks(link).release([a_hold("t-1", "e-1", 7)])

    assert redis.value("scheduler:lock:t-1") == ""


async def test_own_wakes_do_not_come_back(pair: tuple[Link, Link]) -> None:
    async with listening(pair[0], "ours") as ours, listening(pair[1], "theirs") as theirs:
        here, there, end = Sleeper(), Sleeper(), Sleeper()
        ours.subscribe(Topic.SPILLED, here.wake)
        theirs.subscribe(Topic.SPILLED, there.wake)
        ours.subscribe(Topic.TASKS, end.wake)

        ours.publish(Topic.SPILLED)
        await there.is_woken()
        theirs.publish(Topic.TASKS)
        await end.is_woken()

        assert here.woken == 1


async def test_a_killed_server_keeps_nobody_waiting_and_is_found_again(redis: RedisServer) -> None:
    ears = Ears()
    async with reached(redis.port, ears) as link:
        locks = RedisLocks(link)
        await locks.acquire([a_hold()], MINUTE)
        redis.kill()

        verdicts, _ = await timed(locks.renew([a_hold()], MINUTE))
        again, seconds = await timed(locks.renew([a_hold()], MINUTE))
        await locks.release([a_hold()])
        redis.start()
        await until(lambda: not link.is_away)

        assert verdicts == again == [LockVerdict.UNKNOWN]
        assert seconds < 0.1, "while it is away nobody asks"
        assert ears.reasons == ["it can't be reached"]
        assert isinstance(ears.events[-1], LocksAnswered)
        assert await locks.acquire([a_hold(execution="b")], MINUTE) == [LockVerdict.HELD]


async def test_a_frozen_server_is_given_up_within_the_bound(redis: RedisServer) -> None:
    ears = Ears()
    async with reached(redis.port, ears) as link:
        locks = RedisLocks(link)
        redis.freeze()

        verdicts, seconds = await timed(locks.acquire([a_hold()], MINUTE))
        redis.thaw()
        await until(lambda: not link.is_away)

        assert verdicts == [LockVerdict.UNKNOWN]
        assert seconds < 2
        assert ears.reasons == ["it does not answer within 0.2s"]
        # What was sent may have been done meanwhile; it was ours then, and nobody mistakes a late answer for another.
        assert await locks.renew([a_hold(), a_hold("other")], MINUTE) == [LockVerdict.HELD] * 2


async def test_an_emptied_server_gets_its_locks_back(redis: RedisServer) -> None:
    async with reached(redis.port) as link:
        locks = RedisLocks(link)
        await locks.acquire([a_hold("t")], MINUTE)
        redis.say("FLUSHALL")
        redis.say("SCRIPT", "FLUSH")

        assert await locks.renew([a_hold("t")], MINUTE) == [LockVerdict.HELD]
        assert redis.value("scheduler:lock:t") == "execution:1"


async def test_a_full_server_is_as_good_as_none(make_redis: MakeRedis) -> None:
    server, ears = make_redis("--maxmemory", "1", "--maxmemory-policy", "noeviction"), Ears()
    async with reached(server.port, ears) as link:
        assert await RedisLocks(link).acquire([a_hold()], MINUTE) == [LockVerdict.UNKNOWN]
        assert ears.reasons == ["it has no room"]

        server.say("CONFIG", "SET", "maxmemory", "0")
        await until(lambda: not link.is_away)


async def test_a_server_that_evicts_gives_the_lock_again(make_redis: MakeRedis) -> None:
    server = make_redis("--maxmemory-policy", "allkeys-random")
    async with reached(server.port) as link:
        locks = RedisLocks(link)
        await locks.acquire([a_hold("t")], MINUTE)
        server.say("DEL", "scheduler:lock:t")

        assert await locks.renew([a_hold("t")], MINUTE) == [LockVerdict.HELD]


async def test_a_wrong_password_is_said_and_a_right_one_taken(make_redis: MakeRedis) -> None:
    server, ears = make_redis("--requirepass", "right"), Ears()
    async with reached(server.port, secret="right") as link:
        assert link.facts().latency is not None
    async with reached(server.port, ears, secret="wrong-word") as link:
        assert link.facts().latency is None
        assert await RedisLocks(link).acquire([a_hold()], MINUTE) == [LockVerdict.UNKNOWN]
        assert ears.reasons == ["it refuses the password"]

        server.say("CONFIG", "SET", "requirepass", "wrong-word", secret="right")
        await until(lambda: not link.is_away)


async def test_a_server_that_is_not_there_keeps_nobody_from_starting(redis: RedisServer) -> None:
    redis.kill()
    ears = Ears()
    async with reached(redis.port, ears) as link, AsyncExitStack() as stack:
        bus = RedisBus(link, me=WorkerId("me"), entropy=SystemEntropy())
        stack.push_async_callback(bus.close)
        await bus.open()
        here = Sleeper()
        bus.subscribe(Topic.CANCEL, here.wake)
        bus.publish(Topic.CANCEL)

        assert here.woken == 1
        with pytest.raises(Unavailable, match="can't be reached"):
            await RedisShared(link, entropy=SystemEntropy()).read("k")
        assert ears.reasons == ["it can't be reached"]

        redis.start()
        await until(lambda: bus.is_listening)


async def test_who_could_not_hear_is_woken_for_everything(redis: RedisServer) -> None:
    async with reached(redis.port) as link, listening(link, "ours") as bus:
        sleepers = {topic: Sleeper() for topic in Topic}
        for topic, sleeper in sleepers.items():
            bus.subscribe(topic, sleeper.wake)
        redis.kill()
        await until(lambda: not bus.is_listening)
        before = {topic: sleeper.woken for topic, sleeper in sleepers.items()}

        redis.start()

        for topic, sleeper in sleepers.items():
            await sleeper.is_woken(beyond=before[topic])


async def test_the_clock_is_held_against_the_servers(redis: RedisServer) -> None:
    class Ahead(SystemClock):
        def now(self) -> int:
            return super().now() + 60_000

    link = Link(Place(host="127.0.0.1", port=redis.port), clock=Ahead(), entropy=SystemEntropy(), observer=Ears())
    await link.open()
    try:
        await until(lambda: link.deviation is not None)

        assert link.deviation == pytest.approx(60_000, abs=2_000)
    finally:
        await link.close()


async def test_a_slow_server_is_gone_without_until_it_is_quick(redis: RedisServer) -> None:
    async with AsyncExitStack() as stack:
        slow = await stack.enter_async_context(delayed(redis.port))
        link = await stack.enter_async_context(reached(slow.port))
        locks = RedisLocks(link)
        assert await locks.acquire([a_hold()], MINUTE) == [LockVerdict.HELD]
        slow.seconds = 0.4

        verdicts, seconds = await timed(locks.renew([a_hold()], MINUTE))
        slow.seconds = 0.0
        await until(lambda: not link.is_away)

        assert verdicts == [LockVerdict.UNKNOWN]
        assert seconds < 2
        # Late answers to what was given up are not taken for answers to what is asked now.
        assert await RedisShared(link, entropy=SystemEntropy()).swap("k", "text", seen=0, ttl=MINUTE)
        assert (await RedisShared(link, entropy=SystemEntropy()).read("k")).text == "text"


class Delayed:
    """A way to a server on which each answer takes *seconds* longer."""

    def __init__(self, port: int) -> None:
        self.port, self.seconds = port, 0.0


@asynccontextmanager
async def delayed(port: int) -> AsyncIterator[Delayed]:
    ways: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_back: bool) -> None:
        try:
            while chunk := await reader.read(65536):
                if is_back:
                    await asyncio.sleep(way.seconds)  # not a wait: the way is long
                writer.write(chunk)
        finally:
            writer.close()

    async def pair(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        both = (carry(reader, back, is_back=False), carry(there, writer, is_back=True))
        made = [asyncio.create_task(one) for one in both]
        ways.update(made)
        await asyncio.gather(*made, return_exceptions=True)

    server = await asyncio.start_server(pair, "127.0.0.1", 0)
    way = Delayed(server.sockets[0].getsockname()[1])
    yield way
    server.close()
    for one in ways:
        one.cancel()
    await asyncio.gather(*ways, return_exceptions=True)
