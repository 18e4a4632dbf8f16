"""One seeded world: nodes (real engines), one store behind a faulty wire, chaos, operators, and witnesses of it all."""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from peregrine.coordination.memory import MemoryLocks
from peregrine.domain.errors import Conflict, LimitReached, NotFound, Unavailable, Unsure
from peregrine.domain.event import Event, LoopCrashed
from peregrine.domain.execution import Cause, NewExecution, Outcome
from peregrine.domain.ids import ExecutionId, TaskId, WorkerId
from peregrine.domain.moment import DAY, SECOND, Duration
from peregrine.domain.payload import FunctionPayload, JsonObject, Kind, Payload
from peregrine.domain.planning import DueTask, plan
from peregrine.domain.policy import Misfire, OnWorkerLost, Overlap, Policy, Priority
from peregrine.domain.task import Pause, Task, TaskView
from peregrine.engine.engine import Engine
from peregrine.engine.needs import Needs
from peregrine.engine.settings import EngineSettings
from peregrine.ports.bus import Topic
from peregrine.ports.executor import RunContext
from peregrine.ports.host import Instance
from peregrine.ports.lock import Hold, LockVerdict
from peregrine.stores.memory import MemoryStore
from peregrine.testing.clock import START, SeededEntropy
from tests.simulation.loop import Deferred, here, thaw
from tests.simulation.witness import Witness

LEASE = 6 * SECOND
SETTINGS = EngineSettings(
    slots=3,
    queue_size=25,
    lease=LEASE,
    heartbeat=2 * SECOND,
    poll=SECOND,
    stop_grace=500,
    retention=30 * DAY,
)
CHAOS_SECONDS = 45.0
QUIET_SECONDS = 4000.0
"""Long enough for work that a clock in the future put off; the quiet ends when nothing is active any more."""
_OUTSIDE = contextvars.Context()

READS = frozenset(
    {
        "due",
        "claimed_by",
        "cancel_wishes",
        "running",
        "instances",
        "get_task",
        "get_tasks",
        "get_execution",
        "list_tasks",
    }
    | {"list_executions", "list_occurrences", "statistics"}
)


@dataclass(frozen=True)
class Profile:
    """How often what goes wrong, per store call, and how many seconds lie between two blows of chaos."""

    crash: float = 0.0
    fail: float = 0.0
    unsure: float = 0.0
    late: float = 0.0
    slow: float = 0.0
    locks: float = 0.1
    mute: float = 0.0
    freeze: float = 0.0
    chaos_every: float = 1e9
    steps: bool = False
    nodes: int = 3
    blows: tuple[str, ...] = ("kill", "freeze", "step", "step all", "partition", "outage", "sigterm", "none")


PROFILES: dict[str, Profile] = {
    "calm": Profile(),
    "crashes": Profile(crash=0.006, chaos_every=6),
    "unsure": Profile(fail=0.01, unsure=0.03, late=0.01),
    "slow": Profile(slow=0.03, late=0.01),
    "mute": Profile(mute=0.01, slow=0.01, chaos_every=6, blows=("kill", "sigterm", "none")),
    "freezes": Profile(freeze=0.006, chaos_every=5),
    "steps": Profile(steps=True, chaos_every=4, crash=0.002),
    "mixed": Profile(
        crash=0.003, fail=0.005, unsure=0.01, late=0.004, slow=0.01, freeze=0.002, chaos_every=5, steps=True
    ),
    "partitions": Profile(fail=0.005, chaos_every=5, blows=("partition", "partition", "outage", "none")),
    "long freezes": Profile(freeze=0.015, chaos_every=4, blows=("freeze", "none")),
    "lonely answers": Profile(unsure=0.06, slow=0.06, late=0.02, mute=0.01, nodes=1),
    "lonely": Profile(crash=0.004, fail=0.01, unsure=0.01, freeze=0.002, chaos_every=6, steps=True, nodes=1),
}


