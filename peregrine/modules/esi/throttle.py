"""Owns when a request is polite: pure decisions on what all instances know together; must not know sockets or sleep.

ESI counts in two ways, and says so in its headers; both are followed at run time, route by route::

    error limit     100 answers of 4xx or 5xx in a fixed minute, then 420 on every route. Here: no request starts if it
                    could be error number ``errors`` within any minute, or if ESI's own count has come near its end.
    token buckets   a cost per answer that comes back one window later, per group of routes. Here: requests spread out
                    as the tokens go, and none starts that could want more than are left.

Besides: ``Retry-After`` is kept, three failures in a row make a pause that grows until something succeeds, nothing is
asked in the daily downtime unless the cluster is known to be back, and only so many requests fly at a time. A request
in flight counts as what it may come to, so that many at once can't overshoot together.

``Traffic`` is what is known; ``admit`` and ``land`` give the next one. Moments are wall time, since hosts share them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from peregrine.domain.moment import DAY, HOUR, MINUTE, SECOND, Duration, Moment
from peregrine.modules.esi.exchange import seconds_to_wait, whole, word

DOWNTIME_STARTS: Final[Duration] = 11 * HOUR
DOWNTIME_LASTS: Final[Duration] = 15 * MINUTE
ERROR_LIMIT: Final = 100
"""ESI's own, in a minute. Source: X-ESI-Error-Limit-Remain of a fresh window."""
WINDOW_MAX: Final[Duration] = HOUR
TOKENS_MAX: Final = 10_000_000
COST_MAX: Final = 5
"""The dearest answer (4xx) in tokens."""
SLOTS: Final = 60
"""Into how many parts a bucket's window is cut to remember what was spent."""
POLL: Final[Duration] = 100
"""How long to wait for a place that another instance may give back at any time."""
FAILURES_MAX: Final = 3
PAUSE_FIRST: Final[Duration] = SECOND
PAUSE_MAX: Final[Duration] = MINUTE
GROUPS_MAX: Final = 100
ROUTES_MAX: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is asked of the other side, by all instances together. ``downtime``: whether it has EVE's daily one."""

    flights: int = 20
    errors: int = 60
    downtime: bool = True
    flight_max: Duration = 30 * SECOND
    """A flight that nobody landed after this has died with its instance."""


@dataclass(frozen=True, slots=True)
class Flight:
    """A request on its way."""

    route: str
    started_at: Moment
    until: Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """One group's tokens. ``spent``: what we spent, by the end of each slot; ``others``: what somebody else did."""

    limit: int
    window: Duration
    spent: Mapping[Moment, int] = field(default_factory=dict)
    others: int = 0
    others_until: Moment = 0
    paused_until: Moment = 0
    last_at: Moment = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What is known of the other side. ``routes``: each route that ever answered, and its group (empty: none)."""

    flights: Mapping[str, Flight] = field(default_factory=dict)
    errors: tuple[Moment, ...] = ()
    reported: int = 0
    """Errors that the other side has counted itself, good until ``reported_until``."""
    reported_at: Moment = 0
    reported_until: Moment = 0
    paused_until: Moment = 0
    failures: int = 0
    """Rounds that failed in a row; a round is what flew before the pause that its failure made."""
    round_at: Moment = 0
    up_since: Moment = 0
    """Since when the cluster is up, as its status said."""
    routes: Mapping[str, str] = field(default_factory=dict)
    buckets: Mapping[str, Bucket] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wish:
    """A request that somebody wants to make. ``always``: in downtime too (it asks for the status)."""

    id: str
    route: str
    now: Moment
    always: bool = False


class Reason(StrEnum):
    """Why a request has to wait."""

    FLIGHTS = "too many requests in flight"
    ERRORS = "too many errors"
    PAUSE = "a pause was asked for"
    FAILURES = "it fails"
    TOKENS = "tokens run low"
    DOWNTIME = "daily downtime"


@dataclass(frozen=True, slots=True)
class Wait:
    """Not before ``until``, and then ask again."""

    until: Moment
    reason: Reason


@dataclass(frozen=True, slots=True)
class Landing:
    """How a request ended. ``status`` None: no answer, or none that can be used; ``failed``: the other side's fault."""

    id: str
    route: str
    now: Moment
    status: int | None
    headers: Mapping[str, str] = field(default_factory=dict)
    failed: bool = False
    cancelled: bool = False


