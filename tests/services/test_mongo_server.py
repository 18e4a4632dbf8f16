"""The server that stands for MongoDB in the tests does what our store relies on. (It is not mongod.)"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import pytest
from pymongo import ASCENDING, AsyncMongoClient, InsertOne, ReturnDocument, UpdateOne, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure

pytestmark = [pytest.mark.services, pytest.mark.anyio]
Things: TypeAlias = AsyncCollection[dict[str, Any]]


@pytest.fixture
async def things(mongo_uri: str, mongo_database: str) -> AsyncIterator[Things]:
    async with AsyncMongoClient[dict[str, Any]](mongo_uri) as client:
        concern = WriteConcern(w="majority", j=True, wtimeout=5000)
        yield client[mongo_database].get_collection("things", write_concern=concern)


async def test_a_key_is_taken_once(things: Things) -> None:
    await things.insert_one({"_id": "a"})

    with pytest.raises(DuplicateKeyError) as found:
        await things.insert_one({"_id": "a"})

    assert found.value.code == 11000


async def test_of_fifty_who_claim_one_has_it(things: Things) -> None:
    await things.insert_one({"_id": "a", "status": "pending", "epoch": 0})

    async def claim(name: str) -> dict[str, Any] | None:
        return await things.find_one_and_update(
            {"_id": "a", "status": "pending"},
            {"$set": {"status": "running", "owner": name}, "$inc": {"epoch": 1}},
            return_document=ReturnDocument.AFTER,
        )

    found = [one for one in await asyncio.gather(*(claim(f"w{n}") for n in range(50))) if one is not None]
    assert len(found) == 1
    assert await things.find_one({}) == found[0]
    assert found[0]["epoch"] == 1


async def test_writes_in_bulk_tell_which_of_them_failed(things: Things) -> None:
    await things.insert_one({"_id": 3})

    with pytest.raises(BulkWriteError) as found:
        await things.bulk_write([InsertOne({"_id": n}) for n in range(6)], ordered=False)

    assert [(error["index"], error["code"]) for error in found.value.details["writeErrors"]] == [(3, 11000)]
    assert await things.count_documents({}) == 6


async def test_updates_in_bulk_count_what_they_met(things: Things) -> None:
    await things.insert_many([{"_id": n, "n": n} for n in range(5)])

    done = await things.bulk_write(
        [UpdateOne({"_id": n, "n": {"$lt": 3}}, {"$inc": {"n": 10}}) for n in range(7)], ordered=False
    )

    assert (done.matched_count, done.modified_count) == (3, 3)


async def test_a_part_of_the_documents_can_have_unique_keys(things: Things) -> None:
    await things.create_index([("key", ASCENDING)], unique=True, partialFilterExpression={"live": True})
    await things.insert_many(
        [{"key": 1, "live": True}, {"key": 1, "live": False}, {"_id": "x", "key": 1, "live": False}]
    )

    with pytest.raises(DuplicateKeyError):
        await things.insert_one({"key": 1, "live": True})
    with pytest.raises(DuplicateKeyError):
        await things.update_one({"_id": "x"}, {"$set": {"live": True}})


async def test_a_long_answer_comes_in_pages(things: Things) -> None:
    await things.insert_many([{"_id": n, "pad": "x" * 500} for n in range(1_000)])

    found = [one["_id"] async for one in things.find({}, batch_size=90).sort("_id", -1).skip(5).limit(700)]

    assert found == list(range(994, 294, -1))


async def test_a_cursor_that_is_left_is_let_go(things: Things) -> None:
    await things.insert_many([{"_id": n} for n in range(500)])

    for _ in range(40):
        async with things.find({}, batch_size=10) as cursor:
            await anext(cursor)

    assert await things.count_documents({}) == 500


async def test_documents_are_grouped(things: Things) -> None:
    await things.insert_many([{"_id": n, "task": n % 3, "took": n} for n in range(9)])

    found = await (await things.aggregate([{"$group": {"_id": "$task", "sum": {"$sum": "$took"}}}])).to_list()

    assert {one["_id"]: one["sum"] for one in found} == {0: 9, 1: 12, 2: 15}


async def test_a_wrong_operator_is_an_error_with_a_code(things: Things) -> None:
    with pytest.raises(OperationFailure) as found:
        await things.find_one({"a": {"$nonsense": 1}})
    assert found.value.code == 2

    with pytest.raises(OperationFailure) as unknown:
        await things.database.command("frobnicate")
    assert unknown.value.code == 59


async def test_indexes_are_made_and_listed(things: Things) -> None:
    await things.insert_many([{"n": n} for n in range(10)])

    await things.create_index([("n", ASCENDING)], name="by_n")

    assert {"_id_", "by_n"} == {index["name"] async for index in await things.list_indexes()}
