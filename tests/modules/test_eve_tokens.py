"""Tokens are refreshed before they end: one flight a character, stored before use, never lost and never given up for
anything but EVE's own no."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

from peregrine.domain.errors import Unavailable
from peregrine.domain.moment import HOUR, MINUTE, SECOND
from peregrine.modules.esi.tokens import AHEAD, HOLDER_LIVES, OWNER_CHANGED, Refresher
from peregrine.ports.esi import SsoMisconfigured, SsoRefused, SsoUnavailable
from peregrine.ports.eve import IN_DOUBT, Profile, ProfileStore, token_place
from peregrine.ports.vault import is_sealed
from peregrine.stores.memory_eve import MemoryEve
from peregrine.testing.clock import ManualClock, SeededEntropy, run_virtual
from peregrine.testing.eve_contract import a_profile
from peregrine.vault.aes import AesVault
from peregrine.vault.keys import new_key_text, read_key
from tests.modules.eve_world import Dead, Dying, Run, TinySso, distant

FIRST = 90_000_001


class World:
    """So many pilots whose tokens end one second after another, from now on."""

    def __init__(self, count: int) -> None:
        self.clock = ManualClock()
        self.sso = TinySso(self.clock)
        self.store = MemoryEve()
        keys = [read_key(new_key_text())]
        self.vault = AesVault(lambda: keys)
        self.ids = range(FIRST, FIRST + count)

    async def filled(self, *, sealed: bool = True) -> None:
        for number, id in enumerate(self.ids):
            pair = self.sso.new(id)
            refresh, access = pair.refresh_token, pair.access_token
            if sealed:
                refresh = self.vault.seal(refresh, place=token_place(id, "refresh_token"))
                access = self.vault.seal(access, place=token_place(id, "access_token"))
            expiry = self.clock.now() + number * SECOND
            profile = a_profile(id, refresh_token=refresh, access_token=access, token_expiry=expiry)
            await self.store.put_profile(profile, now=self.clock.now())

    def module(self, store: ProfileStore | None = None, *, seed: int = 0) -> Refresher:
        return Refresher(self.sso, store or distant(self.store), self.vault, self.clock, SeededEntropy(f"owner {seed}"))

    async def run(self, batch_size: int = 100, **settings: Any) -> tuple[int, int]:
        return await self.module().refresh_expiring_tokens(Run(self.clock, **settings), batch_size)

    async def profile(self, id: int = FIRST) -> Profile:
        found = await self.store.profile_of(id)
        assert found is not None
        return found

    async def token(self, id: int = FIRST) -> str:
        """The stored refresh token, in plain words."""
        return self.vault.open((await self.profile(id)).refresh_token, place=token_place(id, "refresh_token"))

    async def is_whole(self) -> None:
        """Each pilot holds the newest token there is, is valid, and nobody holds the right."""
        for id in self.ids:
            profile = await self.profile(id)
            assert await self.token(id) == self.sso.current[id]
            assert (profile.valid, profile.refresh_owner, profile.refresh_in_doubt) == (True, None, False)
            access = self.vault.open(profile.access_token, place=token_place(id, "access_token"))
            assert access.split("-")[1] == str(id)


def tell(story: Coroutine[Any, Any, None]) -> None:
    run_virtual(story)


def test_what_is_about_to_end_is_refreshed_the_soonest_first() -> None:
    async def story() -> None:
        world = World(25)
        await world.filled()

        assert await world.run(batch_size=10) == (25, 0)

        await world.is_whole()
        asked = [int(text.split("-")[1]) for text in world.sso.asked]
        assert [sorted(asked[:10]), sorted(asked[10:20])] == [list(world.ids)[:10], list(world.ids)[10:20]]

    tell(story())


def test_fresh_tokens_are_left_alone() -> None:
    """A token lives twenty minutes, a run comes every fifteen: none ends in between, none is refreshed twice."""

    async def story() -> None:
        world = World(5)
        await world.filled()

        assert await world.run() == (5, 0)
        assert await world.run() == (0, 0)
        await world.clock.advance(15 * MINUTE)
        assert (await world.profile()).token_expiry > world.clock.now()  # type: ignore[operator]
        assert await world.run() == (5, 0)
        assert AHEAD < 20 * MINUTE

    tell(story())


def test_tokens_are_sealed_where_they_lie() -> None:
    """Also those that an older database kept in plain words."""

    async def story() -> None:
        world = World(2)
        await world.filled(sealed=False)

        assert await world.run() == (2, 0)

        profile = await world.profile()
        assert is_sealed(profile.refresh_token)
        assert is_sealed(profile.access_token)
        await world.is_whole()

    tell(story())


@pytest.mark.parametrize("rotates", [True, False])
def test_two_instances_have_one_flight_a_character(rotates: bool) -> None:  # noqa: FBT001
    async def story() -> None:
        world = World(50)
        await world.filled()
        world.sso.rotates = rotates
        modules = [world.module(seed=seed) for seed in range(3)]

        results = await asyncio.gather(*(one.refresh_expiring_tokens(Run(world.clock), 20) for one in modules))

        assert (sum(done for done, _ in results), sum(failed for _, failed in results)) == (50, 0)
        assert len(world.sso.asked) == 50
        assert world.sso.doubles == []
        await world.is_whole()

    tell(story())


def test_what_is_away_leaves_the_token_as_it_was() -> None:
    """A network error, a 5xx: the token stays valid, and the next run succeeds."""

    async def story() -> None:
        world = World(10)
        await world.filled()
        world.sso.trouble = [SsoUnavailable("502", in_doubt=True), None, SsoUnavailable("429"), None]

        assert await world.run() == (8, 2)

        profiles = [await world.profile(id) for id in world.ids]
        assert all(one.valid and one.refresh_owner is None for one in profiles)
        assert [one.refresh_in_doubt for one in profiles].count(True) == 1
        assert await world.run() == (2, 0)
        await world.is_whole()

    tell(story())


def test_an_sso_that_is_away_ends_the_run() -> None:
    async def story() -> None:
        world = World(200)
        await world.filled()
        world.sso.trouble = [SsoUnavailable("503")] * 1_000

        with pytest.raises(SsoUnavailable):
            await world.run()

        assert len(world.sso.asked) <= 20
        world.sso.trouble = []
        assert await world.run() == (200, 0)

    tell(story())


def test_wrong_credentials_of_ours_end_the_run_and_harm_nobody() -> None:
    async def story() -> None:
        world = World(30)
        await world.filled()
        world.sso.trouble = [SsoMisconfigured("EVE_CLIENT_SECRET")] * 100

        with pytest.raises(SsoMisconfigured):
            await world.run()

        world.sso.trouble = []
        assert await world.run() == (30, 0)
        await world.is_whole()

    tell(story())


def test_eves_no_makes_it_invalid_with_its_reason() -> None:
    async def story() -> None:
        world = World(3)
        await world.filled()
        world.sso.trouble = [SsoRefused("invalid_grant")]

        assert await world.run() == (2, 1)

        profile = await world.profile()
        assert (profile.valid, profile.invalid_reason) == (False, "invalid_grant")
        assert await world.run() == (0, 0)

    tell(story())


@pytest.mark.parametrize("rotates", [True, False])
def test_a_lost_answer_leaves_a_doubt_and_is_tried_once_more(rotates: bool) -> None:  # noqa: FBT001
    """Where tokens rotate the new one is lost with the answer; where they don't, nothing is."""

    async def story() -> None:
        world = World(1)
        await world.filled()
        world.sso.rotates, world.sso.lost_answers = rotates, 1

        assert await world.run() == (0, 1)
        assert (await world.profile()).refresh_in_doubt
        second = await world.run()

        if rotates:
            assert second == (0, 1)
            assert (await world.profile()).invalid_reason == IN_DOUBT
        else:
            assert second == (1, 0)
            await world.is_whole()

    tell(story())


