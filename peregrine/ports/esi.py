"""What the house asks of EVE Online: public facts by ESI, proof of characters by its SSO; contracts in prose.

Ids are EVE's numbers. Facts come as what is kept of them (``ports.eve``), whichever schema ESI answers in.

::

    PeregrineError
    ├── Unavailable
    │   ├── EsiUnavailable    ESI is away, slow, in downtime or wants a pause: the same call may pass later
    │   └── SsoUnavailable    the same of the SSO: whatever token was in hand is as good as before
    ├── EsiRefused            ESI understood and said no (4xx): the same call will be refused again
    ├── EsiMisconfigured      our own settings are wrong: nobody needs to try again before they are mended
    ├── SsoRefused            this grant, code or token is dead for good
    ├── SsoMisconfigured      the SSO does not know our credentials: every token is as good as before
    └── SsoMistrusted         an answer can't be proven to be EVE's: nothing in it may be used
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from peregrine.domain.errors import PeregrineError, Unavailable
from peregrine.domain.moment import Moment
from peregrine.ports.eve import Affiliation, Alliance, Character, Corporation

AFFILIATIONS_MAX: Final = 1000
"""Ids in one call. Source: the specification of POST /characters/affiliation."""

Facts = TypeVar("Facts")


# ── errors ───────────────────────────────────────────────────────────────────────────────────────


class EsiUnavailable(Unavailable):
    """ESI can't answer now; nothing is wrong with the question. Ask again after ``retry_after`` seconds."""

    code = "esi_unavailable"


class EsiRefused(PeregrineError):
    """ESI refuses this question for good (a poison id among many, an id out of range): ask differently."""

    code = "esi_refused"

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"ESI refused with {status}: {text}" if text else f"ESI refused with {status}")
        self.status = status
        self.text = text


class EsiMisconfigured(PeregrineError):
    """A setting of ours is wrong (compatibility date, address); the message says which and how to mend it."""

    code = "esi_misconfigured"


class SsoUnavailable(Unavailable):
    """The SSO can't answer now; every token stays as good as it was. Ask again after ``retry_after`` seconds.

    ``in_doubt``: a request had been sent and no answer to it came through, so that a refresh may have been done.
    """

    code = "sso_unavailable"

    def __init__(self, message: str, *, retry_after: int = 1, in_doubt: bool = False) -> None:
        super().__init__(message, retry_after=retry_after)
        self.in_doubt = in_doubt


class SsoRefused(PeregrineError):
    """The grant is dead for good: the person has to sign in again. ``reason`` is the SSO's word for it."""

    code = "sso_refused"

    def __init__(self, reason: str, text: str = "") -> None:
        super().__init__(f"EVE SSO refused: {reason} ({text})" if text else f"EVE SSO refused: {reason}")
        self.reason = reason
        self.text = text


class SsoMisconfigured(PeregrineError):
    """EVE SSO does not accept our client id or secret; no token is to blame. The message says what to mend."""

    code = "sso_misconfigured"


class SsoMistrusted(PeregrineError):
    """A token or document can't be proven to come from EVE for us: use nothing of it. Says why, shows nothing."""

    code = "sso_mistrusted"


# ── facts ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class CorporationFacts:
    """One corporation, from either schema. ``is_closed``: its last member has left; what is told of it is history.

    The schema before 2026-07-21 does not tell who is closed.
    """

    corporation: Corporation
    is_closed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """The cluster as ESI sees it. ``vip``: it is up for CCP only, as just after a downtime."""

    players: int
    server_version: str
    started_at: Moment
    vip: bool = False


@dataclass(frozen=True, slots=True)
class Seen(Generic[Facts]):
    """What ESI says of one id: ``facts``, or None where it says that there is no such thing (404, 410).

    ``unchanged``: this client has given the same facts before, and ESI was not asked again (``expires_at`` lies ahead)
    or answered 304. Whoever skips a write by it must know that the write before it came through; comparing with what
    is stored is always right.
    """

    facts: Facts | None
    unchanged: bool
    expires_at: Moment