# ── before ───────────────────────────────────────────────────────────────────────────────────────


def admit(traffic: Traffic, wish: Wish, limits: Limits) -> tuple[Traffic, Wait | None]:
    """The traffic with the wish in flight and None; or the wait that is due first, and what is still known."""
    traffic = _swept(traffic, wish.now)
    wait = _first_wait(traffic, wish, limits)
    if wait is not None:
        return traffic, wait
    flight = Flight(wish.route, wish.now, wish.now + limits.flight_max)
    group = traffic.routes.get(wish.route, "")
    if group in traffic.buckets:
        bucket = replace(traffic.buckets[group], last_at=wish.now)
        traffic = replace(traffic, buckets={**traffic.buckets, group: bucket})
    return replace(traffic, flights={**traffic.flights, wish.id: flight}), None


def _first_wait(traffic: Traffic, wish: Wish, limits: Limits) -> Wait | None:
    now = wish.now
    if traffic.paused_until > now:
        return Wait(traffic.paused_until, Reason.FAILURES if traffic.failures >= FAILURES_MAX else Reason.PAUSE)
    if (
        limits.downtime
        and not wish.always
        and (over := downtime_over(now))
        and traffic.up_since < over - DOWNTIME_LASTS
    ):
        return Wait(over, Reason.DOWNTIME)
    flying = len(traffic.flights)
    if flying >= (1 if traffic.failures >= FAILURES_MAX else limits.flights):
        return Wait(now + POLL, Reason.FLIGHTS)
    if wish.route not in traffic.routes and any(flight.route == wish.route for flight in traffic.flights.values()):
        # Whether it has a bucket, and how small, only its first answer tells.
        return Wait(now + POLL, Reason.FLIGHTS)
    if count_errors(traffic, now) + flying >= limits.errors:
        return Wait(_fewer_errors_at(traffic, now, limits), Reason.ERRORS)
    bucket = traffic.buckets.get(traffic.routes.get(wish.route, ""))
    return None if bucket is None else _wait_for_tokens(traffic, bucket, wish)


def downtime_over(now: Moment) -> Moment:
    """When today's downtime ends, if *now* lies in it; else 0."""
    of_day = now % DAY - DOWNTIME_STARTS
    return now - of_day + DOWNTIME_LASTS if 0 <= of_day < DOWNTIME_LASTS else 0


def count_errors(traffic: Traffic, now: Moment) -> int:
    """Errors that may count against us now: in the last minute by our count, in the window by ESI's."""
    ours = sum(1 for moment in traffic.errors if moment > now - MINUTE)
    if traffic.reported_until <= now:
        return ours
    return max(ours, traffic.reported + sum(1 for moment in traffic.errors if moment > traffic.reported_at))


def _fewer_errors_at(traffic: Traffic, now: Moment, limits: Limits) -> Moment:
    """The first moment at which an error is forgotten. While requests fly, they may land well at any moment."""
    ends = [moment + MINUTE for moment in traffic.errors if moment + MINUTE > now]
    if traffic.reported_until > now and traffic.reported >= limits.errors:
        return traffic.reported_until
    if traffic.flights or not ends:
        return now + POLL
    return min(ends)


