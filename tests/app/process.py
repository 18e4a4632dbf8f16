"""Owns the service as a process of its own: started by its command, asked over its port, told by signals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from peregrine.cli.client import Client

ROOT = Path(__file__).parents[2]
SOON = 30.0


def environment(**settings: str) -> dict[str, str]:
    """Nothing of the developer's own, and *settings*."""
    ours = ("SCHEDULER_", "JWT_", "MONGODB_", "REDIS_", "PEREGRINE_", "LOG_", "HOST", "PORT", "API_PREFIX", "EVE_",
            "ESI_")  # fmt: skip
    kept = {name: text for name, text in os.environ.items() if not name.startswith(ours)}
    return kept | {"PYTHONPATH": str(ROOT), "PORT": "0"} | settings


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "peregrine", *words]


def done(*words: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """A verb that ends by itself."""
    return subprocess.run(
        command(*words), cwd=cwd, env=environment(**settings), capture_output=True, text=True, check=False, timeout=SOON
    )


@dataclass
class Running:
    """One process that serves, and what it said until it listened."""

    process: subprocess.Popen[str]
    said: str
    url: str
    data_dir: Path

    @property
    def client(self) -> Client:
        return Client(self.url, (self.data_dir / "operator-token").read_text().strip())

    def until(self, text: str) -> str:
        """What it says up to and including the line with *text*."""
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if text in line:
                break
        return "".join(lines)

    def end(self, *signals: signal.Signals) -> int:
        """Send the signals and wait; the exit code."""
        for one in signals or (signal.SIGTERM,):
            self.process.send_signal(one)
        return self.process.wait(SOON)


@contextmanager
def serving(folder: Path, *words: str, **settings: str) -> Iterator[Running]:
    """``peregrine serve`` in *folder*, from the moment it listens; killed at the end if it still runs."""
    with (folder / "stderr").open("w") as errors:
        process = subprocess.Popen(
            command(*(words or ("serve",))),
            cwd=folder,
            env=environment(**settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        running = Running(process, "", "", folder / "data")
        running.said = running.until("operator token")
        found = re.search(r"listens on (\S+)", running.said)
        assert found is not None, (folder / "stderr").read_text()
        running.url = found[1]
        yield running
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
