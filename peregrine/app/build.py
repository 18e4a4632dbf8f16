"""Owns who gets what: the one place that knows every room; must not know signals, sockets or how a shutdown goes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from peregrine.api.app import ApiDeps, create_app
from peregrine.api.patience import Rate
from peregrine.api.routes.login import Signing
from peregrine.app.credentials import (
    Credentials,
    PublicKeys,
    prepare_credentials,
    session_signer,
    tell_other_signer,
)
from peregrine.app.datadir import DataDir
from peregrine.app.eve import extension
from peregrine.app.extension import Extension, ExtensionNeeds
from peregrine.app.keys import Keys, admitted
from peregrine.app.settings import Loaded, Settings, child_environment
from peregrine.app.stores import HouseStore, embedded_store, hints_of, patiently, shared_store
from peregrine.app.together import Footing, Together, clock_of, together
from peregrine.app.written import span_text
from peregrine.auth.grants import StoredGrants
from peregrine.auth.jwt import JwtProof
from peregrine.auth.keys import KeyProof
from peregrine.auth.sessions import SessionProof
from peregrine.coordination.clock import ServerClock, SystemClock, SystemEntropy
from peregrine.coordination.host import ProcHost, this_instance
from peregrine.domain.draft import Limits
from peregrine.domain.errors import BadConfiguration, Unavailable
from peregrine.domain.moment import Moment, format_duration
from peregrine.domain.permission import PUBLIC_PERMISSIONS
from peregrine.engine.engine import Engine
from peregrine.engine.needs import Needs
from peregrine.engine.settings import EngineSettings
from peregrine.executors.callables import FUNCTIONS
from peregrine.executors.catalogue import Registered
from peregrine.executors.childprocess import StartFailed
from peregrine.executors.command import CommandSettings
from peregrine.executors.custom import CUSTOMS, CustomExecutor, command
from peregrine.executors.egress import Egress
from peregrine.executors.function import FunctionExecutor
from peregrine.executors.http import HttpExecutor
from peregrine.executors.isolation import ChildProcesses, IsolationSettings
from peregrine.executors.registry import Executors
from peregrine.executors.system import SystemExecutor
from peregrine.modules.builtin.catalogue import builtin_tasks
from peregrine.modules.builtin.health import Probe
from peregrine.observers.log import Logger, LogObserver
from peregrine.observers.metrics import CONTENT_TYPE, MetricsObserver
from peregrine.observers.several import SeveralObservers
from peregrine.ports.clock import WaitingClock
from peregrine.ports.engine_view import LockView
from peregrine.ports.entropy import Entropy
from peregrine.ports.module import SystemTask
from peregrine.ports.observer import Observer
from peregrine.ports.vault import Vault
from peregrine.usecases.means import Means
from peregrine.usecases.moving import refuse_moved
from peregrine.usecases.system_tasks import synchronise
from peregrine.vault.aes import AesVault

VERSION: Final = metadata.version("peregrine")
BURST_SECONDS: Final = 10
"""So many seconds' worth of requests may come at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What is open and wired, for whoever starts and stops it."""

    app: Any
    engine: Engine
    store: HouseStore
    metrics: MetricsObserver
    clock: SystemClock | ServerClock
    credentials: Credentials
    keys: PublicKeys | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What nearly everything stands on."""

    settings: Settings
    store: HouseStore
    clock: WaitingClock
    entropy: Entropy
    together: Together
    observer: Observer
    vault: Vault


@asynccontextmanager
async def built(loaded: Loaded, data_dir: DataDir, *, port: int, log: Logger) -> AsyncIterator[Parts]:
    """Every part, opened; the engine is not started. At the end they are closed, the store last.

    Raises:  BadConfiguration and UnsafeStore.
    """
    settings = loaded.settings
    for hint in _register(settings.functions):
        log.warning("executors", hint=hint)
    async with AsyncExitStack() as stack:
        store, clock = await _store(settings, data_dir, stack, log)
        metrics, entropy = MetricsObserver(), SystemEntropy()
        observer = SeveralObservers([metrics, LogObserver(log, clock)])
        ground = Ground(
            settings=settings,
            store=store,
            clock=clock,
            entropy=entropy,
            together=await together(settings, Footing(clock, entropy, observer), stack),
            observer=observer,
            vault=AesVault(Keys(settings, data_dir)),
        )
        await refuse_moved(store, ground.clock)
        await _seal_old(ground, log)
        keys = PublicKeys.of(settings)
        if keys is not None:
            await keys.start()
        credentials = await prepare_credentials(settings, data_dir, ground.clock, keys)
        if settings.mongodb_uri is not None:
            await tell_other_signer(store, credentials.rules, clock)
        extended = _extended(ground, credentials, stack)
        executors = await _executors(loaded, ground, stack, Outside(port, extended))
        engine = _engine(ground, executors)
        metrics.engine, metrics.locks = engine, ground.together.view
        proof = KeyProof(JwtProof(credentials.rules, ground.clock), store, ground.clock)
        signing = Signing(login=extended.login, sessions=SessionProof(proof, store, ground.clock))
        app = _app(_means(ground, engine, executors, proof), settings, signing, metrics)
        yield Parts(
            app=app,
            engine=engine,
            store=store,
            metrics=metrics,
            clock=clock,
            credentials=credentials,
            keys=keys,
        )


async def _store(
    settings: Settings, data_dir: DataDir, stack: AsyncExitStack, log: Logger
) -> tuple[HouseStore, SystemClock | ServerClock]:
    """The store, opened, and the clock that goes with it."""
    for hint in hints_of(settings):
        log.warning("settings", hint=hint)
    shared = shared_store(settings)
    if shared is not None:
        stack.push_async_callback(shared.close)

        async def reach() -> SystemClock | ServerClock:
            await shared.open()
            return await clock_of(shared)

        clock = await patiently(reach, SystemClock(), lambda reason: log.warning("store_awaited", reason=reason))
        if shared.warning:
            log.warning("store", hint=shared.warning)
        return shared, clock
    is_emptied = not data_dir.store.exists() and data_dir.was_used
    store = embedded_store(settings, data_dir)
    assert store is not None
    stack.push_async_callback(store.close)
    await store.open()
    if is_emptied:
        log.warning("store_created", hint=_EMPTIED.format(path=data_dir.store))
    return store, await clock_of(None)


async def _seal_old(ground: Ground, log: Logger) -> None:
    """Nothing is read or written before it is sure that the keys are this store's."""
    sealed = await admitted(ground.store, ground.vault, ground.clock)
    if sealed.tasks:
        log.info("secrets_sealed", tasks=sealed.tasks)


