"""Planted bugs: each of the faults that this trade is known for, put into the real engine or onto its wire.

The simulation must find every one; ``expected`` names invariants of which at least one must be broken.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from peregrine.domain.errors import LimitReached, NotFound, Unsure
from peregrine.domain.execution import Claim, Running, Settlement, State
from peregrine.domain.ids import ExecutionId
from peregrine.domain.moment import SECOND, Duration
from peregrine.domain.planning import Plan
from peregrine.domain.query import ExecutionFilter, ExecutionStatus, PageRequest
from peregrine.engine.claimer import Asked, Claimer
from peregrine.engine.engine import Engine
from peregrine.engine.pool import RunKey
from peregrine.engine.run import Run
from peregrine.engine.settings import EngineSettings
from peregrine.ports.store import ClaimRequest, PlanVerdict, SettleVerdict
from tests.simulation.witness import now_
from tests.simulation.world import Mutant, Node, World


class _SplitPlan(Mutant):
    """A plan written in several steps, with the wire's faults between them."""

    def calls(self, world: World, node: Node, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._write(world, node, *args) if verb == "apply_plans" else None

    async def _write(self, world: World, node: Node, plans: list[Plan], now: int) -> list[PlanVerdict]:
        return [await self._one(world, node, plan, now) for plan in plans]

    async def _one(self, world: World, node: Node, plan: Plan, now: int) -> PlanVerdict:
        raise NotImplementedError

    async def _cursor(self, world: World, node: Node, plan: Plan, now: int) -> PlanVerdict:
        bare = replace(plan, executions=())
        return (await world.call(node, "apply_plans", ([bare], now), {}))[0]  # type: ignore[no-any-return]

    async def _executions(self, world: World, node: Node, plan: Plan) -> None:
        for new in plan.executions:
            try:
                await world.call(node, "enqueue", (new,), {"queue_limit": 10**6})
            except (NotFound, LimitReached):
                pass


class CursorFirst(_SplitPlan):
    name = "cursor first"
    profiles = ("crashes",)
    expected = ("I2",)

    async def _one(self, world: World, node: Node, plan: Plan, now: int) -> PlanVerdict:
        verdict = await self._cursor(world, node, plan, now)
        if verdict is PlanVerdict.APPLIED:
            await self._executions(world, node, plan)
        return verdict


class MissesApart(_SplitPlan):
    name = "misses noted apart from the decision"
    profiles = ("crashes",)
    expected = ("I2",)

    async def _one(self, world: World, node: Node, plan: Plan, now: int) -> PlanVerdict:
        await self._executions(world, node, plan)
        return await self._cursor(world, node, plan, now)


class NoUniqueKey(_SplitPlan):
    name = "no unique key"
    profiles = ("crashes",)
    expected = ("I1", "I2")

    async def _one(self, world: World, node: Node, plan: Plan, now: int) -> PlanVerdict:
        def keyless(text: str) -> str:
            return str(uuid.UUID(int=world.random.getrandbits(128)))

        fresh = tuple(replace(n, id=ExecutionId(keyless(n.id)), key=keyless(n.key)) for n in plan.executions)
        await self._executions(world, node, replace(plan, executions=fresh))
        return await self._cursor(world, node, plan, now)


class NoCursorGuard(Mutant):
    name = "no compare-and-swap on the cursor"
    profiles = ("slow",)
    expected = ("I2", "I13")

    def calls(self, world: World, node: Node, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._write(world, node, *args) if verb == "apply_plans" else None

    async def _write(self, world: World, node: Node, plans: list[Plan], now: int) -> Any:
        await asyncio.sleep(world.random.choice([0, 0, 0.5, 1.5]))
        forced = []
        for plan in plans:
            view = now_(world.store.get_task(plan.task_id))
            generation = view.task.generation if view else plan.generation
            forced.append(replace(plan, cursor=view.cursor if view else plan.cursor, generation=generation))
        return await world.call(node, "apply_plans", (forced, now), {})


class AnyEpochSettles(Mutant):
    name = "complete without epoch"
    profiles = ("long freezes", "freezes", "mixed")
    expected = ("I4",)

    def calls(self, world: World, node: Node, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._settle(world, node, *args) if verb == "settle" else None

    async def _settle(self, world: World, node: Node, settlements: list[Settlement]) -> Any:
        verdicts: list[SettleVerdict] = []
        for honest in settlements:
            row = now_(world.store.get_execution(honest.execution_id))
            settlement = honest
            if row is not None and row.epoch != honest.epoch and row.state is State.RUNNING:
                settlement = replace(honest, epoch=row.epoch, expected_beat=None)
            verdicts += await world.call(node, "settle", ([settlement],), {})
        return verdicts


class NoSelfFence(Mutant):
    name = "no self-fence"
    profiles = ("partitions",)
    expected = ("I9",)

    def engine(self, engine: Engine, node: Node) -> None:
        engine._pool.fence = lambda: None  # type: ignore[method-assign]


class WallClockLeases(Mutant):
    """Each renewal notes when the lease ends by its worker's wall clock; others compare that with their own."""

    name = "leases judged by the wall clock"
    profiles = ("steps",)
    expected = ("I9",)

    def __init__(self) -> None:
        self.ends: dict[RunKey, int] = {}

    def calls(self, world: World, node: Node, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if verb == "renew":
            self.ends.update(dict.fromkeys(args[0], node.now() + node.engine.settings.lease))
        return None

    def engine(self, engine: Engine, node: Node) -> None:
        def is_lost(row: Running, watch: object, now: int) -> bool:
            return node.now() >= self.ends.get((row.execution_id, row.epoch), node.now() + 1)

        engine._reaper._is_lost = is_lost  # type: ignore[method-assign]


class ShortObservation(Mutant):
    name = "observation window shorter than the lease"
    profiles = ("slow", "freezes", "mixed", "unsure")
    expected = ("I9",)

    def engine(self, engine: Engine, node: Node) -> None:
        settings = engine._reaper._settings
        engine._reaper._settings = replace(settings, lease=settings.lease // 4)


class TodaysTimeout(Mutant):
    name = "a run is held to the timeout of today's definition"
    profiles = ("calm", "slow", "partitions")
    expected = ("I9",)

    def engine(self, engine: Engine, node: Node) -> None:
        honest, lease = engine._reaper._is_lost, engine.settings.lease

        def is_lost(row: Running, watch: Any, now: int) -> bool:
            overdue = row.task is not None and now - watch.epoch_since >= row.task.policy.timeout + 2 * lease
            return overdue or honest(row, watch, now)

        engine._reaper._is_lost = is_lost  # type: ignore[method-assign]


class RunsWhatIsUnsure(Mutant):
    name = "run after an unsure claim"
    profiles = ("unsure",)
    expected = ("I4", "I5")

    def engine(self, engine: Engine, node: Node) -> None:
        claimer: Claimer = engine._claim._turn.__self__  # type: ignore[attr-defined]

        async def claim(limit: int, free: int) -> Asked:
            asked_at = node.monotonic()
            request = ClaimRequest(
                claim_id=f"unsure-{node.id}-{node.monotonic()}", worker_id=node.id, now=node.now(), limit=limit
            )
            try:
                batch = await claimer._store.claim(request)
            except Unsure:
                return Asked(request, asked_at, self._presumed(node, limit), None)
            return Asked(request, asked_at, batch.claims, batch.next_available_at)

        claimer._claim = claim  # type: ignore[method-assign]

    @staticmethod
    def _presumed(node: Node, limit: int) -> list[Claim]:
        store = node.world.store
        queued = now_(
            store.list_executions(ExecutionFilter(status=ExecutionStatus.PENDING), PageRequest(size=limit))
        ).items
        claims: list[Claim] = []
        for e in queued:
            view = now_(store.get_task(e.task_id))
            if view is not None:
                claims.append(
                    Claim(
                        execution_id=e.id,
                        epoch=e.epoch + 1,
                        attempt=e.attempt + 1,
                        task=view.task,
                        cause=e.cause,
                        priority=e.priority,
                        worker_id=node.id,
                        scheduled_for=e.scheduled_for,
                        queued_at=e.queued_at,
                        available_at=e.available_at,
                        started_at=node.now(),
                    )
                )
        return claims


class BeginsAtTheClaim(Mutant):
    name = "what was claimed early begins at once"
    profiles = ("lonely", "lonely answers")
    expected = ("I3",)

    def engine(self, engine: Engine, node: Node) -> None:
        pool = engine._pool
        pool._coming.add = pool._begin  # type: ignore[assignment, method-assign]


class HeartbeatStopsAtSigterm(Mutant):
    name = "heartbeat stops on SIGTERM"
    profiles = ("crashes",)
    expected = ("I9",)

    def settings(self, settings: EngineSettings) -> EngineSettings:
        return replace(settings, shutdown_grace=20 * SECOND)

    def engine(self, engine: Engine, node: Node) -> None:
        honest = engine.stop

        async def stop(*, grace: Duration | None = None) -> None:
            await engine._keep.stop()
            await engine._fence.stop()
            await honest(grace=grace)

        engine.stop = stop  # type: ignore[method-assign]


class RecoveryKeepsEpoch(Mutant):
    name = "recovery without a new epoch"
    profiles = ("crashes", "freezes")
    expected = ("I8",)

    def calls(self, world: World, node: Node, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        store: Any = world.store
        if "_end_attempt" not in vars(store):
            honest = store._end_attempt

            def end_attempt(row: Any, written: Settlement) -> None:
                epoch = row.execution.epoch
                honest(row, written)
                row.execution = replace(row.execution, epoch=epoch)

            store._end_attempt = end_attempt
        return None


class SuspendedClock(Mutant):
    name = "deadline on a clock that stands still in a freeze"
    profiles = ("long freezes",)
    expected = ("I9",)

    def monotonic(self, node: Node, honest: int) -> int:
        now = asyncio.get_running_loop().time()
        return honest - round(sum(min(t1, now) - t0 for t0, t1 in node.freezes) * 1000)


class TableByExecution(Mutant):
    name = "running table keyed by execution only"
    profiles = ("lonely answers",)
    expected = ("I9", "bug")

    def engine(self, engine: Engine, node: Node) -> None:
        engine._pool._runs = _ByExecution()

    def calls(self, world: World, node: Node, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._settle(world, node, args) if verb == "settle" else None

    async def _settle(self, world: World, node: Node, args: tuple[Any, ...]) -> Any:
        """The bug shows only while an answer is lost for so long that the next attempt begins; here that is often."""
        verdicts = await world.call(node, "settle", args, {})
        if not world.peace and world.random.random() < 0.6:
            await asyncio.sleep(world.random.uniform(1, 6))
            raise Unsure("no answer")
        return verdicts


class _ByExecution(dict[RunKey, Run]):
    """A table that forgets the epoch."""

    def __setitem__(self, key: RunKey, run: Run) -> None:
        super().__setitem__((key[0], 0), run)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, tuple) and super().__contains__((key[0], 0))

    def pop(self, key: RunKey, *default: Any) -> Any:
        return super().pop((key[0], 0), *default)


MUTANTS: tuple[Callable[[], Mutant], ...] = (
    CursorFirst,
    MissesApart,
    NoUniqueKey,
    NoCursorGuard,
    AnyEpochSettles,
    NoSelfFence,
    WallClockLeases,
    ShortObservation,
    TodaysTimeout,
    RunsWhatIsUnsure,
    BeginsAtTheClaim,
    HeartbeatStopsAtSigterm,
    RecoveryKeepsEpoch,
    SuspendedClock,
    TableByExecution,
)
