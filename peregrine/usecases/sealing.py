"""Owns how secrets of tasks and tokens of pilots come to be sealed by the newest key, and which keys a store needs;
must not know ciphers, or where keys are kept.

On its shelf stand the ids of all keys that something may be sealed with, each with a word that it has sealed: a start
without one of them, or with another in its place, is told so at once. A walk over the tasks only ever moves them
forward, so one that was cut off is finished by the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from peregrine.domain.errors import BadConfiguration, NotFound, Stale, Unavailable
from peregrine.domain.payload import JsonObject
from peregrine.domain.query import (
    PAGE_SIZE_MAX,
    ExecutionFilter,
    ExecutionStatus,
    PageRequest,
    TaskFilter,
    TaskSort,
)
from peregrine.domain.task import TaskView
from peregrine.ports.clock import Clock
from peregrine.ports.eve import ProfileStore, resealed_tokens
from peregrine.ports.records import Record, RecordStore
from peregrine.ports.shelves import VAULT
from peregrine.ports.store import Store
from peregrine.ports.vault import CannotOpen, Vault, keys_of, resealed_task

KEYS: Final = "keys"
WORD: Final = "peregrine"
PLACE: Final = "vault/keys"
TRIES_MAX: Final = 8
TOKENS_PAGE: Final = 500
WALKS_MAX: Final = 20
"""Others may write while it walks; each walk leaves only what was written meanwhile."""

Tell: TypeAlias = Callable[[int, int], None]
"""Told now and then: tasks looked at, and how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """What a walk over all tasks came to."""

    tasks: int = 0
    """Sealed anew."""
    lost: int = 0
    """Secrets that no key here opens; they stay as they are."""
    tokens: int = 0
    """Pilots whose tokens were sealed anew."""
    needed: frozenset[str] = frozenset()
    """Older keys that runs which have not ended need still."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What sealing stands on."""

    store: Store
    records: RecordStore
    vault: Vault
    clock: Clock
    profiles: ProfileStore | None = None
    """Where tokens lie that are sealed; None: nowhere."""


async def admit(ground: Ground) -> frozenset[str]:
    """The ids of the keys that this store needs, the newest of *vault* among them from now on.

    Raises:  BadConfiguration when one of them is not known here, or is another by the same id.
    """
    newest = ground.vault.key_id

    def with_newest(words: JsonObject) -> JsonObject:
        for key_id, word in words.items():
            _prove(ground.vault, key_id, str(word))
        return words if newest in words else words | {newest: ground.vault.seal(WORD, place=PLACE)}

    return frozenset(await _change(ground, with_newest))


async def seal_old(ground: Ground, rewrite: Callable[[], Awaitable[None]]) -> Sealed:
    """Seal what was stored before there were keys, and have the store forget the plain words by *rewrite*.

    Once both are done they are done for good, for every write seals.
    """
    if _is_swept(await _record(ground)):
        return Sealed()
    sealed = await seal_all(ground)
    await rewrite()
    await _change(ground, lambda words: words, is_swept=True)
    return sealed


async def rotate(ground: Ground, tell: Tell = lambda done, of: None) -> Sealed:
    """Seal every task anew by the newest key; then forget the keys that nothing needs any more.

    Raises:  BadConfiguration as ``admit``.
    """
    before = await admit(ground)
    sealed = await seal_all(ground, tell)
    idle = before - sealed.needed - {ground.vault.key_id} if not sealed.lost else frozenset()
    await _change(ground, lambda words: {id: words[id] for id in words if id not in idle})
    return sealed


async def is_whole(ground: Ground) -> bool:
    """Whether the newest key is the only one that this store needs: no rotation is under way, and nothing is old."""
    record = await _record(ground)
    return _words(record).keys() <= {ground.vault.key_id} and _is_swept(record)


async def seal_all(ground: Ground, tell: Tell = lambda done, of: None) -> Sealed:
    """Walk over all tasks, and all tokens, until a walk finds nothing to seal."""
    tasks = tokens = 0
    for _ in range(WALKS_MAX):
        changed, lost = await _walk(ground, tell)
        resealed, lost_tokens = await _walk_tokens(ground)
        tasks, tokens = tasks + changed, tokens + resealed
        if not changed and not resealed:
            return Sealed(tasks=tasks, lost=lost + lost_tokens, tokens=tokens, needed=await _needed(ground))
    raise Unavailable("tasks change too fast")