_EMPTIED: Final = (
    "{path} was missing from a data directory that was used before; an empty store was made. If tasks should be here,"
    " stop now and put the file back, or restore a backup"
)


def _engine(ground: Ground, executors: Executors) -> Engine:
    settings, now = ground.settings, ground.clock.now()
    return Engine(
        Needs(
            settings=engine_settings(settings),
            instance=this_instance(id=ground.together.me, version=VERSION, slots=settings.worker_count, now=now),
            store=ground.store,
            executor=executors,
            clock=ground.clock,
            entropy=ground.entropy,
            bus=ground.together.bus,
            locks=ground.together.locks,
            reference=ground.together.reference,
            host=ProcHost(),
            observer=ground.observer,
        )
    )


def _means(ground: Ground, engine: Engine, executors: Executors, keys: KeyProof) -> Means:
    settings = ground.settings
    public = PUBLIC_PERMISSIONS if settings.public_status else ()
    return Means(
        store=ground.store,
        records=ground.store,
        bus=ground.together.bus,
        lock=ground.together.view,
        clock=ground.clock,
        entropy=ground.entropy,
        grants=StoredGrants(ground.store, ground.clock, public=public),
        engine=engine,
        journal=engine.journal,
        catalogue=Registered(FUNCTIONS, CUSTOMS),
        check=executors.check,
        keys=keys,
        vault=ground.vault,
        queue_size=settings.queue_size,
        limits=Limits(timeout_min=settings.timeout_min, misfire_grace=settings.misfire_grace),
    )


def _app(means: Means, settings: Settings, signing: Signing, metrics: MetricsObserver) -> Any:
    assert isinstance(signing.sessions, SessionProof)
    return create_app(
        ApiDeps(
            means=means,
            identity=signing.sessions,
            signing=signing,
            version=VERSION,
            render_metrics=lambda: (metrics.render(), CONTENT_TYPE),
            prefix=settings.api_prefix,
            origins=settings.cors_origins,
            metrics_public=settings.metrics_public,
            rate=rate_of(settings.http_rate),
            proxies=settings.trusted_proxies,
        )
    )


def rate_of(per_second: int) -> Rate | None:
    """How often one caller may ask; None: as often as they like."""
    return Rate(burst=per_second * BURST_SECONDS, per_second=per_second) if per_second else None