def test_a_character_that_changed_hands_is_dropped() -> None:
    async def story() -> None:
        world = World(2)
        await world.filled()
        world.sso.owners[FIRST] = "somebody else="

        assert await world.run() == (1, 1)

        profile = await world.profile()
        assert (profile.valid, profile.invalid_reason) == (False, OWNER_CHANGED)
        assert (profile.access_token, profile.refresh_token) == ("", "")

    tell(story())


def test_an_empty_refresh_token_never_replaces_one() -> None:
    async def story() -> None:
        world = World(1)
        await world.filled()
        before = (await world.profile()).refresh_token
        pair = world.sso.new(FIRST)
        world.sso.current[FIRST] = f"refresh-{FIRST}-1"

        async def forgetful(refresh_token: str) -> Any:
            return replace(pair, refresh_token="")

        world.sso.refresh = forgetful  # type: ignore[method-assign]
        assert await world.run() == (1, 0)

        assert (await world.profile()).refresh_token == before

    tell(story())


def test_a_token_whose_key_is_missing_is_kept() -> None:
    async def story() -> None:
        world = World(1)
        await world.filled()
        keys = [read_key(new_key_text())]
        vault, world.vault = world.vault, AesVault(lambda: keys)

        assert await world.run() == (0, 1)

        world.vault = vault
        assert await world.run() == (1, 0)

    tell(story())


def test_a_run_whose_time_is_up_ends_well_and_the_next_goes_on() -> None:
    async def story() -> None:
        world = World(300)
        await world.filled()
        world.sso.seconds = 10.0

        first = await world.run(batch_size=20, timeout=2 * MINUTE)
        second = await world.run(batch_size=20)

        assert first[1] == second[1] == 0
        assert 0 < first[0] < 300
        assert first[0] + second[0] == 300
        await world.is_whole()

    tell(story())


# ── cut off ──────────────────────────────────────────────────────────────────────────────────────


