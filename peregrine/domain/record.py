"""Owns how the records of the spine are made: frozen for whoever checks types, quick at run time; must not know them.

A frozen dataclass sets each field of itself through ``object.__setattr__``, three times as long as the plain way, and
some seven records with seventy fields are made for each execution (decision 0111).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as record
else:
    from dataclasses import dataclass

    def record(*, frozen, **how):
        """``dataclass(frozen=True, …)`` whose freezing is the type checker's to enforce; equal ones hash alike."""
        return dataclass(unsafe_hash=frozen, **how)


__all__ = ["record"]
