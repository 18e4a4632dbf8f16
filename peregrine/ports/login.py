"""The login by another house (EVE Online's): what the doors ask of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from peregrine.domain.moment import Duration, Moment


@dataclass(frozen=True, slots=True)
class Begun:
    """Where to send the browser, and the state that it must bring back."""

    url: str
    state: str = field(repr=False)
    lasts: Duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """Who came back, proven and not kept yet."""

    character_id: int
    ticket: object = field(repr=False)
    """What the login itself needs to go on; nobody else looks at it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """Who signed in, and the token of the session."""

    user_id: str
    token: str = field(repr=False)
    expires_at: Moment
    is_only_user: bool = False
    """Whether there is no other user."""


class Login(Protocol):
    """Raises, each method:  Unavailable while the other house is away."""

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach us by HTTPS."""
        ...

    async def begin(self, user_id: str | None) -> Begun:
        """A new login; what comes of it is added to *user_id*, if that is given."""
        ...

    @property
    def first_is_admin(self) -> bool:
        """Whether the first user becomes ``super_admin``."""
        ...

    async def prove(self, code: str, state: str) -> Proven:
        """Who comes back from a login that was begun, once. Raises Invalid for a code or state that is not good."""
        ...

    async def keep(self, proven: Proven) -> SignedIn:
        """Store who was proven, and begin a session."""
        ...


class Sessions(Protocol):
    """Sessions that can be ended before their token expires."""

    async def end(self, session: str) -> None:
        """Its token is worth nothing from now on. Raises Unavailable."""
        ...
