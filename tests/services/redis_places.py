"""A real Redis of one test's own, to be killed, frozen, emptied or given another password at any moment."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Final

import pytest

PROGRAM: Final = next((found for name in ("redis-server", "valkey-server") if (found := shutil.which(name))), "")
READY_WITHIN: Final = 20.0


def need_redis() -> None:
    """Skip the test, aloud, where there is no server to run."""
    if not PROGRAM:
        pytest.skip("no redis-server (or valkey-server) is installed: Redis is not tested here")


class RedisServer:
    """One server on one free port of the loopback; nothing is kept on disk."""

    def __init__(self, folder: Path, *options: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._folder, self._options = folder, options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> RedisServer:
        """Start, and wait until it answers."""
        command = [PROGRAM, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            [*command, "--dir", str(self._folder), "--loglevel", "warning", *self._options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + READY_WITHIN
        while time.monotonic() < until and self._process.poll() is None:
            try:
                if self.say("PING"):
                    return self
            except OSError:
                time.sleep(0.01)  # not a wait: the port is not open yet
        raise AssertionError(f"redis-server did not start: exit {self._process.poll()}")

    def kill(self) -> None:
        """kill -9, and wait until the process is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def end(self) -> None:
        """Kill it, in whatever state it is; safe twice."""
        if self._process is not None:
            self.kill()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def say(self, *words: str, secret: str = "") -> str:
        """The raw answer to one command, over a connection of its own."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            commands = [("AUTH", secret), words] if secret else [words]
            answer = b""
            for command in commands:
                parts = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in command)
                connection.sendall(f"*{len(command)}\r\n{parts}".encode())
                answer = connection.recv(65536)
        return answer.decode()

    def value(self, key: str) -> str:
        """What stands under *key*; empty: nothing."""
        answer = self.say("GET", key)
        return "" if answer.startswith("$-1") else answer.split("\r\n")[1]
