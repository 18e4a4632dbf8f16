"""Owns what is kept of EVE Online in SQLite: each verb one operation on the writer or a reader. Must not know tasks or
work, nor what a token says.

A document is a row, its columns in the order of the fields; so reading is one call and a field can't be forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from importlib.resources import files
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar

import apsw

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
from peregrine.ports.moving import EveItem, Kind
from peregrine.stores.sqlite.connection import Readers, Writer
from peregrine.stores.sqlite.queries import load
from peregrine.stores.sqlite.steps import integers

EVE: Final = load((files(__package__) / "eve.sql").read_text(encoding="utf-8"))
Document = TypeVar("Document", Character, Alliance, Corporation)


@dataclass(frozen=True, slots=True)
class _Kind(Generic[Document]):
    """How documents of one kind are read and written."""

    read: str
    write: str
    of: Callable[..., Document]
    id_of: Callable[[Document], int]

    def those(self, db: apsw.Connection, ids: Sequence[int]) -> list[Document]:
        """The known ones of *ids*, by id."""
        return [self.of(*row) for row in _by_ids(db, self.read, ids)]

    def put(self, db: apsw.Connection, given: Sequence[Document], now: Moment) -> list[Upsert]:
        """Store each whole that does not lie there already; a later one of the same id wins."""
        stored = {self.id_of(one): one for one in self.those(db, [self.id_of(one) for one in given])}
        verdicts, changed = [], {}
        for one in given:
            id = self.id_of(one)
            before = stored.get(id)
            made = now if before is None else before.created_at
            after = replace(one, created_at=made, updated_at=now)
            if before is None:
                verdicts.append(Upsert.CREATED)
            elif replace(after, updated_at=before.updated_at) == before:
                verdicts.append(Upsert.UNCHANGED)
                continue
            else:
                verdicts.append(Upsert.UPDATED)
            stored[id] = changed[id] = after
        db.executemany(EVE[self.write], [_row(one) for one in changed.values()])
        return verdicts


class SqliteEve:
    """A ``ports.eve.EveStore`` on the lanes of an open store."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    # ── characters ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def character_ids(self, *, after: int, limit: int) -> Sequence[int]:
        return await self._ids("character_ids", after, limit)

    async def characters_of(self, ids: Sequence[int]) -> Sequence[Character]:
        return await self._readers.run(lambda db: _CHARACTERS.those(db, ids))

    async def affiliations_of(self, ids: Sequence[int]) -> Sequence[Affiliation]:
        return await self._readers.run(lambda db: [_affiliation(*row) for row in _by_ids(db, "affiliations", ids)])

    async def set_affiliations(self, changes: Sequence[Affiliation], *, now: Moment) -> int:
        def write(db: apsw.Connection) -> int:
            before = db.total_changes()
            rows = [(one.character_id, one.corporation_id, one.alliance_id, one.faction_id, now) for one in changes]
            db.executemany(EVE["set_affiliation"], rows)
            return db.total_changes() - before

        return await self._writer.run(write, grows=True) if changes else 0

    async def put_characters(self, characters: Sequence[Character], *, now: Moment) -> Sequence[Upsert]:
        return await self._writer.run(lambda db: _CHARACTERS.put(db, characters, now), grows=True)

    # ── alliances ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def alliance_ids(self, *, after: int, limit: int) -> Sequence[int]:
        return await self._ids("alliance_ids", after, limit)

    async def alliances_of(self, ids: Sequence[int]) -> Sequence[Alliance]:
        return await self._readers.run(lambda db: _ALLIANCES.those(db, ids))

    async def put_alliances(self, alliances: Sequence[Alliance], *, now: Moment) -> Sequence[Upsert]:
        live = [replace(one, deleted_at=None) for one in alliances]
        return await self._writer.run(lambda db: _ALLIANCES.put(db, live, now), grows=True)

    async def vanish_alliances(self, ids: Sequence[int], *, now: Moment) -> int:
        return await self._vanish("vanish_alliances", ids, now)

    # ── corporations ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def corporation_ids(self, *, after: int, limit: int) -> Sequence[int]:
        return await self._ids("corporation_ids", after, limit)

    async def corporations_of(self, ids: Sequence[int]) -> Sequence[Corporation]:
        return await self._readers.run(lambda db: _CORPORATIONS.those(db, ids))

    async def put_corporations(self, corporations: Sequence[Corporation], *, now: Moment) -> Sequence[Upsert]:
        live = [replace(one, deleted_at=None) for one in corporations]
        return await self._writer.run(lambda db: _CORPORATIONS.put(db, live, now), grows=True)

    async def vanish_corporations(self, ids: Sequence[int], *, now: Moment) -> int:
        return await self._vanish("vanish_corporations", ids, now)

    # ── profiles ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def put_profile(self, profile: Profile, *, now: Moment) -> Profile:
        return await self._writer.run(lambda db: _put_profile(db, profile, now), grows=True)

    async def profile_of(self, character_id: int) -> Profile | None:
        return await self._readers.run(lambda db: _profile_of(db, character_id))

    async def has_other_users(self, user_id: str) -> bool:
        return await self._readers.run(lambda db: bool(_one(db, "has_other_users", (user_id,))))

    async def expiring_profiles(
        self, *, before: Moment, after: tuple[Moment, int] | None, limit: int
    ) -> Sequence[Profile]:
        # No place is in front of this one: a moment is never so early.
        place = after or (-(2**63), 0)
        return await self._readers.run(
            lambda db: [_profile(row) for row in db.execute(EVE["expiring"], (before, *place, limit))]
        )

    async def claim_refresh(self, wish: Refreshing, *, now: Moment) -> bool:
        values = (wish.character_id, wish.token_version, wish.held_by, wish.owner, now)
        return await self._changes("claim_refresh", values)

    async def store_tokens(self, character_id: int, tokens: Tokens, *, token_version: int, now: Moment) -> bool:
        values = (character_id, token_version, tokens.access_token, tokens.refresh_token, tokens.expires_at, now)
        return await self._changes("store_tokens", values)

    async def release_refresh(self, character_id: int, *, owner: str, in_doubt: bool, now: Moment) -> bool:
        return await self._changes("release_refresh", (character_id, owner, in_doubt, now))

    async def invalidate_token(
        self, character_id: int, *, owner: str, reason: str, forget: bool = False, now: Moment
    ) -> bool:
        return await self._changes("invalidate_token", (character_id, owner, reason, now, forget))

    async def sealed_tokens(self, *, after: int, limit: int) -> Sequence[SealedTokens]:
        def read(db: apsw.Connection) -> list[SealedTokens]:
            return [
                SealedTokens(character_id=id, access_token=access, refresh_token=refresh)
                for id, access, refresh in db.execute(EVE["sealed_tokens"], (after, limit))
            ]

        return await self._readers.run(read)

    async def reseal_tokens(self, changes: Sequence[tuple[SealedTokens, SealedTokens]], *, now: Moment) -> int:
        def write(db: apsw.Connection) -> int:
            before = db.total_changes()
            texts = attrgetter("access_token", "refresh_token")
            db.executemany(EVE["reseal_tokens"], [(old.character_id, *texts(old), *texts(new)) for old, new in changes])
            return db.total_changes() - before

        return await self._writer.run(write, grows=True) if changes else 0

    # ── logins under way ─────────────────────────────────────────────────────────────────────────────────────────────

    async def put_auth_state(self, state: AuthState) -> None:
        await self._writer.run(lambda db: db.execute(EVE["put_auth_state"], _row(state)), grows=True)

    async def take_auth_state(self, state: str, *, now: Moment) -> AuthState | None:
        def take(db: apsw.Connection) -> AuthState | None:
            # Read to its end: until then the row is not removed.
            found = [_auth_state(*row) for row in db.execute(EVE["take_auth_state"], (state,))]
            return found[0] if found and found[0].expires_at > now else None

        return await self._writer.run(take)

    async def purge_auth_states(self, *, now: Moment, limit: int) -> int:
        def purge(db: apsw.Connection) -> int:
            db.execute(EVE["purge_auth_states"], (now, limit))
            return db.changes()

        return await self._writer.run(purge)

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _ids(self, query: str, after: int, limit: int) -> Sequence[int]:
        return await self._readers.run(lambda db: [id for (id,) in db.execute(EVE[query], (after, limit))])

    async def _vanish(self, query: str, ids: Sequence[int], now: Moment) -> int:
        def write(db: apsw.Connection) -> int:
            db.execute(EVE[query], (apsw.carray(integers(ids)), now))
            return db.changes()

        return await self._writer.run(write) if ids else 0

    async def _changes(self, query: str, values: tuple[Any, ...]) -> bool:
        """Whether the one write found its row as it wanted it."""

        def write(db: apsw.Connection) -> bool:
            db.execute(EVE[query], values)
            return db.changes() > 0

        return await self._writer.run(write)


