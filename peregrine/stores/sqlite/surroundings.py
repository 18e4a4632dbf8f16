"""Owns what stands around the writer: which file it is, room on its disk, the fold of its log; not: threads."""

from __future__ import annotations

from pathlib import Path

import apsw

from peregrine.stores.sqlite.folding import Folding
from peregrine.stores.sqlite.place import Anchor, Ballast


class Surroundings:
    """Kept for one store, from its opening to its end."""

    def __init__(self, path: Path, ballast: Ballast, folding: Folding) -> None:
        self._anchor = Anchor(path)
        self._ballast = ballast
        self._folding = folding

    def remember_file(self) -> None:
        """From now on the path must lead to the file that it leads to now."""
        self._anchor.set()

    def check_file(self) -> None:
        """Raises:  Unavailable when the path does not lead to that file any more."""
        self._anchor.check()

    def opened(self, db: apsw.Connection) -> None:
        self._folding.watch(db)

    def before(self, db: apsw.Connection) -> None:
        self._anchor.check()

    def may_grow(self, db: apsw.Connection) -> bool:
        """Room inside the file is room too: retention may have made some."""
        if not self._ballast.is_released or self._ballast.lay():
            return True
        if _free_bytes(db) < self._ballast.size:
            return False
        self._ballast.allow_growth()
        return True

    def after(self, db: apsw.Connection) -> None:
        self._folding.between_groups(db)

    def full(self) -> None:
        self._ballast.release()


def _free_bytes(db: apsw.Connection) -> int:
    free, size = db.pragma("freelist_count"), db.pragma("page_size")
    assert isinstance(free, int)
    assert isinstance(size, int)
    return free * size
