"""Owns the login with EVE Online: state and proof of the browser, who the pilot is to us, the session that begins. Must
not know routes or cookies, nor how our own tokens are signed.

A state is good for a quarter of an hour and once. The verifier of the exchange never leaves us before the end.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from peregrine.domain.errors import Invalid, Unavailable
from peregrine.domain.moment import HOUR, MINUTE, SECOND, Duration
from peregrine.modules.esi.sso import challenge_of
from peregrine.modules.esi.tokens import sealed_tokens
from peregrine.ports.clock import Clock
from peregrine.ports.entropy import Entropy
from peregrine.ports.esi import Sso, SsoCharacter, SsoMisconfigured, SsoMistrusted, SsoRefused, TokenPair
from peregrine.ports.eve import AuthState, Character, EveStore, Profile
from peregrine.ports.login import Begun, Proven, SignedIn
from peregrine.ports.records import Record, RecordStore
from peregrine.ports.shelves import SESSION_CLAIM, SESSIONS
from peregrine.ports.vault import Vault

STATE_LASTS: Final[Duration] = 15 * MINUTE
SESSION_LASTS: Final[Duration] = 24 * HOUR
GROUP: Final = "authenticated"

_log = logging.getLogger(__name__)
Sign: TypeAlias = Callable[[Mapping[str, Any]], str]
"""Makes a token of our own of these claims."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginSettings:
    """How the login is wanted."""

    scopes: tuple[str, ...] = ()
    is_secure: bool = True
    first_is_admin: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginNeeds:
    """What the login stands on."""

    sso: Sso
    store: EveStore
    records: RecordStore
    vault: Vault
    clock: Clock
    entropy: Entropy
    sign: Sign


@dataclass(frozen=True, slots=True)
class _Ticket:
    """What a proof leaves for keeping it. ``user_id``: to whom the character is added."""

    pair: TokenPair
    character: SsoCharacter
    user_id: str | None


class EveLogin:
    """A ``ports.login.Login``."""

    def __init__(self, needs: LoginNeeds, settings: LoginSettings) -> None:
        self._needs = needs
        self._settings = settings

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach us by HTTPS."""
        return self._settings.is_secure

    async def begin(self, user_id: str | None) -> Begun:
        """See the port."""
        now = self._needs.clock.now()
        state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        try:
            url = await self._needs.sso.authorize_url(
                state=state, challenge=challenge_of(verifier), scopes=self._settings.scopes
            )
        except SsoMisconfigured as error:
            raise self._unavailable(error) from None
        kept = AuthState(
            state=state, code_verifier=verifier, user_id=user_id, created_at=now, expires_at=now + STATE_LASTS
        )
        await self._needs.store.put_auth_state(kept)
        return Begun(url, state, STATE_LASTS)

    @property
    def first_is_admin(self) -> bool:
        """Whether the first user becomes ``super_admin``."""
        return self._settings.first_is_admin

    async def prove(self, code: str, state: str) -> Proven:
        """See the port."""
        begun = await self._needs.store.take_auth_state(state, now=self._needs.clock.now())
        if begun is None:
            raise Invalid.at("/state", "is unknown, used already, or older than 15 minutes: sign in again")
        pair, character = await self._proven(code, begun)
        return Proven(character_id=character.character_id, ticket=_Ticket(pair, character, begun.user_id))

    async def keep(self, proven: Proven) -> SignedIn:
        """See the port. A crash after the profile was stored costs a new login, nothing else."""
        ticket = proven.ticket
        assert isinstance(ticket, _Ticket)
        user_id = await self._keep(ticket)
        signed = await self._session(user_id, ticket.character)
        if self._settings.first_is_admin and not await self._needs.store.has_other_users(user_id):
            return replace(signed, is_only_user=True)
        return signed

    async def _proven(self, code: str, begun: AuthState) -> tuple[TokenPair, SsoCharacter]:
        try:
            pair = await self._needs.sso.exchange(code, verifier=begun.code_verifier)
            return pair, await self._needs.sso.verify(pair.access_token)
        except SsoRefused:
            raise Invalid.at("/code", "EVE Online does not take it: sign in again") from None
        except SsoMistrusted as error:
            _log.warning("login_mistrusted", extra={"reason": str(error)})
            raise Invalid.at("/code", "what EVE Online gave for it can't be proven: sign in again") from None
        except SsoMisconfigured as error:
            raise self._unavailable(error) from None

    async def _keep(self, ticket: _Ticket) -> str:
        """Store the pilot; the user's id. A character that changed hands belongs to whoever signs in with it now."""
        pair, character = ticket.pair, ticket.character
        store, now, id = self._needs.store, self._needs.clock.now(), character.character_id
        stored = await store.profile_of(id)
        is_same = stored is not None and stored.character_owner_hash in ("", character.owner_hash)
        known = stored.user_id if stored is not None and is_same else None
        user_id = ticket.user_id or known or self._needs.entropy.new_id()
        if not await store.characters_of([id]):
            await store.put_characters([Character(character_id=id, name=character.name)], now=now)
        if stored is not None and is_same and stored.valid and stored.refresh_token and not pair.refresh_token:
            return stored.user_id  # a login without scopes gives no refresh token: the one that is there stays
        tokens = sealed_tokens(self._needs.vault, id, pair)
        fresh = Profile(user_id=user_id, character_id=id, character_name=character.name)
        profile = replace(
            stored if stored is not None and is_same else fresh,
            user_id=user_id,
            character_name=character.name,
            character_owner_hash=character.owner_hash,
            scopes=character.scopes,
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            token_expiry=tokens.expires_at,
            last_login=now,
            profile_updated=now,
        )
        await store.put_profile(profile, now=now)
        return user_id

    async def _session(self, user_id: str, character: SsoCharacter) -> SignedIn:
        """A session that lasts until it is ended or a day is over."""
        needs, now = self._needs, self._needs.clock.now()
        expires_at, id = now + SESSION_LASTS, needs.entropy.new_id()
        record = Record(collection=SESSIONS, key=id, document={"user_id": user_id}, expires_at=expires_at)
        await needs.records.put_record(record, expected_revision=None, now=now)
        claims: dict[str, Any] = {
            "sub": user_id,
            "user_id": user_id,
            "character_id": character.character_id,
            "character_name": character.name,
            "scopes": list(character.scopes),
            "groups": [GROUP],
            SESSION_CLAIM: id,
            "iat": now // SECOND,
            "exp": expires_at // SECOND,
        }
        return SignedIn(
            user_id=user_id,
            token=needs.sign(claims),
            expires_at=expires_at,
        )

    @staticmethod
    def _unavailable(error: SsoMisconfigured) -> Unavailable:
        """Ours to mend, nothing for who signs in: the reason goes to the log."""
        _log.error("login_misconfigured", extra={"reason": str(error)})
        return Unavailable("EVE's sign-in is set up wrongly", retry_after=60)
