"""Owns sealing and opening with AES-256-GCM; must not know what is sealed, or where keys are kept.

A sealed text is ``sealed:v1:<key id>:<nonce, ciphertext and tag in base64>``. The place and all that stands before the
ciphertext are authenticated with it: moved to another place, or relabelled, it opens nowhere.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from peregrine.ports.vault import SEAL, CannotOpen, key_of
from peregrine.vault.keys import Key

NONCE_BYTES: Final = 12
Keys: TypeAlias = Callable[[], Sequence[Key]]
"""The keys as they are now, the newest first. Asked often: what keeps them elsewhere remembers them."""


class AesVault:
    """A ``Vault`` whose keys may change while it is used: another process may have turned them."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._ciphers: dict[str, AESGCM] = {}

    @property
    def key_id(self) -> str:
        return self._newest()

    def knows(self, key_id: str) -> bool:
        return self._cipher(key_id) is not None

    def seal(self, text: str, *, place: str) -> str:
        key_id = self._newest()
        head, nonce = f"{SEAL}{key_id}:", os.urandom(NONCE_BYTES)
        sealed = self._ciphers[key_id].encrypt(nonce, text.encode("utf-8", "surrogatepass"), _bound(head, place))
        return head + _text_of(nonce + sealed)

    def open(self, sealed: str, *, place: str) -> str:
        key_id = key_of(sealed)
        cipher = self._cipher(key_id)
        if cipher is None:
            raise CannotOpen(f"it is sealed with the key {_shown(key_id)}, which this service was not given")
        head = f"{SEAL}{key_id}:"
        try:
            raw = _bytes_of(sealed.removeprefix(head))
            opened = cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _bound(head, place))
        except (InvalidTag, binascii.Error, ValueError):
            raise CannotOpen("it was sealed for another place, or changed since") from None
        return opened.decode("utf-8", "surrogatepass")

    def _newest(self) -> str:
        keys = self._keys()
        self._learn(keys)
        return keys[0].id

    def _cipher(self, key_id: str) -> AESGCM | None:
        if key_id not in self._ciphers:
            self._learn(self._keys())
        return self._ciphers.get(key_id)

    def _learn(self, keys: Sequence[Key]) -> None:
        for key in keys:
            if key.id not in self._ciphers:
                self._ciphers[key.id] = AESGCM(key.secret)


def _text_of(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _bytes_of(text: str) -> bytes:
    """The inverse of ``_text_of``. Raises ValueError, also for another spelling of the same bytes."""
    raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _text_of(raw) != text:
        raise ValueError("not the one spelling")
    return raw


def _bound(head: str, place: str) -> bytes:
    return f"{head}\0{place}".encode("utf-8", "surrogatepass")


def _shown(key_id: str) -> str:
    """Short and printable: it may have been written by anybody."""
    return ascii(key_id[:16])[1:-1]
