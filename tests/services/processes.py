"""Owns servers of others as processes of a test: started on a free port, hurt on purpose, gone with the test run."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.services.mongo_server.place import NotHere, tell

ROOT: Final = Path(__file__).resolve().parents[2]
SOON: Final = 30.0
_DIE_WITH_PARENT: Final = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


class Redis:
    """A real Redis that keeps nothing on disk. It can be killed, frozen, thawed, and started again on its port."""

    host: Final = "127.0.0.1"

    def __init__(self, *settings: str, tls: ssl.SSLContext | None = None) -> None:
        """*settings* as on its command line: ``"--requirepass", "secret"``. With *tls* it speaks nothing else, and
        *settings* say by which certificates. Raises NotHere.
        """
        self.port, self.tls = free_port(), tls
        self._settings = settings if tls is None else ("--port", "0", "--tls-port", str(self.port), *settings)
        self._process: subprocess.Popen[bytes] | None = None
        self._program = _redis_server()
        self.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://{self.host}:{self.port}/0"

    def start(self, *settings: str) -> None:
        """Start it, empty, and wait until it answers; *settings* come on top of those it was made with."""
        assert self._process is None
        self._process = subprocess.Popen(
            [self._program, "--port", str(self.port), "--bind", self.host, "--save", "", "--appendonly", "no",
             "--dir", "/tmp", "--daemonize", "no", *self._settings, *settings],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - one call of the kernel, nothing that a thread could hold
        )  # fmt: skip
        until = time.monotonic() + SOON
        while time.monotonic() < until and self._process.poll() is None:
            try:
                # An error is an answer too: it may ask for a password.
                if self.say("PING")[:1] in (b"+", b"-"):
                    return
            except OSError:
                time.sleep(0.01)  # not a wait: the port is not open yet
        raise AssertionError("redis-server does not start")

    def say(self, *words: str, secret: str = "") -> bytes:
        """Send a command on a connection of its own; the first bytes of the answer. *secret*: show it first."""
        answer = b""
        with self._connection() as connection:
            for command in [("AUTH", secret), words] if secret else [words]:
                connection.sendall(_frame(*command))
                answer = connection.recv(65536)
        return answer

    def _connection(self) -> socket.socket:
        plain = socket.create_connection((self.host, self.port), timeout=5)
        return plain if self.tls is None else self.tls.wrap_socket(plain, server_hostname=self.host)

    def value(self, key: str) -> str:
        """What stands under *key*; empty if nothing does."""
        answer = self.say("GET", key)
        return "" if answer.startswith(b"$-1") else answer.split(b"\r\n")[1].decode()

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """It answers nothing any more, and its connections stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it, frozen or not."""
        self.kill()


def _frame(*words: str) -> bytes:
    parts = b"".join(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words)
    return b"*%d\r\n" % len(words) + parts


def _redis_server() -> str:
    found = shutil.which("redis-server")
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        tell("installing redis-server")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in (("update",), ("install", "-y", "--no-install-recommends", "redis-server")):
            subprocess.run(["apt-get", "-qq", *words], env=environment, capture_output=True, check=False)
        found = shutil.which("redis-server")
    if found is None:
        raise NotHere("there is no redis-server here; install Debian's package of that name")
    return found


class Mongo:
    """A server of the MongoDB protocol as a process, with nothing in it."""

    def __init__(self) -> None:
        """Start it; the first time ever on a machine it is installed, which takes minutes. Raises NotHere."""
        with tempfile.TemporaryFile("w+") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.services.mongo_server"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )
            assert self._process.stdout is not None
            self.uri = self._process.stdout.readline().strip()
            if not self.uri:
                self.close()
                said.seek(0)
                raise NotHere(said.read().strip())

    def close(self) -> None:
        """End it; its database goes with it."""
        try:
            self._process.communicate(timeout=SOON)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