async def _walk(ground: Ground, tell: Tell) -> tuple[int, int]:
    changed = lost = done = 0
    page = PageRequest(size=PAGE_SIZE_MAX)
    while True:
        got = await ground.store.list_tasks(
            TaskFilter(), page, sort=TaskSort.CREATED_AT, descending=False, now=ground.clock.now()
        )
        for view in got.items:
            is_new, missing = await _seal(ground, view)
            changed, lost, done = changed + is_new, lost + missing, done + 1
        tell(done, max(done, got.total))
        if got.next_cursor is None:
            return changed, lost
        page = PageRequest(size=PAGE_SIZE_MAX, cursor=got.next_cursor)
        await asyncio.sleep(0)


async def _seal(ground: Ground, view: TaskView) -> tuple[bool, int]:
    """Whether the task was not sealed by the newest key throughout, and how many of its secrets are lost.

    What a person sees of it stays: who changed it last, and when.
    """
    task, lost = resealed_task(ground.vault, view.task)
    if task == view.task:
        return False, lost
    after = replace(task, revision=task.revision + 1)
    try:
        await ground.store.put_task(after, expected_revision=task.revision)
    except (Stale, NotFound):
        pass  # somebody was quicker; the next walk looks again
    return True, lost


async def _walk_tokens(ground: Ground) -> tuple[int, int]:
    """How many pilots' tokens were not sealed by the newest key, and how many tokens are lost.

    Each is replaced only where it lies as it was read: a refresh that is quicker seals by the newest key itself.
    """
    changed = lost = after = 0
    while ground.profiles is not None:
        page = await ground.profiles.sealed_tokens(after=after, limit=TOKENS_PAGE)
        found = []
        for sealed in page:
            new, missing = resealed_tokens(ground.vault, sealed)
            lost += missing
            if new != sealed:
                found.append((sealed, new))
        await ground.profiles.reseal_tokens(found, now=ground.clock.now())
        changed += len(found)
        if len(page) < TOKENS_PAGE:
            break
        after = page[-1].character_id
    return changed, lost


async def _needed(ground: Ground) -> frozenset[str]:
    """The older keys that sealed the parameters of runs which have not ended: those can't be written anew.

    A run may go back to the queue while it is looked for, so the queue is looked at twice.
    """
    found: set[str] = set()
    for status in (ExecutionStatus.PENDING, ExecutionStatus.RUNNING, ExecutionStatus.PENDING):
        page = PageRequest(size=PAGE_SIZE_MAX)
        while True:
            got = await ground.store.list_executions(ExecutionFilter(status=status), page)
            found.update(*(keys_of(execution.parameters) for execution in got.items))
            if got.next_cursor is None:
                break
            page = PageRequest(size=PAGE_SIZE_MAX, cursor=got.next_cursor)
    return frozenset(found - {ground.vault.key_id})


# ── the shelf ────────────────────────────────────────────────────────────────────────────────────


async def _record(ground: Ground) -> Record | None:
    return await ground.records.get_record(VAULT, KEYS, now=ground.clock.now())


def _words(record: Record | None) -> JsonObject:
    words = {} if record is None else record.document["words"]
    assert isinstance(words, dict)
    return words


def _is_swept(record: Record | None) -> bool:
    return record is not None and record.document["swept"] is True


async def _change(ground: Ground, change: Callable[[JsonObject], JsonObject], *, is_swept: bool = False) -> JsonObject:
    """The words after *change*, decided anew as long as others are quicker."""
    for _ in range(TRIES_MAX):
        record = await _record(ground)
        before, was_swept = _words(record), _is_swept(record)
        words = change(before)
        if words == before and is_swept <= was_swept:
            return words
        # What a newer version says there besides stays.
        document: JsonObject = {} if record is None else dict(record.document)
        document |= {"words": words, "swept": is_swept or was_swept}
        expected = 0 if record is None else record.revision
        try:
            await ground.records.put_record(
                Record(collection=VAULT, key=KEYS, document=document),
                expected_revision=expected,
                now=ground.clock.now(),
            )
            return words
        except Stale:
            continue
    raise Unavailable("the keys of the store are being changed by somebody else all the time")


def _prove(vault: Vault, key_id: str, word: str) -> None:
    try:
        if vault.open(word, place=PLACE) == WORD:
            return
        reason = "it seals otherwise"
    except CannotOpen as error:
        reason = str(error)
    raise BadConfiguration(
        f"SCHEDULER_ENCRYPTION_KEY: secrets in this store are sealed with the key {key_id} ({reason}); "
        f"give that key, alone or in SCHEDULER_ENCRYPTION_KEYS_OLD (the newest one here is {vault.key_id})"
    )