# ── ESI ──────────────────────────────────────────────────────────────────────────────────────────


class Esi(Protocol):
    """Public facts. Every call may wait, within the client's patience, until a request is polite; a cancel ends it.

    Callers need no pauses, no retries of their own and no count of errors: limits, ``Expires``, downtime and repeated
    tries of what is transient are kept here, for all callers and instances together.

    Raises, all of them:  EsiUnavailable (stop the run, or go on later), EsiRefused, EsiMisconfigured.
    """

    async def affiliations(self, ids: Sequence[int]) -> Sequence[Affiliation]:
        """Of 1 to ``AFFILIATIONS_MAX`` different characters, in any order; some may be missing in the answer.

        EsiRefused: at least one id is poison and the others got no answer either; ask in halves to find it.
        """
        ...

    async def alliance_ids(self) -> Sequence[int]:
        """Every active alliance."""
        ...

    async def alliance(self, alliance_id: int) -> Seen[Alliance]:
        """One alliance."""
        ...

    async def corporation(self, corporation_id: int) -> Seen[CorporationFacts]:
        """One corporation, a player's or an NPC one."""
        ...

    async def npc_corporation_ids(self) -> Sequence[int]:
        """Every NPC corporation."""
        ...

    async def character(self, character_id: int) -> Seen[Character]:
        """One character. ESI no longer tells an ancestry."""
        ...

    async def status(self) -> ServerStatus:
        """The cluster's status, at most 30 seconds old. Asked in downtime too; EsiUnavailable means it is down."""
        ...


# ── SSO ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class TokenPair:
    """What the SSO handed out. Store ``refresh_token`` before the access token is used: the older one may be dead.

    ``refresh_token`` is empty when no scope was granted; after a refresh it is never empty.
    """

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_at: Moment


@dataclass(frozen=True, slots=True)
class SsoCharacter:
    """Who an access token speaks for. Another ``owner_hash`` than the stored one: the character was handed over."""

    character_id: int
    name: str
    owner_hash: str
    scopes: tuple[str, ...]
    expires_at: Moment


class Sso(Protocol):
    """EVE's sign-in. No secret stands in an error, a log line or a ``repr``.

    Raises:  SsoUnavailable, SsoMisconfigured; SsoRefused and SsoMistrusted where a method says so.
    """

    async def authorize_url(self, *, state: str, challenge: str, scopes: Sequence[str] = ()) -> str:
        """Where to send the browser. *challenge*: the S256 challenge of the verifier that ``exchange`` is given."""
        ...

    async def exchange(self, code: str, *, verifier: str) -> TokenPair:
        """The tokens for a code, which is good once. SsoRefused: the code is spent, too old or not ours."""
        ...

    async def refresh(self, refresh_token: str) -> TokenPair:
        """A new pair. One flight at a time for a character: the old token may be dead as soon as this is asked.

        SsoRefused: dead for good. When the call is cut off, or raises SsoUnavailable ``in_doubt``, the SSO may have
        handed out a new token that nobody has; the old one may still be good and is worth another try.
        """
        ...

    async def verify(self, access_token: str) -> SsoCharacter:
        """Who it speaks for, after every check. SsoMistrusted: not EVE's, not for us, or expired."""
        ...


# ── between restarts and instances ───────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Kept:
    """One answer of ESI: not to be asked for again before ``expires_at``, and after it with ``etag``.

    ``body`` is opaque to whoever keeps it. ``status`` is 200 or, for what does not exist, 404.
    """

    etag: str
    expires_at: Moment
    body: bytes
    status: int = 200


class EsiCache(Protocol):
    """Answers by key. May forget anything at any time; what it returns is what was put. Bounded by whoever keeps it.

    An entry is useful beyond its ``expires_at`` (its ETag saves the body), for some days.
    """

    async def get(self, key: str) -> Kept | None:
        """What was last put under *key*, if it is still kept."""
        ...

    async def put(self, key: str, kept: Kept) -> None:
        """Keep *kept* under *key* instead of what was there."""
        ...
