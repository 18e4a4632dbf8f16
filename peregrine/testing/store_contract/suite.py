"""Owns the three lists of checks; must not know what any of them says."""

from __future__ import annotations

from typing import Final

from peregrine.testing.store_contract import (
    care,
    claims,
    crashes,
    lists,
    notes,
    plans,
    settlements,
    shared,
    tasks,
    walk,
)
from peregrine.testing.store_contract.factory import Check, CrashCheck, SharedCheck, checks_in

STORE_CHECKS: Final[tuple[Check, ...]] = checks_in(tasks, notes, plans, claims, settlements, lists, care, walk)
SHARED_CHECKS: Final[tuple[SharedCheck, ...]] = checks_in(shared)
CRASH_CHECKS: Final[tuple[CrashCheck, ...]] = checks_in(crashes)