def engine_settings(settings: Settings) -> EngineSettings:
    """The engine's part of the settings."""
    return EngineSettings(
        slots=settings.worker_count,
        queue_size=settings.queue_size,
        lease=settings.lease,
        heartbeat=settings.heartbeat,
        poll=settings.poll,
        shutdown_grace=settings.shutdown_grace,
        stale_after=settings.stale_timeout,
        cleanup_interval=settings.cleanup_interval,
        retention=settings.retention,
    )


def _extended(ground: Ground, credentials: Credentials, stack: AsyncExitStack) -> Extension:
    needs = ExtensionNeeds(
        settings=ground.settings,
        version=VERSION,
        store=ground.store.eve,
        records=ground.store,
        vault=ground.vault,
        clock=ground.clock,
        entropy=ground.entropy,
        sign=session_signer(ground.settings, credentials.rules),
        shared=ground.together.shared,
    )
    return extension(needs, stack)


@dataclass(frozen=True, slots=True)
class Outside:
    """What tasks meet outside the house: our own port, which is closed to them, and what an extension speaks with."""

    port: int
    extension: Extension


async def _executors(loaded: Loaded, ground: Ground, stack: AsyncExitStack, outside: Outside) -> Executors:
    settings, store, clock = ground.settings, ground.store, ground.clock
    children = _children(settings)
    stack.push_async_callback(children.close)
    try:
        await children.start()
    except StartFailed as error:
        raise BadConfiguration(f"SCHEDULER_FUNCTIONS: {error}") from None
    if settings.commands:
        CUSTOMS.add(command(children, CommandSettings(allow=settings.commands)))
    egress = Egress(settings.egress_allow, deny=[f"0.0.0.0:{outside.port}"])
    http = HttpExecutor(egress, clock, version=VERSION, secrets=loaded.task_secrets)
    stack.push_async_callback(http.close)
    await http.open()
    declared = system_tasks(ground, outside.extension)
    await synchronise(store, clock, declared, ground.vault)
    return Executors(
        http=http,
        function=FunctionExecutor(FUNCTIONS, children=children, clock=clock),
        system=SystemExecutor(declared),
        custom=CustomExecutor(CUSTOMS, clock=clock),
        vault=ground.vault,
    )


def redis_probe(view: LockView | None) -> dict[str, Probe]:
    """What the health check asks of the lock service, where there is one: what its own look saw a second ago."""
    if view is None:
        return {}

    async def probe() -> None:
        facts = view.facts()
        if facts.latency is None:
            raise Unavailable(facts.reason)

    return {"redis": probe}


def system_tasks(ground: Ground, extended: Extension) -> tuple[SystemTask, ...]:
    """What the house brings itself. The clean-up keeps what the setting keeps: one retention, not two."""
    store, keep = ground.store, ground.settings.retention

    async def sweep_logins(now: Moment, limit: int) -> int:
        return await store.eve.purge_auth_states(now=now, limit=limit)

    probes = {"database": store.ping, **redis_probe(ground.together.view), **extended.probes}
    builtin = builtin_tasks(store=store, records=store, probes=probes, sweeps=[sweep_logins], clock=ground.clock)
    declared = (*builtin, *extended.tasks)
    return tuple(
        replace(
            task,
            description=f"Removes execution records older than {span_text(keep)}",
            parameters=task.parameters | {"retention": format_duration(keep)},
        )
        if task.task_name == "task_cleanup"
        else task
        for task in declared
    )


def _children(settings: Settings) -> ChildProcesses:
    is_wanted = bool(settings.functions or settings.commands)
    return ChildProcesses(
        IsolationSettings(
            modules=settings.functions,
            processes_max=settings.worker_count,
            idle_min=1 if is_wanted else 0,
            env=child_environment(),
        )
    )


def _register(modules: Sequence[str]) -> list[str]:
    """Import what registers functions and executors; a sentence for each installed package that could not.

    The working directory is looked in first, as ``python -m`` does: that is where a person keeps their module.

    Raises:  BadConfiguration for a module of the settings that can't be imported.
    """
    importlib.import_module("peregrine.app.first_steps")
    here = str(Path.cwd())
    if modules and here not in sys.path:
        sys.path.insert(0, here)
    for name in modules:
        try:
            importlib.import_module(name)
        except BadConfiguration as error:
            raise BadConfiguration(f"SCHEDULER_FUNCTIONS: {name}: {error}") from None
        except Exception as error:  # a stranger's module may raise anything; the one line says what
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise BadConfiguration(f"SCHEDULER_FUNCTIONS: {name} can't be imported: {reason}") from error
    return CUSTOMS.load_entry_points()
