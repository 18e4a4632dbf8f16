"""Owns the routes that say how the service is doing; must not know how that is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from msgspec import UNSET, UnsetType
from starlette.responses import Response

from peregrine.api.call import Call, answer
from peregrine.api.operation import Demand, Routes
from peregrine.domain.moment import format_duration, format_moment
from peregrine.domain.permission import Permission
from peregrine.ports.engine_view import EngineFacts, EngineMode, LockFacts
from peregrine.usecases.status import Measured, Member, StatusBoard
from peregrine.wire.status import (
    Dependencies,
    Diagnostics,
    InstanceShape,
    Liveness,
    Metrics,
    OldStatus,
    Readiness,
    RunningHere,
    Stats,
    Status,
    latency,
    metrics,
    moment_or_unset,
    stats,
)

API_VERSION: Final = "1.0.0"
"""What callers without credentials are told: the version of this contract, not of the software."""
RUNNING_MAX: Final = 100
"""Most executions listed of one instance."""
OPENMETRICS: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporting:
    """What these routes report from. ``render_metrics`` gives the page for Prometheus and its media type."""

    board: StatusBoard
    version: str
    render_metrics: Callable[[], tuple[bytes, str]]


def status_routes(reporting: Reporting) -> Routes:
    """The routes of this file."""
    routes = Routes("status")
    board = reporting.board

    @routes.add("GET", "/scheduler/status", needs=Permission.READ, answers=Status, own_access=True)
    async def get_status(call: Call) -> Response:
        """Health of the scheduler and of what stands behind it"""
        measured = await board.status(call.asker)
        return answer(_status(measured, call, reporting.version))

    @routes.add("GET", "/scheduler/scheduler-status", needs=Permission.READ, answers=OldStatus, own_access=True)
    async def get_scheduler_status(call: Call) -> Response:
        """The older, four-field status"""
        measured = await board.status(call.asker)
        return answer(
            OldStatus(
                status=measured.facts.mode.value,
                version=_version(call, reporting.version),
                engine=measured.facts.mode is EngineMode.RUNNING,
            )
        )

    @routes.add("GET", "/scheduler/stats", needs=Permission.READ, answers=Stats)
    async def get_stats(call: Call) -> Response:
        """Statistics of tasks and executions"""
        counted, facts = await board.statistics(call.asker)
        return answer(stats(counted, facts.slots))

    @routes.add("GET", "/healthz", needs=Demand.NOTHING, answers=Liveness, own_prefix=False)
    async def get_liveness(call: Call) -> Response:
        """Whether the process answers"""
        return answer(Liveness(status="ok"))

    @routes.add("GET", "/readyz", needs=Demand.NOTHING, answers=Readiness, own_prefix=False, refuses=[503])
    async def get_readiness(call: Call) -> Response:
        """Whether this process takes work now"""
        measured = await board.measure()
        ready = measured.is_ready
        shape = Readiness(status="ready" if ready else "not_ready", checks=_checks(measured))
        return answer(shape, 200 if ready else 503, None if ready else {"Retry-After": "1"})

    @routes.add("GET", "/metrics", needs=Demand.METRICS, answers=OPENMETRICS, own_prefix=False)
    async def get_metrics(call: Call) -> Response:
        """Metrics for Prometheus"""
        page, media_type = reporting.render_metrics()
        return Response(page, media_type=media_type)

    return routes


def _checks(measured: Measured) -> dict[str, str]:
    return {
        "database": "healthy" if measured.store_latency is not None else "unhealthy",
        "engine": measured.facts.mode.value,
    }


def _version(call: Call, version: str) -> str:
    return version if call.asker.principal.is_known else API_VERSION


def _status(measured: Measured, call: Call, version: str) -> Status:
    return Status(
        status=measured.health.value,
        message=measured.message,
        engine=measured.facts.mode is EngineMode.RUNNING,
        version=_version(call, version),
        dependencies=_dependencies(measured),
        metrics=_metrics(measured),
        diagnostics=_diagnostics(measured.facts, measured.lock) if call.asker.principal.is_known else UNSET,
        instances=[_instance(one) for one in measured.instances] if call.asker.principal.is_known else UNSET,
        last_checked=format_moment(measured.at),
    )


def _diagnostics(facts: EngineFacts, lock: LockFacts | None) -> Diagnostics:
    return Diagnostics(
        failing_loops=dict(facts.failing),
        store_away_since=moment_or_unset(facts.store_away_since),
        redis_trouble=lock.reason if lock is not None and lock.latency is None else UNSET,
        stale_executions=facts.stale,
        clock_steps=facts.clock_steps,
        clock_skew=format_duration(facts.clock_skew),
        quiet_for=format_duration(facts.quiet_for),
        makes_occurrences=facts.mode is EngineMode.RUNNING and not facts.is_astray,
    )


def _instance(one: Member) -> InstanceShape:
    return InstanceShape(
        id=one.instance.id,
        here=one.is_here,
        host=one.instance.host,
        pid=one.instance.pid,
        version=one.instance.version,
        slots=one.instance.slots,
        active=len(one.running),
        skew=format_duration(one.skew),
        started_at=format_moment(one.instance.started_at),
        last_seen=format_moment(one.seen_at),
        running=[
            RunningHere(execution_id=row.execution_id, task_id=row.task_id, started_at=format_moment(row.started_at))
            for row in one.running[:RUNNING_MAX]
        ],
    )


def _metrics(measured: Measured) -> Metrics | UnsetType:
    if measured.statistics is None:
        return UNSET
    facts = measured.facts
    return metrics(measured.statistics, slots=facts.slots, active=facts.active, memory_bytes=measured.memory_bytes)


def _dependencies(measured: Measured) -> Dependencies:
    lock = measured.lock
    return Dependencies(
        database="healthy" if measured.store_latency is not None else "unhealthy",
        database_latency=latency(measured.store_latency),
        redis="not_configured" if lock is None else "degraded" if lock.latency is None else "healthy",
        redis_latency=latency(lock.latency if lock is not None else None),
        engine=measured.facts.mode.value,
    )
