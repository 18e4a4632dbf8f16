"""Each fault of the driver in the house's words: was nothing written, or perhaps something?"""

from __future__ import annotations

import pytest
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    DuplicateKeyError,
    ExecutionTimeout,
    InvalidOperation,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WTimeoutError,
)

from peregrine.domain.errors import BadConfiguration, StorageFull, Unavailable, Unsure
from peregrine.stores.mongo.commands import connect
from peregrine.stores.mongo.errors import Taken, duplicates, is_conflict, translate
from peregrine.stores.mongo.store import WARNINGS, MongoStore, topology_of

SECRET = "127.0.0.1:27017 user:hunter2"


def _refused() -> AutoReconnect:
    error = AutoReconnect(SECRET)
    error.__cause__ = ConnectionRefusedError(111, "refused")
    return error


def _bulk(*codes: int, concern: bool = False) -> BulkWriteError:
    faults = [{"index": place, "code": code, "errmsg": SECRET} for place, code in enumerate(codes)]
    return BulkWriteError({"writeErrors": faults, "writeConcernErrors": [{"code": 64}] if concern else []})


FAULTS = [
    (ServerSelectionTimeoutError(SECRET), Unavailable, Unavailable),
    (WaitQueueTimeoutError(SECRET), Unavailable, Unavailable),
    (_refused(), Unavailable, Unavailable),
    (AutoReconnect(SECRET), Unsure, Unavailable),
    (NetworkTimeout(SECRET), Unsure, Unavailable),
    (NotPrimaryError(SECRET), Unsure, Unavailable),
    (WTimeoutError(SECRET, 64), Unsure, Unsure),
    (OperationFailure(SECRET, 91), Unsure, Unavailable),
    (OperationFailure(SECRET, 11600), Unsure, Unavailable),
    (OperationFailure(SECRET, 18), Unavailable, Unavailable),
    (OperationFailure(SECRET, 13), Unavailable, Unavailable),
    (OperationFailure(SECRET, 112), Unavailable, Unavailable),
    (OperationFailure(SECRET, 14031), StorageFull, StorageFull),
    (ExecutionTimeout(SECRET, 50), Unavailable, Unavailable),
    (OperationFailure(SECRET, 2), OperationFailure, OperationFailure),
    (InvalidOperation(SECRET), InvalidOperation, InvalidOperation),
    (DuplicateKeyError(SECRET, 11000), Taken, Taken),
    (_bulk(11000, 11000), Taken, Taken),
    (_bulk(11000, concern=True), Unsure, Unsure),
    (_bulk(8000), Unsure, Unsure),
    (_bulk(2), BulkWriteError, BulkWriteError),
    (_bulk(concern=True), Unsure, Unsure),
]


@pytest.mark.parametrize(("error", "of_write", "of_read"), FAULTS, ids=lambda value: type(value).__name__)
def test_faults_are_told_in_the_house_s_words(
    error: PyMongoError, of_write: type[Exception], of_read: type[Exception]
) -> None:
    for writes, expected in ((True, of_write), (False, of_read)):
        told = translate(error, writes=writes)

        assert type(told) is expected
        if not isinstance(told, PyMongoError):
            assert "hunter2" not in str(told)
            assert "127.0.0.1" not in str(told)


def test_duplicates_are_known_by_their_places() -> None:
    assert duplicates(_bulk(11000, 11000)) == {0, 1}
    assert duplicates(_bulk(11000, 8000)) is None
    assert duplicates(_bulk(11000, concern=True)) is None


def test_rival_writes_are_known() -> None:
    assert is_conflict(OperationFailure("", 112))
    assert is_conflict(_bulk(112))
    assert not is_conflict(_bulk(11000))
    assert not is_conflict(AutoReconnect(""))


@pytest.mark.parametrize("uri", ["", "mongodb://", "mongodb://user:hunter2@host:port/", "http://x"])
def test_an_address_that_can_not_be_read_is_refused_without_repeating_it(uri: str) -> None:
    with pytest.raises(BadConfiguration, match="MONGODB_URI") as caught:
        connect(uri)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "a.b", "a/b", "$a"])
def test_a_database_that_can_not_be_named_so_is_refused(name: str) -> None:
    with pytest.raises(BadConfiguration, match="MONGODB_DATABASE"):
        MongoStore("mongodb://127.0.0.1:1/", name)


@pytest.mark.parametrize(
    ("hello", "kind", "warned"),
    [
        ({"setName": "rs0", "isWritablePrimary": True}, "replica set", False),
        ({"msg": "isdbgrid"}, "sharded", False),
        ({"isWritablePrimary": True}, "standalone", True),
    ],
)
def test_a_single_server_is_taken_with_a_warning(hello: dict[str, object], kind: str, *, warned: bool) -> None:
    assert topology_of(hello) == kind
    assert (kind in WARNINGS) is warned
    assert MongoStore("mongodb://127.0.0.1:1/", "d").warning == "", "nothing is known before it was asked"
