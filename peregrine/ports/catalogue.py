"""What tasks may name: the functions and executors that were registered in this process, as a reader may see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from peregrine.domain.payload import JsonObject


class Catalogue(Protocol):
    """Registered code by its names. Each entry has a description, and a JSON Schema of its parameters."""

    def functions(self) -> Sequence[JsonObject]:
        """For tasks of type ``function``: ``module``, ``function_name``, ``isolation``, …; by module, then name."""
        ...

    def executors(self) -> Sequence[JsonObject]:
        """For tasks of type ``custom``: ``executor``, …; by name."""
        ...
