"""Owns where the keys that seal secrets come from, and how they are turned; must not know ciphers, or what is sealed.

Keys come from, the newest first: ``SCHEDULER_ENCRYPTION_KEY``, ``SCHEDULER_ENCRYPTION_KEYS_OLD``, the data directory.
What is kept there is read anew when another process has changed it, so a running service goes along with a rotation.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from peregrine.app.datadir import ENCRYPTION_KEY, ENCRYPTION_KEYS_OLD, DataDir
from peregrine.app.settings import Settings
from peregrine.app.stores import HouseStore, embedded_store, shared_store
from peregrine.cli.house import Undone
from peregrine.coordination.clock import SystemClock
from peregrine.domain.errors import BadConfiguration, PeregrineError
from peregrine.ports.clock import Clock
from peregrine.ports.vault import Vault
from peregrine.usecases.sealing import Ground, Sealed, admit, is_whole, rotate, seal_old
from peregrine.vault.aes import AesVault
from peregrine.vault.keys import Key, new_key_text, read_key, read_keys

NEW_KEY_FIRST: Final = (
    "SCHEDULER_ENCRYPTION_KEY: its key seals everything already; set a new one, put this one in "
    "SCHEDULER_ENCRYPTION_KEYS_OLD, start the service anew with both, then rotate"
)
SHARED_KEY_FIRST: Final = (
    "MONGODB_URI: other hosts may use this store, and a key that is kept here can't be turned for them; set a new"
    " SCHEDULER_ENCRYPTION_KEY for all, put the one of this data directory in SCHEDULER_ENCRYPTION_KEYS_OLD, start all"
    " anew with both, then rotate"
)
Tell: TypeAlias = Callable[[str], None]

_log = logging.getLogger(__name__)


class Keys:
    """The keys of one installation. Calling it gives them as they are now, the newest first."""

    def __init__(self, settings: Settings, data_dir: DataDir) -> None:
        """Raises BadConfiguration for a kept key that is unreadable, or readable by others."""
        self._data_dir = data_dir
        given, old = settings.encryption_key, settings.encryption_keys_old
        self._given = () if given is None else (read_key(given.get_secret_value()),)
        self._given_old = () if old is None else read_keys(old.get_secret_value())
        if not self._given:
            data_dir.secret(ENCRYPTION_KEY, new_key_text)
        self._seen = self._look()
        self._keys = self._read()

    @property
    def is_kept(self) -> bool:
        """Whether the newest key is the data directory's, so that we may turn it."""
        return not self._given

    def __call__(self) -> Sequence[Key]:
        seen = self._look()
        if seen != self._seen:
            try:
                self._keys, self._seen = self._read(), seen
            except BadConfiguration as error:
                _log.error("encryption_keys_unreadable", extra={"reason": str(error)})
        return self._keys

    def turn(self) -> None:
        """Make a new key in the data directory. The one before is put with the old ones first, so none is ever lost."""
        kept = self._data_dir.read_secret(ENCRYPTION_KEY)
        path = self._data_dir.path / ENCRYPTION_KEYS_OLD
        old = self._data_dir.read_secret(ENCRYPTION_KEYS_OLD) if path.exists() else ""
        if kept not in old.split():
            self._data_dir.replace(ENCRYPTION_KEYS_OLD, f"{kept}\n{old}".strip())
        self._data_dir.replace(ENCRYPTION_KEY, new_key_text())

    def _read(self) -> tuple[Key, ...]:
        kept = [key for name in (ENCRYPTION_KEY, ENCRYPTION_KEYS_OLD) for key in self._kept(name)]
        # The newest comes first; with a kept one that is the kept one.
        return (*self._given, *kept, *self._given_old) if self.is_kept else (*self._given, *self._given_old, *kept)

    def _kept(self, name: str) -> Sequence[Key]:
        path = self._data_dir.path / name
        if not path.exists():
            return ()
        try:
            return read_keys(self._data_dir.read_secret(name))
        except ValueError as error:
            raise BadConfiguration(f"{path}: holds no key: {error}") from None

    def _look(self) -> tuple[tuple[int, int] | None, ...]:
        """What changes when a kept key does."""
        return tuple(self._stamp(name) for name in (ENCRYPTION_KEY, ENCRYPTION_KEYS_OLD))

    def _stamp(self, name: str) -> tuple[int, int] | None:
        try:
            found = os.stat(self._data_dir.path / name)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns


async def admitted(store: HouseStore, vault: Vault, clock: Clock) -> Sealed:
    """What was sealed because it was not yet, once it is sure that the keys are this store's.

    Raises:  BadConfiguration.
    """
    ground = Ground(store=store, records=store, vault=vault, clock=clock, profiles=store.eve)
    needed = await admit(ground)
    if len(needed) > 1:
        hint = f"the store needs {len(needed)} keys; `peregrine keys rotate` seals all by the newest"
        _log.warning("encryption_keys", extra={"hint": hint})
    return await seal_old(ground, store.rewrite)


def rotate_keys(settings: Settings, tell: Tell) -> str:
    """Turn the key, or finish a turn that was cut off; what came of it, in a sentence.

    Raises:  Undone, BadConfiguration, UnsafeStore.
    """
    data_dir = DataDir(settings.data_dir.absolute())
    embedded = embedded_store(settings, data_dir, beside=True)
    if embedded is not None and not data_dir.store.exists():
        raise Undone(f"{data_dir.path}: there is no store in it; `serve` makes one")
    if embedded is None and settings.encryption_key is None:
        raise Undone(SHARED_KEY_FIRST)
    store = embedded or shared_store(settings)
    assert store is not None
    try:
        return asyncio.run(_rotate(Keys(settings, data_dir), store, tell))
    except PeregrineError as error:
        raise Undone(f"{data_dir.path}: {error}; run it again, it goes on where it was") from None


async def _rotate(keys: Keys, store: HouseStore, tell: Tell) -> str:
    await store.open()
    try:
        ground = Ground(store=store, records=store, vault=AesVault(keys), clock=SystemClock(), profiles=store.eve)
        await admit(ground)
        await seal_old(ground, store.rewrite)
        if await is_whole(ground):
            if not keys.is_kept:
                raise Undone(NEW_KEY_FIRST)
            keys.turn()
        sealed = await rotate(ground, lambda done, of: tell(f"looked at {done} of {of} tasks"))
        return _said(sealed, ground.vault.key_id)
    finally:
        await store.close()


def _said(sealed: Sealed, key_id: str) -> str:
    pilots = f" and the tokens of {sealed.tokens} pilots" if sealed.tokens else ""
    said = f"{sealed.tasks} tasks{pilots} were sealed anew; the key {key_id} holds"
    if sealed.lost:
        return f"{said}; {sealed.lost} secrets can't be opened by any key here and stay as they are: give their key"
    if sealed.needed:
        return f"{said}; runs that wait still need {', '.join(sorted(sealed.needed))}: keep it, and rotate again later"
    return f"{said}; earlier keys are needed by earlier backups alone"
