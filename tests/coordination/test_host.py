"""A neighbour is gone only when that is certain: same kernel boot, same pid namespace, no such process any more."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from peregrine.coordination.host import ProcHost, this_instance
from peregrine.domain.ids import WorkerId
from peregrine.ports.host import Instance

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc here")


def me() -> Instance:
    return this_instance(id=WorkerId("w"), version="1", slots=3, now=5)


@pytest.fixture
def neighbour() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def seen(process: subprocess.Popen[bytes]) -> Instance:
    """The neighbour's own row, as it would have written it."""
    text = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii")
    started = int(text.rpartition(")")[2].split()[19])
    return replace(me(), pid=process.pid, process_started=started)


def test_this_process_describes_itself() -> None:
    mine = me()

    assert (mine.pid, mine.slots, mine.started_at) == (os.getpid(), 3, 5)
    assert mine.process_started > 0
    assert mine.place.count("/") >= 1


def test_the_living_are_not_gone(neighbour: subprocess.Popen[bytes]) -> None:
    host = ProcHost()

    assert not host.is_gone(me())
    assert not host.is_gone(seen(neighbour))
    assert host.is_alive(seen(neighbour))


def test_of_who_lives_elsewhere_nothing_is_said(neighbour: subprocess.Popen[bytes]) -> None:
    stranger, host = replace(seen(neighbour), place="another/place"), ProcHost()

    assert not host.is_gone(stranger)
    assert not host.is_alive(stranger)


def test_the_killed_is_gone_before_and_after_its_parent_asks(neighbour: subprocess.Popen[bytes]) -> None:
    instance, host = seen(neighbour), ProcHost()

    neighbour.kill()
    os.waitid(os.P_PID, neighbour.pid, os.WEXITED | os.WNOWAIT)
    as_zombie = host.is_gone(instance)
    neighbour.wait()

    assert as_zombie
    assert host.is_gone(instance)


def test_a_reused_pid_is_another_process(neighbour: subprocess.Popen[bytes]) -> None:
    instance = seen(neighbour)

    assert ProcHost().is_gone(replace(instance, process_started=instance.process_started - 1))


@pytest.mark.parametrize("place", ["another-boot/pid:[1]", ""])
def test_who_lived_elsewhere_is_never_said_to_be_gone(place: str) -> None:
    nobody = replace(me(), pid=2**22 + 1, place=place)

    assert not ProcHost().is_gone(nobody)


def test_where_the_place_is_not_known_nobody_is_gone() -> None:
    assert not ProcHost(place="").is_gone(replace(me(), pid=2**22 + 1, place=""))
