"""What a thousand instances would ask of their store: a model of the traffic, not a measurement.

    python -m benchmarks.claim_traffic

A store is one queue that is worked off in order, with a time for each call and for each item in it. Instances look for
due tasks and for waiting work as the engine does: each in its own jittered second, in batches, a fair share of the
slots at a time (``engine/spread.py``), without a leader. A claimer reads more candidates than it takes, more the more
rivals there are, and loses those that a rival took between its read and its write (``stores/mongo/claiming.py``).
Nothing runs and nothing is stored; virtual time, seeded. ``docs/scale.md`` says what follows from it.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from statistics import quantiles
from typing import Final

SECONDS: Final = 30.0
WARM: Final = 5.0
"""So much of the beginning does not count: everybody starts at once there."""
BATCH: Final = 500
WINDOW_MIN, WINDOW_MAX = 16, 2_048
"""So many candidates are read at once."""
OFFER: Final = 0.02
HEARTBEAT: Final = 10.0


@dataclass(frozen=True, slots=True)
class Store:
    """Seconds for a call that finds nothing, for a call that does something, and for each item in it."""

    name: str
    look: float
    call: float
    item: float


TEST_SERVER: Final = Store("the tests' MongoDB server", look=1.0e-3, call=2.0e-3, item=0.6e-3)
"""As measured: 1,742 plans and 795 claims with their ends a second, in batches of 50, on two shared cores."""
TEN_TIMES: Final = Store("one ten times as fast", look=0.1e-3, call=0.2e-3, item=0.06e-3)
"""An assumption, to see what changes."""


@dataclass(frozen=True, slots=True)
class Scene:
    """So many instances on so many stores, which so many executions a second fall due on."""

    store: Store
    instances: int
    due: float
    shards: int = 1
    poll: float = 1.0
    slots: int = 50
    runtime: float = 0.2
    knows_rivals: bool = True
    """Whether a claimer reads more candidates the more rivals there are."""


@dataclass(slots=True)
class Seen:
    """What came of it on one shard."""

    busy: float = 0.0
    calls: int = 0
    empty: int = 0
    claimed: int = 0
    lost: int = 0
    late: list[float] = field(default_factory=list)


class Shard:
    """One store with its share of the instances, in virtual time."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self.seen = Seen()
        self._scene = scene
        self._chance = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._now = 0.0
        self._free_at = 0.0
        self._planned_upto = 0.0
        self._rate = scene.due / scene.shards
        self._waiting: dict[int, float] = {}
        """What waits, by number, each with the moment it fell due; in the order of the queue."""
        self._made = 0
        self._slots = [scene.slots] * max(1, scene.instances // scene.shards)
        self._turns = [0] * len(self._slots)
        """The newest turn of each claimer; an older one that still comes up was overtaken by a wake."""
        self._at_it: set[int] = set()
        self._woken: set[int] = set()

    def live(self) -> Seen:
        """Let everybody work until the time is over."""
        for number in range(len(self._slots)):
            self._later(self._chance.random() * self._scene.poll, lambda n=number: self._plan(n))  # type: ignore[misc]
            self._come_back(number, self._chance.random() * self._scene.poll)
            self._later(self._chance.random() * self._scene.poll, self._hear)
        while self._events and self._events[0][0] < SECONDS:
            self._now, _, act = heapq.heappop(self._events)
            act()
        return self.seen

    def _later(self, after: float, act: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (self._now + after, self._number, act))

    def _ask(self, seconds: float, then: Callable[[], None], *, is_empty: bool = False) -> None:
        """One call to the store: it waits for those before it, and then takes its time."""
        begins = max(self._now, self._free_at)
        self._free_at = begins + seconds
        if self._now >= WARM:
            self.seen.busy += seconds
            self.seen.calls += 1
            self.seen.empty += is_empty
        self._later(self._free_at - self._now, then)

    def _pause(self) -> float:
        return self._scene.poll * (1 - 0.25 * self._chance.random())

    # ── what instances do ────────────────────────────────────────────────────────────────────────

    def _plan(self, number: int) -> None:
        """Look for what is due, and make it: whoever looks first has it all, the others find nothing."""
        store = self._scene.store

        def found() -> None:
            count = min(2 * BATCH, int((self._now - self._planned_upto) * self._rate))
            if count:
                self._planned_upto += count / self._rate
                upto = self._planned_upto
                self._ask(store.call + count * store.item, lambda: self._queue(count, upto))
            self._later(self._pause(), lambda: self._plan(number))

        self._ask(store.look, found, is_empty=True)

    def _queue(self, count: int, upto: float) -> None:
        for place in range(count):
            self._made += 1
            self._waiting[self._made] = upto - place / self._rate

    def _claim(self, number: int) -> None:
        """Take a fair share of the free slots, offer the rest to the others for a moment, and come back for it."""
        free, everybody = self._slots[number], len(self._slots)
        if free:
            self._at_it.add(number)
            self._fill(number, min(-(-free // everybody), BATCH))
        else:
            self._come_back(number, self._pause())

    def _rest(self, number: int, after: float) -> None:
        """A turn is over; who was woken meanwhile begins the next one at once."""
        self._at_it.discard(number)
        self._come_back(number, 0.0 if number in self._woken else after)
        self._woken.discard(number)

    def _wake(self, number: int) -> None:
        if number in self._at_it:
            self._woken.add(number)
        else:
            self._come_back(number, 0.0)

    def _come_back(self, number: int, after: float) -> None:
        self._turns[number] = turn = self._turns[number] + 1
        self._later(after, lambda: self._claim(number) if self._turns[number] == turn else None)

    def _fill(self, number: int, limit: int) -> None:
        """Read a window of candidates and take those that nobody took meanwhile; again, until there are enough."""
        store = self._scene.store

        def read() -> None:
            rivals = len(self._slots) - 1 if self._scene.knows_rivals else 1
            window = min(WINDOW_MAX, max(WINDOW_MIN, limit * (1 + rivals)))
            found = list(islice(self._waiting, window))
            wanted = self._chance.sample(found, min(limit, len(found)))
            if wanted:
                cost = store.call + len(wanted) * store.item
                self._ask(cost, lambda: self._take(number, wanted, limit))
            else:
                self._rest(number, self._pause())

        self._ask(store.look, read, is_empty=not self._waiting)

    def _take(self, number: int, wanted: list[int], limit: int) -> None:
        mine = [due for one in wanted if (due := self._waiting.pop(one, None)) is not None]
        if self._now >= WARM:
            self.seen.claimed += len(mine)
            self.seen.lost += len(wanted) - len(mine)
            self.seen.late += [self._now - due for due in mine]
        self._slots[number] -= len(mine)
        if mine:
            self._later(self._scene.runtime, lambda: self._settle(number, len(mine)))
        if len(mine) < limit:
            self._fill(number, limit - len(mine))
        else:
            self._rest(number, OFFER if len(self._slots) > 1 else 0.0)

    def _settle(self, number: int, count: int) -> None:
        def stored() -> None:
            self._slots[number] += count
            self._wake(number)

        self._ask(self._scene.store.call + count * self._scene.store.item, stored)

    def _hear(self) -> None:
        """The keeper's look for cancels, and its share of the heartbeat."""
        beat = self._scene.store.call * self._scene.poll / HEARTBEAT
        self._ask(self._scene.store.look + beat, lambda: self._later(self._pause(), self._hear), is_empty=True)


def row(scene: Scene) -> str:
    """One line of the table: the first shard stands for all, they are alike."""
    seen = Shard(scene, seed=1).live()
    span = SECONDS - WARM
    p50, p99 = (quantiles(seen.late, n=100)[at] for at in (49, 98)) if len(seen.late) > 100 else (float("nan"),) * 2
    done = seen.claimed * scene.shards / span
    lost = seen.lost / max(1, seen.lost + seen.claimed)
    return (
        f"| {scene.store.name} | {scene.instances:,} | {scene.shards} | {scene.poll:g} s | {scene.due:,.0f} "
        f"| {done:,.0f} | {min(1.0, seen.busy / span):.0%} | {seen.empty / span:,.0f} | {lost:.0%} "
        f"| {p50:.2f} s | {p99:.2f} s |"
    )


SCENES: Final = (
    Scene(TEN_TIMES, instances=100, due=2_800, knows_rivals=False),
    Scene(TEST_SERVER, instances=1, due=100),
    Scene(TEST_SERVER, instances=10, due=100),
    Scene(TEST_SERVER, instances=100, due=100),
    Scene(TEST_SERVER, instances=1_000, due=100),
    Scene(TEN_TIMES, instances=100, due=2_800),
    Scene(TEN_TIMES, instances=1_000, due=2_800),
    Scene(TEN_TIMES, instances=1_000, due=2_800, poll=10.0),
    Scene(TEN_TIMES, instances=1_000, due=2_800, shards=4),
    Scene(TEN_TIMES, instances=1_000, due=16_700, shards=16),
    Scene(TEN_TIMES, instances=1_000, due=16_700, shards=16, poll=5.0),
)


def main() -> None:
    """Print the table."""
    print("| store | instances | shards | poll | due/s | done/s | busy | empty looks/s | lost | p50 | p99 |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for scene in SCENES:
        print(row(scene), flush=True)


if __name__ == "__main__":
    main()
