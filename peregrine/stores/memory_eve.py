"""Owns the readable reference of what is kept of EVE Online: what every verb of ``ports.eve`` means; must not know
another store."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import replace
from typing import Generic, TypeVar

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

Document = TypeVar("Document", Character, Alliance, Corporation, Profile)


class _Shelf(Generic[Document]):
    """Documents by id, and the ids in order."""

    def __init__(self) -> None:
        self.documents: dict[int, Document] = {}
        self._ids: list[int] = []

    def behind(self, after: int) -> Sequence[int]:
        return self._ids[bisect_right(self._ids, after) :]

    def those(self, ids: Sequence[int]) -> list[Document]:
        return [self.documents[id] for id in sorted(set(ids) & self.documents.keys())]

    def keep(self, id: int, document: Document) -> None:
        if id not in self.documents:
            insort(self._ids, id)
        self.documents[id] = document

    def put(self, id: int, given: Document, now: Moment) -> Upsert:
        """Store *given* whole, unless all of it lies there."""
        stored = self.documents.get(id)
        if stored is None:
            self.keep(id, replace(given, created_at=now, updated_at=now))
            return Upsert.CREATED
        if replace(given, created_at=stored.created_at, updated_at=stored.updated_at) == stored:
            return Upsert.UNCHANGED
        self.keep(id, replace(given, created_at=stored.created_at, updated_at=now))
        return Upsert.UPDATED


class MemoryEve:
    """EVE Online in dictionaries; gone with the process."""

    def __init__(self) -> None:
        self._characters: _Shelf[Character] = _Shelf()
        self._alliances: _Shelf[Alliance] = _Shelf()
        self._corporations: _Shelf[Corporation] = _Shelf()
        self._profiles: _Shelf[Profile] = _Shelf()
        self._states: dict[str, AuthState] = {}

    # ── characters ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def character_ids(self, *, after: int, limit: int) -> Sequence[int]:
        """See the port."""
        return self._characters.behind(after)[:limit]

    async def characters_of(self, ids: Sequence[int]) -> Sequence[Character]:
        """See the port."""
        return self._characters.those(ids)

    async def affiliations_of(self, ids: Sequence[int]) -> Sequence[Affiliation]:
        """See the port."""
        return [
            Affiliation(
                character_id=one.character_id,
                corporation_id=one.corporation_id,
                alliance_id=one.alliance_id,
                faction_id=one.faction_id,
            )
            for one in self._characters.those(ids)
        ]

    async def set_affiliations(self, changes: Sequence[Affiliation], *, now: Moment) -> int:
        """See the port."""
        known = [change for change in changes if change.character_id in self._characters.documents]
        for change in known:
            stored = self._characters.documents[change.character_id]
            self._characters.keep(
                change.character_id,
                replace(
                    stored,
                    corporation_id=change.corporation_id,
                    alliance_id=change.alliance_id,
                    faction_id=change.faction_id,
                    updated_at=now,
                ),
            )
        return len(known)

    async def put_characters(self, characters: Sequence[Character], *, now: Moment) -> Sequence[Upsert]:
        """See the port."""
        return [self._characters.put(one.character_id, one, now) for one in characters]

    # ── alliances ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def alliance_ids(self, *, after: int, limit: int) -> Sequence[int]:
        """See the port."""
        documents = self._alliances.documents
        return [id for id in self._alliances.behind(after) if documents[id].deleted_at is None][:limit]

    async def alliances_of(self, ids: Sequence[int]) -> Sequence[Alliance]:
        """See the port."""
        return self._alliances.those(ids)

    async def put_alliances(self, alliances: Sequence[Alliance], *, now: Moment) -> Sequence[Upsert]:
        """See the port."""
        return [self._alliances.put(one.alliance_id, replace(one, deleted_at=None), now) for one in alliances]

    async def vanish_alliances(self, ids: Sequence[int], *, now: Moment) -> int:
        """See the port."""
        gone = [one for one in self._alliances.those(ids) if one.deleted_at is None]
        for one in gone:
            self._alliances.keep(one.alliance_id, replace(one, deleted_at=now, updated_at=now))
        return len(gone)

    # ── corporations ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def corporation_ids(self, *, after: int, limit: int) -> Sequence[int]:
        """See the port."""
        known = self._corporations.documents
        live = {id for id, one in known.items() if one.deleted_at is None}
        named = {one.corporation_id for one in self._characters.documents.values()} - known.keys() - {0}
        return sorted(id for id in live | named if id > after)[:limit]

    async def corporations_of(self, ids: Sequence[int]) -> Sequence[Corporation]:
        """See the port."""
        return self._corporations.those(ids)

    async def put_corporations(self, corporations: Sequence[Corporation], *, now: Moment) -> Sequence[Upsert]:
        """See the port."""
        return [self._corporations.put(one.corporation_id, replace(one, deleted_at=None), now) for one in corporations]

    async def vanish_corporations(self, ids: Sequence[int], *, now: Moment) -> int:
        """See the port."""
        gone = [one for one in self._corporations.those(ids) if one.deleted_at is None]
        for one in gone:
            self._corporations.keep(one.corporation_id, replace(one, deleted_at=now, updated_at=now))
        return len(gone)

    # ── profiles ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def put_profile(self, profile: Profile, *, now: Moment) -> Profile:
        """See the port."""
        kept = profile.put_over(self._profiles.documents.get(profile.character_id), at=now)
        self._profiles.keep(profile.character_id, kept)
        return kept

    async def profile_of(self, character_id: int) -> Profile | None:
        """See the port."""
        return self._profiles.documents.get(character_id)

    async def has_other_users(self, user_id: str) -> bool:
        """See the port."""
        return any(one.user_id != user_id for one in self._profiles.documents.values())

    async def expiring_profiles(
        self, *, before: Moment, after: tuple[Moment, int] | None, limit: int
    ) -> Sequence[Profile]:
        """See the port."""
        wanted = [one for one in self._profiles.documents.values() if one.valid and one.refresh_token]
        places = {(one.token_expiry or 0, one.character_id): one for one in wanted}
        found = sorted(place for place in places if place[0] <= before and (after is None or place > after))
        return [places[place] for place in found[:limit]]

    async def claim_refresh(self, wish: Refreshing, *, now: Moment) -> bool:
        """See the port."""
        stored = self._profiles.documents.get(wish.character_id)
        if stored is None or not stored.valid or not stored.refresh_token:
            return False
        if (stored.token_version, stored.refresh_owner) != (wish.token_version, wish.held_by):
            return False
        in_doubt = stored.refresh_in_doubt or wish.held_by is not None
        self._change(stored, refresh_owner=wish.owner, refresh_in_doubt=in_doubt, updated_at=now)
        return True

    async def store_tokens(self, character_id: int, tokens: Tokens, *, token_version: int, now: Moment) -> bool:
        """See the port."""
        stored = self._profiles.documents.get(character_id)
        if stored is None or stored.token_version != token_version:
            return False
        self._change(
            stored,
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            token_expiry=tokens.expires_at,
            token_version=token_version + 1,
            valid=True,
            refresh_owner=None,
            refresh_in_doubt=False,
            invalid_reason="",
            updated_at=now,
        )
        return True

    async def release_refresh(self, character_id: int, *, owner: str, in_doubt: bool, now: Moment) -> bool:
        """See the port."""
        stored = self._profiles.documents.get(character_id)
        if stored is None or stored.refresh_owner != owner:
            return False
        in_doubt = stored.refresh_in_doubt or in_doubt
        self._change(stored, refresh_owner=None, refresh_in_doubt=in_doubt, updated_at=now)
        return True

    async def invalidate_token(
        self, character_id: int, *, owner: str, reason: str, forget: bool = False, now: Moment
    ) -> bool:
        """See the port."""
        stored = self._profiles.documents.get(character_id)
        if stored is None or stored.refresh_owner != owner:
            return False
        self._change(stored, valid=False, invalid_reason=reason, refresh_owner=None, updated_at=now)
        if forget:
            self._change(self._profiles.documents[character_id], access_token="", refresh_token="")
        return True

    async def sealed_tokens(self, *, after: int, limit: int) -> Sequence[SealedTokens]:
        """See the port."""
        return [_sealed(one) for id in self._profiles.behind(after)[:limit] for one in [self._profiles.documents[id]]]

    async def reseal_tokens(self, changes: Sequence[tuple[SealedTokens, SealedTokens]], *, now: Moment) -> int:
        """See the port."""
        done = 0
        for before, new in changes:
            stored = self._profiles.documents.get(before.character_id)
            if stored is not None and _sealed(stored) == before:
                self._change(stored, access_token=new.access_token, refresh_token=new.refresh_token)
                done += 1
        return done

    def _change(self, stored: Profile, **changed: object) -> None:
        self._profiles.keep(stored.character_id, replace(stored, **changed))  # type: ignore[arg-type]

    # ── logins under way ─────────────────────────────────────────────────────────────────────────────────────────────

    async def put_auth_state(self, state: AuthState) -> None:
        """See the port."""
        self._states[state.state] = state

    async def take_auth_state(self, state: str, *, now: Moment) -> AuthState | None:
        """See the port."""
        found = self._states.pop(state, None)
        return None if found is None or found.expires_at <= now else found

    async def purge_auth_states(self, *, now: Moment, limit: int) -> int:
        """See the port."""
        gone = [state for state, one in self._states.items() if one.expires_at <= now][:limit]
        for state in gone:
            del self._states[state]
        return len(gone)


def _sealed(profile: Profile) -> SealedTokens:
    return SealedTokens(
        character_id=profile.character_id, access_token=profile.access_token, refresh_token=profile.refresh_token
    )
