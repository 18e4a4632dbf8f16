"""What is kept of EVE Online lies in MongoDB as in every store, and as an earlier program left it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from pymongo import IndexModel

from peregrine.domain.errors import UnsafeStore
from peregrine.ports.eve import Affiliation, Upsert
from peregrine.stores.mongo.commands import CHARACTERS, CORPORATIONS, EVE, PROFILES, Commands
from peregrine.stores.mongo.errors import Taken
from peregrine.stores.mongo.eve import MongoEve
from peregrine.testing.eve_contract import (
    EVE_CHECKS,
    LATER,
    NEW_TOKENS,
    NOW,
    Check,
    a_corporation,
    a_profile,
    an_alliance,
    claim,
    profile,
)
from tests.services.mongo_places import MongoStores

pytestmark = [pytest.mark.anyio, pytest.mark.services]

BORN = datetime(2010, 5, 6, 7, 8, 9, tzinfo=UTC)


@pytest.mark.parametrize("check", EVE_CHECKS, ids=lambda check: check.__name__)
async def test_eve(check: Check, stores: MongoStores) -> None:
    await check((await stores.fresh()).eve)


async def test_a_document_of_an_earlier_program_is_read_and_what_nobody_knows_stays(stores: MongoStores) -> None:
    store = await stores.fresh()
    found = stores.client.get_database(stores.database)
    await found[CORPORATIONS].insert_one(
        {"corporation_id": 98_000_001, "name": "Old", "ticker": "O", "alliance_id": 99_000_001, "tax_rate": 0.1,
         "member_count": 7, "shares": 1000, "date_founded": BORN, "created_at": BORN, "updated_at": BORN,
         "killboard": {"points": 5}}
    )  # fmt: skip

    (old,) = await store.eve.corporations_of([98_000_001])
    verdicts = await store.eve.put_corporations([a_corporation(98_000_001, alliance_id=None)], now=LATER)

    assert (old.name, old.alliance_id, old.tax_rate, old.date_founded) == (
        "Old", 99_000_001, 0.1, int(BORN.timestamp() * 1000)
    )  # fmt: skip
    document = await found[CORPORATIONS].find_one({"corporation_id": 98_000_001})
    assert document is not None
    assert list(verdicts) == [Upsert.UPDATED]
    assert document["killboard"] == {"points": 5}
    assert "alliance_id" not in document
    assert document["created_at"].replace(tzinfo=UTC) == BORN


async def test_a_pilot_of_an_earlier_program_is_refreshed(stores: MongoStores) -> None:
    """Its profile has none of the fields that keep refreshes apart; scopes are a text; the token lies open."""
    store = await stores.fresh()
    found = stores.client.get_database(stores.database)
    await found[PROFILES].insert_one(
        {"user_id": "u", "character_id": 90_000_001, "character_name": "Old", "scopes": "a b", "access_token": "x",
         "refresh_token": "plain", "token_expiry": BORN, "valid": True, "created_at": BORN, "notes": "kept"}
    )  # fmt: skip

    (seen,) = await store.eve.expiring_profiles(before=NOW, after=None, limit=5)
    assert (seen.scopes, seen.token_version, seen.refresh_owner, seen.refresh_token) == (("a", "b"), 0, None, "plain")
    assert await claim(store.eve, seen, "me")
    assert not await claim(store.eve, seen, "you")
    assert await store.eve.store_tokens(90_000_001, NEW_TOKENS, token_version=0, now=LATER)

    after = await profile(store.eve, 90_000_001)
    document = await found[PROFILES].find_one({"character_id": 90_000_001})
    assert document is not None
    assert (after.token_version, after.refresh_token, document["notes"]) == (1, "new refresh", "kept")


async def test_an_index_by_another_name_is_taken_for_ours(stores: MongoStores) -> None:
    await stores.fresh()
    found = stores.client.get_database(stores.database)
    await found[CHARACTERS].drop_indexes()
    await found[CHARACTERS].create_index([("character_id", 1)], name="theirs", unique=True)

    store = await stores.reopen()

    names = set(await found[CHARACTERS].index_information())
    assert {"theirs", "peregrine_corporation_id"} <= names
    assert "peregrine_character_id" not in names
    assert await store.eve.set_affiliations([Affiliation(1, 2)], now=NOW) == 0


async def test_two_documents_of_one_id_are_refused_with_a_line() -> None:
    """What a server says when it can't make a unique index; servers differ in how they say it on the wire."""

    class Doubled(Commands):
        """A database in which every index is missing and none can be made."""

        def __init__(self) -> None:
            """Without a connection."""

        async def index_keys(self, name: str) -> set[tuple[str, ...]]:
            return set()

        async def make_indexes(self, name: str, indexes: Sequence[IndexModel]) -> None:
            raise Taken

    with pytest.raises(UnsafeStore, match="user_profiles: two documents stand for one id"):
        await MongoEve(Doubled()).prepare()


async def test_rivals_make_a_document_once(stores: MongoStores) -> None:
    one, other = await stores.fresh(), await stores.reopen()
    alliances = [an_alliance(id) for id in range(1, 30)]

    verdicts = await asyncio.gather(
        *(store.eve.put_alliances(alliances, now=NOW) for store in (one, other, one, other))
    )

    assert len(await one.eve.alliance_ids(after=0, limit=99)) == 29
    assert any(Upsert.CREATED in found for found in verdicts)
    logins = [(one, "first"), (other, "second"), (one, "third")]
    kept = await asyncio.gather(
        *(store.eve.put_profile(a_profile(1, refresh_token=token), now=NOW) for store, token in logins)
    )
    assert sorted(one.token_version for one in kept) == [1, 2, 3]
    assert set(EVE) <= set(await stores.client.get_database(stores.database).list_collection_names())
