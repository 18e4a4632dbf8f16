"""Owns what is kept of EVE Online in MongoDB: each verb as operations on single documents. Must not know tasks or work,
nor what a token says.

The collections are those that an earlier program made: its documents are found by EVE's own ids, whatever their
``_id``; fields that nobody here knows stay as they are; what is not there is absent, never null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Final, Generic, TypeVar

from pymongo import IndexModel

from peregrine.domain.errors import Unavailable, UnsafeStore
from peregrine.domain.moment import Moment
from peregrine.ports.eve import (
    Affiliation,
    Alliance,
    AuthState,
    Character,
    Corporation,
    Profile,
    Refreshing,
    SealedTokens,
    Tokens,
    Upsert,
)
from peregrine.ports.moving import EveItem, Kind, Load
from peregrine.stores.mongo.commands import (
    ALLIANCES,
    AUTH_STATES,
    CHARACTERS,
    CORPORATIONS,
    PROFILES,
    Change,
    Commands,
    Document,
    pause,
)
from peregrine.stores.mongo.errors import Taken
from peregrine.stores.mongo.values import date, int_of, moment_or_none, text_of

ROUNDS_MAX: Final = 20
MOMENTS: Final = frozenset(
    {"birthday", "date_founded", "created_at", "updated_at", "deleted_at", "token_expiry", "last_login",
     "profile_updated", "expires_at"}
)  # fmt: skip
NOTHING: Final = ("", None)
"""How a text that is not there looks in a filter."""
Kept = TypeVar("Kept", Character, Alliance, Corporation)

INDEXES: Final[Mapping[str, Sequence[tuple[Sequence[str], Mapping[str, Any]]]]] = {
    PROFILES: [
        (["character_id"], {"unique": True}),
        (["token_expiry", "character_id"], {"partialFilterExpression": {"valid": True}}),
        (["user_id"], {}),
    ],
    CHARACTERS: [(["character_id"], {"unique": True}), (["corporation_id"], {})],
    ALLIANCES: [(["alliance_id"], {"unique": True})],
    CORPORATIONS: [(["corporation_id"], {"unique": True})],
    AUTH_STATES: [(["state"], {"unique": True}), (["expires_at"], {})],
}


@dataclass(frozen=True, slots=True)
class _Kind(Generic[Kept]):
    """How documents of one kind are found and read."""

    collection: str
    key: str
    shape: Callable[..., Kept]

    def of(self, document: Document) -> Kept:
        return _read(self.shape, document)

    def id_of(self, kept: Kept) -> int:
        return int(getattr(kept, self.key))


_CHARACTERS: Final[_Kind[Character]] = _Kind(CHARACTERS, "character_id", Character)
_ALLIANCES: Final[_Kind[Alliance]] = _Kind(ALLIANCES, "alliance_id", Alliance)
_CORPORATIONS: Final[_Kind[Corporation]] = _Kind(CORPORATIONS, "corporation_id", Corporation)


_MOVED: Final[Mapping[Kind, tuple[str, str, type[EveItem]]]] = {
    Kind.PROFILES: (PROFILES, "character_id", Profile),
    Kind.CHARACTERS: (CHARACTERS, "character_id", Character),
    Kind.ALLIANCES: (ALLIANCES, "alliance_id", Alliance),
    Kind.CORPORATIONS: (CORPORATIONS, "corporation_id", Corporation),
}


class MongoEve:
    """A ``ports.eve.EveStore`` on the commands of a store."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def prepare(self) -> None:
        """Make what indexes are missing, by their fields: an earlier program may have made them by other names.

        Raises:  UnsafeStore when two documents stand for one id.
        """
        for collection, wanted in INDEXES.items():
            there = await self._commands.index_keys(collection)
            missing = [
                IndexModel([(name, 1) for name in keys], name=f"peregrine_{'_'.join(keys)}", **options)
                for keys, options in wanted
                if tuple(keys) not in there
            ]
            try:
                if missing:
                    await self._commands.make_indexes(collection, missing)
            except Taken:
                raise UnsafeStore(f"{collection}: two documents stand for one id; remove one of each two") from None

    # ── characters ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def character_ids(self, *, after: int, limit: int) -> Sequence[int]:
        return await self._ids(_CHARACTERS, after, limit)

    async def characters_of(self, ids: Sequence[int]) -> Sequence[Character]:
        return await self._those(_CHARACTERS, ids)

    async def affiliations_of(self, ids: Sequence[int]) -> Sequence[Affiliation]:
        names = [one.name for one in fields(Affiliation)]
        found = await self._found(_CHARACTERS, ids, only=names)
        return [_read(Affiliation, document) for document in found]

    async def set_affiliations(self, changes: Sequence[Affiliation], *, now: Moment) -> int:
        return await self._commands.update(
            CHARACTERS,
            [({"character_id": one.character_id}, _whole(one, {"updated_at": date(now)})) for one in changes],
        )

    async def put_characters(self, characters: Sequence[Character], *, now: Moment) -> Sequence[Upsert]:
        return await self._put(_CHARACTERS, characters, now)

    # ── alliances ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def alliance_ids(self, *, after: int, limit: int) -> Sequence[int]:
        return await self._ids(_ALLIANCES, after, limit, deleted_at=None)

    async def alliances_of(self, ids: Sequence[int]) -> Sequence[Alliance]:
        return await self._those(_ALLIANCES, ids)

    async def put_alliances(self, alliances: Sequence[Alliance], *, now: Moment) -> Sequence[Upsert]:
        return await self._put(_ALLIANCES, [replace(one, deleted_at=None) for one in alliances], now)

    async def vanish_alliances(self, ids: Sequence[int], *, now: Moment) -> int:
        return await self._vanish(_ALLIANCES, ids, now)

    # ── corporations ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def corporation_ids(self, *, after: int, limit: int) -> Sequence[int]:
        live = await self._ids(_CORPORATIONS, after, limit, deleted_at=None)
        upto = live[-1] if len(live) == limit else None
        unmet = await self._unmet(after, limit, upto)
        return sorted({*live, *unmet})[:limit]

    async def _unmet(self, after: int, limit: int, upto: int | None) -> list[int]:
        """Up to *limit* corporations that characters name and that no document stands for."""
        found: list[int] = []
        after = max(after, 0)
        while len(found) < limit:
            named = [
                int(one["_id"])
                for one in await self._commands.aggregate(
                    CHARACTERS,
                    [
                        {"$match": {"corporation_id": {"$gt": after}}},
                        {"$group": {"_id": "$corporation_id"}},
                        {"$sort": {"_id": 1}},
                        {"$limit": limit},
                    ],
                )
            ]
            known = await self._found(_CORPORATIONS, named, only=["corporation_id"])
            found += sorted(set(named) - {int(one["corporation_id"]) for one in known})
            if len(named) < limit or (upto is not None and named[-1] >= upto):
                break
            after = named[-1]
        return found

    async def corporations_of(self, ids: Sequence[int]) -> Sequence[Corporation]:
        return await self._those(_CORPORATIONS, ids)

    async def put_corporations(self, corporations: Sequence[Corporation], *, now: Moment) -> Sequence[Upsert]:
        return await self._put(_CORPORATIONS, [replace(one, deleted_at=None) for one in corporations], now)

    async def vanish_corporations(self, ids: Sequence[int], *, now: Moment) -> int:
        return await self._vanish(_CORPORATIONS, ids, now)

    # ── profiles ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def put_profile(self, profile: Profile, *, now: Moment) -> Profile:
        for tries in range(ROUNDS_MAX):
            stored = await self.profile_of(profile.character_id)
            kept = profile.put_over(stored, at=now)
            which: dict[str, Any] = {"character_id": profile.character_id}
            if stored is not None:
                which["token_version"] = _version(stored.token_version)
                done = await self._commands.update(PROFILES, [(which, _whole(kept, {}))])
            else:
                done = not await self._commands.insert(PROFILES, [_document(kept)])
            # Nothing was met: a rival was quicker, or our own answer was lost.
            if done or await self.profile_of(profile.character_id) == kept:
                return kept
            await pause(tries)
        raise Unavailable(f"the profile of character {profile.character_id} changes too fast to be written")

    async def profile_of(self, character_id: int) -> Profile | None:
        found = await self._commands.find(PROFILES, {"character_id": character_id}, page=(0, 1))
        return _read(Profile, found[0]) if found else None

    async def has_other_users(self, user_id: str) -> bool:
        return await self._commands.count(PROFILES, {"user_id": {"$ne": user_id}}, 1) > 0

    async def expiring_profiles(
        self, *, before: Moment, after: tuple[Moment, int] | None, limit: int
    ) -> Sequence[Profile]:
        read = partial(self._expiring, limit=limit)
        at, id = after or (0, -1)
        found: list[Profile] = []
        if at <= 0:
            undated = {"$or": [{"token_expiry": None}, {"token_expiry": {"$lte": date(0)}}]}
            found = await read({"$and": [undated, {"character_id": {"$gt": id}}]}, [("character_id", 1)])
        if len(found) < limit:
            behind = {
                "$or": [
                    {"token_expiry": {"$gt": date(max(at, 0)), "$lte": date(before)}},
                    *([{"token_expiry": date(at), "character_id": {"$gt": id}}] if at > 0 else []),
                ]
            }
            found += await read(behind, [("token_expiry", 1), ("character_id", 1)])
        return found[:limit]

    async def _expiring(
        self, which: Mapping[str, Any], sort: Sequence[tuple[str, int]], *, limit: int
    ) -> list[Profile]:
        usable = {"valid": True, "refresh_token": {"$nin": [*NOTHING]}}
        found = await self._commands.find(PROFILES, {**usable, **which}, sort=sort, page=(0, limit))
        return [_read(Profile, document) for document in found]

    async def claim_refresh(self, wish: Refreshing, *, now: Moment) -> bool:
        which = {
            "character_id": wish.character_id,
            "token_version": _version(wish.token_version),
            "refresh_owner": wish.held_by,
            "valid": True,
            "refresh_token": {"$nin": [*NOTHING]},
        }
        doubt = {} if wish.held_by is None else {"refresh_in_doubt": True}
        change = {"$set": {"refresh_owner": wish.owner, "updated_at": date(now), **doubt}}
        if await self._commands.update(PROFILES, [(which, change)]):
            return True
        stored = await self.profile_of(wish.character_id)
        return stored is not None and stored.refresh_owner == wish.owner

    async def store_tokens(self, character_id: int, tokens: Tokens, *, token_version: int, now: Moment) -> bool:
        which = {"character_id": character_id, "token_version": _version(token_version)}
        change = {
            "$set": {
                "access_token": tokens.access_token,
                "refresh_token": tokens.refresh_token,
                "token_expiry": date(tokens.expires_at),
                "token_version": token_version + 1,
                "valid": True,
                "refresh_in_doubt": False,
                "updated_at": date(now),
            },
            "$unset": {"refresh_owner": "", "invalid_reason": ""},
        }
        return await self._commands.update(PROFILES, [(which, change)]) > 0

    async def release_refresh(self, character_id: int, *, owner: str, in_doubt: bool, now: Moment) -> bool:
        doubt = {"refresh_in_doubt": True} if in_doubt else {}
        change = {"$set": {"updated_at": date(now), **doubt}, "$unset": {"refresh_owner": ""}}
        return await self._held(character_id, owner, change)

    async def invalidate_token(
        self, character_id: int, *, owner: str, reason: str, forget: bool = False, now: Moment
    ) -> bool:
        forgotten = {"access_token": "", "refresh_token": ""} if forget else {}
        told = {"valid": False, "invalid_reason": reason, "updated_at": date(now), **forgotten}
        return await self._held(character_id, owner, {"$set": told, "$unset": {"refresh_owner": ""}})

    async def _held(self, character_id: int, owner: str, change: Mapping[str, Any]) -> bool:
        which = {"character_id": character_id, "refresh_owner": owner}
        return await self._commands.update(PROFILES, [(which, change)]) > 0

    async def sealed_tokens(self, *, after: int, limit: int) -> Sequence[SealedTokens]:
        found = await self._commands.find(
            PROFILES,
            {"character_id": {"$gt": after}},
            fields={"_id": 0, "character_id": 1, "access_token": 1, "refresh_token": 1},
            sort=[("character_id", 1)],
            page=(0, limit),
        )
        return [
            SealedTokens(
                character_id=int(one["character_id"]),
                access_token=text_of(one.get("access_token")),
                refresh_token=text_of(one.get("refresh_token")),
            )
            for one in found
        ]

    async def reseal_tokens(self, changes: Sequence[tuple[SealedTokens, SealedTokens]], *, now: Moment) -> int:
        def change(old: SealedTokens, new: SealedTokens) -> Change:
            which = {
                "character_id": old.character_id,
                "access_token": _text(old.access_token),
                "refresh_token": _text(old.refresh_token),
            }
            return which, {"$set": {"access_token": new.access_token, "refresh_token": new.refresh_token}}

        return await self._commands.update(PROFILES, [change(old, new) for old, new in changes])

    # ── logins under way ─────────────────────────────────────────────────────────────────────────────────────────────

    async def put_auth_state(self, state: AuthState) -> None:
        await self._commands.insert(AUTH_STATES, [_document(state)])

    async def take_auth_state(self, state: str, *, now: Moment) -> AuthState | None:
        found = await self._commands.find(AUTH_STATES, {"state": state}, page=(0, 1))
        if not found or not await self._commands.delete(AUTH_STATES, {"_id": found[0]["_id"], "state": state}):
            return None
        taken = _read(AuthState, found[0])
        return taken if taken.expires_at > now else None

    async def purge_auth_states(self, *, now: Moment, limit: int) -> int:
        gone = {"expires_at": {"$lte": date(now)}}
        found = await self._commands.find(AUTH_STATES, gone, fields={"_id": 1}, page=(0, limit))
        if not found or limit < 1:
            return 0
        return await self._commands.delete(AUTH_STATES, gone | {"_id": {"$in": [one["_id"] for one in found]}})

    # ── moving ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def count_items(self, kind: Kind) -> int:
        """How many there are of a kind of EVE's."""
        collection, _, _ = _MOVED[kind]
        return await self._commands.count_all(collection, {})

    async def read_items(self, kind: Kind, after: str, limit: int) -> Load:
        """The next of a kind behind an id."""
        collection, key, shape = _MOVED[kind]
        behind = {key: {"$gt": int(after or 0)}}
        found = await self._commands.find(collection, behind, sort=[(key, 1)], page=(0, limit))
        more = str(int(found[-1][key])) if len(found) == limit else None
        made: Callable[..., EveItem] = shape
        return Load([_read(made, document) for document in found], more)

    async def lay_items(self, items: Sequence[EveItem]) -> int:
        """Store each as it was elsewhere, unless its id is there; how many were not."""
        laid = 0
        for collection, _, shape in _MOVED.values():
            documents = [_document(one) for one in items if isinstance(one, shape)]
            laid += len(documents) - len(await self._commands.insert(collection, documents))
        return laid

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _ids(self, kind: _Kind[Kept], after: int, limit: int, **which: Any) -> Sequence[int]:
        found = await self._commands.find(
            kind.collection,
            {kind.key: {"$gt": after}, **which},
            fields={"_id": 0, kind.key: 1},
            sort=[(kind.key, 1)],
            page=(0, limit),
        )
        return [int(one[kind.key]) for one in found]

    async def _found(self, kind: _Kind[Kept], ids: Sequence[int], *, only: Iterable[str] = ()) -> list[Document]:
        if not ids:
            return []
        shown = dict.fromkeys(only, 1) or None
        which = {kind.key: {"$in": sorted(set(ids))}}
        return await self._commands.find(kind.collection, which, fields=shown, sort=[(kind.key, 1)])

    async def _those(self, kind: _Kind[Kept], ids: Sequence[int]) -> list[Kept]:
        return [kind.of(document) for document in await self._found(kind, ids)]

    async def _put(self, kind: _Kind[Kept], given: Sequence[Kept], now: Moment) -> list[Upsert]:
        """Store each whole that does not lie there already. Two who make the same one meet at the unique key; then the
        slower looks again."""
        verdicts: dict[int, Upsert] = {}
        for tries in range(ROUNDS_MAX):
            stored = {kind.id_of(one): one for one in await self._those(kind, [kind.id_of(one) for one in given])}
            changes = []
            for one in given:
                id = kind.id_of(one)
                verdict = _verdict(stored.get(id), one)
                # What we made ourselves in an earlier round lies there now; it was made all the same.
                verdicts.setdefault(id, verdict)
                if verdict is not Upsert.UNCHANGED:
                    change = _whole(replace(one, updated_at=now), {}, without=("created_at",))
                    change["$setOnInsert"] = {"created_at": date(now)}
                    changes.append(({kind.key: id}, change))
            try:
                await self._commands.update(kind.collection, changes, upsert=True)
                return [verdicts[kind.id_of(one)] for one in given]
            except Taken:
                await pause(tries)
        raise Unavailable(f"{kind.collection} change too fast to be written")

    async def _vanish(self, kind: _Kind[Kept], ids: Sequence[int], now: Moment) -> int:
        change = {"$set": {"deleted_at": date(now), "updated_at": date(now)}}
        return await self._commands.update(
            kind.collection, [({kind.key: id, "deleted_at": None}, change) for id in dict.fromkeys(ids)]
        )


