"""The conformance suite of what is kept of EVE Online: what ``ports/eve.py`` promises, as checks for any store of it.

A check is a coroutine function that takes an empty ``EveStore`` and fails with ``AssertionError``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final, TypeAlias

from peregrine.domain.moment import MINUTE
from peregrine.ports.eve import (
    IN_DOUBT,
    Affiliation,
    Alliance,
    AuthState,
    Character,
    Corporation,
    EveStore,
    Profile,
    Refreshing,
    SealedTokens,
    Tokens,
    Upsert,
)

Check: TypeAlias = Callable[[EveStore], Awaitable[None]]
NOW: Final = 1_767_225_600_000
LATER: Final = NOW + MINUTE


def a_character(id: int, **more: Any) -> Character:
    """A character with every field set."""
    whole: dict[str, Any] = {
        "name": f"Pilot {id}", "corporation_id": 98_000_001, "alliance_id": 99_000_001, "faction_id": 500_001,
        "birthday": NOW - 1, "security_status": -9.75, "description": "<b>Grüße</b>\n\u2028", "gender": "female",
        "race_id": 1, "bloodline_id": 5, "ancestry_id": 7,
    }  # fmt: skip
    return Character(character_id=id, **{**whole, **more})


def an_alliance(id: int, **more: Any) -> Alliance:
    """An alliance with every field set."""
    whole: dict[str, Any] = {
        "name": f"Alliance {id}", "ticker": "A.-_", "date_founded": NOW - 1, "creator_corporation_id": 98_000_001,
        "creator_character_id": 90_000_001, "executor_corporation_id": 98_000_002, "faction_id": 500_001,
    }  # fmt: skip
    return Alliance(alliance_id=id, **{**whole, **more})


def a_corporation(id: int, **more: Any) -> Corporation:
    """A corporation with every field set."""
    whole: dict[str, Any] = {
        "name": f"Corporation {id}", "ticker": "C", "description": "d", "url": "https://c.example",
        "alliance_id": 99_000_001, "ceo_id": 90_000_001, "creator_id": 90_000_002, "date_founded": NOW - 1,
        "faction_id": 500_001, "home_station_id": 60_000_001, "member_count": 3, "shares": 2**40, "tax_rate": 0.125,
        "war_eligible": True,
    }  # fmt: skip
    return Corporation(corporation_id=id, **{**whole, **more})


def a_profile(id: int, **more: Any) -> Profile:
    """A profile with every field set that a login gives."""
    whole: dict[str, Any] = {
        "user_id": "user-1", "character_name": f"Pilot {id}", "character_owner_hash": "hash=", "corporation_id": 1,
        "corporation_name": "C", "alliance_id": 2, "alliance_name": "A", "security_status": 5.0, "birthday": NOW - 1,
        "scopes": ("esi-a.read.v1", "publicData"), "access_token": f"access {id}", "refresh_token": f"refresh {id}",
        "token_expiry": NOW + id, "last_login": NOW, "profile_updated": NOW,
    }  # fmt: skip
    return Profile(character_id=id, **{**whole, **more})


def an_auth_state(state: str, **more: Any) -> AuthState:
    """A login under way."""
    return AuthState(state=state, code_verifier="v", **{"created_at": NOW, "expires_at": LATER, **more})


async def profile(store: EveStore, id: int) -> Profile:
    """The profile of a character that has one."""
    found = await store.profile_of(id)
    assert found is not None
    return found


async def claim(store: EveStore, seen: Profile, owner: str) -> bool:
    """Ask for the right to refresh with what was *seen*."""
    wish = Refreshing(
        character_id=seen.character_id, token_version=seen.token_version, held_by=seen.refresh_owner, owner=owner
    )
    return await store.claim_refresh(wish, now=LATER)


NEW_TOKENS: Final = Tokens(access_token="new access", refresh_token="new refresh", expires_at=NOW + 20 * MINUTE)


# ── characters ───────────────────────────────────────────────────────────────────────────────────


async def check_characters_come_back_whole(store: EveStore) -> None:
    whole = a_character(7)
    bare = Character(character_id=3, name="Bare")

    assert list(await store.put_characters([whole, bare], now=NOW)) == [Upsert.CREATED] * 2

    assert list(await store.characters_of([7, 3, 99, 7])) == [
        replace(bare, created_at=NOW, updated_at=NOW),
        replace(whole, created_at=NOW, updated_at=NOW),
    ]
    assert list(await store.characters_of([])) == []


async def check_ids_come_in_pages(store: EveStore) -> None:
    await store.put_characters([a_character(id) for id in (5, 2, 9, 2_112_000_001)], now=NOW)

    assert list(await store.character_ids(after=0, limit=3)) == [2, 5, 9]
    assert list(await store.character_ids(after=9, limit=3)) == [2_112_000_001]
    assert list(await store.character_ids(after=2_112_000_001, limit=3)) == []


async def check_affiliations_are_written_whole(store: EveStore) -> None:
    before = [a_character(1), a_character(2), a_character(3)]
    await store.put_characters(before, now=NOW)
    changes = [
        Affiliation(character_id=1, corporation_id=98_000_009),
        Affiliation(character_id=2, corporation_id=98_000_009, alliance_id=99_000_009, faction_id=500_009),
        Affiliation(character_id=4, corporation_id=98_000_009),
    ]

    assert await store.set_affiliations(changes, now=LATER) == 2
    assert await store.set_affiliations([], now=LATER) == 0

    found = await store.affiliations_of([1, 2, 3, 4])
    assert list(found[:2]) == changes[:2]
    assert [one.character_id for one in found] == [1, 2, 3]
    characters = await store.characters_of([1, 3])
    assert (characters[0].name, characters[0].created_at, characters[0].updated_at) == ("Pilot 1", NOW, LATER)
    assert characters[1] == replace(before[2], created_at=NOW, updated_at=NOW)
    assert list(await store.affiliations_of([])) == []


# ── alliances and corporations ───────────────────────────────────────────────────────────────────


async def check_alliances_come_back_whole(store: EveStore) -> None:
    whole, bare = an_alliance(7), Alliance(alliance_id=3, name="Bare", ticker="B")

    await store.put_alliances([whole, bare], now=NOW)

    stamped = [replace(one, created_at=NOW, updated_at=NOW) for one in (bare, whole)]
    assert list(await store.alliances_of([3, 7, 8])) == stamped


async def check_only_changes_are_written(store: EveStore) -> None:
    await store.put_alliances([an_alliance(1), an_alliance(2)], now=NOW)

    verdicts = await store.put_alliances([an_alliance(1), an_alliance(2, ticker="N"), an_alliance(3)], now=LATER)

    assert list(verdicts) == [Upsert.UNCHANGED, Upsert.UPDATED, Upsert.CREATED]
    stamps = [(one.created_at, one.updated_at) for one in await store.alliances_of([1, 2, 3])]
    assert stamps == [(NOW, NOW), (NOW, LATER), (LATER, LATER)]
    assert list(await store.put_alliances([], now=LATER)) == []


async def check_what_vanishes_stays_marked(store: EveStore) -> None:
    await store.put_alliances([an_alliance(id) for id in (1, 2, 3)], now=NOW)

    assert await store.vanish_alliances([2, 3, 9], now=LATER) == 2
    assert await store.vanish_alliances([3], now=LATER + 1) == 0
    assert await store.vanish_alliances([], now=LATER) == 0

    assert list(await store.alliance_ids(after=0, limit=9)) == [1]
    (gone,) = await store.alliances_of([3])
    assert gone == an_alliance(3, created_at=NOW, updated_at=LATER, deleted_at=LATER)


async def check_what_vanished_comes_back(store: EveStore) -> None:
    await store.put_alliances([an_alliance(1)], now=NOW)
    await store.vanish_alliances([1], now=NOW)

    verdicts = await store.put_alliances([an_alliance(1)], now=LATER)

    assert list(verdicts) == [Upsert.UPDATED]
    (back,) = await store.alliances_of([1])
    assert (back.created_at, back.updated_at, back.deleted_at) == (NOW, LATER, None)


async def check_corporations_come_back_whole(store: EveStore) -> None:
    whole, bare = a_corporation(7), Corporation(corporation_id=3, name="Bare", ticker="B")
    closed = a_corporation(8, war_eligible=False)

    verdicts = [*await store.put_corporations([whole, bare, closed], now=NOW)]
    verdicts += await store.put_corporations([whole, bare], now=LATER)

    assert verdicts == [Upsert.CREATED] * 3 + [Upsert.UNCHANGED] * 2
    stamped = [replace(one, created_at=NOW, updated_at=NOW) for one in (bare, whole, closed)]
    assert list(await store.corporations_of([3, 7, 8, 9])) == stamped


async def check_a_leaver_has_no_alliance(store: EveStore) -> None:
    await store.put_corporations([a_corporation(1)], now=NOW)

    await store.put_corporations([a_corporation(1, alliance_id=None, url=None, ceo_id=None)], now=LATER)

    (left,) = await store.corporations_of([1])
    assert (left.alliance_id, left.url, left.ceo_id) == (None, None, None)
    assert (left.created_at, left.updated_at) == (NOW, LATER)


async def check_corporations_that_characters_name_are_known(store: EveStore) -> None:
    await store.put_corporations([a_corporation(id) for id in (20, 40, 60)], now=NOW)
    await store.vanish_corporations([40], now=NOW)
    named = [(1, 10), (2, 40), (3, 50), (4, 50), (5, 20), (6, 0)]
    await store.put_characters([a_character(id, corporation_id=corporation) for id, corporation in named], now=NOW)

    assert list(await store.corporation_ids(after=0, limit=9)) == [10, 20, 50, 60]
    assert list(await store.corporation_ids(after=10, limit=2)) == [20, 50]
    assert list(await store.corporation_ids(after=60, limit=2)) == []


async def check_vanished_corporations_come_back(store: EveStore) -> None:
    await store.put_corporations([a_corporation(1), a_corporation(2)], now=NOW)

    assert await store.vanish_corporations([1, 1], now=LATER) == 1
    assert list(await store.corporation_ids(after=0, limit=9)) == [2]
    assert list(await store.put_corporations([a_corporation(1)], now=LATER)) == [Upsert.UPDATED]
    assert list(await store.corporation_ids(after=0, limit=9)) == [1, 2]


# ── profiles ─────────────────────────────────────────────────────────────────────────────────────


async def check_a_profile_comes_back_whole(store: EveStore) -> None:
    bare = Profile(user_id="u", character_id=2, character_name="Bare")

    kept = await store.put_profile(a_profile(1), now=NOW)
    await store.put_profile(bare, now=NOW)

    assert kept == await store.profile_of(1) == a_profile(1, token_version=1, created_at=NOW, updated_at=NOW)
    assert await store.profile_of(2) == replace(bare, token_version=1, created_at=NOW, updated_at=NOW)
    assert await store.profile_of(3) is None


async def check_a_new_login_starts_afresh(store: EveStore) -> None:
    await claim(store, await store.put_profile(a_profile(1), now=NOW), "a")
    await store.invalidate_token(1, owner="a", reason="revoked", now=NOW)
    spoiled = replace(a_profile(1), valid=False, refresh_owner="x", refresh_in_doubt=True, invalid_reason="old")

    kept = await store.put_profile(spoiled, now=LATER)

    assert kept == await store.profile_of(1) == a_profile(1, token_version=2, created_at=NOW, updated_at=LATER)


async def check_other_users_are_seen(store: EveStore) -> None:
    assert not await store.has_other_users("user-1")
    await store.put_profile(a_profile(1), now=NOW)
    assert not await store.has_other_users("user-1")
    assert await store.has_other_users("user-0")
    await store.put_profile(a_profile(2, user_id="user-2"), now=NOW)
    assert await store.has_other_users("user-1")


async def check_the_soonest_to_expire_come_first(store: EveStore) -> None:
    for id, expiry in ((1, NOW + 9), (2, NOW + 3), (3, NOW + 3), (4, None), (5, NOW + 10)):
        await store.put_profile(a_profile(id, token_expiry=expiry), now=NOW)
    await store.put_profile(a_profile(6, token_expiry=NOW, refresh_token=""), now=NOW)
    await claim(store, await store.put_profile(a_profile(7, token_expiry=NOW), now=NOW), "a")
    await store.invalidate_token(7, owner="a", reason="revoked", now=NOW)

    async def ids(after: tuple[int, int] | None, limit: int) -> list[int]:
        found = await store.expiring_profiles(before=NOW + 9, after=after, limit=limit)
        return [one.character_id for one in found]

    assert await ids(None, 9) == [4, 2, 3, 1]
    assert await ids(None, 2) == [4, 2]
    assert await ids((0, 4), 2) == [2, 3]
    assert await ids((NOW + 3, 2), 9) == [3, 1]
    assert await ids((NOW + 9, 1), 9) == []
    (first,) = await store.expiring_profiles(before=NOW + 9, after=(NOW + 3, 3), limit=1)
    assert first == a_profile(1, token_expiry=NOW + 9, token_version=1, created_at=NOW, updated_at=NOW)


async def check_one_of_many_may_refresh(store: EveStore) -> None:
    seen = await store.put_profile(a_profile(1), now=NOW)

    got = await asyncio.gather(*(claim(store, seen, f"owner {number}") for number in range(20)))

    assert got.count(True) == 1
    after = await profile(store, 1)
    assert after.refresh_owner == f"owner {got.index(True)}"
    assert not after.refresh_in_doubt
    assert not await claim(store, replace(after, refresh_owner="somebody"), "x")
    assert not await claim(store, replace(seen, character_id=99), "x")


async def check_the_right_is_taken_over_in_doubt(store: EveStore) -> None:
    await claim(store, await store.put_profile(a_profile(1), now=NOW), "dead")

    assert await claim(store, await profile(store, 1), "heir")

    after = await profile(store, 1)
    assert (after.refresh_owner, after.refresh_in_doubt) == ("heir", True)
    assert not await store.release_refresh(1, owner="dead", in_doubt=False, now=LATER)
    assert not await store.invalidate_token(1, owner="dead", reason=IN_DOUBT, now=LATER)
    assert (await profile(store, 1)).valid


async def check_tokens_are_stored_over_their_own_version(store: EveStore) -> None:
    seen = await store.put_profile(a_profile(1), now=NOW)
    await claim(store, seen, "a")

    assert await store.store_tokens(1, NEW_TOKENS, token_version=1, now=LATER)
    assert not await store.store_tokens(1, NEW_TOKENS, token_version=1, now=LATER)
    assert not await store.store_tokens(99, NEW_TOKENS, token_version=1, now=LATER)

    assert await profile(store, 1) == replace(
        seen, access_token="new access", refresh_token="new refresh", token_expiry=NOW + 20 * MINUTE, token_version=2,
        updated_at=LATER,
    )  # fmt: skip
    assert not await claim(store, seen, "late")


async def check_a_late_answer_is_kept_though_the_right_was_lost(store: EveStore) -> None:
    await claim(store, await store.put_profile(a_profile(1), now=NOW), "frozen")
    await claim(store, await profile(store, 1), "heir")
    await store.invalidate_token(1, owner="heir", reason=IN_DOUBT, now=LATER)
    lost = await profile(store, 1)
    assert (lost.valid, lost.invalid_reason, lost.refresh_owner) == (False, IN_DOUBT, None)

    assert await store.store_tokens(1, NEW_TOKENS, token_version=1, now=LATER)

    saved = await profile(store, 1)
    assert (saved.valid, saved.invalid_reason, saved.refresh_in_doubt) == (True, "", False)
    assert (saved.refresh_token, saved.token_version) == ("new refresh", 2)


async def check_an_invalid_token_is_not_refreshed(store: EveStore) -> None:
    await claim(store, await store.put_profile(a_profile(1), now=NOW), "a")
    await store.invalidate_token(1, owner="a", reason="revoked", now=LATER)

    assert not await claim(store, await profile(store, 1), "b")
    assert (await profile(store, 1)).refresh_token == "refresh 1"


async def check_tokens_of_somebody_else_are_forgotten(store: EveStore) -> None:
    await claim(store, await store.put_profile(a_profile(1), now=NOW), "a")

    assert await store.invalidate_token(1, owner="a", reason="owner_changed", forget=True, now=LATER)

    after = await profile(store, 1)
    assert (after.valid, after.access_token, after.refresh_token) == (False, "", "")


async def check_a_doubt_stays_until_tokens_come(store: EveStore) -> None:
    await claim(store, await store.put_profile(a_profile(1), now=NOW), "a")

    assert await store.release_refresh(1, owner="a", in_doubt=True, now=LATER)
    await claim(store, await profile(store, 1), "b")
    assert await store.release_refresh(1, owner="b", in_doubt=False, now=LATER)

    after = await profile(store, 1)
    assert (after.refresh_owner, after.refresh_in_doubt, after.valid) == (None, True, True)
    await store.store_tokens(1, NEW_TOKENS, token_version=1, now=LATER)
    assert not (await profile(store, 1)).refresh_in_doubt


async def check_tokens_are_sealed_anew_where_they_lie(store: EveStore) -> None:
    for id in (1, 2, 3):
        await store.put_profile(a_profile(id), now=NOW)
    await claim(store, await profile(store, 1), "a")
    seen = await store.sealed_tokens(after=0, limit=2)
    assert [one.character_id for one in seen] == [1, 2]
    assert list(await store.sealed_tokens(after=2, limit=9)) == [
        SealedTokens(character_id=3, access_token="access 3", refresh_token="refresh 3")
    ]
    await store.store_tokens(2, NEW_TOKENS, token_version=1, now=NOW)

    new = [replace(one, access_token="other access", refresh_token="other refresh") for one in seen]
    assert await store.reseal_tokens(list(zip(seen, new, strict=True)), now=LATER) == 1
    assert await store.reseal_tokens([], now=LATER) == 0

    first, second = await profile(store, 1), await profile(store, 2)
    assert (first.access_token, first.refresh_token) == ("other access", "other refresh")
    assert (first.token_version, first.refresh_owner) == (1, "a")
    assert second.refresh_token == "new refresh"


# ── logins under way ─────────────────────────────────────────────────────────────────────────────


async def check_a_login_is_taken_once(store: EveStore) -> None:
    state = an_auth_state("s", user_id="user-1")
    await store.put_auth_state(state)

    got = await asyncio.gather(*(store.take_auth_state("s", now=NOW) for _ in range(10)))

    assert [one for one in got if one is not None] == [state]
    assert await store.take_auth_state("s", now=NOW) is None


async def check_an_expired_login_is_gone(store: EveStore) -> None:
    await store.put_auth_state(an_auth_state("s"))

    assert await store.take_auth_state("s", now=LATER) is None
    assert await store.take_auth_state("s", now=NOW) is None


async def check_expired_logins_are_purged(store: EveStore) -> None:
    for number in range(5):
        await store.put_auth_state(an_auth_state(f"old {number}", expires_at=NOW - number))
    await store.put_auth_state(an_auth_state("new", expires_at=NOW + 1))

    assert await store.purge_auth_states(now=NOW, limit=3) == 3
    assert await store.purge_auth_states(now=NOW, limit=3) == 2
    assert await store.purge_auth_states(now=NOW, limit=3) == 0
    assert await store.take_auth_state("new", now=NOW) is not None


EVE_CHECKS: Final[tuple[Check, ...]] = tuple(
    value for name, value in list(globals().items()) if name.startswith("check_")
)
