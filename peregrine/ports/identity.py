"""Who asks, and what they were given: proof of identity and grants, as the doors and the use cases see them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

from peregrine.domain.moment import Moment
from peregrine.domain.permission import ANYBODY, Decision, Permission


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Whoever sent the request. ``subjects`` are what grants speak of; ``id`` is what ``created_by`` shows."""

    id: str
    subjects: tuple[str, ...]
    name: str = ""
    scopes: tuple[str, ...] = ()
    expires_at: Moment | None = None
    is_known: bool = True
    """False for a request without credentials."""
    session: str = ""
    """The session that the credentials hold good for; empty: they hold by themselves, to their end."""


NOBODY: Final = Principal(id="anonymous", subjects=(ANYBODY,), is_known=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Where a demand comes from, for the log and the audit trail."""

    route: str = ""
    address: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """A principal together with the request it stands behind: the first argument of every use case."""

    principal: Principal
    request: Request = field(default_factory=Request)

    @property
    def id(self) -> str:
        """What ``created_by`` and ``updated_by`` show."""
        return self.principal.id


class Identity(Protocol):
    """Proof: text of a token → principal."""

    async def principal_of(self, token: str) -> Principal:
        """Who holds *token*.

        Raises:  Unauthenticated (the reason is for the log alone); Unavailable when that can't be told now.
        """
        ...


class Grants(Protocol):
    """What subjects may do. Deny beats allow; no allow means deny."""

    async def decide(self, asker: Asker, permission: Permission) -> Decision:
        """Whether the subjects of *asker* have *permission*. Not older than one second against the stored policies.

        Raises:  Unavailable: nobody is let in by guessing.
        """
        ...

    def refresh(self) -> None:
        """Forget what was cached: the policies have changed."""
        ...


class KeyMint(Protocol):
    """Makes the secrets of API keys."""

    def mint(self, id: str) -> tuple[str, str]:
        """A new token for the key *id*, to be shown once, and the digest of it, to be kept."""
        ...

    def forget(self, id: str) -> None:
        """Take tokens of this key for proven no longer."""
        ...
