"""What is kept of EVE Online: pilots' profiles with their tokens, login states, characters, alliances, corporations.

The collections and their fields are those that existing databases have; moments are the house's. One suite judges
every store of them (``peregrine.testing.eve_contract``). Rules for every verb: a batch is written whole or not at all
(MongoDB: item by item); ``created_at`` is set once; what vanished stays, with ``deleted_at``; it may raise
``Unavailable``. A store sees tokens sealed, and never opens one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, Protocol

from peregrine.domain.moment import Moment
from peregrine.ports.vault import CannotOpen, Vault, is_sealed, key_of

PROFILES: Final = "user_profiles"
IN_DOUBT: Final = "in_doubt"
"""Why a token stopped being valid: an earlier refresh lost its answer, and with it the token that came in it."""


class Upsert(StrEnum):
    """What became of a document that was given whole."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    """All of it was there already, so nothing was written."""


@dataclass(frozen=True, slots=True)
class Affiliation:
    """Where a character belongs now."""

    character_id: int
    corporation_id: int
    alliance_id: int | None = None
    faction_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Character:
    """One character. The moments are the store's: what is given for them is not looked at."""

    character_id: int
    name: str
    corporation_id: int = 0
    """0: not known yet; the next look at affiliations tells."""
    alliance_id: int | None = None
    faction_id: int | None = None
    birthday: Moment | None = None
    security_status: float | None = None
    description: str = ""
    gender: str = ""
    race_id: int = 0
    bloodline_id: int = 0
    ancestry_id: int | None = None
    created_at: Moment = 0
    updated_at: Moment = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Alliance:
    """One alliance. The moments at the end are the store's."""

    alliance_id: int
    name: str
    ticker: str
    date_founded: Moment | None = None
    creator_corporation_id: int = 0
    creator_character_id: int = 0
    executor_corporation_id: int | None = None
    """None: the alliance is closed."""
    faction_id: int | None = None
    created_at: Moment = 0
    updated_at: Moment = 0
    deleted_at: Moment | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Corporation:
    """One corporation. ``tax_rate`` is a fraction, 0 to 1. The moments at the end are the store's."""

    corporation_id: int
    name: str
    ticker: str
    description: str = ""
    url: str | None = None
    alliance_id: int | None = None
    """None: it is in no alliance, or has left it."""
    ceo_id: int | None = None
    creator_id: int | None = None
    date_founded: Moment | None = None
    faction_id: int | None = None
    """Which it fights for."""
    home_station_id: int | None = None
    member_count: int = 0
    shares: int | None = None
    tax_rate: float = 0.0
    war_eligible: bool | None = None
    created_at: Moment = 0
    updated_at: Moment = 0
    deleted_at: Moment | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What one refresh or login gave, sealed for ``token_place``."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_at: Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A pilot who signed in. A user has many characters, a character one profile.

    The last four fields are how refreshes keep out of each other's way; existing databases lack them, which reads as
    their defaults. The moments ``created_at`` and ``updated_at`` are the store's.
    """

    user_id: str
    character_id: int
    character_name: str
    character_owner_hash: str = ""
    corporation_id: int | None = None
    corporation_name: str = ""
    alliance_id: int | None = None
    alliance_name: str = ""
    security_status: float | None = None
    birthday: Moment | None = None
    scopes: tuple[str, ...] = ()
    access_token: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    """Empty: none was given (no scopes were asked for), so there is nothing to refresh."""
    token_expiry: Moment | None = None
    valid: bool = True
    last_login: Moment | None = None
    profile_updated: Moment | None = None
    created_at: Moment = 0
    updated_at: Moment = 0
    token_version: int = 0
    """Grows by one each time that tokens are stored: whoever refreshed an older one is told by it."""
    refresh_owner: str | None = None
    """Who is refreshing it now, or died while doing so; new for every try."""
    refresh_in_doubt: bool = False
    """An earlier refresh was sent and its answer lost, so the stored refresh token may be used up."""
    invalid_reason: str = ""

    def put_over(self, stored: Profile | None, *, at: Moment) -> Profile:
        """What lies in the store when a login gave this profile and *stored* lay there: see ``put_profile``."""
        return replace(
            self,
            created_at=at if stored is None else stored.created_at,
            updated_at=at,
            token_version=1 if stored is None else stored.token_version + 1,
            valid=True,
            refresh_owner=None,
            refresh_in_doubt=False,
            invalid_reason="",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthState:
    """A login under way. ``code_verifier`` proves to EVE that who ends it is who began it."""

    state: str = field(repr=False)
    code_verifier: str = field(repr=False)
    user_id: str | None = None
    """Whose characters the new one is added to; None: a user of its own, unless it is known."""
    created_at: Moment
    expires_at: Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshing:
    """The right to refresh the tokens of one character: asked for with what is seen, refused when that has changed.

    ``held_by`` None: nobody holds it. Else whoever asks has watched that holder for longer than it may live.
    """

    character_id: int
    token_version: int
    held_by: str | None
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedTokens:
    """The tokens of one profile as they lie in the store."""

    character_id: int
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)


def token_place(character_id: int, name: str) -> str:
    """What a token is sealed for: moved to another character, or to the other field, it opens nowhere."""
    return f"{PROFILES}/{character_id}/{name}"


def resealed_tokens(vault: Vault, tokens: SealedTokens) -> tuple[SealedTokens, int]:
    """*tokens* sealed by the newest key, plain ones too; and how many no key here opens: those stay as they are."""
    access, lost = _resealed(vault, tokens.access_token, token_place(tokens.character_id, "access_token"))
    refresh, lost_too = _resealed(vault, tokens.refresh_token, token_place(tokens.character_id, "refresh_token"))
    return replace(tokens, access_token=access, refresh_token=refresh), lost + lost_too


def _resealed(vault: Vault, text: str, place: str) -> tuple[str, bool]:
    if not text or key_of(text) == vault.key_id:
        return text, False
    try:
        return vault.seal(vault.open(text, place=place) if is_sealed(text) else text, place=place), False
    except CannotOpen:
        return text, True


class CharacterStore(Protocol):
    """Characters, by the thousand."""

    async def character_ids(self, *, after: int, limit: int) -> Sequence[int]:
        """The next *limit* ids behind *after*, ascending. No document is read for them."""
        ...

    async def characters_of(self, ids: Sequence[int]) -> Sequence[Character]:
        """Those of *ids* that are known, by id."""
        ...

    async def affiliations_of(self, ids: Sequence[int]) -> Sequence[Affiliation]:
        """Where those of *ids* that are known belong, by id."""
        ...

    async def set_affiliations(self, changes: Sequence[Affiliation], *, now: Moment) -> int:
        """Write each whole, what it lacks is removed; how many of them are known characters."""
        ...

    async def put_characters(self, characters: Sequence[Character], *, now: Moment) -> Sequence[Upsert]: ...


class AllianceStore(Protocol):
    """Alliances."""

    async def alliance_ids(self, *, after: int, limit: int) -> Sequence[int]:
        """The next *limit* ids behind *after*, ascending, without the vanished ones."""
        ...

    async def alliances_of(self, ids: Sequence[int]) -> Sequence[Alliance]:
        """Those of *ids* that are known, by id, the vanished ones too."""
        ...

    async def put_alliances(self, alliances: Sequence[Alliance], *, now: Moment) -> Sequence[Upsert]:
        """Store each whole. One that had vanished is back."""
        ...

    async def vanish_alliances(self, ids: Sequence[int], *, now: Moment) -> int:
        """Mark those of *ids* that are there and not marked; how many."""
        ...


class CorporationStore(Protocol):
    """Corporations."""

    async def corporation_ids(self, *, after: int, limit: int) -> Sequence[int]:
        """The next *limit* ids behind *after*, ascending: of the documents that have not vanished, and of those that
        characters name and of which there is no document yet."""
        ...

    async def corporations_of(self, ids: Sequence[int]) -> Sequence[Corporation]:
        """Those of *ids* that are known, by id, the vanished ones too."""
        ...

    async def put_corporations(self, corporations: Sequence[Corporation], *, now: Moment) -> Sequence[Upsert]:
        """Store each whole, what it lacks is removed. One that had vanished is back."""
        ...

    async def vanish_corporations(self, ids: Sequence[int], *, now: Moment) -> int:
        """Mark those of *ids* that are there and not marked; how many."""
        ...


class ProfileStore(Protocol):
    """Pilots and their tokens. Each write is decided by what lies there, in the write."""

    async def put_profile(self, profile: Profile, *, now: Moment) -> Profile:
        """Store what a login gave and give back what lies there now: tokens of the next version, held by nobody, in no
        doubt, valid."""
        ...

    async def profile_of(self, character_id: int) -> Profile | None: ...

    async def has_other_users(self, user_id: str) -> bool:
        """Whether any profile is not of *user_id*."""
        ...

    async def expiring_profiles(
        self, *, before: Moment, after: tuple[Moment, int] | None, limit: int
    ) -> Sequence[Profile]:
        """Valid profiles with a refresh token whose access token ends at or before *before*, the soonest first.

        *after*: behind this (``token_expiry``, ``character_id``). One without an expiry counts as ended at 0.
        """
        ...

    async def claim_refresh(self, wish: Refreshing, *, now: Moment) -> bool:
        """Give the right to ``wish.owner`` if version and holder are as it says and the profile is valid; whether it
        did. Taken from a holder, the profile is in doubt from then on."""
        ...

    async def store_tokens(self, character_id: int, tokens: Tokens, *, token_version: int, now: Moment) -> bool:
        """Store what a refresh of version *token_version* gave, if that is still what lies there; whether it is.

        Whoever holds the right meanwhile: an answer that comes late is the newest all the same. The profile is valid
        then, in no doubt and held by nobody.
        """
        ...

    async def release_refresh(self, character_id: int, *, owner: str, in_doubt: bool, now: Moment) -> bool:
        """Give the right back if *owner* holds it; a doubt is added, never removed."""
        ...

    async def invalidate_token(
        self, character_id: int, *, owner: str, reason: str, forget: bool = False, now: Moment
    ) -> bool:
        """Mark the profile invalid and give the right back, if *owner* holds it. The tokens stay, unless *forget*."""
        ...

    async def sealed_tokens(self, *, after: int, limit: int) -> Sequence[SealedTokens]:
        """The next *limit* behind the character *after*, by id."""
        ...

    async def reseal_tokens(self, changes: Sequence[tuple[SealedTokens, SealedTokens]], *, now: Moment) -> int:
        """Replace each first by its second where the first still lies there; how many. Nothing else changes, so a
        refresh under way stays what it is."""
        ...


class AuthStateStore(Protocol):
    """Logins under way."""

    async def put_auth_state(self, state: AuthState) -> None: ...

    async def take_auth_state(self, state: str, *, now: Moment) -> AuthState | None:
        """Remove it and give it, to one caller alone; None when there is none or it has expired."""
        ...

    async def purge_auth_states(self, *, now: Moment, limit: int) -> int:
        """Remove up to *limit* expired ones; how many."""
        ...


class EveStore(CharacterStore, AllianceStore, CorporationStore, ProfileStore, AuthStateStore, Protocol):
    """All five."""
