"""Owns what a store's test file must provide: how to get a store, another on the same place, and one that dies."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Protocol, TypeAlias, TypeVar

from peregrine.ports.store import Store


class StoreFactory(Protocol):
    """Gives stores to a check. Every store given is open already; whoever made the factory closes them afterwards."""

    async def fresh(self) -> Store:
        """An open, empty store in a new place; those given before may be closed or forgotten."""
        ...


class SharedStoreFactory(StoreFactory, Protocol):
    """For stores that outlive their process."""

    async def reopen(self) -> Store:
        """Another open store on the place of the last ``fresh``, as a new process would open it.

        Those given before stay as they are: open ones are other processes at work, closed or dead ones are history.
        """
        ...


class CrashingStoreFactory(SharedStoreFactory, Protocol):
    """For stores that can be made to die between two statements.

    A *statement* is what reaches the database as one: in SQLite each executed SQL statement, ``BEGIN`` and ``COMMIT``
    included; in MongoDB each command. Counting begins when the open store is given.
    """

    async def dying(self, statements: int) -> Store:
        """Like ``reopen``, but the process behind the store dies when it is about to run statement *statements* + 1.

        Dying means: that statement and all later ones (a rollback too) never reach the database, and what had not been
        committed is lost, as with ``kill -9``. The verb under way raises ``Died`` or whatever the store makes of it.
        Other stores on the place must not have to wait for the dead one.
        """
        ...


class Died(Exception):
    """The process behind a dying store has died: raised for every statement it will never run."""


Check: TypeAlias = Callable[[StoreFactory], Awaitable[None]]
SharedCheck: TypeAlias = Callable[[SharedStoreFactory], Awaitable[None]]
CrashCheck: TypeAlias = Callable[[CrashingStoreFactory], Awaitable[None]]
AnyCheck = TypeVar("AnyCheck")


def checks_in(*modules: ModuleType) -> tuple[Callable[..., Awaitable[None]], ...]:
    """Every public coroutine function that one of *modules* defines, in the order they are written.

    Gathered, not listed, so that no check can be written and forgotten.
    """
    return tuple(
        value
        for module in modules
        for name, value in vars(module).items()
        if not name.startswith("_") and inspect.iscoroutinefunction(value) and value.__module__ == module.__name__
    )
