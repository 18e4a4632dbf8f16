"""Owns what a part of the service that can be left out is given, and what it brings; must not know any such part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from peregrine.app.settings import Settings
from peregrine.modules.builtin.health import Probe
from peregrine.ports.clock import Clock
from peregrine.ports.entropy import Entropy
from peregrine.ports.eve import EveStore
from peregrine.ports.login import Login
from peregrine.ports.module import SystemTask
from peregrine.ports.records import RecordStore
from peregrine.ports.shared import SharedState
from peregrine.ports.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionNeeds:
    """What it stands on. ``sign`` makes a token of our own; ``shared``: where instances tell each other of limits."""

    settings: Settings
    version: str
    store: EveStore
    records: RecordStore
    vault: Vault
    clock: Clock
    entropy: Entropy
    sign: Callable[[Mapping[str, Any]], str]
    shared: SharedState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """What it brings: system tasks, what the health check asks besides, a way to sign in."""

    tasks: tuple[SystemTask, ...] = ()
    probes: Mapping[str, Probe] = field(default_factory=dict)
    login: Login | None = None


def nothing(needs: ExtensionNeeds, stack: AsyncExitStack) -> Extension:
    """The extension that brings nothing: its place in the wiring when the other is left out."""
    return Extension()
