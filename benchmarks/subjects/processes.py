"""The processes that a subject starts beside its own: what they cost, and that none is left."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
PATIENCE: Final = 5.0


def own_time() -> float:
    """Seconds of processor time of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def own_memory() -> float:
    """Mebibytes of this process that are in memory."""
    return _field("/proc/self/status", "VmRSS:")


class Helpers:
    """Processes beside this one, with all that they start in turn. What they say goes into files of *folder*."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[subprocess.Popen[bytes]] = []
        self._said: dict[int, Path] = {}

    def start(
        self, words: Sequence[str], environment: Mapping[str, str] | None = None, *, talks: bool = False
    ) -> subprocess.Popen[bytes]:
        """Start a program, its environment added to ours; ``python`` is our own interpreter.

        One that *talks* does so by pipes.
        """
        program = sys.executable if words[0] == "python" else words[0]
        path = self.folder / f"helper{len(self._started)}.log"
        with path.open("wb") as said:
            process = subprocess.Popen(
                [program, *words[1:]],
                cwd=ROOT,
                env=os.environ | (environment or {}),
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else said,
                stderr=said,
            )
        self._started.append(process)
        self._said[process.pid] = path
        return process

    def said(self, process: subprocess.Popen[bytes]) -> str:
        """The last line that a process wrote."""
        return (self.all_said(process).strip().splitlines() or ["nothing was said"])[-1]

    def all_said(self, process: subprocess.Popen[bytes]) -> str:
        """All that it wrote so far, as far as it isn't read from its pipe."""
        return self._said[process.pid].read_text(errors="replace")

    def spent(self) -> float:
        """Seconds of processor time of all of them, those that ended included."""
        ticks = 0
        for pid in self._all():
            try:
                ticks += sum(map(int, _stat(pid)[11:15]))
            except OSError:  # ended just now: its parent has it
                continue
        return ticks * TICK

    def memory(self) -> float:
        """Mebibytes that they hold together; what they share counts once."""
        return sum(_field(f"/proc/{pid}/smaps_rollup", "Pss:") for pid in self._all())

    def stop(self) -> None:
        """Ask each to end, the newest first; after a while, end it and all that it started."""
        for process in reversed(self._started):
            family = _family({process.pid})
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pid in family - {process.pid}:
                _kill(pid)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        self._started.clear()

    def _all(self) -> set[int]:
        return _family({process.pid for process in self._started})


def end_session(session: int) -> None:
    """End every process of a session, for its leader may have ended without its helpers; they are gone after it."""
    until = time.monotonic() + PATIENCE
    while (left := _living(session)) and time.monotonic() < until:
        for pid in left:
            _kill(pid)
        time.sleep(0.01)


def _living(session: int) -> list[int]:
    """Who is of a session and not dead; a dead one may wait for its parent to notice."""
    found = []
    for pid in _pids():
        try:
            state, _, _, of, *_ = _stat(pid)
        except OSError:
            continue
        if int(of) == session and state not in "ZX":
            found.append(pid)
    return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _family(pids: set[int]) -> set[int]:
    """These and all that descend from them."""
    children: dict[int, list[int]] = {}
    for pid in _pids():
        try:
            children.setdefault(int(_stat(pid)[1]), []).append(pid)
        except OSError:
            continue
    found, ahead = set(pids), list(pids)
    while ahead:
        more = children.get(ahead.pop(), [])
        found.update(more)
        ahead.extend(more)
    return found


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _stat(pid: int) -> list[str]:
    """The fields of a process behind its name: state, parent, group, session, and so on."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def _field(path: str, name: str) -> float:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1_024 for line in lines if line.startswith(name)), 0.0)
