"""API keys: shown once, kept as a digest, gone within a second of their removal."""

from __future__ import annotations

import pytest

from peregrine.auth.jwt import JwtProof, JwtRules, sign
from peregrine.auth.keys import KeyProof
from peregrine.domain.errors import Unauthenticated, Unavailable
from peregrine.domain.moment import HOUR, SECOND
from peregrine.ports.shelves import API_KEYS, ApiKey, key_record
from peregrine.stores.memory_records import MemoryRecords
from peregrine.testing.clock import START
from tests.api.world import SECRET, Away, HandClock

pytestmark = pytest.mark.anyio


class Ring:
    def __init__(self) -> None:
        self.clock = HandClock()
        self.records = MemoryRecords()
        self.proof = KeyProof(JwtProof(JwtRules(secret=SECRET), self.clock), self.records, self.clock)

    async def key(self, *, expires_at: int | None = None) -> str:
        token, digest = self.proof.mint("k1")
        key = ApiKey(id="k1", name="robot", digest=digest, groups=("monitoring",), created_by="alice",
                     created_at=START, expires_at=expires_at)  # fmt: skip
        await self.records.put_record(key_record(key), expected_revision=None, now=START)
        return token


async def test_a_key_speaks_for_its_groups() -> None:
    ring = Ring()

    principal = await ring.proof.principal_of(await ring.key())

    assert principal.id == "key:k1"
    assert principal.subjects == ("user:key-k1", "group:monitoring", "group:authenticated", "group:public")


async def test_only_the_digest_is_kept() -> None:
    ring = Ring()
    token = await ring.key()

    record = await ring.records.get_record(API_KEYS, "k1", now=START)

    assert token.rpartition("_")[2] not in str(record)


async def test_other_tokens_go_to_the_other_judge() -> None:
    ring = Ring()
    token = sign({"user_id": "7", "exp": START // SECOND + 60}, SECRET)

    assert (await ring.proof.principal_of(token)).id == "7"


async def test_what_is_not_the_key_is_refused() -> None:
    ring = Ring()
    token = await ring.key()

    for wrong in (token[:-1], token + "A", token[:-1] + ("A" if token[-1] != "A" else "B"), "pgk_", "pgk_k1_",
                  token.replace("k1", "k2"), token.replace("k1", "../k1"), "pgk_\0_x"):  # fmt: skip
        with pytest.raises(Unauthenticated):
            await ring.proof.principal_of(wrong)


async def test_a_removed_key_stops_within_a_second() -> None:
    ring = Ring()
    token = await ring.key()
    assert (await ring.proof.principal_of(token)).id == "key:k1"
    await ring.records.delete_record(API_KEYS, "k1", now=START)

    ring.clock.pass_time(SECOND)

    with pytest.raises(Unauthenticated):
        await ring.proof.principal_of(token)


async def test_a_key_that_is_forgotten_stops_at_once() -> None:
    ring = Ring()
    token = await ring.key()
    await ring.proof.principal_of(token)
    await ring.records.delete_record(API_KEYS, "k1", now=START)

    ring.proof.forget("k1")

    with pytest.raises(Unauthenticated):
        await ring.proof.principal_of(token)


async def test_a_key_expires() -> None:
    ring = Ring()
    token = await ring.key(expires_at=START + HOUR)
    assert (await ring.proof.principal_of(token)).expires_at == START + HOUR

    ring.clock.wall += HOUR

    with pytest.raises(Unauthenticated):
        await ring.proof.principal_of(token)


async def test_a_shelf_that_is_away_lets_nobody_in() -> None:
    ring = Ring()
    token = await ring.key()
    proof = KeyProof(ring.proof, Away(), ring.clock)

    with pytest.raises(Unavailable):
        await proof.principal_of(token)
