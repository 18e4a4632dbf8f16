"""What a run leaves behind is found again, whichever process left it; and no process stays."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import marks
from benchmarks.subjects.processes import Helpers, _living, end_session

NOTES = "from benchmarks import marks; marks.nothing_far(); marks.nothing_far()"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(marks, "STARTS", [])
    monkeypatch.setattr(marks, "_FAR", [])
    yield
    for file in marks._FAR:
        file.close()


def test_starts_in_another_process_are_read(tmp_path: Path) -> None:
    helpers = Helpers(tmp_path)
    process = helpers.start(["python", "-c", NOTES], marks.listen(tmp_path))
    process.wait()

    assert marks.look() == 2, helpers.all_said(process)
    assert sorted(marks.STARTS) == marks.STARTS


def test_half_a_mark_waits_for_its_other_half(tmp_path: Path) -> None:
    file = Path(marks.listen(tmp_path)[marks.FILE])
    file.write_bytes(b"\0" * 12)
    assert marks.look() == 1

    with file.open("ab") as more:
        more.write(b"\0" * 4)
    assert marks.look() == 2


def test_the_time_of_a_helper_that_ended_counts(tmp_path: Path) -> None:
    work = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'sum(range(10**7))'])"
    helpers = Helpers(tmp_path)
    process = helpers.start(["python", "-c", f"{work}; print(flush=True); input()"], talks=True)
    assert process.stdout is not None
    process.stdout.readline()

    assert helpers.spent() > 0.01
    helpers.stop()
    assert process.poll() is not None


def test_a_session_leaves_nobody() -> None:
    forks = "import subprocess, sys; p = subprocess.Popen(['sleep', '1000']); print(p.pid, flush=True); input()"
    leader = subprocess.Popen(
        [sys.executable, "-c", forks], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    with leader:
        assert leader.stdout is not None
        child = int(leader.stdout.readline())
        assert set(_living(leader.pid)) == {leader.pid, child}
        end_session(leader.pid)

    assert _living(leader.pid) == []
