"""Owns what a key is, how it is written, and its id; must not know where keys are kept."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from dataclasses import dataclass, field
from typing import Final

KEY_BYTES: Final = 32
HOW: Final = "write 32 bytes in base64 (44 characters) or hexadecimal (64)"

_HEX = re.compile(r"[0-9A-Fa-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Key:
    """32 bytes of chance. ``id`` tells nothing of them; it stands in each text that the key has sealed."""

    secret: bytes = field(repr=False)
    id: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", hashlib.blake2b(self.secret, digest_size=6, person=b"peregrine key").hexdigest())


def new_key_text() -> str:
    """A new key, as it is written."""
    return base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def read_key(text: str) -> Key:
    """The key that *text* writes. Raises ValueError with a sentence for the person who wrote it."""
    text = text.strip()
    if _HEX.fullmatch(text):
        return Key(bytes.fromhex(text))
    plain = text.translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        secret = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(HOW) from None
    if len(secret) != KEY_BYTES:
        raise ValueError(HOW)
    return Key(secret)


def read_keys(text: str) -> tuple[Key, ...]:
    """Keys between commas or on lines of their own. Raises ValueError."""
    return tuple(read_key(part) for part in re.split(r"[,\s]+", text) if part)
