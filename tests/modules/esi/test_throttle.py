"""When a request is polite: each rule by itself, then crowds of callers on virtual time, whatever ESI does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peregrine.domain.errors import Unavailable
from peregrine.domain.moment import DAY, HOUR, MINUTE, SECOND, Duration, Moment, parse_moment
from peregrine.modules.esi.cache import MemoryCache
from peregrine.modules.esi.throttle import (
    Landing,
    Limits,
    Reason,
    Traffic,
    Wish,
    admit,
    count_errors,
    downtime_over,
    land,
    tokens_left,
)
from peregrine.modules.esi.turnstile import LocalState
from peregrine.ports.esi import EsiRefused, EsiUnavailable, Kept
from peregrine.ports.shared import Shared
from peregrine.testing.clock import ManualClock
from peregrine.testing.fake_esi import BucketSize, FaultKind
from peregrine.testing.fake_esi.api import ROUTES
from tests.modules.esi.sky import NOON, Rig, Sky, in_virtual_time, sky

ROUTE = "/corporations/{id}"
FIRST = 90_000_000
CORPORATION = 98_000_000
KNOWN = Traffic(routes={ROUTE: "", "/status": "status"})
LIMITS = Limits()


def flown(traffic: Traffic, now: Moment, status: int | None = 200, *, failed: bool = False, **headers: str) -> Traffic:
    """*traffic* after one request that started and ended at *now*."""
    traffic, wait = admit(traffic, Wish("x", ROUTE, now), LIMITS)
    assert wait is None
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return land(traffic, Landing("x", ROUTE, now, status, named, failed=failed))


def reason(traffic: Traffic, now: Moment, route: str = ROUTE, limits: Limits = LIMITS) -> tuple[Reason, Moment] | None:
    """Why a request has to wait, and until when."""
    wait = admit(traffic, Wish("y", route, now), limits)[1]
    return None if wait is None else (wait.reason, wait.until)


# ── the rules ────────────────────────────────────────────────────────────────────────────────────


def test_so_many_fly_at_once_and_no_more() -> None:
    traffic = KNOWN
    for number in range(LIMITS.flights):
        traffic, wait = admit(traffic, Wish(str(number), ROUTE, NOON), LIMITS)
        assert wait is None

    assert reason(traffic, NOON) == (Reason.FLIGHTS, NOON + 100)
    assert reason(land(traffic, Landing("3", ROUTE, NOON, 200)), NOON) is None


def test_flights_of_the_dead_are_forgotten() -> None:
    traffic, _ = admit(KNOWN, Wish("a", ROUTE, NOON), Limits(flights=1))

    assert reason(traffic, NOON + 29 * SECOND, limits=Limits(flights=1)) is not None
    assert reason(traffic, NOON + 30 * SECOND, limits=Limits(flights=1)) is None


def test_an_unknown_route_is_tried_by_one() -> None:
    traffic, _ = admit(Traffic(), Wish("a", ROUTE, NOON), LIMITS)

    assert reason(traffic, NOON) == (Reason.FLIGHTS, NOON + 100)
    assert reason(traffic, NOON, "/another") is None
    assert reason(land(traffic, Landing("a", ROUTE, NOON, 200)), NOON) is None


def test_errors_of_the_last_minute_stop_everything_before_esi_does() -> None:
    traffic = KNOWN
    for number in range(LIMITS.errors):
        traffic = flown(traffic, NOON + number * 100, 404)

    assert reason(traffic, NOON + 6 * SECOND) == (Reason.ERRORS, NOON + MINUTE)
    assert reason(traffic, NOON + MINUTE) is None


def test_what_flies_counts_as_the_error_it_may_become() -> None:
    traffic = KNOWN
    for _ in range(LIMITS.errors - 5):
        traffic = flown(traffic, NOON, 404)
    for number in range(5):
        traffic, wait = admit(traffic, Wish(str(number), ROUTE, NOON), LIMITS)
        assert wait is None

    assert reason(traffic, NOON) == (Reason.ERRORS, NOON + 100)


def test_the_reset_is_read_as_seconds_left() -> None:
    traffic = flown(KNOWN, NOON, x_esi_error_limit_remain="30", x_esi_error_limit_reset="40")

    assert count_errors(traffic, NOON) == 70
    assert reason(traffic, NOON) == (Reason.ERRORS, NOON + 41 * SECOND)
    assert reason(traffic, NOON + 41 * SECOND) is None


def test_our_own_errors_come_on_top_of_what_was_reported() -> None:
    traffic = flown(KNOWN, NOON, x_esi_error_limit_remain="50", x_esi_error_limit_reset="40")
    for number in range(5):
        traffic = flown(traffic, NOON + 1 + number, 404)

    assert count_errors(traffic, NOON + 10) == 55


@pytest.mark.parametrize(
    ("status", "headers", "pause"),
    [
        (420, {"x_esi_error_limit_reset": "17"}, 18),
        (420, {}, 61),
        (429, {"retry_after": "9"}, 10),
        (429, {}, 61),
        (429, {"retry_after": "soon"}, 61),
        (429, {"retry_after": "Thu, 01 Oct 2026 12:00:30 GMT"}, 31),
        (503, {"retry_after": "7"}, 8),
        (503, {"retry_after": "999999999"}, 15 * 60 + 1),
    ],
)
def test_a_pause_that_is_asked_for_is_made(status: int, headers: dict[str, str], pause: int) -> None:
    traffic = flown(KNOWN, NOON, status, failed=True, **headers)

    assert reason(traffic, NOON + pause * SECOND - 1) == (Reason.PAUSE, NOON + pause * SECOND)
    assert reason(traffic, NOON + pause * SECOND) is None


def test_failures_make_a_pause_that_doubles_and_let_one_through() -> None:
    traffic, now, pauses = KNOWN, NOON, []
    for _ in range(12):
        traffic = flown(traffic, now, None, failed=True)
        pauses.append(max(0, traffic.paused_until - now))
        now = max(now, traffic.paused_until)

    assert pauses == [0, 0, *(SECOND << n for n in range(6)), *[MINUTE] * 4]
    traffic, wait = admit(traffic, Wish("probe", ROUTE, now), LIMITS)
    assert wait is None
    assert reason(traffic, now) == (Reason.FLIGHTS, now + 100)
    traffic = land(traffic, Landing("probe", ROUTE, now, 200))
    assert reason(traffic, now) is None
    assert traffic.failures == 0


def test_a_crowd_that_fails_together_is_one_failure_more_not_twenty() -> None:
    traffic = KNOWN
    for number in range(20):
        traffic, _ = admit(traffic, Wish(str(number), ROUTE, NOON), LIMITS)
    for number in range(20):
        traffic = land(traffic, Landing(str(number), ROUTE, NOON + 10, 502, failed=True))

    assert traffic.failures == 3
    assert traffic.paused_until == NOON + 10 + SECOND


def test_404_is_an_error_of_the_limit_but_no_failure() -> None:
    traffic = flown(KNOWN, NOON, 404)

    assert (len(traffic.errors), traffic.failures) == (1, 0)


def test_what_had_no_answer_may_count_as_an_error_too() -> None:
    traffic = flown(KNOWN, NOON, None, failed=True)

    assert traffic.errors == (NOON,)


def test_what_we_called_off_ourselves_is_no_failure_but_may_count() -> None:
    traffic, _ = admit(KNOWN, Wish("x", ROUTE, NOON), LIMITS)
    traffic = land(traffic, Landing("x", ROUTE, NOON, None, failed=True, cancelled=True))

    assert (traffic.failures, traffic.errors) == (0, (NOON,))


# ── tokens ───────────────────────────────────────────────────────────────────────────────────────


def bucketed(left: int, *, limit: int = 600, now: Moment = NOON) -> Traffic:
    """After one answer of a route with a bucket that has so many tokens left."""
    return flown(KNOWN, now, x_ratelimit_group="g", x_ratelimit_limit=f"{limit}/15m", x_ratelimit_remaining=str(left))


def test_a_bucket_is_learnt_from_the_first_answer() -> None:
    traffic = bucketed(598)

    assert traffic.routes[ROUTE] == "g"
    assert tokens_left(traffic.buckets["g"], NOON) == 598


def test_what_others_spent_is_gone_for_a_window() -> None:
    bucket = bucketed(100).buckets["g"]

    assert tokens_left(bucket, NOON) == 100
    assert tokens_left(bucket, NOON + 15 * MINUTE + 15 * SECOND) == 600


def test_requests_spread_out_as_tokens_go() -> None:
    waits = []
    for left in (400, 300, 200, 100):
        wait = reason(bucketed(left), NOON)
        waits.append(0 if wait is None else wait[1] - NOON)

    assert waits[:2] == [0, 0]
    assert 0 < waits[2] < waits[3] < 4 * SECOND


def test_the_last_tokens_are_left_alone() -> None:
    assert reason(bucketed(60), NOON) == (Reason.TOKENS, NOON + 15 * MINUTE)


def test_what_flies_counts_as_the_dearest_answer() -> None:
    traffic = replace(bucketed(280), buckets={"g": replace(bucketed(72).buckets["g"], last_at=0)})
    traffic, first = admit(traffic, Wish("a", ROUTE, NOON), LIMITS)
    traffic = replace(traffic, buckets={"g": replace(traffic.buckets["g"], last_at=0)})
    traffic, second = admit(traffic, Wish("b", ROUTE, NOON), LIMITS)

    assert first is None
    assert second is None
    assert reason(replace(traffic, buckets={"g": replace(traffic.buckets["g"], last_at=0)}), NOON) == (
        Reason.TOKENS,
        NOON + 100,
    )


def test_429_of_a_bucket_pauses_its_group_only() -> None:
    traffic = bucketed(500)
    traffic = replace(traffic, routes={**traffic.routes, "/other": ""})
    told = {"retry-after": "30", "x-ratelimit-group": "g"}
    traffic, _ = admit(traffic, Wish("x", ROUTE, NOON), LIMITS)
    traffic = land(traffic, Landing("x", ROUTE, NOON, 429, told, failed=True))

    assert reason(traffic, NOON) == (Reason.PAUSE, NOON + 31 * SECOND)
    assert reason(traffic, NOON, "/other") is None


@pytest.mark.parametrize(
    "limit", ["", "600", "/15m", "600/15", "600/xm", "-1/15m", "0/15m", "600/0m", "６/15m", "9" * 40 + "/1m"]
)
def test_nonsense_in_headers_is_no_bucket(limit: str) -> None:
    traffic = flown(KNOWN, NOON, x_ratelimit_group="g", x_ratelimit_limit=limit, x_ratelimit_remaining="soon")

    assert traffic.buckets == {}


# ── downtime ─────────────────────────────────────────────────────────────────────────────────────

ELEVEN = parse_moment("2026-10-01T11:00:00Z")


@pytest.mark.parametrize(
    ("after", "is_down"), [(-1, False), (0, True), (15 * MINUTE - 1, True), (15 * MINUTE, False), (DAY, True)]
)
def test_downtime_is_a_quarter_of_an_hour_from_eleven(after: Duration, is_down: object) -> None:
    assert bool(downtime_over(ELEVEN + after)) is is_down


def test_downtime_holds_everything_but_the_status_until_the_cluster_is_back() -> None:
    at = ELEVEN + 3 * MINUTE
    up_before = replace(KNOWN, up_since=ELEVEN - 20 * HOUR)
    up_again = replace(KNOWN, up_since=ELEVEN + 2 * MINUTE)

    assert reason(up_before, at) == (Reason.DOWNTIME, ELEVEN + 15 * MINUTE)
    assert reason(up_again, at) is None
    assert admit(up_before, Wish("s", "/status", at, always=True), LIMITS)[1] is None
    assert reason(up_before, at, limits=Limits(downtime=False)) is None


# ── properties ───────────────────────────────────────────────────────────────────────────────────

HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "retry-after", "x-esi-error-limit-remain", "x-esi-error-limit-reset", "x-ratelimit-group",
            "x-ratelimit-limit", "x-ratelimit-remaining",
        ]
    ),
    st.sampled_from(["0", "1", "59", "100", "600/15m", "15/15m", "g", "-1", "", "soon", "1" * 40, "\udcff", "g" * 300]),
)  # fmt: skip
STEPS = st.lists(
    st.tuples(
        st.integers(0, 20 * SECOND), st.sampled_from([None, 200, 304, 404, 420, 429, 500, 503]), HEADERS, st.booleans()
    ),
    max_size=60,
)


@given(STEPS)
def test_whatever_comes_each_wait_ends_and_the_text_comes_back(
    steps: list[tuple[int, int | None, dict[str, str], bool]],
) -> None:
    traffic, now = KNOWN, NOON
    for wait, status, headers, cancelled in steps:
        now += wait
        after, told = admit(traffic, Wish("x", ROUTE, now), LIMITS)
        if told is not None:
            assert now < told.until <= now + DAY + MINUTE
            continue
        failed = status is None or status >= 500
        traffic = land(after, Landing("x", ROUTE, now, status, headers, failed=failed, cancelled=cancelled))
        assert msgspec.json.decode(msgspec.json.encode(traffic), type=Traffic) == traffic
        assert len(msgspec.json.encode(traffic)) < 8000


@given(st.lists(st.tuples(st.integers(0, 3000), st.sampled_from([200, 404])), min_size=50, max_size=200))
@settings(max_examples=30)
def test_no_minute_ever_holds_more_errors_than_allowed(steps: list[tuple[int, int]]) -> None:
    traffic, now = KNOWN, NOON
    errors: list[Moment] = []
    for pause, status in steps:
        now += pause
        while (told := admit(traffic, Wish("x", ROUTE, now), LIMITS)[1]) is not None:
            now = told.until
        traffic = flown(traffic, now, status)
        if status == 404:
            errors.append(now)

    for start in errors:
        assert sum(1 for moment in errors if start <= moment < start + MINUTE) <= LIMITS.errors


# ── crowds ───────────────────────────────────────────────────────────────────────────────────────


async def crowd(made: Sky, *, callers: int = 30, ids: int = 600, clients: int = 1, shared: bool = True) -> int:
    """Many callers ask for many corporations, by several clients that share what they know; how many got facts."""
    state = LocalState(made.clock) if shared else None
    esis = [made.another(Rig(shared=state, seed=number, patience=HOUR)) for number in range(clients)]
    todo = iter(range(ids))
    got = 0

    async def work(number: int) -> None:
        nonlocal got
        for one in todo:
            try:
                await esis[number % clients].corporation(CORPORATION + one % 200)
                got += 1
            except (EsiUnavailable, EsiRefused):
                pass

    await asyncio.gather(*(work(number) for number in range(callers)))
    return got


def only_early(made: Sky) -> None:
    """The journal has nothing but what two caches of their own must come to."""
    assert made.fake.journal.violations("early") == []


@pytest.mark.parametrize("kind", list(FaultKind))
def test_a_crowd_is_polite_whatever_esi_does(kind: FaultKind) -> None:
    async def main() -> None:
        made = sky()
        made.fake.faults.plan(kind, seconds=20, count=40 if kind is FaultKind.SLOW else 150)
        await crowd(made)
        assert made.fake.journal.violations() == []
        assert made.fake.journal.peak <= LIMITS.flights
        assert made.fake.journal.peak_failed <= LIMITS.errors

    in_virtual_time(main())


@pytest.mark.parametrize("kind", [FaultKind.BAD_GATEWAY, FaultKind.RESET, FaultKind.SLOW, FaultKind.ERROR_LIMITED])
def test_two_instances_that_share_are_as_polite_as_one(kind: FaultKind) -> None:
    async def main() -> None:
        made = sky()
        made.fake.faults.plan(kind, seconds=20, count=40 if kind is FaultKind.SLOW else 150)
        await crowd(made, clients=2, callers=40)
        only_early(made)
        assert made.fake.journal.peak <= LIMITS.flights
        assert made.fake.journal.peak_failed <= LIMITS.errors

    in_virtual_time(main())


def test_a_thousand_that_do_not_exist_never_reach_the_error_limit() -> None:
    async def main() -> Duration:
        made = sky()
        for one in range(200):
            made.fake.world.vanish(CORPORATION + one)
        started = made.clock.now()
        assert await crowd(made, clients=2, ids=400) == 400
        only_early(made)
        assert made.fake.journal.peak_failed <= LIMITS.errors
        return made.clock.now() - started

    assert in_virtual_time(main()) <= 8 * MINUTE


def test_without_a_place_to_share_two_instances_still_stay_below_the_limit() -> None:
    async def main() -> None:
        made = sky()
        for one in range(200):
            made.fake.world.vanish(CORPORATION + one)
        await crowd(made, clients=2, ids=400, shared=False)
        assert made.fake.journal.kinds["error_limit"] == 0

    in_virtual_time(main())


class Flaky:
    """A place to share that is away when it is told to, and slow to say so."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._inner = LocalState(clock)
        self.is_away: Callable[[], bool] = lambda: False
        self.refused = 0

    async def read(self, key: str) -> Shared:
        if self.is_away():
            self.refused += 1
            await self._clock.advance(SECOND // 10)
            raise Unavailable("the place is away")
        return await self._inner.read(key)

    async def swap(self, key: str, text: str, *, seen: int, ttl: Duration) -> bool:
        await asyncio.sleep(0)
        return await self._inner.swap(key, text, seen=seen, ttl=ttl)


def test_an_outage_of_the_place_to_share_begins_with_what_was_known() -> None:
    async def main() -> Duration:
        made = sky()
        place = Flaky(made.clock)
        esi = made.another(Rig(shared=place))
        for one in range(LIMITS.errors):
            made.fake.world.vanish(CORPORATION + one)
            await esi.corporation(CORPORATION + one)
        place.is_away = lambda: True
        asked_at = made.clock.now()
        await esi.alliance_ids()
        return made.clock.now() - asked_at

    assert in_virtual_time(main()) > 50 * SECOND


def test_a_place_to_share_that_comes_and_goes_stops_nobody() -> None:
    async def main() -> tuple[int, int]:
        made = sky()
        place = Flaky(made.clock)
        place.is_away = lambda: bool(made.clock.now() // (10 * SECOND) % 2)
        esi = made.another(Rig(shared=place))
        for one in range(300):
            await esi.character(FIRST + one)
            await made.clock.advance(100)
        assert made.fake.journal.violations() == []
        return place.refused, made.clock.now() - NOON

    refused, took = in_virtual_time(main())
    assert 1 <= refused <= 25
    assert took <= 90 * SECOND


def test_a_small_bucket_is_never_emptied() -> None:
    async def main() -> int:
        made = sky(Rig(patience=HOUR), buckets={"status": BucketSize(40), "meta": BucketSize(150)})
        for _ in range(60):
            await made.esi.status()
            await made.clock.advance(30 * SECOND)
        assert made.fake.journal.violations() == []
        return made.fake.journal.routes["/status"]

    assert in_virtual_time(main()) > 30


def test_a_bucket_that_others_empty_makes_us_wait() -> None:
    async def main() -> None:
        made = sky(Rig(patience=2 * HOUR), buckets={"status": BucketSize(40), "meta": BucketSize(150)})
        await made.esi.status()
        bucket = made.fake._bucket(next(r for r in ROUTES if r.group == "status"), "127.0.0.1")
        assert bucket is not None
        for _ in range(16):
            bucket.spend(made.clock.now(), 200)
        await made.clock.advance(30 * SECOND)
        for _ in range(5):
            await made.esi.status()
            await made.clock.advance(30 * SECOND)
        assert made.fake.journal.kinds["rate_limit"] == 0

    in_virtual_time(main())


def test_a_downtime_is_waited_out_with_a_look_each_half_minute() -> None:
    async def main() -> tuple[Duration, int]:
        made = sky(Rig(patience=HOUR), start=ELEVEN + MINUTE)
        made.fake.daily_downtime = 8 * MINUTE
        made.fake.world.started_at = ELEVEN + 8 * MINUTE
        started = made.clock.now()
        await asyncio.gather(*(made.esi.corporation(CORPORATION + one) for one in range(50)))
        assert made.fake.journal.violations() == []
        assert made.fake.journal.peak_failed <= 5
        assert all(entry.at >= ELEVEN + 8 * MINUTE for entry in made.fake.journal.of(ROUTE))
        return made.clock.now() - started, made.fake.journal.routes["/status"]

    took, looks = in_virtual_time(main())
    assert 7 * MINUTE <= took <= 12 * MINUTE
    assert looks <= 40


def test_a_downtime_that_is_longer_than_patience_is_told_at_once() -> None:
    async def main() -> int:
        made = sky(Rig(patience=MINUTE), start=ELEVEN + MINUTE)
        made.fake.daily_downtime = 15 * MINUTE
        with pytest.raises(EsiUnavailable, match="downtime") as away:
            await made.esi.corporation(CORPORATION)
        assert made.fake.journal.routes[ROUTE] == 0
        return away.value.retry_after

    assert 12 * 60 <= in_virtual_time(main()) <= 14 * 60


def test_a_cluster_that_is_down_for_an_hour_is_not_hammered() -> None:
    async def main() -> int:
        made = sky(Rig(patience=MINUTE))
        made.fake.down_until = NOON + HOUR
        while made.clock.now() < NOON + HOUR:
            with suppress(EsiUnavailable):
                await made.esi.affiliations([FIRST])
                assert made.clock.now() >= NOON + HOUR
            await made.clock.advance(SECOND)
        return made.fake.journal.statuses[503]

    assert in_virtual_time(main()) <= 75


def test_cancelled_while_waiting_nothing_is_sent_and_nothing_is_taken() -> None:
    async def main() -> None:
        made = sky(Rig(limits=Limits(flights=1), patience=HOUR))
        made.fake.faults.plan(FaultKind.SLOW, seconds=15, count=1)
        first = asyncio.create_task(made.esi.corporation(CORPORATION))
        await made.clock.advance(SECOND)
        waiting = [asyncio.create_task(made.esi.corporation(CORPORATION + n)) for n in range(1, 6)]
        other = asyncio.create_task(made.esi.alliance_ids())
        await made.clock.advance(SECOND)
        for task in (*waiting, other):
            task.cancel()
        ended = await asyncio.gather(*waiting, other, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in ended)
        assert made.clock.now() < NOON + 3 * SECOND
        await first
        await made.esi.alliance_ids()
        assert made.fake.journal.total == 2

    in_virtual_time(main())


def test_cancelled_in_flight_the_place_is_free_again() -> None:
    async def main() -> None:
        made = sky(Rig(limits=Limits(flights=1), patience=HOUR))
        await made.esi.corporation(CORPORATION)
        made.fake.faults.plan(FaultKind.SLOW, seconds=15, count=1)
        flying = asyncio.create_task(made.esi.corporation(CORPORATION + 1))
        await made.clock.advance(SECOND)
        flying.cancel()
        await asyncio.gather(flying, return_exceptions=True)
        before = made.clock.now()
        await made.esi.corporation(CORPORATION + 2)
        assert made.clock.now() - before < SECOND

    in_virtual_time(main())


def test_the_same_wishes_go_in_the_order_in_which_they_came_and_no_time_is_lost() -> None:
    async def main() -> tuple[list[str], Duration]:
        made = sky(Rig(limits=Limits(flights=1), patience=HOUR))
        await asyncio.gather(*(made.esi.corporation(CORPORATION + one) for one in range(10)))
        return [entry.path for entry in made.fake.journal.entries], made.clock.now() - NOON

    paths, took = in_virtual_time(main())
    assert paths == [f"/corporations/{CORPORATION + one}" for one in range(10)]
    assert took <= 10 * 50 + 10


OFTEN = [None, None, *FaultKind]


@given(
    plan=st.lists(st.tuples(st.sampled_from(OFTEN), st.integers(1, 40), st.integers(0, 30)), max_size=8),
    instances=st.integers(1, 3),
    latency=st.sampled_from([0.0, 0.05, 2.0]),
)
@settings(max_examples=15)
def test_no_history_of_faults_makes_anybody_impolite(
    plan: list[tuple[FaultKind | None, int, int]], instances: int, latency: float
) -> None:
    async def main() -> None:
        made = sky(latency=latency)
        for one in range(0, 200, 9):
            made.fake.world.vanish(CORPORATION + one)
        for kind, count, seconds in plan:
            if kind is not None:
                made.fake.faults.plan(kind, route=ROUTE, count=count, seconds=seconds)
        await crowd(made, clients=instances, ids=200)
        only_early(made)
        assert made.fake.journal.peak <= LIMITS.flights
        assert made.fake.journal.peak_failed <= LIMITS.errors

    in_virtual_time(main())


# ── the cache ────────────────────────────────────────────────────────────────────────────────────


def kept(size: int, *, noise: int = 0) -> Kept:
    body = (f'{{"name":"corporation {noise}","description":"' + "x" * size + '"}').encode()
    return Kept('"etag"', NOON, body)


async def test_what_is_kept_comes_back_as_it_was() -> None:
    cache = MemoryCache()
    for size in (0, 10, 5000):
        await cache.put("a", kept(size))

        assert await cache.get("a") == kept(size)
    assert await cache.get("b") is None
    assert len(cache) == 1


async def test_the_longest_unused_goes_first_and_the_size_is_bounded() -> None:
    cache = MemoryCache(size_max=20_000)
    for number in range(100):
        await cache.put(str(number), kept(100, noise=number))
        await cache.get("0")

    assert await cache.get("0") is not None
    assert await cache.get("1") is None
    assert await cache.get("99") is not None
    assert cache.size <= 20_000


async def test_what_is_larger_than_everything_is_not_kept() -> None:
    cache = MemoryCache(size_max=500)
    await cache.put("a", Kept("", NOON, bytes(range(256)) * 4))

    assert await cache.get("a") is None
    assert cache.size == 0
