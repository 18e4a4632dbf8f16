"""Owns the database on this machine: its packages in a root of their own, its folder, its process; not: the protocol.

Only Debian's testing suite has the extension's package, so a small Debian of its own is made under the cache folder,
once (about 80 s, 800 MB); it is kept between runs. Only root can do that. Which mirror it comes from is what this
machine's own package sources say.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SUITE: Final = "forky"
PACKAGE: Final = "postgresql-18-documentdb"
BINARIES: Final = "/usr/lib/postgresql/18/bin"
RECIPE: Final = f"1 {SUITE} {PACKAGE}"
"""What a root was made by; another recipe makes it anew."""
READY_WITHIN: Final = 30.0

_HELLO: Final = b"\0\0\0\x29\0\x03\0\0user\0postgres\0database\0postgres\0\0"
_SETTINGS: Final = """
listen_addresses = '127.0.0.1'
cron.use_background_workers = on
max_worker_processes = 16
cron.log_run = off
unix_socket_directories = ''
max_connections = 64
shared_buffers = '128MB'
dynamic_shared_memory_type = 'mmap'
shared_preload_libraries = 'pg_cron,pg_documentdb_core,pg_documentdb'
cron.database_name = 'postgres'
jit = off
fsync = off
synchronous_commit = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
"""
_APT: Final = """
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
APT::Install-Recommends "false";
"""


class NotHere(Exception):
    """This machine can't have the database; the words say why and what would help."""


def cache() -> Path:
    """Where what was installed for the tests is kept between runs."""
    chosen = os.environ.get("PEREGRINE_TEST_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(chosen) if chosen else Path(base) / "peregrine-tests"


def tell(text: str) -> None:
    """A line for whoever waits."""
    sys.stderr.write(f"tests: {text}\n")


# ── the root ─────────────────────────────────────────────────────────────────────────────────────


def prepared() -> Path:
    """The root with the database in it, made if need be. Raises NotHere."""
    if os.geteuid() != 0:
        raise NotHere("a MongoDB for the tests is installed by root alone; TEST_MONGODB_URI may name one instead")
    folder = cache()
    folder.mkdir(parents=True, exist_ok=True)
    root, made = folder / "documentdb", folder / "documentdb.made"
    with _locked(folder / "documentdb.lock"):
        if not made.exists() or made.read_text() != RECIPE:
            made.unlink(missing_ok=True)
            _remove(root)
            _make(root)
            made.write_text(RECIPE)
    return root


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove(root: Path) -> None:
    if root.exists():
        if os.path.ismount(root / "proc"):
            _run("umount", str(root / "proc"))
        shutil.rmtree(root)


def _make(root: Path) -> None:
    mirror = _mirror()
    began = time.monotonic()
    tell("installing a MongoDB server from Debian's packages, once: about two minutes")
    if not shutil.which("debootstrap"):
        _run("apt-get", "update", "-qq")
        _run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "debootstrap")
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    # The last word names a script that every version of debootstrap has.
    _run("debootstrap", "--variant=minbase", f"--keyring={keys}", SUITE, str(root), mirror, "sid")
    tell(f"a small Debian stands ({time.monotonic() - began:.0f} s); now its database")
    _write(root / "usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", mode=0o755)
    _write(root / "etc/postgresql-common/createcluster.conf", "create_main_cluster = false\n")
    _write(root / "etc/apt/apt.conf.d/90tests", _APT)
    _run("mount", "-t", "proc", "proc", str(root / "proc"))
    try:
        _run("chroot", str(root), "apt-get", "update", "-qq")
        _run("chroot", str(root), "apt-get", "install", "-y", "-qq", PACKAGE)
    finally:
        _run("umount", str(root / "proc"))
    _write(root / "srv/.keep", "")
    _first_folder(root)
    shutil.rmtree(root / "var/cache/apt", ignore_errors=True)
    tell(f"the MongoDB server is installed ({time.monotonic() - began:.0f} s)")


