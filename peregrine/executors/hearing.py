"""Owns how much a run may say: lines cut, counted, veiled; must not know where they go.

A function that prints without end costs its own time, not the store's room nor the service's. Of what is too much the
last lines are kept as well: the end of a log is where the reason stands.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

LINES_MAX: Final = 1000
LINE_CHARS_MAX: Final = 2000
CHARS_MAX: Final = 256 * 1024
LAST_LINES_MAX: Final = 20
_PIECE_MAX: Final = 4 * LINE_CHARS_MAX
"""Bytes of an unfinished line that are kept: a line's worth of any letters."""
_STEPS_AT_ONCE: Final = 20
_STEPS_PER_SECOND: Final = 20.0


class Gate:
    """Lets a short burst of progress pass, then so many steps a second; the newest is never lost, only late."""

    def __init__(self) -> None:
        self._steps = float(_STEPS_AT_ONCE)
        self._at = time.monotonic()

    def opens(self) -> bool:
        """Whether one more step may pass now."""
        now = time.monotonic()
        self._steps = min(float(_STEPS_AT_ONCE), self._steps + (now - self._at) * _STEPS_PER_SECOND)
        self._at = now
        if self._steps < 1:
            return False
        self._steps -= 1
        return True


class Hearing:
    """One run's words on their way to its execution: the first ``LINES_MAX`` lines (``CHARS_MAX`` characters), the last
    ``LAST_LINES_MAX``, and how many are missing between them.
    """

    def __init__(
        self, log: Callable[[str], None], progress: Callable[[float, str], None], veil: Callable[[str], str]
    ) -> None:
        self._log = log
        self._progress = progress
        self._veil = veil
        self._lines_left = LINES_MAX
        self._chars_left = CHARS_MAX
        self._dropped = 0
        self._last: deque[str] = deque(maxlen=LAST_LINES_MAX)
        self._piece = b""

    @property
    def is_full(self) -> bool:
        """Whether further lines are only counted, but for the last ones."""
        return self._lines_left <= 0 or self._chars_left <= 0

    def output(self, data: bytes) -> None:
        """Take what was printed; a line is told when it ends."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = self._piece + lines[0]
            self._piece = b""
            if self.is_full and len(lines) > LAST_LINES_MAX:
                self._dropped += len(lines) - LAST_LINES_MAX
                del lines[:-LAST_LINES_MAX]
            for line in lines:
                self.line(line[:_PIECE_MAX].decode("utf-8", "replace").removesuffix("\r"))
        self._piece = (self._piece + rest)[:_PIECE_MAX]

    def line(self, text: str) -> None:
        """Tell one line, or keep it as perhaps the last."""
        if self.is_full:
            self._dropped += 1
            self._last.append(text)
        else:
            self._lines_left -= 1
            self._chars_left -= min(len(text), LINE_CHARS_MAX)
            self._tell(text)

    def progress(self, fraction: float, text: str) -> None:
        self._progress(fraction, self._veil(text)[:LINE_CHARS_MAX])

    def finish(self) -> None:
        """Tell the last lines, though one may not have ended, and how much was dropped before them."""
        if self._piece:
            self.output(b"\n")
        if self._dropped > len(self._last):
            self._log(f"({self._dropped - len(self._last)} lines dropped)")
        for text in self._last:
            self._tell(text)
        self._last.clear()
        self._dropped = 0

    def _tell(self, text: str) -> None:
        text = self._veil(text)
        self._log(text if len(text) <= LINE_CHARS_MAX else text[: LINE_CHARS_MAX - 1] + "…")