def _verdict(stored: Kept | None, given: Kept) -> Upsert:
    if stored is None:
        return Upsert.CREATED
    stamped = replace(given, created_at=stored.created_at, updated_at=stored.updated_at)
    return Upsert.UNCHANGED if stamped == stored else Upsert.UPDATED


def _version(number: int) -> Any:
    """How a version looks in a filter; documents of an earlier program have none."""
    return {"$in": [0, None]} if number == 0 else number


def _text(text: str) -> Any:
    """How a text looks in a filter."""
    return text or {"$in": [*NOTHING]}


# ── documents ────────────────────────────────────────────────────────────────────────────────────


def _document(kept: Any) -> Document:
    """*kept* as it is stored: what it does not have is absent."""
    found = {one.name: _bson(one.name, getattr(kept, one.name)) for one in fields(kept)}
    return {name: value for name, value in found.items() if value is not None}


def _whole(kept: Any, more: Mapping[str, Any], *, without: Sequence[str] = ()) -> dict[str, Any]:
    """The change that makes a document say all that *kept* says, and *more*; other fields stay."""
    document = _document(kept)
    gone = [one.name for one in fields(kept) if one.name not in document and one.name not in without]
    changed = {name: value for name, value in document.items() if name not in without} | dict(more)
    return {"$set": changed} | ({"$unset": dict.fromkeys(gone, "")} if gone else {})


def _bson(name: str, value: Any) -> Any:
    if name in MOMENTS:
        return None if value is None else date(value)
    return " ".join(value) if isinstance(value, tuple) else value


_Shape = TypeVar("_Shape")


def _read(shape: Callable[..., _Shape], document: Document) -> _Shape:
    """A *shape* of what a document says of its fields; what it does not say, or in no known way, has the default."""
    found = {}
    for one in fields(shape):  # type: ignore[arg-type]
        value = _plain(one.name, str(one.type), document.get(one.name))
        if value is not None:
            found[one.name] = value
    return shape(**found)


def _plain(name: str, kind: str, value: Any) -> Any:
    if value is None:
        return None
    if name in MOMENTS:
        return moment_or_none(value)
    if kind.startswith("tuple"):
        return tuple(str(value).split() if isinstance(value, str) else map(str, value))
    if kind.startswith("str"):
        return text_of(value)
    if kind.startswith("bool"):
        return bool(value)
    if kind.startswith("float"):
        return float(value) if isinstance(value, int | float) else None
    # An id of 0 is how some write that there is none.
    return int_of(value) or (None if "None" in kind else 0)
