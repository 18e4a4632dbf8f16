"""Owns the number of the collections' shape, and how a document says that it needs a newer one; not: what is in it.

Versions run side by side while a fleet is upgraded. Shapes only grow, every write sets fields by their paths, and so
what a newer version added stays. What an older one would get wrong is not left to chance: whoever writes it says so in
the document (``needs``), and older ones neither plan, run, recover nor change it (decision 0130).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

VERSION: Final = 1
"""Of the shape of the collections, as this program writes and understands it."""
OLDEST: Final = 1
"""The oldest version that may still open a database which this one has opened."""
UNDERSTOOD: Final = {"needs": {"$not": {"$gt": VERSION}}}
"""The condition for documents that do not ask for a newer version."""


def needs_newer(document: Mapping[str, Any]) -> bool:
    """Whether *document* says that only a newer version may act on it."""
    needs = document.get("needs")
    return isinstance(needs, int) and needs > VERSION