def _by_ids(db: apsw.Connection, query: str, ids: Sequence[int]) -> Iterable[tuple[Any, ...]]:
    return db.execute(EVE[query], (apsw.carray(integers(ids)),)) if ids else ()


def _one(db: apsw.Connection, query: str, values: tuple[Any, ...]) -> Any:
    row = db.execute(EVE[query], values).fetchone()
    assert row is not None
    return row[0]


def _row(document: object) -> tuple[Any, ...]:
    """The fields of *document* in order, as columns hold them."""
    values = (getattr(document, one.name) for one in fields(document))  # type: ignore[arg-type]
    return tuple(" ".join(value) if isinstance(value, tuple) else value for value in values)


def _affiliation(
    character_id: int, corporation_id: int, alliance_id: int | None, faction_id: int | None
) -> Affiliation:
    return Affiliation(
        character_id=character_id, corporation_id=corporation_id, alliance_id=alliance_id, faction_id=faction_id
    )


def _by_position(shape: Callable[..., Any]) -> Callable[..., Any]:
    """What makes a *shape* of its fields in order."""
    names = tuple(one.name for one in fields(shape))  # type: ignore[arg-type]
    return lambda *row: shape(**dict(zip(names, row, strict=True)))


def _corporation(*row: Any) -> Corporation:
    found: Corporation = _plain_corporation(*row)
    return replace(found, war_eligible=None if found.war_eligible is None else bool(found.war_eligible))


