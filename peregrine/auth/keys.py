"""Owns the proof of API keys, beside the tokens of people; must not know routes or grants.

A key is ``pgk_<id>_<secret>``: the id finds the record, the secret is compared with the digest that is kept. 256 bits
of chance need no slow hash: nobody guesses them, and nobody reads them back from the digest.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from typing import Final

from peregrine.auth.jwt import subjects_of
from peregrine.domain.errors import Unauthenticated
from peregrine.domain.moment import SECOND, Duration
from peregrine.ports.clock import Clock
from peregrine.ports.identity import Identity, Principal
from peregrine.ports.records import RecordStore
from peregrine.ports.shelves import API_KEYS, ApiKey, key_from

PREFIX: Final = "pgk_"
KEPT_FOR: Final[Duration] = SECOND
"""How long a proven key is taken without a look at the shelf: a removed one stops working within it."""
KEPT_MAX: Final = 1000

_TOKEN = re.compile(r"pgk_([A-Za-z0-9-]{1,64})_([A-Za-z0-9_-]{43})", re.ASCII)
_log = logging.getLogger(__name__)


class KeyProof:
    """Judges API keys, and gives everything else to the judge of tokens."""

    def __init__(self, tokens: Identity, records: RecordStore, clock: Clock) -> None:
        self._tokens = tokens
        self._records = records
        self._clock = clock
        self._seen: dict[str, tuple[int, ApiKey | None]] = {}

    async def principal_of(self, token: str) -> Principal:
        """Who holds *token*. Raises Unauthenticated; Unavailable when the shelf is away."""
        if not token.startswith(PREFIX):
            return await self._tokens.principal_of(token)
        match = _TOKEN.fullmatch(token)
        key = None if match is None else await self._key(match[1])
        if match is None or key is None or not hmac.compare_digest(_digest(match[2]), key.digest):
            _log.debug("key_refused", extra={"key": match[1] if match else ""})
            raise Unauthenticated("the key was refused")
        if key.expires_at is not None and key.expires_at <= self._clock.now():
            raise Unauthenticated("the key has expired")
        return Principal(
            id=f"key:{key.id}",
            name=key.name,
            subjects=subjects_of(f"user:key-{key.id}", *(f"group:{name}" for name in key.groups)),
            expires_at=key.expires_at,
        )

    def mint(self, id: str) -> tuple[str, str]:
        """A new token for the key *id*, and the digest to keep."""
        secret = secrets.token_urlsafe(32)
        return f"{PREFIX}{id}_{secret}", _digest(secret)

    def forget(self, id: str) -> None:
        """Look at the shelf before this key is taken again."""
        self._seen.pop(id, None)

    async def _key(self, id: str) -> ApiKey | None:
        steady = self._clock.monotonic()
        seen = self._seen.get(id)
        if seen is not None and steady - seen[0] < KEPT_FOR:
            return seen[1]
        record = await self._records.get_record(API_KEYS, id, now=self._clock.now())
        key = None if record is None else key_from(record)
        if len(self._seen) >= KEPT_MAX:
            self._seen.clear()
        self._seen[id] = (steady, key)
        return key


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
