"""A session ends when its holder signs out, whatever its token says of itself."""

from __future__ import annotations

import pytest

from peregrine.auth.jwt import JwtProof, JwtRules, sign
from peregrine.auth.sessions import KEPT_FOR, SessionProof
from peregrine.domain.errors import Unauthenticated
from peregrine.domain.moment import HOUR, SECOND
from peregrine.ports.records import Record
from peregrine.ports.shelves import SESSION_CLAIM, SESSIONS
from peregrine.stores.memory_records import MemoryRecords
from tests.api.world import SECRET, HandClock

pytestmark = pytest.mark.anyio


class World:
    def __init__(self) -> None:
        self.clock = HandClock()
        self.records = MemoryRecords()

    def proof(self) -> SessionProof:
        return SessionProof(JwtProof(JwtRules(secret=SECRET), self.clock), self.records, self.clock)

    async def begin(self, id: str) -> str:
        expires_at = self.clock.now() + HOUR
        record = Record(collection=SESSIONS, key=id, expires_at=expires_at)
        await self.records.put_record(record, expected_revision=None, now=self.clock.now())
        return sign({"user_id": "u", "exp": expires_at // SECOND, SESSION_CLAIM: id}, SECRET)


async def test_a_session_holds_until_it_is_ended() -> None:
    world = World()
    token, proof, other = await world.begin("one"), world.proof(), world.proof()
    assert (await proof.principal_of(token)).session == "one"
    assert (await other.principal_of(token)).id == "u"

    await proof.end("one")

    with pytest.raises(Unauthenticated):
        await proof.principal_of(token)
    world.clock.pass_time(KEPT_FOR)
    with pytest.raises(Unauthenticated):
        await other.principal_of(token)


async def test_a_token_without_a_session_holds_by_itself() -> None:
    """Also one that says something under ``sid``: that is another house's session."""
    world = World()
    token = sign({"user_id": "u", "exp": (world.clock.now() + HOUR) // SECOND, "sid": "theirs"}, SECRET)

    assert (await world.proof().principal_of(token)).session == ""


async def test_a_session_that_was_never_begun_is_refused() -> None:
    world = World()
    token = sign({"user_id": "u", "exp": (world.clock.now() + HOUR) // SECOND, SESSION_CLAIM: "made-up"}, SECRET)

    with pytest.raises(Unauthenticated):
        await world.proof().principal_of(token)