_plain_corporation: Final = _by_position(Corporation)
_plain_profile: Final = _by_position(Profile)
_auth_state: Final = _by_position(AuthState)
_CHARACTERS: Final[_Kind[Character]] = _Kind(
    "characters", "put_character", _by_position(Character), attrgetter("character_id")
)
_ALLIANCES: Final[_Kind[Alliance]] = _Kind(
    "alliances", "put_alliance", _by_position(Alliance), attrgetter("alliance_id")
)
_CORPORATIONS: Final[_Kind[Corporation]] = _Kind(
    "corporations", "put_corporation", _corporation, attrgetter("corporation_id")
)


def _profile(row: tuple[Any, ...]) -> Profile:
    found: Profile = _plain_profile(*row)
    scopes = str(found.scopes).split()
    return replace(found, scopes=tuple(scopes), valid=bool(found.valid), refresh_in_doubt=bool(found.refresh_in_doubt))


def _profile_of(db: apsw.Connection, character_id: int) -> Profile | None:
    row = db.execute(EVE["profile"], (character_id,)).fetchone()
    return None if row is None else _profile(row)


def _put_profile(db: apsw.Connection, profile: Profile, now: Moment) -> Profile:
    kept = profile.put_over(_profile_of(db, profile.character_id), at=now)
    db.execute(EVE["put_profile"], _row(kept))
    return kept


# ── moving ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_MOVED: Final[dict[Kind, tuple[str, Callable[[tuple[Any, ...]], EveItem]]]] = {
    Kind.PROFILES: ("profiles", _profile),
    Kind.CHARACTERS: ("characters", lambda row: _CHARACTERS.of(*row)),
    Kind.ALLIANCES: ("alliances", lambda row: _ALLIANCES.of(*row)),
    Kind.CORPORATIONS: ("corporations", lambda row: _CORPORATIONS.of(*row)),
}
_LAID: Final[dict[type, str]] = {
    Profile: "profile", Character: "character", Alliance: "alliance", Corporation: "corporation",
}  # fmt: skip


def count_items(db: apsw.Connection, kind: Kind) -> int:
    found: int = _one(db, f"count_{_MOVED[kind][0]}", ())
    return found


def read_items(db: apsw.Connection, kind: Kind, after: int, limit: int) -> tuple[list[int], list[EveItem]]:
    """The next documents behind an id, and their ids."""
    name, of = _MOVED[kind]
    ids, items = [], []
    for id, *row in db.execute(EVE[f"move_{name}"], (after, limit)):
        ids.append(id)
        items.append(of(tuple(row)))
    return ids, items


def lay_item(db: apsw.Connection, item: EveItem) -> int:
    """Store *item* as it was elsewhere, unless its id is there; how many were not."""
    db.execute(EVE[f"put_{_LAID[type(item)]}"].replace("REPLACE", "INSERT OR IGNORE", 1), _row(item))
    return db.changes()
