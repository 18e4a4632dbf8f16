"""Owns the few lines that Redis runs for us; must not know who wants them run.

They are sent whole: a text of two lines costs hardly more than its digest, and a server that was emptied, restarted or
replaced meanwhile need not be told it anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent


def _lines(name: str) -> str:
    text = (_HERE / name).read_text(encoding="utf-8")
    return "\n".join(line for line in text.splitlines() if not line.startswith("--"))


ACQUIRE: Final = _lines("acquire.lua")
RENEW: Final = _lines("renew.lua")
RELEASE: Final = _lines("release.lua")
SWAP: Final = _lines("swap.lua")
