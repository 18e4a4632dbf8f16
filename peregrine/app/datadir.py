"""Owns the data directory: who may read it, and the secrets kept in it; must not know what the secrets are for."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from peregrine.domain.errors import BadConfiguration

STORE: Final = "peregrine.sqlite3"
SIGNING_SECRET: Final = "jwt-secret"
OPERATOR_TOKEN: Final = "operator-token"
ENCRYPTION_KEY: Final = "encryption-key"
ENCRYPTION_KEYS_OLD: Final = "encryption-keys-old"
SECRET_BYTES: Final = 48
"""Of chance, in a secret that we make."""

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class DataDir:
    """One directory of ours. What is made in it belongs to its owner alone: directories 0700, files 0600."""

    path: Path

    @property
    def store(self) -> Path:
        """The embedded store's file."""
        return self.path / STORE

    @property
    def was_used(self) -> bool:
        """Whether a service has lived here before: its signing secret or its operator's token stands here."""
        return any((self.path / name).exists() for name in (SIGNING_SECRET, OPERATOR_TOKEN))

    @property
    def operator_token(self) -> Path:
        """The operator's token."""
        return self.path / OPERATOR_TOKEN

    def prepare(self) -> None:
        """Make it if it is not there.

        Raises:  BadConfiguration if it can't be made or written.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise BadConfiguration(f"SCHEDULER_DATA_DIR={self.path}: can't be made: {error.strerror}") from None
        if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
            raise BadConfiguration(f"SCHEDULER_DATA_DIR={self.path}: this user may not write there")

    def warnings(self) -> list[str]:
        """What an operator should know about it. A directory of somebody else's making is left as it is."""
        mode = stat.S_IMODE(self.path.stat().st_mode)
        if mode & _OTHERS:
            return [f"{self.path} can be entered by other users (mode {mode:04o}); chmod 700 keeps them out"]
        return []

    def secret(self, name: str, make: Callable[[], str] = lambda: secrets.token_urlsafe(SECRET_BYTES)) -> str:
        """The secret of that name, made at the first call ever; of two processes that make it at once, one wins.

        Raises:  BadConfiguration if it can't be read, is empty, or other users can read it.
        """
        path = self.path / name
        if not path.exists():
            self._publish(path, make())
        return self.read_secret(name)

    def read_secret(self, name: str) -> str:
        """The secret of that name as it is kept.

        Raises:  BadConfiguration as ``secret``.
        """
        path = self.path / name
        try:
            if stat.S_IMODE(path.stat().st_mode) & _OTHERS:
                raise BadConfiguration(f"{path}: other users can read it; chmod 600, and make a new one if they did")
            text = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadConfiguration(f"{path}: can't be read: {getattr(error, 'strerror', 'not a text')}") from None
        if not text:
            raise BadConfiguration(f"{path}: is empty; remove it and a new one is made")
        return text

    def replace(self, name: str, text: str) -> None:
        """Keep *text* under that name, whole or not at all."""
        draft = self._draft(name, text)
        os.replace(draft, self.path / name)
        self._sync()

    def _publish(self, path: Path, text: str) -> None:
        draft = self._draft(path.name, text)
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # another process was quicker; its secret is the one
        finally:
            draft.unlink()
        self._sync()

    def _draft(self, name: str, text: str) -> Path:
        draft = self.path / f".{name}.{os.getpid()}.{secrets.token_hex(4)}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        return draft

    def _sync(self) -> None:
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
