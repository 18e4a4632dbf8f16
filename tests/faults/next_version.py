"""The next version, as far as today's can tell: a service that imports this writes more, and has words of its own.

Every document that it writes says more, each wake that it sends too, and some are of a topic of its own. Tasks named
``next …`` need this version: today's must leave them to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from peregrine.coordination.redis.link import Command, Link
from peregrine.stores.mongo import store, versions
from peregrine.stores.mongo.commands import META, TASKS, Change, Commands, Document
from tests.services.mongo_next import changing_with_its, with_its

NEXT: Final = versions.VERSION + 1
_insert, _update, _ask = Commands.insert, Commands.update, Link.ask


async def _insert_more(self: Commands, name: str, documents: Sequence[Document]) -> set[int]:
    return await _insert(self, name, [_written(name, one) for one in documents])


def _written(name: str, document: Document) -> Document:
    is_of_its_own = name == TASKS and str(document["name"]).startswith("next ")
    return with_its(document) | ({"needs": NEXT} if is_of_its_own else {})


async def _update_more(self: Commands, name: str, changes: Sequence[Change], *, upsert: bool = False) -> int:
    more = changes if name == META else [changing_with_its(one) for one in changes]
    return await _update(self, name, more, upsert=upsert)


async def _ask_more(self: Link, commands: Sequence[Command]) -> list[Any]:
    answers = await _ask(self, [_wordier(one) for one in commands])
    if any(one[0] == "PUBLISH" for one in commands):
        await _ask(self, [(*one[:2], "somebody weather 7") for one in commands if one[0] == "PUBLISH"])
    return answers


def _wordier(command: Command) -> Command:
    return (*command[:2], f"{command[2]} since 7") if command[0] == "PUBLISH" else command


Commands.insert = _insert_more  # type: ignore[method-assign]
Commands.update = _update_more  # type: ignore[method-assign]
Link.ask = _ask_more  # type: ignore[method-assign]
versions.UNDERSTOOD["needs"]["$not"]["$gt"] = NEXT
versions.VERSION = store.VERSION = NEXT  # type: ignore[misc, attr-defined]
