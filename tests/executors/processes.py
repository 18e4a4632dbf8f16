"""Owns how tests watch real processes: who lives, who is at work, what is still open; must not know what is proven."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import tests.executors.functions
from peregrine.executors.callables import FUNCTIONS
from peregrine.executors.function import FunctionExecutor
from peregrine.executors.isolation import ChildProcesses, IsolationSettings
from peregrine.testing.executor_contract import HostClock

FUNCTIONS_MODULE = tests.executors.functions.__name__


@asynccontextmanager
async def isolated(settings: IsolationSettings | None = None) -> AsyncIterator[tuple[FunctionExecutor, ChildProcesses]]:
    """An executor over the functions of this folder, and its children; nothing of them is left afterwards."""
    children = ChildProcesses(settings or IsolationSettings(modules=(FUNCTIONS_MODULE,)))
    try:
        yield FunctionExecutor(FUNCTIONS, children=children, clock=HostClock()), children
    finally:
        await children.close()


@dataclass
class Doorbell:
    """A socket at which functions say that they are at work."""

    path: str
    _rings: asyncio.Queue[int] = field(default_factory=asyncio.Queue)

    async def rung(self) -> int:
        """The pid of the next function that says so."""
        async with asyncio.timeout(10):
            return await self._rings.get()


@asynccontextmanager
async def doorbell() -> AsyncIterator[Doorbell]:
    # A folder of our own: the path of a socket may have 107 characters, a test's folder is often longer.
    with tempfile.TemporaryDirectory(prefix="bell") as folder:
        bell = Doorbell(os.path.join(folder, "s"))

        async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            bell._rings.put_nowait(int(await reader.readline()))
            writer.close()

        async with await asyncio.start_unix_server(hear, bell.path):
            yield bell


def state_of(pid: int) -> str:
    """The kernel's letter for *pid* (R, S, Z …); empty when there is no such process."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
    return ""


def is_running(pid: int) -> bool:
    """Whether *pid* exists and is no zombie."""
    return state_of(pid) not in ("", "Z")


SERVERS: Final = ("tests.services.mongo_server", "redis-server")
"""What the whole test run stands on, and no test of these has started."""


def descendants(of: int | None = None) -> dict[int, str]:
    """Every process below *of* (ourselves by default), zombies too, with its command line; servers are left out."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError):
                fields = (entry / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found: dict[int, str] = {}
    waiting = [of or os.getpid()]
    while waiting:
        for pid in parents.pop(waiting.pop(), []):
            line = ""
            with suppress(OSError):
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:200]
            if not any(name in line for name in SERVERS):
                found[pid] = line
                waiting.append(pid)
    return found


def open_files(of: int | None = None) -> dict[int, str]:
    """The descriptors of *of* (our own by default) and what they are."""
    found = {}
    for entry in Path(f"/proc/{of or 'self'}/fd").iterdir():
        with suppress(OSError):
            found[int(entry.name)] = os.readlink(entry)
    return found


async def until(holds: Callable[[], bool], *, within: float = 5.0) -> bool:
    """Whether *holds* became true in time. For what the kernel does and tells nobody."""
    deadline = asyncio.get_running_loop().time() + within
    while not holds():
        if asyncio.get_running_loop().time() > deadline:
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
    return True
