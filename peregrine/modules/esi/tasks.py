"""Owns the four EVE system tasks: when each runs, what it is for, which module it calls and what it says of it. Must
not know how a module works.

Where a module is missing its task is there all the same, disabled, and says what to configure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from peregrine.domain.errors import PeregrineError, Unavailable
from peregrine.domain.execution import AttemptOutcome, Outcome
from peregrine.domain.ids import TaskId
from peregrine.domain.moment import MINUTE, SECOND, format_duration, parse_duration
from peregrine.domain.payload import JsonObject
from peregrine.domain.policy import Policy, Priority
from peregrine.ports.esi import EsiMisconfigured, SsoMisconfigured
from peregrine.ports.eve_modules import EveModules
from peregrine.ports.executor import RunContext
from peregrine.ports.module import SystemTask

BATCH_SIZE: Final = 100
WORKERS: Final = 10


@dataclass(frozen=True, slots=True)
class _Done:
    """What a module's work came to, in a sentence and in numbers."""

    text: str
    numbers: dict[str, int]


_Work = Callable[[JsonObject, RunContext], Awaitable[_Done]]


def eve_tasks(modules: EveModules, *, missing: str = "", missing_auth: str = "") -> tuple[SystemTask, ...]:
    """The four tasks. *missing* and *missing_auth* say what to configure where a module of our own can't be made."""
    return (
        _token_refresh(modules, missing_auth),
        _affiliation_update(modules, missing),
        _alliance_import(modules, missing),
        _corporation_update(modules, missing),
    )


def _token_refresh(modules: EveModules, missing: str) -> SystemTask:
    auth = modules.auth

    async def work(parameters: JsonObject, context: RunContext) -> _Done:
        assert auth is not None
        batch_size = _whole(parameters, "batch_size", BATCH_SIZE)
        succeeded, failed = await auth.refresh_expiring_tokens(context, batch_size)
        return _Done(f"Refreshed {succeeded} tokens ({failed} failed)", {"succeeded": succeeded, "failed": failed})

    task = SystemTask(
        id=TaskId("system-token-refresh"),
        task_name="token_refresh",
        name="EVE Token Refresh",
        description="Refreshes EVE Online access tokens that are about to expire",
        purpose="Keeps every pilot signed in: an access token lives twenty minutes",
        schedule="0 */15 * * * *",
        priority=Priority.HIGH,
        policy=Policy(max_retries=3, retry_interval=2 * MINUTE, timeout=10 * MINUTE),
        parameters={"batch_size": BATCH_SIZE},
        tags=("system", "auth", "eve"),
        handler=_told(work, "Failed to refresh tokens"),
    )
    return task if auth is not None else _absent(task, "Auth", missing)


def _affiliation_update(modules: EveModules, missing: str) -> SystemTask:
    character = modules.character

    async def work(parameters: JsonObject, context: RunContext) -> _Done:
        assert character is not None
        stats = await character.update_all_affiliations(context)
        if isinstance(stats, tuple):
            (updated, failed, skipped), took = stats, ""
        else:
            updated, failed, skipped = stats.updated_characters, stats.failed_characters, stats.skipped_characters
            took = f" in {stats.duration} seconds"
        text = f"Updated {updated} characters ({failed} failed, {skipped} skipped){took}"
        return _Done(text, {"updated": updated, "failed": failed, "skipped": skipped})

    task = SystemTask(
        id=TaskId("system-character-affiliation-update"),
        task_name="character_affiliation_update",
        name="Character Affiliation Update",
        description="Updates character corporation and alliance affiliations from ESI",
        purpose="Tells who belongs where now: whoever left a corporation loses what it was granted",
        schedule="0 */30 * * * *",
        policy=Policy(max_retries=3, retry_interval=5 * MINUTE, timeout=30 * MINUTE),
        tags=("system", "character", "esi"),
        handler=_told(work, "Failed to update affiliations"),
    )
    return task if character is not None else _absent(task, "Character", missing)


