"""Owns where the tests of the MongoDB store take place: one database a test run, emptied for each fresh store."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pymongo
import pytest

from tests.services.mongo_places import MongoStores


@pytest.fixture(scope="session")
def mongo_place(mongo_uri: str) -> Iterator[str]:
    """The name of a database for all tests: to make its indexes for each of them would take longer than they do."""
    name = f"peregrine_stores_{uuid.uuid4().hex[:12]}"
    yield name
    with pymongo.MongoClient[dict[str, Any]](mongo_uri) as client:
        for one in (name, f"{name}_too"):
            client.drop_database(one)


@pytest.fixture
async def stores(mongo_uri: str, mongo_place: str) -> AsyncIterator[MongoStores]:
    """Stores on that database."""
    given = MongoStores(mongo_uri, mongo_place)
    yield given
    await given.close()
