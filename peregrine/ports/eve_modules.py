"""What the EVE system tasks call: four modules, each a protocol. The house brings one of each, a host may its own.

The names are those of the program whose interfaces these are. *context* is the attempt's: a module says there how far
it is, and finds there when its time is up. A cancel reaches it as ``asyncio.CancelledError`` and must pass. Whatever
else it raises fails the attempt, as in a function: ``RetryLater`` and ``Unavailable`` say when to try again, and after
``PermanentError`` nobody does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from peregrine.ports.executor import RunContext


@dataclass(frozen=True, slots=True, kw_only=True)
class AffiliationsUpdated:
    """How an update of all affiliations went."""

    updated_characters: int
    failed_characters: int
    skipped_characters: int
    """Nothing had changed, or nothing can change any more."""
    duration: int
    """Whole seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlliancesImported:
    """How an import of all alliances went. ``skipped``: what was stored already said the same."""

    total: int
    processed: int
    created: int
    updated: int
    failed: int
    skipped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CorporationsUpdated:
    """How an update of all corporations went. ``vanished``: they are closed, or ESI knows them no more."""

    total: int
    updated: int
    unchanged: int
    failed: int
    vanished: int


class AuthModule(Protocol):
    """Keeps tokens fresh."""

    async def refresh_expiring_tokens(self, context: RunContext, batch_size: int) -> tuple[int, int]:
        """Refresh what is about to expire, the soonest first, *batch_size* at a time; how many succeeded and failed."""
        ...


class CharacterModule(Protocol):
    """Keeps characters fresh."""

    async def update_all_affiliations(self, context: RunContext) -> AffiliationsUpdated | tuple[int, int, int]:
        """Corporation, alliance and faction of every known character; a tuple: updated, failed, skipped."""
        ...


class AllianceModule(Protocol):
    """Keeps alliances fresh."""

    async def bulk_import_alliances(self, context: RunContext) -> AlliancesImported:
        """Every alliance there is."""
        ...


class CorporationModule(Protocol):
    """Keeps corporations fresh."""

    async def update_all_corporations(self, context: RunContext, concurrent_workers: int) -> CorporationsUpdated | None:
        """Every known corporation, by so many workers; what it counted, if it counts."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EveModules:
    """The four, each if there is one."""

    auth: AuthModule | None = None
    character: CharacterModule | None = None
    alliance: AllianceModule | None = None
    corporation: CorporationModule | None = None
