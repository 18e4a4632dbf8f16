"""Owns what is attacked: the service on SQLite, or its doors on memory, each a process; must not know any attack."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.app.process import ROOT, environment, serving


@dataclass(frozen=True)
class Target:
    """Where to knock, what opens, and whose memory to watch."""

    url: str
    token: str
    pid: int
    log: Path

    @property
    def resident_bytes(self) -> int:
        """The memory that the process holds now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def on_sqlite(folder: Path) -> Iterator[Target]:
    """The service itself, engine and all."""
    with serving(folder) as running:
        token = (running.data_dir / "operator-token").read_text().strip()
        yield Target(running.url, token, running.process.pid, folder / "stderr")


@contextmanager
def on_memory(folder: Path) -> Iterator[Target]:
    """The doors alone, in front of the memory store."""
    with (folder / "stderr").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.attack.memory_house"],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert process.stdout is not None
        url, token = process.stdout.readline().strip(), process.stdout.readline().strip()
        assert token, (folder / "stderr").read_text()
        yield Target(url, token, process.pid, folder / "stderr")
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


TARGETS = {"memory": on_memory, "sqlite": on_sqlite}
