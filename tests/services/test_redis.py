"""Locks, wakes and shared texts on a real Redis keep their contracts, and keep nobody waiting when it is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final, TypeVar

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
from tests.faults.proxy import Fault, FaultyProxy
from tests.services.processes import Redis

pytestmark = [pytest.mark.anyio, pytest.mark.services]

PATIENT: Final[dict[str, Any]] = {"answer_within": 10_000}
"""For tests of what is answered, not of how soon: the machine may be busy."""
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


async def answered(ask: Callable[[], Awaitable[Sequence[LockVerdict]]], within: float = AGAIN_WITHIN) -> LockVerdict:
    """The first verdict that is one: a busy machine may keep us waiting too, and then nobody knows."""
    async with asyncio.timeout(within):
        while (found := (await ask())[0]) is LockVerdict.UNKNOWN:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # not a wait: a real server is asked until it answers
    return found


async def timed(call: Awaitable[Found]) -> tuple[Found, float]:
    began = time.monotonic()
    return await call, time.monotonic() - began


@pytest.fixture(name="pair")
async def _pair(redis_server: Redis) -> AsyncIterator[tuple[Link, Link]]:
    async with reached(redis_server.port, **PATIENT) as ours, reached(redis_server.port, **PATIENT) as theirs:
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


async def test_a_lock_is_what_other_programs_expect(redis_server: Redis) -> None:
    async with reached(redis_server.port, **PATIENT) as link:
        await RedisLocks(link).acquire([a_hold("t-1", "e-1", 7)], 30_000)

        assert redis_server.value("scheduler:lock:t-1") == "e-1:7"
        assert 0 < int(redis_server.say("PTTL", "scheduler:lock:t-1")[1:]) <= 30_000

        await RedisLocks(link).release([a_hold("t-1", "e-1", 7)])

    assert redis_server.value("scheduler:lock:t-1") == ""


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


async def test_a_killed_server_keeps_nobody_waiting_and_is_found_again(redis_server: Redis) -> None:
    ears = Ears()
    async with reached(redis_server.port, ears) as link:
        locks = RedisLocks(link)
        await locks.acquire([a_hold()], MINUTE)
        redis_server.kill()

        verdicts, _ = await timed(locks.renew([a_hold()], MINUTE))
        again, seconds = await timed(locks.renew([a_hold()], MINUTE))
        await locks.release([a_hold()])
        redis_server.start()
        await until(lambda: not link.is_away)

        assert verdicts == again == [LockVerdict.UNKNOWN]
        assert seconds < 0.1, "while it is away nobody asks"
        assert ears.reasons == ["it can't be reached"]
        assert isinstance(ears.events[-1], LocksAnswered)
        assert await answered(lambda: locks.acquire([a_hold(execution="b")], MINUTE)) is LockVerdict.HELD


async def test_a_frozen_server_is_given_up_within_the_bound(redis_server: Redis) -> None:
    ears = Ears()
    async with reached(redis_server.port, ears) as link:
        locks = RedisLocks(link)
        redis_server.freeze()

        verdicts, seconds = await timed(locks.acquire([a_hold()], MINUTE))
        redis_server.thaw()
        await until(lambda: not link.is_away)

        assert verdicts == [LockVerdict.UNKNOWN]
        assert seconds < 2
        assert ears.reasons == ["it does not answer in time"]
        # What was sent may have been done meanwhile; it was ours then, and nobody mistakes a late answer for another.
        assert await answered(lambda: locks.renew([a_hold(), a_hold("other")], MINUTE)) is LockVerdict.HELD


async def test_an_emptied_server_gets_its_locks_back(redis_server: Redis) -> None:
    async with reached(redis_server.port, **PATIENT) as link:
        locks = RedisLocks(link)
        await locks.acquire([a_hold("t")], MINUTE)
        redis_server.say("FLUSHALL")
        redis_server.say("SCRIPT", "FLUSH")

        assert await locks.renew([a_hold("t")], MINUTE) == [LockVerdict.HELD]
        assert redis_server.value("scheduler:lock:t") == "execution:1"


async def test_a_full_server_is_as_good_as_none(redis_server: Redis) -> None:
    redis_server.say("CONFIG", "SET", "maxmemory", "1")
    server, ears = redis_server, Ears()
    async with reached(server.port, ears) as link:
        assert await RedisLocks(link).acquire([a_hold()], MINUTE) == [LockVerdict.UNKNOWN]
        assert ears.reasons == ["it has no room"]

        server.say("CONFIG", "SET", "maxmemory", "0")
        await until(lambda: not link.is_away)


async def test_a_server_that_evicts_gives_the_lock_again(redis_server: Redis) -> None:
    server = redis_server
    server.say("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    async with reached(server.port, **PATIENT) as link:
        locks = RedisLocks(link)
        await locks.acquire([a_hold("t")], MINUTE)
        server.say("DEL", "scheduler:lock:t")

        assert await locks.renew([a_hold("t")], MINUTE) == [LockVerdict.HELD]


async def test_a_wrong_password_is_said_and_a_right_one_taken(redis_server: Redis) -> None:
    server, ears = redis_server, Ears()
    server.say("CONFIG", "SET", "requirepass", "right")
    async with reached(server.port, secret="right") as link:
        await until(lambda: link.facts().latency is not None)
    async with reached(server.port, ears, secret="wrong-word") as link:
        assert link.facts().latency is None
        assert await RedisLocks(link).acquire([a_hold()], MINUTE) == [LockVerdict.UNKNOWN]
        assert ears.reasons == ["it refuses the user or the password"]

        server.say("CONFIG", "SET", "requirepass", "wrong-word", secret="right")
        await until(lambda: not link.is_away)


async def test_a_server_that_is_not_there_keeps_nobody_from_starting(redis_server: Redis) -> None:
    redis_server.kill()
    ears = Ears()
    async with reached(redis_server.port, ears) as link, AsyncExitStack() as stack:
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

        redis_server.start()
        await until(lambda: bus.is_listening)


async def test_who_could_not_hear_is_woken_for_everything(redis_server: Redis) -> None:
    async with reached(redis_server.port, **PATIENT) as link, listening(link, "ours") as bus:
        sleepers = {topic: Sleeper() for topic in Topic}
        for topic, sleeper in sleepers.items():
            bus.subscribe(topic, sleeper.wake)
        redis_server.kill()
        await until(lambda: not bus.is_listening)
        before = {topic: sleeper.woken for topic, sleeper in sleepers.items()}

        redis_server.start()

        for topic, sleeper in sleepers.items():
            await sleeper.is_woken(beyond=before[topic])


async def test_the_clock_is_held_against_the_servers(redis_server: Redis) -> None:
    class Ahead(SystemClock):
        def now(self) -> int:
            return super().now() + 60_000

    link = Link(
        Place(host="127.0.0.1", port=redis_server.port), clock=Ahead(), entropy=SystemEntropy(), observer=Ears()
    )
    await link.open()
    try:
        await until(lambda: link.deviation is not None)

        assert link.deviation == pytest.approx(60_000, abs=2_000)
    finally:
        await link.close()


async def heal(proxy: FaultyProxy, link: Link) -> None:
    proxy.delay, proxy.fault = 0.0, Fault.NONE
    await until(lambda: not link.is_away)


async def test_a_slow_server_is_gone_without_until_it_is_quick(redis_server: Redis) -> None:
    async with FaultyProxy("127.0.0.1", redis_server.port) as proxy, reached(proxy.port) as link:
        locks = RedisLocks(link)
        assert await answered(lambda: locks.acquire([a_hold()], MINUTE)) is LockVerdict.HELD
        proxy.delay = 0.4

        verdicts, seconds = await timed(locks.renew([a_hold()], MINUTE))
        await heal(proxy, link)

        assert verdicts == [LockVerdict.UNKNOWN]
        assert seconds < 2
    # Late answers to what was given up are not taken for answers to what is asked now.
    async with FaultyProxy("127.0.0.1", redis_server.port) as proxy, reached(proxy.port) as link:
        texts = RedisShared(link, entropy=SystemEntropy())
        redis_server.say("SET", "scheduler:shared:a", "1 first")
        redis_server.say("SET", "scheduler:shared:b", "2 second")
        proxy.delay = 0.15
        with pytest.raises(Unavailable):
            await texts.read("a")
        await heal(proxy, link)

        for key, version in (("b", 2), ("a", 1), ("b", 2)):
            with suppress(Unavailable):
                assert (await texts.read(key)).version == version


@pytest.mark.parametrize("fault", [Fault.SWALLOW_ANSWERS, Fault.SILENCE, Fault.CUT_ANSWERS], ids=lambda one: one.name)
async def test_a_bad_line_keeps_nobody_waiting_and_what_was_done_is_ours(redis_server: Redis, fault: Fault) -> None:
    async with FaultyProxy("127.0.0.1", redis_server.port) as proxy, reached(proxy.port) as link:
        locks = RedisLocks(link)
        proxy.fault = fault

        verdicts, seconds = await timed(locks.acquire([a_hold()], MINUTE))
        await heal(proxy, link)

        assert verdicts == [LockVerdict.UNKNOWN]
        assert seconds < 2
        assert await answered(lambda: locks.renew([a_hold()], MINUTE)) is LockVerdict.HELD
        assert await answered(lambda: locks.acquire([a_hold(execution="another")], MINUTE)) is LockVerdict.TAKEN


async def test_a_cut_line_is_listened_on_again(redis_server: Redis) -> None:
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(FaultyProxy("127.0.0.1", redis_server.port))
        link = await stack.enter_async_context(reached(proxy.port, **PATIENT))
        other = await stack.enter_async_context(reached(redis_server.port, **PATIENT))
        async with listening(link, "ours") as ours, listening(other, "b") as b:
            here = Sleeper()
            ours.subscribe(Topic.SPILLED, here.wake)
            proxy.fault = Fault.CUT_ANSWERS
            b.publish(Topic.SPILLED)
            await until(lambda: not ours.is_listening)
            proxy.fault = Fault.NONE
            await until(lambda: ours.is_listening)
            before = here.woken

            b.publish(Topic.SPILLED)

            await here.is_woken(beyond=before)


async def test_a_wake_of_a_newer_version_is_heard_as_far_as_it_is_understood(
    redis_server: Redis, pair: tuple[Link, Link]
) -> None:
    async with listening(pair[0], "ours") as bus:
        cancels, tasks = Sleeper(), Sleeper()
        bus.subscribe(Topic.CANCEL, cancels.wake)
        bus.subscribe(Topic.TASKS, tasks.wake)
        for text in ("theirs weather 7", "theirs", "", "ours cancel", "theirs cancel since 7"):
            redis_server.say("PUBLISH", "scheduler:wakes:0", text)

        await cancels.is_woken()
        assert (cancels.woken, tasks.woken) == (1, 0)
