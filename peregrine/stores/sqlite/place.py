"""Owns what the store needs of the file system: a safe place, private files, room to breathe; must not know any SQL.

A store that is refused is refused in one line that names the path and says what to do; nothing is mended by guessing
and no new store is ever made over an old file.
"""

from __future__ import annotations

import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from peregrine.domain.errors import Unavailable, UnsafeStore

APPLICATION_ID: Final = 0x50455245
""""PERE", in the header of every file of ours."""

NETWORK_FILE_SYSTEMS: Final = frozenset(
    "9p afs beegfs ceph cifs coda davfs glusterfs gpfs lustre ncpfs nfs nfs4 smb smb2 smb3 smbfs webdav fuse.ceph "
    "fuse.davfs fuse.gcsfuse fuse.glusterfs fuse.rclone fuse.s3fs fuse.sshfs".split()
)
_MAGIC: Final = b"SQLite format 3\0"
ABANDONED_AFTER_SECONDS: Final = 3600
_ROOM_TO_LAY: Final = 4
"""A ballast is laid down only where this many times its size is free: it must not be what fills the disk."""
_ROOM_TO_GROW: Final = 2
"""After a full disk the store grows again when this many times the ballast is free: more than it gave back itself."""


def make_folder(folder: Path) -> None:
    """Make *folder* for nobody but us, if it is not there.

    Raises:  UnsafeStore where that can't be, or nothing can be written into it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UnsafeStore(f"{folder}: can't make this folder ({error.strerror}); choose another path") from error
    # A probe, not os.access: that asks with the wrong identity and knows nothing of read-only file systems.
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UnsafeStore(
            f"{folder}: can't write into this folder ({error.strerror}); give this user the right to, or choose another"
        ) from error


def refuse_network(path: Path, mounts: str | None = None) -> None:
    """Refuse a *path* on a network file system, as far as the list of *mounts* tells: there the log is not shared.

    Raises:  UnsafeStore.
    """
    kind = _file_system(path.resolve(), _mounts() if mounts is None else mounts)
    if kind in NETWORK_FILE_SYSTEMS:
        raise UnsafeStore(
            f"{path}: lies on a network file system ({kind}), where SQLite can lose data; choose a local path"
        )


def _mounts() -> str:
    try:
        return Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _file_system(path: Path, mounts: str) -> str:
    """The type of the mount that holds *path*: the longest, and of those the last, since it lies on top."""
    best, kind = -1, ""
    for point, type_name in _parsed(mounts):
        if (path == point or point in path.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), type_name
    return kind


def _parsed(mounts: str) -> Iterator[tuple[Path, str]]:
    for line in mounts.splitlines():
        parts = line.split(" ")
        if len(parts) >= 3:
            point = parts[1].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
            yield Path(point), parts[2]


def refuse_foreign(path: Path) -> None:
    """Look at the first bytes of an existing file: it must be a SQLite file, and ours.

    Raises:  UnsafeStore.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnsafeStore(f"{path}: is not a file; choose another path")
        with path.open("rb") as file:
            header = file.read(100)
    except OSError as error:
        raise UnsafeStore(f"{path}: can't be read ({error.strerror}); give this user the right to") from error
    if not header:
        raise UnsafeStore(
            f"{path}: is empty, so its store was lost; restore a backup, or remove the file to begin anew"
        )
    if len(header) < 100 or not header.startswith(_MAGIC):
        raise UnsafeStore(f"{path}: is damaged or no SQLite file; restore a backup, or choose another path")
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise UnsafeStore(f"{path}: belongs to another program; choose another path")


def make_private(path: Path) -> None:
    """Take the rights of all others from the file, and its log, if somebody gave them any."""
    for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        try:
            if file.stat().st_mode & 0o077:
                file.chmod(0o600)
        except OSError:
            # Not there, or not ours to change; whether it can be used at all shows when it is opened.
            continue


def new_draft(path: Path) -> Path:
    """An empty file beside *path* that only we can read, to be filled and then given its name.

    Raises:  OSError.
    """
    handle, name = tempfile.mkstemp(prefix=f"{path.name}.new-", dir=path.parent)
    os.close(handle)
    return Path(name)


def sweep_drafts(path: Path) -> None:
    """Remove drafts beside *path* that nobody has written to for an hour: their process was killed."""
    for draft in path.parent.glob(f"{path.name}*.new-*"):
        try:
            if time.time() - draft.stat().st_mtime > ABANDONED_AFTER_SECONDS:
                draft.unlink()
        except OSError:
            # Somebody else removed it, or it is not ours to remove.
            continue


def flush_folder(folder: Path) -> None:
    """Make names that were just given in *folder* survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Anchor:
    """Remembers which file was opened, so that a store that was moved, replaced or emptied is noticed at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: tuple[int, int] | None = None

    def set(self) -> None:
        """From now on the path must lead to the file that it leads to now."""
        self._known = self._look()

    def check(self) -> None:
        """Raises:  Unavailable when the path does not lead to the same file any more, or to nothing in it."""
        if self._look() != self._known:
            raise Unavailable("the store's file was moved, replaced or emptied while it was open; put it back")

    def _look(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return (found.st_dev, found.st_ino) if found.st_size else None


class Ballast:
    """A file of no content beside the store. Let go when the disk is full, so that what frees room has room itself.

    While it is let go, whatever would grow the store is refused; when there is room again it is laid down anew.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.size = size
        self._path = path
        self.note = ""
        """Why there is none, if there is none."""
        self._was_laid = False
        self._released = False

    @property
    def is_released(self) -> bool:
        return self._released

    def lay(self) -> bool:
        """Make sure it is there, if it is wanted and there is ample room; whether the store may grow."""
        if self.size == 0:
            self.note = "switched off"
            return True
        try:
            if not self._is_there():
                free = self._free()
                if free < self.size * _ROOM_TO_LAY:
                    self.note = "too little room on the disk"
                    self._released = self._released and free < self.size * _ROOM_TO_GROW
                    return not self._released
                self._write()
        except OSError as error:
            self.note = f"could not be written ({error.strerror})"
            return not self._released
        self.note, self._was_laid, self._released = "", True, False
        return True

    def release(self) -> bool:
        """Give its room back; whether there was any to give.

        Where it never was, nothing is kept for anybody, so nothing is refused either: a small disk must not stay
        refused for ever. Where another process has given it back already, this one refuses too.
        """
        there = self._was_laid or self._is_there()
        if not there:
            return False
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            self.note = f"could not be removed ({error.strerror})"
            return False
        self._released = True
        self.note = "given back: the disk is full"
        return True

    def allow_growth(self) -> None:
        """Let the store grow without it: room was freed inside the file."""
        self._released = False

    def _is_there(self) -> bool:
        try:
            return self.size > 0 and self._path.stat().st_blocks * 512 >= self.size
        except OSError:
            return False

    def _free(self) -> int:
        found = os.statvfs(self._path.parent)
        return found.f_bavail * found.f_frsize

    def _write(self) -> None:
        handle = os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(handle, 0, self.size)
        except OSError:
            self._path.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)
