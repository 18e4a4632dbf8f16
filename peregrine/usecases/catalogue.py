"""Owns what a person may ask about registered code: what can a task name? Must not know how it is registered."""

from __future__ import annotations

from collections.abc import Sequence

from peregrine.domain.payload import JsonObject
from peregrine.domain.permission import Permission
from peregrine.ports.identity import Asker
from peregrine.usecases.access import require
from peregrine.usecases.means import Means


async def list_functions(means: Means, by: Asker) -> Sequence[JsonObject]:
    """What tasks of type ``function`` may name, with a JSON Schema of the parameters."""
    await require(means.grants, by, Permission.TASKS_READ)
    return () if means.catalogue is None else means.catalogue.functions()


async def list_executors(means: Means, by: Asker) -> Sequence[JsonObject]:
    """What tasks of type ``custom`` may name, with the JSON Schema that their parameters are held to."""
    await require(means.grants, by, Permission.TASKS_READ)
    return () if means.catalogue is None else means.catalogue.executors()
