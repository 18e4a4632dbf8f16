"""Owns the proof of a bearer token and who it speaks of; must not know routes, cookies or grants.

The algorithm belongs to the key, never to the token: a token is only compared with it. ``kid`` is a look-up in our own
set. Every refusal looks the same from outside; the reason goes to the debug log.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from joserfc import jwk, jws
from joserfc.errors import JoseError

from peregrine.domain.errors import BadConfiguration, Invalid, Unauthenticated
from peregrine.domain.moment import DAY, HOUR, SECOND, Duration, Moment
from peregrine.domain.payload import JsonObject, JsonValue
from peregrine.domain.permission import ANYBODY, SIGNED_IN, SUPER_ADMIN, is_subject
from peregrine.ports.clock import Clock
from peregrine.ports.identity import Principal
from peregrine.ports.shelves import SESSION_CLAIM
from peregrine.wire.strict_json import read_json

SECRET_BYTES_MIN: Final = 32
TOKEN_MAX: Final = 8192
LEEWAY_MAX: Final[Duration] = 30 * SECOND
LIFETIME_MAX: Final[Duration] = 366 * DAY
GROUPS_MAX: Final = 256
PROVEN_MAX: Final = 1000
"""Tokens whose signature need not be proven again; the proof costs more than most requests."""
OPERATOR_KID: Final = "peregrine-operator"
OPERATOR_ID: Final = "operator"

_log = logging.getLogger(__name__)
_PART = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_HEADER_REFUSED: Final = ("crit", "jku", "x5u", "jwk", "x5c", "b64", "zip", "enc")
_ALGORITHMS: Final = {"HS256": "oct", "RS256": "RSA", "ES256": "EC"}
KeySet: TypeAlias = Callable[[], Mapping[str, Any]]
"""The newest JWKS document, quickly: whoever fetches it does so elsewhere. May raise Unavailable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtRules:
    """What a token must be. ``key_set`` for RS256 and ES256; ``secret`` for HS256 and for operator tokens."""

    algorithm: str = "HS256"
    secret: bytes = b""
    key_set: KeySet | None = None
    issuer: str = ""
    audience: str = ""
    leeway: Duration = 10 * SECOND
    lifetime_max: Duration = LIFETIME_MAX

    def __post_init__(self) -> None:
        """Raises BadConfiguration for rules under which a proof would prove nothing."""
        if self.algorithm not in _ALGORITHMS:
            raise BadConfiguration(f"JWT_ALGORITHM={self.algorithm}: write one of {', '.join(_ALGORITHMS)}")
        if self.algorithm != "HS256" and self.key_set is None:
            raise BadConfiguration(f"JWT_ALGORITHM={self.algorithm} needs JWT_JWKS_URL or JWT_JWKS_FILE")
        if (self.algorithm == "HS256" or self.secret) and len(self.secret) < SECRET_BYTES_MIN:
            raise BadConfiguration(f"JWT_SECRET must have at least {SECRET_BYTES_MIN} bytes")
        if not 0 <= self.leeway <= LEEWAY_MAX:
            raise BadConfiguration("the leeway of tokens must be at most 30s")


class JwtProof:
    """Judges bearer tokens by ``JwtRules``."""

    def __init__(self, rules: JwtRules, clock: Clock) -> None:
        self._rules = rules
        self._clock = clock
        self._secret = jwk.OctKey.import_key(rules.secret) if rules.secret else None
        self._keys: tuple[Mapping[str, Any] | None, Mapping[str, Any]] = (None, {})
        self._proven: dict[str, Principal] = {}

    async def principal_of(self, token: str) -> Principal:
        """Who holds *token*. Raises Unauthenticated for everything that is wrong with it."""
        try:
            return self._remembered(token) or self._judged(token)
        except (Unauthenticated, Invalid, JoseError, ValueError, binascii.Error) as error:
            _log.debug("token_refused", extra={"reason": str(error)[:200]})
            raise Unauthenticated("the token was refused") from None

    def _remembered(self, token: str) -> Principal | None:
        """The principal of a token that was proven by the keys of today, and has not expired since."""
        if self._rules.key_set is not None and self._rules.key_set() is not self._keys[0]:
            self._proven.clear()
        principal = self._proven.get(token)
        if principal is None or principal.expires_at is None:
            return None
        if principal.expires_at <= self._clock.now() - self._rules.leeway:
            del self._proven[token]
            return None
        return principal

    def _judged(self, token: str) -> Principal:
        if len(token) > TOKEN_MAX:
            raise Unauthenticated("the token is too long")
        parts = token.split(".")
        if len(parts) != 3 or not all(_PART.fullmatch(part) for part in parts):
            raise Unauthenticated("not a compact signed token")
        header = _object(parts[0])
        algorithm, key = self._key_for(header)
        jws.deserialize_compact(token, key, algorithms=[algorithm])
        claims = _object(parts[1])
        expires_at = self._check_times(claims)
        self._check_origin(claims)
        principal = principal_from(claims, expires_at)
        if len(self._proven) >= PROVEN_MAX:
            self._proven.clear()
        self._proven[token] = principal
        return principal

    def _key_for(self, header: JsonObject) -> tuple[str, Any]:
        if refused := [name for name in _HEADER_REFUSED if name in header]:
            raise Unauthenticated(f"header {refused[0]} is refused")
        kid = header.get("kid")
        is_operator = kid == OPERATOR_KID and self._secret is not None
        algorithm = "HS256" if is_operator else self._rules.algorithm
        if header.get("alg") != algorithm:
            raise Unauthenticated("not the configured algorithm")
        if str(header.get("typ", "JWT")).upper() not in ("JWT", "AT+JWT"):
            raise Unauthenticated("not a token of type JWT")
        if is_operator or self._rules.algorithm == "HS256":
            return algorithm, self._secret
        return algorithm, self._public_key(kid)

    def _public_key(self, kid: JsonValue) -> Any:
        assert self._rules.key_set is not None
        document = self._rules.key_set()
        if document is not self._keys[0]:
            self._keys = (document, _read_keys(document, _ALGORITHMS[self._rules.algorithm], self._rules.algorithm))
        keys = self._keys[1]
        if kid is None and len(keys) == 1:
            return next(iter(keys.values()))
        if not isinstance(kid, str) or kid not in keys:
            raise Unauthenticated("no key of that kid")
        return keys[kid]

    def _check_times(self, claims: JsonObject) -> Moment:
        now, leeway = self._clock.now(), self._rules.leeway
        expires_at = _moment(claims, "exp")
        if expires_at is None:
            raise Unauthenticated("no exp")
        if expires_at <= now - leeway:
            raise Unauthenticated("expired")
        if expires_at > now + self._rules.lifetime_max + leeway:
            raise Unauthenticated("lives too long")
        for name in ("nbf", "iat"):
            moment = _moment(claims, name)
            if moment is not None and moment > now + leeway:
                raise Unauthenticated(f"{name} lies in the future")
        return expires_at

    def _check_origin(self, claims: JsonObject) -> None:
        if self._rules.issuer and claims.get("iss") != self._rules.issuer:
            raise Unauthenticated("other issuer")
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if self._rules.audience and self._rules.audience not in audiences:
            raise Unauthenticated("other audience")


