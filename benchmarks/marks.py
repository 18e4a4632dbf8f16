"""What a run leaves behind: the moment at which it began. The function that every subject runs does only this.

Where runs happen in this process, the moment goes into a list; in a process of their own, as eight bytes at the end
of a file, which the measuring process reads into the same list.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final

STARTS: Final[list[float]] = []
"""Wall time of each run so far, in seconds, in the order in which they began."""
NEVER_MORE: Final = 0.002
"""Seconds between two looks at how many there are; what is measured stands in the marks."""
FILE: Final = "BENCH_MARKS"
"""The variable that names the file to a process of its own."""
GATE: Final = "BENCH_GATE"
_MARK: Final = struct.Struct("<d")
_FAR: Final[list[BinaryIO]] = []


def nothing() -> None:
    """What is run."""
    STARTS.append(time.time())


async def nothing_async() -> None:
    """The same, for those who await it."""
    STARTS.append(time.time())


async def nothing_saq(context: Any) -> None:
    """The same, as SAQ calls it."""
    STARTS.append(time.time())


def nothing_far() -> None:
    """The same, in another process than the one that measures."""
    os.write(_file(), _MARK.pack(time.time()))


async def nothing_far_async() -> None:
    """The same, for those who await it."""
    nothing_far()


def wait_at_gate() -> None:
    """A first run that holds a worker back until the gate is open: until its file is there."""
    while not Path(os.environ[GATE]).exists():
        time.sleep(NEVER_MORE)


def open_gate(environment: Mapping[str, str]) -> None:
    """Let the worker with this environment go on."""
    Path(environment[GATE]).touch()


@cache
def _file() -> int:
    return os.open(os.environ[FILE], os.O_WRONLY | os.O_APPEND)


def listen(folder: Path) -> dict[str, str]:
    """Read from now on what other processes note; the environment that tells them where."""
    path = folder / "marks"
    path.touch()
    _FAR.append(path.open("rb"))
    return {FILE: str(path), GATE: str(folder / "gate")}


def look() -> int:
    """How many have begun."""
    for file in _FAR:
        told = file.read()
        whole = len(told) - len(told) % _MARK.size
        file.seek(whole - len(told), os.SEEK_CUR)
        STARTS.extend(moment for (moment,) in _MARK.iter_unpack(told[:whole]))
    return len(STARTS)


async def reached(count: int, within: float) -> bool:
    """Wait until so many have begun; False if they have not *within* so many seconds."""
    until = time.monotonic() + within
    while look() < count:
        if time.monotonic() > until:
            return False
        await asyncio.sleep(NEVER_MORE)
    return True