def test_a_cancel_ends_the_run_and_lets_flights_land() -> None:
    """What is asked already may have used the token up: its answer is stored, whatever becomes of the run."""

    async def story() -> None:
        world = World(100)
        await world.filled()
        module = world.module()
        run = asyncio.create_task(module.refresh_expiring_tokens(Run(world.clock), 100))
        await world.clock.advance(700)
        began = world.clock.monotonic()

        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert world.clock.monotonic() == began
        await module.close()

        assert len(world.sso.asked) == 20
        await world.is_whole()

    tell(story())


@pytest.mark.parametrize("rotates", [True, False])
@pytest.mark.parametrize("writes", range(5))
def test_killed_between_two_writes_it_saves_what_can_be_saved(rotates: bool, writes: int) -> None:  # noqa: FBT001
    """Its right stays held by a dead one; the next process watches it stand still, then tries the stored token once."""

    async def story() -> None:
        world = World(2)
        await world.filled()
        world.sso.rotates = rotates
        dying = Dying(world.store, at=writes, verbs=["claim_refresh", "store_tokens"])
        try:
            await world.module(dying).refresh_expiring_tokens(Run(world.clock), 100)  # type: ignore[arg-type]
        except Dead:
            assert writes < 4
        await world.clock.advance(2_000)
        held = [one for one in [await world.profile(id) for id in world.ids] if one.refresh_owner is not None]
        was_sent = [one for one in held if world.sso.current[one.character_id] != await world.token(one.character_id)]
        began = world.clock.monotonic()

        _, failed = await world.module(seed=1).refresh_expiring_tokens(Run(world.clock), 100)

        waited = world.clock.monotonic() - began
        assert (waited >= HOLDER_LIVES) == bool(held)
        assert failed == len(was_sent)
        assert world.sso.doubles == []
        for id in world.ids:
            profile = await world.profile(id)
            assert profile.refresh_owner is None
            if profile.valid:
                assert await world.token(id) == world.sso.current[id]
            else:
                assert (profile.invalid_reason, rotates) == (IN_DOUBT, True)

    tell(story())


def test_a_holder_that_lives_is_left_alone() -> None:
    """He is watched, never robbed: the run ends when he is done."""

    async def story() -> None:
        world = World(1)
        await world.filled()
        world.sso.seconds = 25.0
        first = asyncio.create_task(world.module().refresh_expiring_tokens(Run(world.clock), 100))
        await world.clock.advance(100)

        assert await world.module(seed=1).refresh_expiring_tokens(Run(world.clock), 100) == (0, 0)

        assert await first == (1, 0)
        assert len(world.sso.asked) == 1
        await world.is_whole()

    tell(story())


def test_a_holder_is_watched_over_several_runs() -> None:
    """A run without time to wait leaves it to the next one, which need not begin anew."""

    async def story() -> None:
        world = World(1)
        await world.filled()
        world.sso.rotates = False
        dying = Dying(world.store, at=0, verbs=["store_tokens"])
        with pytest.raises(Dead):
            await world.module(dying).refresh_expiring_tokens(Run(world.clock), 100)  # type: ignore[arg-type]
        module = world.module(seed=1)

        assert await module.refresh_expiring_tokens(Run(world.clock, timeout=40 * SECOND), 100) == (0, 0)
        await world.clock.advance(15 * MINUTE)
        began = world.clock.monotonic()
        assert await module.refresh_expiring_tokens(Run(world.clock, timeout=40 * SECOND), 100) == (1, 0)

        assert world.clock.monotonic() - began < 5 * SECOND
        await world.is_whole()

    tell(story())


def test_new_tokens_outlast_a_store_that_is_away() -> None:
    async def story() -> None:
        world = World(3)
        await world.filled()

        class Away:
            """A store that takes tokens only after half a minute."""

            def __getattr__(self, name: str) -> Any:
                return getattr(world.store, name)

            async def store_tokens(self, *given: Any, **named: Any) -> bool:
                if world.clock.monotonic() < began + 30 * SECOND:
                    raise Unavailable("the store is away")
                return await world.store.store_tokens(*given, **named)

        began = world.clock.monotonic()
        assert await world.module(Away()).refresh_expiring_tokens(Run(world.clock), 100) == (3, 0)

        await world.is_whole()
        assert len(world.sso.asked) == 3

    tell(story())


def test_a_refresh_that_takes_too_long_is_in_doubt() -> None:
    async def story() -> None:
        world = World(1)
        await world.filled()
        world.sso.seconds = HOUR / 1000

        assert await world.run() == (0, 1)

        assert (await world.profile()).refresh_in_doubt
        world.sso.seconds = 0.1
        assert await world.run() == (1, 0)
        await world.is_whole()

    tell(story())


def test_a_new_login_meanwhile_is_what_stays() -> None:
    """The refresh that was under way gives something older than the login's tokens: it changes nothing."""

    async def story() -> None:
        world = World(1)
        await world.filled()
        run = asyncio.create_task(world.run())
        await world.clock.advance(100)
        place = token_place(FIRST, "refresh_token")
        new = a_profile(FIRST, refresh_token=world.vault.seal("login", place=place), character_owner_hash="new owner=")
        await world.store.put_profile(new, now=world.clock.now())

        await run

        assert await world.token() == "login"
        assert (await world.profile()).valid

    tell(story())
