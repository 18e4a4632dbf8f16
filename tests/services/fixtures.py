"""Owns how a test comes to a real server: one a test run, or an empty place on it for each test.

Where a server can't be had the tests that need it are skipped, and each says why. In CI (``CI=true``), or with
``PEREGRINE_TEST_SERVICES=require``, they fail instead: nothing may look tested that was not.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from typing import TypeVar

import pymongo
import pytest

from tests.services.mongo_server.place import NotHere
from tests.services.processes import Mongo, Redis

Server = TypeVar("Server", Mongo, Redis)


def had(make: Callable[[], Server]) -> Server:
    """What *make* gives; where that can't be had the test is skipped, or fails where it must not be."""
    try:
        return make()
    except NotHere as error:
        must = os.environ.get("CI") == "true" or os.environ.get("PEREGRINE_TEST_SERVICES") == "require"
        if must:
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def mongo_uri() -> Iterator[str]:
    """A MongoDB: the one that TEST_MONGODB_URI names, else one of our own."""
    given = os.environ.get("TEST_MONGODB_URI")
    if given:
        yield given
        return
    server = had(Mongo)
    yield server.uri
    server.close()


@pytest.fixture
def mongo_database(mongo_uri: str) -> Iterator[str]:
    """The name of a database that is not there yet, and is dropped afterwards."""
    name = f"peregrine_test_{uuid.uuid4().hex[:12]}"
    yield name
    with pymongo.MongoClient[dict[str, object]](mongo_uri) as client:
        client.drop_database(name)


@pytest.fixture
def redis_server() -> Iterator[Redis]:
    """A Redis of this test's own, to be hurt."""
    server = had(Redis)
    yield server
    server.close()


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[Redis]:
    """A Redis for tests that do it no harm; what they leave in it expires."""
    server = had(Redis)
    yield server
    server.close()