def _write(path: Path, text: str, *, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _mirror() -> str:
    """Where this machine's Debian comes from."""
    for path in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        if path.is_file():
            found = re.search(r"^(?:URIs:|deb(?: \[.*\])?)\s+(\S+)", path.read_text(), re.MULTILINE)
            if found and "security" not in found[1]:
                return found[1]
    raise NotHere("a MongoDB for the tests comes from Debian's packages, and there are no package sources here")


def _run(*words: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise NotHere(f"{words[0]}: {error.strerror}") from None
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise NotHere(f"{' '.join(words[:4])} … failed ({done.returncode}):\n{last}")


# ── the database ─────────────────────────────────────────────────────────────────────────────────


def _first_folder(root: Path) -> None:
    """A database folder with the extension in it, to be copied for each run."""
    _as_postgres(root, f"{BINARIES}/initdb", "-D", "/srv/first", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
    with Database(root, "/srv/first") as database:
        _as_postgres(
            root, "/usr/bin/psql", "-q", "-h", "127.0.0.1", "-p", str(database.port), "-c",
            "CREATE EXTENSION documentdb CASCADE",
        )  # fmt: skip


def _as_postgres(root: Path, *words: str) -> None:
    _give(root / "srv", root)
    _run("chroot", "--userspec=postgres:postgres", str(root), *words)


def _give(path: Path, root: Path) -> None:
    line = next(line for line in (root / "etc/passwd").read_text().splitlines() if line.startswith("postgres:"))
    user, group = map(int, line.split(":")[2:4])
    os.chown(path, user, group)


class Database:
    """One PostgreSQL of the root over a folder in it, from entering to leaving."""

    def __init__(self, root: Path, folder: str) -> None:
        self._root, self._folder = root, folder
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]

    @property
    def dsn(self) -> str:
        """Where it is reached."""
        return f"postgres://postgres@127.0.0.1:{self.port}/postgres"

    def __enter__(self) -> Database:
        (self._root / self._folder.removeprefix("/") / "postgresql.conf").write_text(_SETTINGS)
        self._process = subprocess.Popen(
            ["chroot", "--userspec=postgres:postgres", str(self._root), f"{BINARIES}/postgres", "-D", self._folder,
             "-p", str(self.port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            process_group=0,
        )  # fmt: skip
        until = time.monotonic() + READY_WITHIN
        while time.monotonic() < until and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                # A start-up packet: a server that still starts says E (an error), one that is up says R.
                probe.sendall(_HELLO)
                if probe.recv(1) == b"R":
                    self._drain()
                    return self
            time.sleep(0.02)  # not a wait: the port is not open yet
        self._process.kill()
        assert self._process.stderr is not None
        raise NotHere(f"PostgreSQL does not start:\n{self._process.stderr.read().decode()[-2000:]}")

    def _drain(self) -> None:
        """Nobody reads its log: what it says must not fill the pipe."""
        import threading

        assert self._process is not None
        stream = self._process.stderr
        assert stream is not None
        threading.Thread(target=lambda: [None for _ in stream], daemon=True).start()

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.send_signal(2)  # SIGINT: a fast stop
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def running() -> Iterator[Database]:
    """A database with nothing in it, gone afterwards. Raises NotHere."""
    root = prepared()
    folder = f"/srv/run-{os.getpid()}"
    here = root / folder.removeprefix("/")
    _sweep(root)
    _run("cp", "-a", "--reflink=auto", str(root / "srv/first"), str(here))
    try:
        with Database(root, folder) as database:
            yield database
    finally:
        shutil.rmtree(here, ignore_errors=True)


def _sweep(root: Path) -> None:
    """Remove what runs left behind that were killed."""
    for path in (root / "srv").glob("run-*"):
        if not Path(f"/proc/{path.name.removeprefix('run-')}").exists():
            shutil.rmtree(path, ignore_errors=True)
