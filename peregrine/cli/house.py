"""What the command line needs from this machine rather than over HTTP; ``app`` fills it in. Must not know how."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

Flags: TypeAlias = Mapping[str, str]
"""Texts by variable name, as the environment would give them; they win over it."""


class Undone(Exception):
    """What was asked can't be done; the one line says why. The process exits with 1."""


@dataclass(frozen=True, slots=True)
class SettingLine:
    """One setting as it holds, a secret hidden, and where it came from."""

    name: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """Who a token shall speak for, and for how long (a duration's text)."""

    user: str
    groups: tuple[str, ...]
    lasts: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One check of the doctor: what was looked at, whether it is well, and what was seen."""

    check: str
    is_well: bool
    seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Where everything shall be moved from and to; of a copy the source stays in service."""

    source: str
    target: str
    is_copy: bool


class House(Protocol):
    """The service's own verbs. Each may raise BadConfiguration or UnsafeStore: one line, exit code 78."""

    def serve(self, flags: Flags) -> int:
        """Run the service until it is told to stop; the exit code."""
        ...

    def demo(self, flags: Flags) -> int:
        """Run a guided demonstration until it is told to stop; the exit code."""
        ...

    def demo_eve(self, flags: Flags) -> int:
        """Run the EVE Online tasks once against a fake EVE; the exit code."""
        ...

    def settings(self, flags: Flags) -> tuple[Sequence[SettingLine], Sequence[str]]:
        """All settings as they hold, and what looks like a slip of the pen."""
        ...

    def check(self, flags: Flags) -> Sequence[str]:
        """What looks like a slip of the pen, if the service could start with these settings."""
        ...

    def mint(self, flags: Flags, request: TokenRequest) -> str:
        """A new token, signed with the data directory's secret."""
        ...

    def backup(self, flags: Flags, target: str) -> str:
        """Copy the store while it may be in use, check the copy, and give its path. Raises Undone."""
        ...

    def rotate(self, flags: Flags, tell: Callable[[str], None]) -> str:
        """Seal the secrets of all tasks by a new key, telling how far it is; what came of it. Raises Undone."""
        ...

    def migrate(
        self, flags: Flags, move: Move, tell: Callable[[str], None], count: Callable[[str, int, int], None]
    ) -> str:
        """Move a whole store into another and compare; what came of it. *count* hears: what, how many, of how many.

        Raises Undone.
        """
        ...

    def release(self, flags: Flags, place: str) -> str:
        """Let a store that was moved elsewhere be started again. Raises Undone."""
        ...

    def doctor(self, flags: Flags) -> Sequence[Finding]:
        """Look at the store without changing it. Raises Undone when there is nothing to look at."""
        ...