def principal_from(claims: JsonObject, expires_at: Moment) -> Principal:
    """The principal that *claims* speak of. Raises Unauthenticated if they name nobody or are of wrong types."""
    user_id = _id(claims, "user_id") or _id(claims, "sub")
    if not user_id:
        raise Unauthenticated("names no user")
    singles = [f"user:{user_id}"]
    for kind in ("character", "corporation", "alliance"):
        if id := _id(claims, f"{kind}_id"):
            singles.append(f"{kind}:{id}")
    groups = [f"group:{name}" for name in _names(claims, "groups")]
    roles = [f"role:{name}" for name in _names(claims, "roles")]
    return Principal(
        id=user_id,
        name=str(claims.get("character_name") or "")[:100],
        scopes=tuple(_names(claims, "scopes")),
        subjects=subjects_of(*singles, *groups, *roles),
        expires_at=expires_at,
        session=_id(claims, SESSION_CLAIM),
    )


def subjects_of(*subjects: str) -> tuple[str, ...]:
    """*subjects* that are well formed, and what everybody with credentials is besides; each once."""
    known = [subject for subject in subjects if is_subject(subject)]
    return tuple(dict.fromkeys([*known, SIGNED_IN, ANYBODY]))


def mint_operator_token(
    secret: bytes, now: Moment, *, lifetime: Duration = 365 * DAY, rules: JwtRules | None = None
) -> str:
    """A token with all rights, for the person who starts the service first. Signed with our own *secret*."""
    claims: dict[str, Any] = {
        "user_id": OPERATOR_ID,
        "sub": OPERATOR_ID,
        "groups": [SUPER_ADMIN.partition(":")[2]],
        "iat": now // SECOND,
        "exp": (now + min(lifetime, LIFETIME_MAX - HOUR)) // SECOND,
    }
    if rules is not None and rules.issuer:
        claims["iss"] = rules.issuer
    if rules is not None and rules.audience:
        claims["aud"] = rules.audience
    return sign(claims, secret, kid=OPERATOR_KID)


def sign(claims: Mapping[str, Any], secret: bytes, *, kid: str = "") -> str:
    """*claims* as an HS256 token."""
    header = {"alg": "HS256", "typ": "JWT"} | ({"kid": kid} if kid else {})
    payload = json.dumps(claims, separators=(",", ":"))
    return jws.serialize_compact(header, payload, jwk.OctKey.import_key(secret), algorithms=["HS256"])


def _object(part: str) -> JsonObject:
    raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    value = read_json(raw)
    if not isinstance(value, dict):
        raise Unauthenticated("not an object")
    return value


def _moment(claims: JsonObject, name: str) -> Moment | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unauthenticated(f"{name} is no number")
    return int(value * SECOND)


def _id(claims: JsonObject, name: str) -> str:
    value = claims.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | str) or len(str(value)) > 128:
        raise Unauthenticated(f"{name} is no id")
    text = str(value)
    if text and not is_subject(f"user:{text}"):
        raise Unauthenticated(f"{name} is no id")
    return text


def _names(claims: JsonObject, name: str) -> Sequence[str]:
    value = claims.get(name)
    if value is None:
        return ()
    names = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(names, list) or len(names) > GROUPS_MAX or not all(isinstance(one, str) for one in names):
        raise Unauthenticated(f"{name} is no list of names")
    return [str(one) for one in names]


def _read_keys(document: Mapping[str, Any], kind: str, algorithm: str) -> Mapping[str, Any]:
    """The usable public keys of a JWKS by kid: of the one kind, for signatures, and for this algorithm if they say."""
    found: dict[str, Any] = {}
    for index, entry in enumerate(document.get("keys", ())):
        if not isinstance(entry, Mapping) or entry.get("kty") != kind:
            continue
        if entry.get("use", "sig") != "sig" or entry.get("alg", algorithm) != algorithm:
            continue
        try:
            found[str(entry.get("kid", index))] = jwk.import_key(dict(entry))
        except (JoseError, ValueError, TypeError) as error:
            _log.warning("key_unusable", extra={"kid": str(entry.get("kid"))[:64], "reason": type(error).__name__})
    return found
