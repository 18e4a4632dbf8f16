"""Owns signing in and out as the trail tells of it, and who becomes the first admin; must not know cookies, or how a
pilot is proven."""

from __future__ import annotations

import logging
from typing import Final

from peregrine.domain.errors import Conflict
from peregrine.domain.permission import SUPER_ADMIN, Membership
from peregrine.ports.identity import Asker, Principal
from peregrine.ports.login import Login, Sessions, SignedIn
from peregrine.ports.records import Record
from peregrine.ports.shelves import membership_record
from peregrine.usecases.audit import Trail, state_of_record
from peregrine.usecases.means import Means

FIRST_ADMIN: Final = "first-user"
"""The record of the first user's rights: there is one, so there is one first user."""
MARKS: Final = "marks"
"""What was done once and is never done again, though what it made is taken away."""

_log = logging.getLogger(__name__)


async def sign_in(means: Means, by: Asker, login: Login, *, code: str, state: str) -> SignedIn:
    """The end of a login that was begun; *by* is whoever comes back, not known yet.

    Raises:  Invalid for a code or state that is not good (any more); Unavailable.
    """
    proven = await login.prove(code, state)
    who = f"character:{proven.character_id}"
    known = Asker(principal=Principal(id=who, subjects=()), request=by.request)
    async with Trail(means, known, "sign_in", who) as trail:
        await trail.asked()
        signed = await login.keep(proven)
    if login.first_is_admin and signed.is_only_user:
        await _make_admin(means, known, signed.user_id)
    return signed


async def sign_out(means: Means, by: Asker, sessions: Sessions) -> None:
    """End the session that *by* came with; credentials without one hold on."""
    session = by.principal.session
    if not session:
        return
    async with Trail(means, by, "sign_out", session) as trail:
        await trail.asked()
        await sessions.end(session)


async def _make_admin(means: Means, by: Asker, user_id: str) -> None:
    """Give all rights to the user beside whom there never was another; once in the life of a store.

    The mark that it was done comes last: a process that dies in between leaves it to the next login.
    """
    now = means.clock.now()
    if await means.records.get_record(MARKS, FIRST_ADMIN, now=now) is not None:
        return
    membership = Membership(subject=f"user:{user_id}", member_of=SUPER_ADMIN)
    record = membership_record(FIRST_ADMIN, membership, by=by.id, at=now)
    try:
        async with Trail(means, by, "add_membership", FIRST_ADMIN) as trail:
            await trail.asked(after=state_of_record(record))
            await means.records.put_record(record, expected_revision=0, now=now)
    except Conflict:
        pass  # made, and not marked
    mark = Record(collection=MARKS, key=FIRST_ADMIN, document={"user_id": user_id, "at": now})
    await means.records.put_record(mark, expected_revision=None, now=now)
    means.grants.refresh()
    _log.warning("first_user_is_super_admin", extra={"user": user_id})