def _wait_for_tokens(traffic: Traffic, bucket: Bucket, wish: Wish) -> Wait | None:
    now = wish.now
    if bucket.paused_until > now:
        return Wait(bucket.paused_until, Reason.PAUSE)
    group = traffic.routes[wish.route]
    flying = sum(1 for flight in traffic.flights.values() if traffic.routes.get(flight.route) == group)
    left = tokens_left(bucket, now) - COST_MAX * flying
    reserve = bucket.limit // 10
    if left < COST_MAX + min(reserve, max(0, bucket.limit - 2 * COST_MAX)):
        ends = [end + bucket.window for end in bucket.spent] + [bucket.others_until]
        later = [moment for moment in ends if moment > now]
        return Wait(now + POLL if flying else min(later, default=now + bucket.window // SLOTS), Reason.TOKENS)
    at = bucket.last_at + _spacing(bucket, left)
    return Wait(at, Reason.TOKENS) if at > now else None


def tokens_left(bucket: Bucket, now: Moment) -> int:
    """How many tokens the group has, as far as we can know: what nobody has told us of is not there."""
    ours = sum(cost for end, cost in bucket.spent.items() if end + bucket.window > now)
    others = bucket.others if bucket.others_until > now else 0
    return bucket.limit - ours - others


def _spacing(bucket: Bucket, left: int) -> Duration:
    """How far apart requests start: none while half of the tokens are there, as slow as they come back at the end."""
    half = bucket.limit // 2
    if left >= half or not half:
        return 0
    as_they_come = bucket.window * 2 // max(1, bucket.limit)
    return as_they_come * (half - left) * 5 // (4 * half)


# ── after ────────────────────────────────────────────────────────────────────────────────────────


def land(traffic: Traffic, landing: Landing) -> Traffic:
    """What is known after a request ended."""
    traffic = _swept(traffic, landing.now)
    flights = dict(traffic.flights)
    flight = flights.pop(landing.id, None)
    traffic = replace(traffic, flights=flights)
    if is_error(landing):
        traffic = replace(traffic, errors=(*traffic.errors, landing.now)[-2 * ERROR_LIMIT :])
    if landing.status is not None:
        traffic = _with_route(traffic, landing)
    traffic = _with_reported(traffic, landing)
    traffic = _with_pause(traffic, landing)
    return _with_failures(traffic, landing, flight.started_at if flight else landing.now)


def is_error(landing: Landing) -> bool:
    """Whether it may count on the error limit: 4xx, 5xx, and whatever we did not wait for."""
    return landing.status is None or landing.status >= 400


def cost_of(status: int) -> int:
    """The tokens that an answer costs. Source: CCP's table of costs; 429 and 5xx are free."""
    if status < 300:
        return 2
    if status < 400:
        return 1
    return COST_MAX if status < 500 and status != 429 else 0


def _with_route(traffic: Traffic, landing: Landing) -> Traffic:
    """The route's group, and what the answer says of its tokens."""
    assert landing.status is not None
    group = word(landing.headers.get("x-ratelimit-group"))
    said = _limit_of(landing.headers.get("x-ratelimit-limit", ""))
    if landing.failed or (group and said is None):
        return traffic
    if len(traffic.routes) < ROUTES_MAX or landing.route in traffic.routes:
        traffic = replace(traffic, routes={**traffic.routes, landing.route: group})
    if not group or said is None or (group not in traffic.buckets and len(traffic.buckets) >= GROUPS_MAX):
        return traffic
    limit, window = said
    old = traffic.buckets.get(group)
    fresh = Bucket(limit=limit, window=window, last_at=landing.now)
    bucket = fresh if old is None else replace(old, limit=limit, window=window)
    bucket = _told(_charged(bucket, landing.now, cost_of(landing.status)), landing)
    return replace(traffic, buckets={**traffic.buckets, group: bucket})


def _limit_of(text: str) -> tuple[int, Duration] | None:
    """``150/15m`` as tokens and window; None for anything else."""
    tokens, _, window = text.strip().partition("/")
    limit, length = whole(tokens, most=TOKENS_MAX), whole(window[:-1], most=86_400)
    unit = {"s": SECOND, "m": MINUTE, "h": HOUR}.get(window[-1:])
    if not limit or not length or unit is None:
        return None
    return limit, min(length * unit, WINDOW_MAX)


def _charged(bucket: Bucket, now: Moment, cost: int) -> Bucket:
    slot = max(1, bucket.window // SLOTS)
    end = now - now % slot + slot
    spent = {at: tokens for at, tokens in bucket.spent.items() if at + bucket.window > now}
    if cost:
        spent[end] = spent.get(end, 0) + cost
    return replace(bucket, spent=spent)


def _told(bucket: Bucket, landing: Landing) -> Bucket:
    """What the other side counts more than we do was spent by somebody else, and comes back within a window."""
    left = whole(landing.headers.get("x-ratelimit-remaining"), most=TOKENS_MAX)
    if left is None:
        return bucket
    ours = sum(bucket.spent.values())
    others = max(0, bucket.limit - left - ours)
    return replace(bucket, others=others, others_until=landing.now + bucket.window if others else 0)


def _with_reported(traffic: Traffic, landing: Landing) -> Traffic:
    remain = whole(landing.headers.get("x-esi-error-limit-remain"), most=ERROR_LIMIT)
    reset = whole(landing.headers.get("x-esi-error-limit-reset"), most=120)
    if remain is None or reset is None:
        return traffic
    until = landing.now + (reset + 1) * SECOND
    return replace(traffic, reported=ERROR_LIMIT - remain, reported_at=landing.now, reported_until=until)


def _with_pause(traffic: Traffic, landing: Landing) -> Traffic:
    """What the other side asks us to wait. Without a bucket named, everything waits."""
    wait = _asked_wait(landing)
    if not wait:
        return traffic
    until = landing.now + wait + SECOND
    group = word(landing.headers.get("x-ratelimit-group"))
    if landing.status == 429 and group in traffic.buckets:
        bucket = traffic.buckets[group]
        bucket = replace(bucket, paused_until=max(bucket.paused_until, until))
        return replace(traffic, buckets={**traffic.buckets, group: bucket})
    return replace(traffic, paused_until=max(traffic.paused_until, until))


def _asked_wait(landing: Landing) -> Duration:
    asked = seconds_to_wait(landing.headers.get("retry-after"), landing.now)
    if landing.status == 420:
        reset = whole(landing.headers.get("x-esi-error-limit-reset"), most=120)
        return max(asked or 0, MINUTE if reset is None else reset * SECOND)
    if landing.status == 429:
        return MINUTE if asked is None else asked
    if landing.status == 503:
        return min(asked or 0, DOWNTIME_LASTS)
    return 0


def _with_failures(traffic: Traffic, landing: Landing, started_at: Moment) -> Traffic:
    """A pause after some rounds of failures, twice as long each time; an end to all that with the first success."""
    if landing.cancelled or landing.status in (420, 429):
        return traffic
    if not landing.failed:
        return replace(traffic, failures=0)
    if started_at < traffic.round_at:
        return traffic
    failures = traffic.failures + 1
    if failures < FAILURES_MAX:
        return replace(traffic, failures=failures)
    pause = min(PAUSE_MAX, PAUSE_FIRST << min(failures - FAILURES_MAX, 10))
    until = max(traffic.paused_until, landing.now + pause)
    return replace(traffic, failures=failures, round_at=landing.now, paused_until=until)


def _swept(traffic: Traffic, now: Moment) -> Traffic:
    """Without what is over: flights of the dead, old errors. A clock that was set back does not hold us for ever."""
    flights = {id: flight for id, flight in traffic.flights.items() if now < flight.until <= now + HOUR}
    errors = tuple(moment for moment in traffic.errors if now - MINUTE < moment <= now + MINUTE)
    paused_until = traffic.paused_until if traffic.paused_until <= now + DAY else now
    return replace(traffic, flights=flights, errors=errors, paused_until=paused_until)