class Mutant:
    """A planted bug; the plain one plants none. Each hook may change how the world is built or a call is made."""

    name = "none"
    expected: tuple[str, ...] = ()
    profiles: tuple[str, ...] = tuple(PROFILES)

    def settings(self, settings: EngineSettings) -> EngineSettings:
        return settings

    def engine(self, engine: Engine, node: Node) -> None:
        """Change *engine* after it was built."""

    def monotonic(self, node: Node, honest: int) -> int:
        return honest

    def calls(self, world: World, node: Node, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An awaitable that stands for the call, or None for the honest call."""
        return None


class Node:
    """One process: its clocks, whether it lives, and its engine."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.id = WorkerId(f"node-{number}")
        self.alive = True
        self.frozen = False
        self.deferred: list[Deferred] = []
        self.freezes: list[tuple[float, float]] = []
        self.skew = world.skew()
        self.set_back_at = -1e9
        """When the wall clock was last set back, in true seconds."""
        self.boot = world.random.randrange(10**9)
        self.rests = False
        self.context = contextvars.copy_context()
        self.context.run(here.set, self)
        self.engine = self._engine()

    def now(self) -> int:
        return START + round(asyncio.get_running_loop().time() * 1000) + self.skew

    def monotonic(self) -> int:
        return self.world.mutant.monotonic(self, self.boot + round(asyncio.get_running_loop().time() * 1000))

    def step(self, by: int, at: float) -> None:
        """Set the wall clock by so many milliseconds."""
        self.skew += by
        if by < 0:
            self.set_back_at = at

    def is_gone(self, instance: Instance) -> bool:
        other = self.world.everyone[instance.id]
        return instance.place == "shared" and not other.alive

    def observe(self, event: Event) -> None:
        if isinstance(event, LoopCrashed):
            self.world.witness.accuse("bug", f"{event.loop}: {event.error}")

    def _engine(self) -> Engine:
        world = self.world
        settings = replace(SETTINGS, shutdown_grace=world.random.choice([SECOND, 15 * SECOND]))
        place = "shared" if world.random.random() < 0.3 else f"place-{self.id}"
        engine = Engine(
            Needs(
                store=NodeStore(self),
                executor=NodeExecutor(self),
                clock=self,
                entropy=SeededEntropy(f"{world.seed}-{self.id}"),
                bus=NodeBus(self),
                host=self,
                observer=self,
                instance=Instance(
                    id=self.id,
                    host="sim",
                    place=place,
                    pid=1,
                    process_started=1,
                    version="0",
                    slots=settings.slots,
                    started_at=self.now(),
                ),
                settings=world.mutant.settings(settings),
                locks=NodeLocks(self),
            )
        )
        world.mutant.engine(engine, self)
        return engine

    def launch(self, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run *coro* inside this process."""
        return self.context.run(asyncio.get_running_loop().create_task, coro)

    def kill(self) -> None:
        """kill -9: nothing of this process happens any more, and its effects end."""
        self.alive = False
        self.world.witness.died(self.id)

    def freeze(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after *seconds*."""
        if self.frozen:
            return
        loop = asyncio.get_running_loop()
        self.frozen = True
        self.freezes.append((loop.time(), loop.time() + seconds))
        loop.call_later(seconds, thaw, self, context=_OUTSIDE)

    async def retire(self) -> None:
        """SIGTERM: stop the engine in order, then exit."""
        await self.engine.stop()
        if self.alive:
            self.kill()


class NodeStore:
    """The store as one node reaches it."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            world = self._node.world
            planted = world.mutant.calls(world, self._node, verb, args, kwargs)
            return planted if planted is not None else world.call(self._node, verb, args, kwargs)

        return call


class NodeBus:
    """Wakes that may be lost: here nearly never, on other nodes half of the time."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._wakes: list[tuple[Topic, Callable[[], None]]] = []

    def publish(self, topic: Topic) -> None:
        world = self._node.world
        for node in world.nodes:
            if world.random.random() < (0.9 if node is self._node else 0.5):
                node.engine._bus.hear(topic)  # type: ignore[attr-defined]

    def hear(self, topic: Topic) -> None:
        for wanted, wake in self._wakes:
            if wanted is topic:
                asyncio.get_running_loop().call_soon(wake, context=self._node.context.copy())

    def subscribe(self, topic: Topic, wake: Callable[[], None]) -> Callable[[], None]:
        entry = (topic, wake)
        self._wakes.append(entry)
        return lambda: self._wakes.remove(entry) if entry in self._wakes else None


class NodeLocks:
    """The lock service as one node reaches it: it may be late, away, or emptied, and then what it did is not known."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._random = random.Random(f"locks-{node.world.seed}-{node.id}")

    async def acquire(self, holds: Sequence[Hold], lease: Duration) -> Sequence[LockVerdict]:
        return await self._asked(lambda locks: locks.acquire(holds, lease)) or [LockVerdict.UNKNOWN] * len(holds)

    async def renew(self, holds: Sequence[Hold], lease: Duration) -> Sequence[LockVerdict]:
        return await self._asked(lambda locks: locks.renew(holds, lease)) or [LockVerdict.UNKNOWN] * len(holds)

    async def release(self, holds: Sequence[Hold]) -> bool:
        return bool(await self._asked(lambda locks: locks.release(holds)))

    async def _asked(self, ask: Callable[[MemoryLocks], Coroutine[Any, Any, Any]]) -> Any:
        world, dice = self._node.world, self._random.random()
        if world.peace or dice > world.profile.locks:
            return await ask(world.locks)
        if dice < world.profile.locks / 4:
            world.locks = MemoryLocks(world)
        await asyncio.sleep(self._random.uniform(0, 0.2))
        if self._random.random() < 0.5:
            await ask(world.locks)
        return None


class NodeExecutor:
    """Does nothing but write down when its effects began and ended."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def check(self, payload: Payload, parameters: JsonObject | None = None) -> tuple[()]:
        return ()

    async def run(self, payload: Payload, context: RunContext) -> Outcome:
        world = self._node.world
        effect = world.witness.effect_begins(self._node.id, context.claim)
        dice = world.random.random()
        seconds = world.random.choice([0.0, 0.01, 0.3, 0.8, 2.5, 7.0, 15.0, 25.0])
        effect.stubborn = dice > 0.97
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            if effect.stubborn:
                await asyncio.sleep(3)
            raise
        finally:
            world.witness.effect_ends(effect)
        if dice < 0.2:
            return Outcome.failed("drawn")
        return Outcome.succeeded("done")


@dataclass
class Wound:
    """A time in which a node (None: everybody) can't reach the store."""

    node: Node | None
    until: float


@dataclass
class World:
    """See the module. ``run`` is the whole history."""

    seed: int
    profile: Profile
    mutant: Mutant = field(default_factory=Mutant)

    def __post_init__(self) -> None:
        self.random = random.Random(f"world-{self.seed}")
        self.store = MemoryStore()
        self.locks = MemoryLocks(self)
        self.witness = Witness(self.store, self)
        self.nodes: list[Node] = []
        self.everyone: dict[WorkerId, Node] = {}
        self.wounds: list[Wound] = []
        self.peace = False
        self.made = 0
        self.skew_max = 0

    def now(self) -> int:
        """The lock service's own wall clock."""
        return START + self.monotonic()

    def monotonic(self) -> int:
        """Its steady one."""
        return round(asyncio.get_running_loop().time() * 1000)

    # ── the wire ────────────────────────────────────────────────────────────────────────────────

    def apply(self, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Let the store do it, now and as a whole, with the witness looking on."""
        with self.witness.watching(verb, args, kwargs) as seen:
            try:
                getattr(self.store, verb)(*args, **kwargs).send(None)
            except StopIteration as done:
                seen.result = done.value
                return done.value
            raise AssertionError(f"{verb} waited inside the memory store")

    async def call(self, node: Node, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One call of *node*, with whatever goes wrong on the way."""
        loop = asyncio.get_running_loop()
        if any(w.until > loop.time() and w.node in (None, node) for w in self.wounds):
            raise Unavailable("partition")
        dice, p = self.random.random(), self.profile
        if self.peace or dice > p.crash + p.fail + p.unsure + p.late + p.slow + p.mute + p.freeze:
            return self.apply(verb, args, kwargs)
        read, after = verb in READS, self.random.random() < 0.5
        if (dice := dice - p.crash) < 0:
            if after:
                self.apply(verb, args, kwargs)
            node.kill()
            await loop.create_future()
        if (dice := dice - p.fail) < 0:
            raise Unavailable("failed before")
        if (dice := dice - p.unsure) < 0:
            if not read and after:
                self.apply(verb, args, kwargs)
            raise Unavailable("no answer") if read else Unsure("no answer")
        if (dice := dice - p.late) < 0:
            if read:
                raise Unavailable("no answer")
            loop.call_later(self.random.uniform(0.01, 9), self._late, verb, args, kwargs, context=_OUTSIDE)
            raise Unsure("no answer yet")
        if (dice := dice - p.mute) < 0:
            if not read and after:
                self.apply(verb, args, kwargs)
            await loop.create_future()
        if (dice := dice - p.freeze) < 0:
            return await self._frozen(node, verb, args, kwargs, after=after)
        return await self._slowly(verb, args, kwargs)

    async def _frozen(
        self, node: Node, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any], *, after: bool
    ) -> Any:
        result = self.apply(verb, args, kwargs) if after else None
        node.freeze(self.random.choice([0.5, 4, 7, 15]))
        await asyncio.sleep(0)
        return result if after else self.apply(verb, args, kwargs)

    async def _slowly(self, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The request is under way for a while, is done, and the answer is under way for a while."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()

        def done() -> None:
            try:
                result: Any = self.apply(verb, args, kwargs)
            except (Conflict, NotFound, LimitReached) as error:
                loop.call_later(back, _answer, answer, None, error, context=_OUTSIDE)
            else:
                loop.call_later(back, _answer, answer, result, None, context=_OUTSIDE)

        there, back = self.random.uniform(0, 4), self.random.uniform(0, 4)
        loop.call_later(there, done, context=_OUTSIDE)
        return await answer

    def _late(self, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            self.apply(verb, args, kwargs)
        except (Conflict, NotFound, LimitReached):
            pass  # refused, and nobody waits for the answer any more

    # ── the history ─────────────────────────────────────────────────────────────────────────────

    async def run(self) -> list[str]:
        """Everything that was wrong, in words; empty when nothing was."""
        loop = asyncio.get_running_loop()
        for _ in range(self.random.randint(2, 5)):
            await self.operator_creates(START)
        for _ in range(self.random.randint(1, self.profile.nodes)):
            self.birth()
        until = loop.time() + CHAOS_SECONDS
        chaos = loop.create_task(self._chaos(until))
        operator = loop.create_task(self._operate(until))
        await asyncio.sleep(CHAOS_SECONDS)
        await asyncio.gather(chaos, operator)
        await self._quiet()
        self.witness.judge()
        return self.witness.accusations

    async def _quiet(self) -> None:
        self.peace, self.wounds = True, []
        await asyncio.sleep(16)  # the longest freeze has thawed
        # What a clock in the future put off becomes due only when every clock has got there.
        latest = max([node.skew for node in self.everyone.values()] + [self.skew_max])
        self.skew_max = latest
        for node in self.nodes:
            node.skew = latest
        for view in await self._views():
            await self.operator_changes(view, self.director(), enabled=False, pause=None)
        if not any(node.alive and not node.rests for node in self.nodes):
            self.birth()
        for _ in range(int(QUIET_SECONDS)):
            await asyncio.sleep(1)
            if not self.witness.active():
                break
        await asyncio.sleep(LEASE / 1000)

    def birth(self) -> None:
        """Start a process."""
        self.made += 1
        node = Node(self, self.made)
        self.nodes.append(node)
        self.everyone[node.id] = node
        node.launch(node.engine.start())

    def skew(self) -> int:
        """A clock error to be born with."""
        if self.peace:
            return self.skew_max
        return self.random.choice([0, 0, -2000, 2000, 300]) if self.profile.steps else self.random.choice([0, 50])

    async def _chaos(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.random.expovariate(1 / min(self.profile.chaos_every, 5)))
            if loop.time() >= until:
                return
            self.nodes = [node for node in self.nodes if node.alive]
            if (len(self.nodes) < self.profile.nodes and self.random.random() < 0.7) or not self.nodes:
                self.birth()
            elif self.profile.chaos_every < 1e9:
                self._strike(self.random.choice(self.nodes), loop.time())

    def _strike(self, node: Node, now: float) -> None:
        self.skew_max = max([self.skew_max, *(one.skew for one in self.nodes)])
        match self.random.choice(self.profile.blows):
            case "kill":
                node.kill()
            case "freeze":
                node.freeze(self.random.choice([0.3, 2, 5, 9, 15]))
            case "step" if self.profile.steps:
                node.step(self.random.choice([20_000, 60_000, -60_000, -3_600_000, 3_600_000, 1500, -1500]), now)
            case "step all" if self.profile.steps:
                by = self.random.choice([20_000, 60_000, -60_000, -3_600_000])
                for one in self.nodes:
                    one.step(by, now)
            case "partition":
                self.wounds.append(Wound(node, now + self.random.choice([1, 5, 8, 20])))
            case "outage":
                self.wounds.append(Wound(None, now + self.random.choice([1, 5, 8])))
            case "sigterm" if not node.rests:
                node.rests = True
                node.launch(node.retire())

    # ── the operators ───────────────────────────────────────────────────────────────────────────

    def director(self) -> int:
        """The wall clock of whichever process serves the operator."""
        alive = [node for node in self.nodes if node.alive]
        return self.random.choice(alive).now() if alive else START + round(asyncio.get_running_loop().time() * 1000)

    async def _views(self) -> list[TaskView]:
        return list(await self.store.get_tasks(sorted(self.witness.created)))

    async def _operate(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.random.expovariate(0.6))
            if loop.time() >= until:
                return
            views = await self._views()
            if not views or (len(views) < 6 and self.random.random() < 0.1):
                await self.operator_creates(self.director())
            else:
                await self._one_operation(self.random.choice(views), self.director())

    async def _one_operation(self, view: TaskView, now: int) -> None:
        task, draw = view.task, self.random
        match draw.choice(
            ["run", "run", "cancel", "stop", "disable", "pause", "pause until", "schedule", "policy", "delete"]
        ):
            case "run":
                await self.operator_runs(task, now)
            case "cancel":
                await self.operator_cancels(task.id, now)
            case "stop":
                await self.operator_changes(view, now, pause=Pause(since=now, by="sim"))
                await self.operator_cancels(task.id, now)
            case "disable":
                await self.operator_changes(view, now, enabled=not task.enabled)
            case "pause":
                await self.operator_changes(view, now, pause=None if task.pause else Pause(since=now))
            case "pause until":
                await self.operator_changes(view, now, pause=Pause(since=now, until=now + draw.randint(500, 6000)))
            case "schedule":
                await self.operator_changes(view, now, schedule=self.schedule())
            case "policy":
                await self.operator_changes(view, now, policy=self.policy())
            case "delete" if draw.random() < 0.2:
                await self.operate("delete_task", task.id, expected_revision=None, now=now)

    async def operate(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        """One write of an operator; None when it was refused or unsure (perhaps done)."""
        loop = asyncio.get_running_loop()
        if not self.peace and self.random.random() < self.profile.unsure:
            loop.call_later(self.random.uniform(0, 5), self._late, verb, args, kwargs, context=_OUTSIDE)
            return None
        try:
            result = self.apply(verb, args, kwargs)
        except (Conflict, NotFound, LimitReached):
            return None
        self.witness.acknowledged(verb, args, kwargs, result)
        return result

    async def operator_creates(self, now: int) -> None:
        self.made += 1
        name = f"task-{self.made}"
        task = Task(
            id=TaskId(name),
            name=name,
            kind=Kind.FUNCTION,
            payload=FunctionPayload(function_name="effect"),
            schedule=self.schedule(),
            anchor=now - now % 1000,
            priority=self.random.choice(list(Priority)),
            policy=self.policy(),
            created_at=now,
            updated_at=now,
        )
        await self.operate("create_tasks", [task])

    async def operator_changes(self, view: TaskView, now: int, **changes: Any) -> None:
        task = replace(view.task, **changes).changed(view.task, at=now, by="sim")
        due = DueTask(view.task, view.cursor, view.running + view.queued)
        undecided = plan(due, now, 10**6) if view.task.enabled else None
        await self.operate("put_task", task, expected_revision=view.task.revision, plan=undecided)

    async def operator_runs(self, task: Task, now: int) -> None:
        self.made += 1
        new = NewExecution(
            id=ExecutionId(f"run-{self.made}"),
            key=f"m:{task.id}:{self.made}",
            task_id=task.id,
            cause=Cause.MANUAL,
            priority=task.priority,
            queued_at=now,
            available_at=now,
        )
        await self.operate("enqueue", new, queue_limit=SETTINGS.queue_size)

    async def operator_cancels(self, task_id: TaskId, now: int) -> None:
        await self.operate("request_cancel", task_id=task_id, now=now)

    def schedule(self) -> str:
        return self.random.choice(["* * * * * *", "*/2 * * * * *", "*/5 * * * * *", "1-59/3 * * * * *", "@every 2s"])

    def policy(self) -> Policy:
        draw = self.random.choice
        return Policy(
            max_retries=draw([0, 1, 2]),
            retry_interval=draw([SECOND, 2 * SECOND]),
            timeout=draw([3 * SECOND, 30 * SECOND]),
            overlap=draw(list(Overlap)),
            misfire=draw(list(Misfire)),
            misfire_grace=draw([SECOND, 5 * SECOND, 60 * SECOND]),
            catchup_window=draw([20 * SECOND, DAY]),
            catchup_max=draw([1, 3, 10]),
            on_worker_lost=draw(list(OnWorkerLost)),
        )


def _answer(answer: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
