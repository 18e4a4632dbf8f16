"""Owns what this process can tell of itself and of its neighbours; must not know leases, stores or workers' work."""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path
from typing import Final

from peregrine.domain.ids import WorkerId
from peregrine.domain.moment import Moment
from peregrine.ports.host import Instance

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_STATE, _STARTED = 0, 19
"""Places in ``/proc/<pid>/stat`` after the command's closing bracket: fields 3 and 22 of proc(5)."""


def this_instance(*, id: WorkerId, version: str, slots: int, now: Moment) -> Instance:
    """This process, as it announces itself to the others."""
    stat = _stat(os.getpid())
    return Instance(
        id=id,
        host=socket.gethostname(),
        place=_place(),
        pid=os.getpid(),
        process_started=int(stat[_STARTED]) if stat else 0,
        version=version,
        slots=slots,
        started_at=now,
    )


class ProcHost:
    """Looks at neighbours through ``/proc``. Where there is none (not Linux), nobody is ever said to be gone."""

    def __init__(self, place: str | None = None) -> None:
        self._place = _place() if place is None else place

    def is_alive(self, instance: Instance) -> bool:
        """True only if *instance* lives here, in this boot and pid namespace; False when in doubt."""
        return self._is_near(instance) and not self.is_gone(instance)

    def _is_near(self, instance: Instance) -> bool:
        return bool(instance.place) and instance.place == self._place and instance.process_started != 0

    def is_gone(self, instance: Instance) -> bool:
        """True only if *instance* lived here, in this boot and pid namespace, and its process has ended."""
        if not self._is_near(instance):
            return False
        try:
            os.kill(instance.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass  # It exists and belongs to somebody else; its start time may still tell a reused pid.
        stat = _stat(instance.pid)
        if stat is None:
            return False
        return int(stat[_STARTED]) != instance.process_started or _is_dead(instance.pid, stat)


def _is_dead(pid: int, stat: list[str]) -> bool:
    """A zombie whose last thread has ended: it runs no more, its parent has only not asked for its exit code yet."""
    if stat[_STATE] not in ("Z", "X"):
        return False
    try:
        return os.listdir(f"/proc/{pid}/task") in ([], [str(pid)])
    except OSError:
        return False


def _stat(pid: int) -> list[str] | None:
    """The fields of a process after its command name, which may itself hold blanks and brackets."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


@cache
def _place() -> str:
    """Kernel boot, pid and time namespace: inside it a pid and its start time name one process. Empty: not known."""
    try:
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
        spaces = [os.readlink(path) for name in ("pid", "time") if os.path.lexists(path := f"/proc/self/ns/{name}")]
    except OSError:
        return ""
    return "/".join([boot, *spaces])
