"""A turn of keys seals tokens anew too, in bites, and a refresh that is quicker is never overwritten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from peregrine.ports.eve import SealedTokens, token_place
from peregrine.ports.vault import is_sealed, key_of
from peregrine.stores.memory import MemoryStore
from peregrine.stores.memory_eve import MemoryEve
from peregrine.stores.memory_records import MemoryRecords
from peregrine.testing.eve_contract import NEW_TOKENS, NOW, a_profile
from peregrine.usecases import sealing
from peregrine.usecases.sealing import Ground
from peregrine.vault.aes import AesVault
from peregrine.vault.keys import KEY_BYTES, Key
from tests.api.world import HandClock

pytestmark = pytest.mark.anyio

FIRST, SECOND = Key(b"1" * KEY_BYTES), Key(b"2" * KEY_BYTES)


class World:
    """A store with tokens of so many pilots, sealed by the first key."""

    def __init__(self) -> None:
        self.keys = [FIRST]
        self.vault = AesVault(lambda: self.keys)
        self.eve = MemoryEve()
        self.ground = Ground(
            store=MemoryStore(), records=MemoryRecords(), vault=self.vault, clock=HandClock(), profiles=self.eve
        )

    def sealed(self, id: int, name: str) -> str:
        return self.vault.seal(f"{name} {id}", place=token_place(id, name))

    async def filled(self, count: int) -> None:
        for id in range(1, count + 1):
            texts = {name: self.sealed(id, name) for name in ("access_token", "refresh_token")}
            await self.eve.put_profile(a_profile(id, **texts), now=NOW)

    async def opened(self, id: int, name: str) -> str:
        profile = await self.eve.profile_of(id)
        assert profile is not None
        return self.vault.open(getattr(profile, name), place=token_place(id, name))


async def test_tokens_are_sealed_by_the_newest_key_in_bites() -> None:
    world = World()
    await world.filled(1_203)
    world.keys = [SECOND, FIRST]

    result = await sealing.rotate(world.ground)

    assert (result.tokens, result.lost) == (1_203, 0)
    world.keys = [SECOND]
    for id in (1, 500, 501, 1_203):
        assert await world.opened(id, "refresh_token") == f"refresh_token {id}"
        assert await world.opened(id, "access_token") == f"access_token {id}"
    assert await sealing.is_whole(world.ground) is False  # what was stored before there were keys was never swept here
    assert (await sealing.rotate(world.ground)).tokens == 0


async def test_plain_tokens_of_an_older_database_are_sealed() -> None:
    world = World()
    await world.eve.put_profile(a_profile(1, access_token=""), now=NOW)

    assert (await sealing.seal_all(world.ground)).tokens == 1

    assert await world.opened(1, "refresh_token") == "refresh 1"
    profile = await world.eve.profile_of(1)
    assert profile is not None
    assert profile.access_token == ""


async def test_a_token_of_a_lost_key_stays_and_is_counted() -> None:
    world = World()
    await world.filled(2)

    result = await sealing.seal_all(replace(world.ground, vault=AesVault(lambda: [SECOND])))

    assert (result.tokens, result.lost) == (0, 4)
    assert await world.opened(1, "refresh_token") == "refresh_token 1"


async def test_a_refresh_meanwhile_is_not_overwritten() -> None:
    """The tokens are replaced only where they lie as they were read; a right to refresh stays with who holds it."""
    world = World()
    await world.filled(1)

    class Hurried(MemoryEve):
        """A store in which a refresh is always quicker."""

        async def reseal_tokens(self, changes: Sequence[tuple[SealedTokens, SealedTokens]], *, now: int) -> int:
            tokens = replace(NEW_TOKENS, refresh_token=world.sealed(1, "newer"))
            stored = await world.eve.profile_of(1)
            assert stored is not None
            if stored.token_version == 1:
                await world.eve.store_tokens(1, tokens, token_version=1, now=now)
            return await world.eve.reseal_tokens(changes, now=now)

        async def sealed_tokens(self, *, after: int, limit: int) -> Sequence[SealedTokens]:
            return await world.eve.sealed_tokens(after=after, limit=limit)

    world.keys = [SECOND, FIRST]
    await sealing.seal_all(replace(world.ground, profiles=Hurried()))

    profile = await world.eve.profile_of(1)
    assert profile is not None
    assert profile.token_version == 2
    assert is_sealed(profile.refresh_token)
    assert key_of(profile.refresh_token) == world.vault.key_id
