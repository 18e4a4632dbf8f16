"""The disk fills up under a service: clear refusals, nothing lost, recovery without a restart.

A disk that turns read-only is tried on the store itself (``tests/stores``): a kernel does not do that to a file in use.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.service import Service, a_task

MIB = 2**20
DISK = 48 * MIB


@pytest.fixture(name="disk")
def _disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def eventually(is_so: Callable[[], bool], within: float = 30) -> None:
    """Look again and again until it is so."""
    until = time.monotonic() + within
    while not is_so():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.05)  # not a wait: a real disk and a real process change at their own pace


def fill(folder: Path) -> Path:
    """Take all the room there is."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 65536)
        except OSError:
            pass
        try:
            while True:
                file.write(b"x" * 512)
        except OSError:
            return filler


@pytest.mark.timeout(180)
def test_a_full_disk_refuses_and_recovers(disk: Path, tmp_path: Path, make_service: Callable[..., Service]) -> None:
    """Writes answer 503 or 507, reads go on, nothing acknowledged is lost; with room again it goes on by itself."""
    service = make_service(disk, SCHEDULER_POLL="1s")
    service.effects = tmp_path / "effects.jsonl"
    service.start()
    acknowledged = []
    status, answer = service.ask("POST", "/scheduler/tasks", a_task("before"))
    assert status == 201
    acknowledged.append(answer["id"])

    refused: set[int] = set()

    def is_refused() -> bool:
        fill(disk)
        status, answer = service.ask(
            "POST", "/scheduler/tasks", a_task(f"full {time.monotonic()}", description="x" * 400)
        )
        if status == 201:
            acknowledged.append(answer["id"])
        else:
            refused.add(status)
            assert answer["code"] in ("storage_full", "unavailable"), answer
        return bool(refused)

    eventually(is_refused)
    assert refused <= {503, 507}
    assert service.ask("GET", f"/scheduler/tasks/{acknowledged[0]}")[0] == 200

    (disk / "filler").unlink()
    eventually(lambda: service.ask("POST", "/scheduler/tasks", a_task(f"after {time.monotonic()}"))[0] == 201)
    ran = len(service.seen())
    eventually(lambda: len(service.seen()) > ran + 2)
    assert [id for id in acknowledged if service.ask("GET", f"/scheduler/tasks/{id}")[0] != 200] == []
    assert service.stop() == 0
