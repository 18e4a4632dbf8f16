"""Owns the keys that prove tokens, and the operator's own token on disk; must not know how a proof is made."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from peregrine.app.datadir import OPERATOR_TOKEN, SIGNING_SECRET, DataDir
from peregrine.app.settings import Algorithm, Settings
from peregrine.auth.jwt import OPERATOR_KID, JwtProof, JwtRules, mint_operator_token, sign
from peregrine.cli.house import TokenRequest
from peregrine.coordination.clock import SystemClock
from peregrine.domain.errors import BadConfiguration, Unauthenticated, Unavailable
from peregrine.domain.moment import DAY, SECOND, Duration, parse_duration
from peregrine.ports.clock import Clock
from peregrine.ports.records import Record, RecordStore

RENEWED_BEFORE: Final[Duration] = 30 * DAY
"""An operator token with less than this to live is replaced at the start."""
KEYS_SECONDS: Final = 300.0
"""How often public keys are fetched anew."""
FETCH_SECONDS: Final = 10.0
KEYS_BYTES_MAX: Final = 1024 * 1024
SIGNER_SHELF: Final = "house"
SIGNER: Final = "signer"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What proves tokens here. ``new_token`` is set when the operator's token was made or renewed just now."""

    rules: JwtRules
    new_token: str | None
    is_first: bool
    """Whether there had been no operator token before."""


async def prepare_credentials(
    settings: Settings, data_dir: DataDir, clock: Clock, keys: PublicKeys | None
) -> Credentials:
    """The rules of this service, and an operator token that passes them.

    Raises:  BadConfiguration for a secret that is too short, unreadable or readable by others.
    """
    if settings.jwt_secret is None:
        data_dir.secret(SIGNING_SECRET)
    rules = rules_of(settings, data_dir, keys)
    is_first = not data_dir.operator_token.exists()
    if not is_first and (await holds(data_dir.read_secret(OPERATOR_TOKEN), rules, clock) or 0) > RENEWED_BEFORE:
        return Credentials(rules, None, is_first=False)
    token = mint_operator_token(rules.secret, clock.now(), rules=rules)
    data_dir.replace(OPERATOR_TOKEN, token)
    return Credentials(rules, token, is_first=is_first)


async def tell_other_signer(records: RecordStore, rules: JwtRules, clock: Clock) -> None:
    """Say it aloud when the instance that started last on this store signs with another secret than we do."""
    mark = hmac.digest(rules.secret, b"peregrine", "sha256").hex()[:16]
    known = await records.get_record(SIGNER_SHELF, SIGNER, now=clock.now())
    if known is not None and known.document.get("mark") == mark:
        return
    if known is not None:
        hint = "an instance of this store signs with another JWT_SECRET: tokens of one are refused by the other"
        _log.error("signing_secret_differs", extra={"hint": hint})
    record = Record(collection=SIGNER_SHELF, key=SIGNER, document={"mark": mark})
    await records.put_record(record, expected_revision=None, now=clock.now())


def kept_secret(settings: Settings, data_dir: DataDir) -> bytes:
    """``JWT_SECRET``, or the one kept in the data directory.

    Raises:  BadConfiguration where there is none, or it can't be used.
    """
    if settings.jwt_secret is not None:
        return settings.jwt_secret.get_secret_value().encode()
    if not (data_dir.path / SIGNING_SECRET).exists():
        raise BadConfiguration(f"SCHEDULER_DATA_DIR={data_dir.path}: no signing secret is kept there; start it once")
    return data_dir.read_secret(SIGNING_SECRET).encode()


def mint_for(settings: Settings, request: TokenRequest) -> str:
    """A token for a user and groups, signed with this service's secret.

    Raises:  BadConfiguration where there is no secret yet.
    """
    secret = kept_secret(settings, DataDir(settings.data_dir))
    now = SystemClock().now()
    claims: dict[str, Any] = {
        "user_id": request.user,
        "sub": request.user,
        "groups": list(request.groups),
        "iat": now // SECOND,
        "exp": (now + parse_duration(request.lasts)) // SECOND,
    }
    if settings.jwt_issuer:
        claims["iss"] = settings.jwt_issuer
    if settings.jwt_audience:
        claims["aud"] = settings.jwt_audience
    # A token of our own key is told by its kid where foreign ones carry another algorithm.
    return sign(claims, secret, kid="" if settings.jwt_algorithm is Algorithm.HS256 else OPERATOR_KID)


def session_signer(settings: Settings, rules: JwtRules) -> Callable[[Mapping[str, Any]], str]:
    """What makes a token of this service's own, which passes *rules*."""
    added = {name: text for name, text in (("iss", rules.issuer), ("aud", rules.audience)) if text}
    kid = "" if settings.jwt_algorithm is Algorithm.HS256 else OPERATOR_KID
    return lambda claims: sign({**claims, **added}, rules.secret, kid=kid)


def rules_of(settings: Settings, data_dir: DataDir, keys: PublicKeys | None = None) -> JwtRules:
    """What a token must be; without *keys*, only tokens of our own key are judged."""
    return JwtRules(
        algorithm=settings.jwt_algorithm if keys is not None else Algorithm.HS256,
        secret=kept_secret(settings, data_dir),
        key_set=keys.newest if keys is not None else None,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
    )


async def holds(token: str, rules: JwtRules, clock: Clock) -> Duration | None:
    """How long *token* will be taken still; None if it is not taken now."""
    try:
        principal = await JwtProof(rules, clock).principal_of(token)
    except Unauthenticated:
        return None
    return None if principal.expires_at is None else principal.expires_at - clock.now()


class PublicKeys:
    """The public keys of whoever signs tokens, from a file or an address, read anew every five minutes."""

    def __init__(self, *, url: str = "", file: Path | None = None) -> None:
        self._url, self._file = url, file
        self._document: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, settings: Settings) -> PublicKeys | None:
        """Those that the settings name, if any."""
        if not settings.jwt_jwks_url and settings.jwt_jwks_file is None:
            return None
        return cls(url=settings.jwt_jwks_url, file=settings.jwt_jwks_file)

    def newest(self) -> Mapping[str, Any]:
        """The newest document. Raises Unavailable as long as there is none."""
        if self._document is None:
            raise Unavailable("the keys that prove tokens have not been read yet")
        return self._document

    async def start(self) -> None:
        """Read them once: a file must be right, an address may be away for a while.

        Raises:  BadConfiguration for a file that can't be read.
        """
        error = await self._read()
        if error and self._file is not None:
            raise BadConfiguration(f"JWT_JWKS_FILE={self._file}: {error}")

    async def keep(self) -> None:
        """Read them again and again, until cancelled. What was read last holds while the other side is away."""
        while True:
            await asyncio.sleep(KEYS_SECONDS if self._document is not None else FETCH_SECONDS)
            await self._read()

    async def _read(self) -> str:
        try:
            document = json.loads(await asyncio.to_thread(self._bytes))
            if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
                raise ValueError("not a JSON Web Key Set")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            _log.warning("keys_unreadable", extra={"reason": reason})
            return reason
        if document != self._document:
            self._document = document
        return ""

    def _bytes(self) -> bytes:
        if self._file is not None:
            return self._file.read_bytes()
        with urllib.request.urlopen(self._url, timeout=FETCH_SECONDS) as answer:
            content: bytes = answer.read(KEYS_BYTES_MAX)
            return content