def _alliance_import(modules: EveModules, missing: str) -> SystemTask:
    alliance = modules.alliance

    async def work(parameters: JsonObject, context: RunContext) -> _Done:
        assert alliance is not None
        stats = await alliance.bulk_import_alliances(context)
        text = (
            f"Processed {stats.processed} of {stats.total} alliances ({stats.created} created, {stats.updated} updated,"
            f" {stats.failed} failed, {stats.skipped} skipped)"
        )
        numbers = {
            "total": stats.total, "processed": stats.processed, "created": stats.created, "updated": stats.updated,
            "failed": stats.failed, "skipped": stats.skipped,
        }  # fmt: skip
        return _Done(text, numbers)

    task = SystemTask(
        id=TaskId("system-alliance-bulk-import"),
        task_name="alliance_bulk_import",
        name="Alliance Bulk Import",
        description="Retrieves all alliances from ESI and stores what each says of itself",
        purpose="Gives names and tickers to the alliances that characters and corporations belong to",
        schedule="0 0 3 * * 0",
        policy=Policy(max_retries=2, retry_interval=15 * MINUTE, timeout=45 * MINUTE),
        tags=("system", "alliance", "esi"),
        handler=_told(work, "Failed to import alliances"),
    )
    return task if alliance is not None else _absent(task, "Alliance", missing)


def _corporation_update(modules: EveModules, missing: str) -> SystemTask:
    corporation = modules.corporation

    async def work(parameters: JsonObject, context: RunContext) -> _Done:
        assert corporation is not None
        workers = _whole(parameters, "concurrent_workers", WORKERS)
        timeout = parse_duration(str(parameters.get("timeout", "60m")))
        limit = asyncio.timeout(timeout / SECOND)
        try:
            async with limit:
                stats = await corporation.update_all_corporations(context, workers)
        except TimeoutError:
            if not limit.expired():
                raise  # the module's own: a neighbour of it was slow
            raise PeregrineError(f"it took longer than {format_duration(timeout)}") from None
        text = f"Successfully updated all corporations with {workers} concurrent workers"
        if stats is None:
            return _Done(text, {})
        numbers = {
            "total": stats.total, "updated": stats.updated, "unchanged": stats.unchanged, "failed": stats.failed,
            "vanished": stats.vanished,
        }  # fmt: skip
        told = ", ".join(f"{number} {name}" for name, number in numbers.items() if name != "total")
        return _Done(f"{text} ({stats.total}: {told})", numbers)

    task = SystemTask(
        id=TaskId("system-corporation-update"),
        task_name="corporation_update",
        name="Corporation Data Update",
        description="Updates all corporation information from EVE ESI for corporations in the database",
        purpose="Keeps names, tickers, member counts and alliances of all known corporations as they are in the game",
        schedule="0 0 4 * * *",
        policy=Policy(max_retries=2, retry_interval=15 * MINUTE, timeout=60 * MINUTE),
        parameters={"concurrent_workers": WORKERS, "timeout": "60m"},
        tags=("system", "corporation", "esi", "update"),
        handler=_told(work, "Corporation update failed"),
    )
    return task if corporation is not None else _absent(task, "Corporation", missing)


def _absent(task: SystemTask, name: str, missing: str) -> SystemTask:
    """*task* where its module is missing: disabled, and clear about why."""

    async def work(parameters: JsonObject, context: RunContext) -> Outcome:
        error = f"{name.lower()} module not initialized: {missing or 'none was provided'}"
        return Outcome.failed(error, output=f"{name} module not available", retryable=False)

    description = f"{task.description}. Disabled: {missing or 'no module was provided'}"
    return replace(task, enabled=False, description=description, handler=work)


def _told(work: _Work, failed: str) -> Callable[[JsonObject, RunContext], Awaitable[Outcome]]:
    """What *work* came to, as an outcome; *failed* begins the sentence when it came to nothing."""

    async def tell(parameters: JsonObject, context: RunContext) -> Outcome:
        try:
            done = await work(parameters, context)
        except Unavailable as error:
            return _failure(failed, error, retry_after=max(0, error.retry_after) * SECOND)
        except (EsiMisconfigured, SsoMisconfigured) as error:
            return replace(_failure(failed, error), retryable=False)
        except PeregrineError as error:
            return _failure(failed, error)
        return Outcome.succeeded(done.text, **done.numbers)

    return tell


def _failure(failed: str, error: object, *, retry_after: int | None = None) -> Outcome:
    text = f"{failed}: {error}"
    return Outcome(verdict=AttemptOutcome.FAILED, output=text, error=text, retry_after=retry_after)


def _whole(parameters: JsonObject, name: str, default: int) -> int:
    value = parameters.get(name, default)
    return value if isinstance(value, int) and not isinstance(value, bool) else default
