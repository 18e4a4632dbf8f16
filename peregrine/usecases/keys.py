"""Owns what a person may ask of API keys; must not know how they are proven."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from peregrine.domain.errors import LimitReached, NotFound
from peregrine.domain.moment import Moment
from peregrine.domain.permission import Permission
from peregrine.ports.identity import Asker, KeyMint
from peregrine.ports.shelves import API_KEYS, ApiKey, key_from, key_record
from peregrine.usecases.access import require
from peregrine.usecases.audit import Trail, state_of_record
from peregrine.usecases.means import Means

KEYS_MAX: Final = 1000


async def list_keys(means: Means, by: Asker) -> Sequence[ApiKey]:
    """All keys that hold; never their secrets."""
    await require(means.grants, by, Permission.TASKS_ADMIN)
    records = await means.records.list_records(API_KEYS, limit=KEYS_MAX, now=means.clock.now())
    return [key_from(record) for record in records]


async def add_key(
    means: Means, by: Asker, *, name: str, groups: Sequence[str], expires_at: Moment | None
) -> tuple[ApiKey, str]:
    """A new key, and the token that is shown this once."""
    await require(means.grants, by, Permission.TASKS_ADMIN)
    if len(await list_keys(means, by)) >= KEYS_MAX:
        raise LimitReached(f"There are {KEYS_MAX} keys; remove some first.", code="too_many_keys")
    id, now = means.entropy.new_id(), means.clock.now()
    token, digest = _mint(means).mint(id)
    key = ApiKey(
        id=id, name=name, digest=digest, groups=tuple(groups), created_by=by.id, created_at=now, expires_at=expires_at
    )
    record = key_record(key)
    async with Trail(means, by, "add_key", id) as trail:
        await trail.asked(after=state_of_record(record))
        await means.records.put_record(record, expected_revision=0, now=now)
    return key, token


async def remove_key(means: Means, by: Asker, id: str) -> None:
    """Remove a key; it proves nothing any more, here at once, elsewhere within a second. Raises NotFound."""
    await require(means.grants, by, Permission.TASKS_ADMIN)
    async with Trail(means, by, "remove_key", id) as trail:
        now = means.clock.now()
        await trail.asked(before=state_of_record(await means.records.get_record(API_KEYS, id, now=now)))
        if not await means.records.delete_record(API_KEYS, id, now=now):
            raise NotFound("key", id)
    _mint(means).forget(id)


def _mint(means: Means) -> KeyMint:
    if means.keys is None:
        raise NotFound("facility", "api-keys")
    return means.keys
