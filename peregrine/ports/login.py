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
class SignedIn:
    """Who signed in, and the token of the session."""

    user_id: str
    character_id: int
    character_name: str
    token: str = field(repr=False)
    expires_at: Moment


class Login(Protocol):
    """Raises, each method:  Unavailable while the other house is away."""

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach us by HTTPS."""
        ...

    async def begin(self, user_id: str | None) -> Begun:
        """A new login; what comes of it is added to *user_id*, if that is given."""
        ...

    async def finish(self, code: str, state: str) -> SignedIn:
        """The end of one that was begun, once. Raises Invalid for a code or state that is not good (any more)."""
        ...


class Sessions(Protocol):
    """Sessions that can be ended before their token expires."""

    async def end(self, session: str) -> None:
        """Its token is worth nothing from now on. Raises Unavailable."""
        ...
