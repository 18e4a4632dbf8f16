"""Owns the proof of an EVE access token and who it speaks for; must not know where keys come from or who asks.

The algorithm belongs to the key: ``kid`` finds it among EVE's published keys, and the token's ``alg`` must be that
key's. Nothing of a token is shown in a refusal.

Source:  EVE SSO v2 as documented by CCP; a list or one bare word for ``scp``, both spellings of the issuer.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from joserfc import jwk, jws
from joserfc.errors import JoseError

from peregrine.domain.errors import Invalid
from peregrine.domain.moment import HOUR, SECOND, Duration, Moment
from peregrine.domain.payload import JsonObject, JsonValue
from peregrine.modules.esi.exchange import clean
from peregrine.ports.esi import SsoCharacter, SsoMistrusted
from peregrine.wire.strict_json import read_json

TOKEN_MAX: Final = 16 * 1024
"""Characters; a token with every scope that there is stays below half of it."""
LEEWAY: Final[Duration] = 30 * SECOND
LIFETIME_MAX: Final[Duration] = HOUR
"""EVE's tokens live 20 minutes; one that claims much more is none of them."""
KEYS_MAX: Final = 20
MODULUS_MIN: Final = 342
"""Letters of base64url in 2048 bits."""
MODULUS_MAX: Final = 1366
"""The same in 8192 bits: a longer one makes each proof slow."""
SCOPES_MAX: Final = 300
AUDIENCE: Final = "EVE Online"
_ALGORITHMS: Final = {"RSA": "RS256", "EC": "ES256"}
_REFUSED: Final = ("crit", "jku", "x5u", "jwk", "x5c", "b64", "zip", "enc")
_PART = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_SUBJECT = re.compile(r"CHARACTER:EVE:([1-9]\d{0,14})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Key:
    """One published key and the one algorithm that it is for."""

    algorithm: str
    key: Any


@dataclass(frozen=True, slots=True)
class Rules:
    """Whose tokens are ours."""

    client_id: str
    issuers: frozenset[str]


class OldKeys(SsoMistrusted):
    """No key that we have proves it; newer ones may, since EVE may change a key and keep its name."""


def keys_in(document: Mapping[str, Any]) -> Mapping[str, Key]:
    """The usable keys of a JWKS document by kid: for signatures, RSA of 2048 bits or more, or the curve P-256."""
    found: dict[str, Key] = {}
    entries = document.get("keys")
    for entry in entries[:KEYS_MAX] if isinstance(entries, list) else ():
        if not isinstance(entry, Mapping):
            continue
        kid, algorithm = entry.get("kid"), _ALGORITHMS.get(str(entry.get("kty")))
        if not isinstance(kid, str) or algorithm is None or entry.get("alg", algorithm) != algorithm:
            continue
        if entry.get("use", "sig") != "sig" or "d" in entry or not _is_strong(entry):
            continue
        try:
            public = {name: entry[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in entry}
            found[kid] = Key(algorithm, jwk.import_key(public))
        except (JoseError, ValueError, TypeError):
            continue
    return found


def _is_strong(entry: Mapping[str, Any]) -> bool:
    """Whether a key is long enough; the library would take a short one and complain to a log."""
    if entry["kty"] == "EC":
        return entry.get("crv") == "P-256"
    modulus = entry.get("n")
    return isinstance(modulus, str) and MODULUS_MIN <= len(modulus.lstrip("A")) <= MODULUS_MAX


def character_of(token: str, keys: Mapping[str, Key], rules: Rules, now: Moment) -> SsoCharacter:
    """Who *token* speaks for. Raises SsoMistrusted; OldKeys if newer keys might prove it."""
    parts = token.split(".")
    if len(token) > TOKEN_MAX or len(parts) != 3 or not all(_PART.fullmatch(part) for part in parts):
        raise SsoMistrusted("EVE's access token is no signed token")
    key = _key_for(_object(parts[0]), keys)
    try:
        jws.deserialize_compact(token, key.key, algorithms=[key.algorithm])
    except (JoseError, ValueError, TypeError):
        raise OldKeys("the signature of EVE's access token is wrong") from None
    claims = _object(parts[1])
    expires_at = _check_times(claims, now)
    _check_origin(claims, rules)
    return _character(claims, expires_at)


def _key_for(header: JsonObject, keys: Mapping[str, Key]) -> Key:
    if any(name in header for name in _REFUSED):
        raise SsoMistrusted("EVE's access token has a header that is refused")
    kid = header.get("kid")
    key = keys.get(kid) if isinstance(kid, str) else None
    if key is None:
        raise OldKeys("EVE's access token is signed by a key that EVE has not published")
    if header.get("alg") != key.algorithm:
        raise SsoMistrusted("EVE's access token is signed in another way than its key is for")
    return key


def _check_times(claims: JsonObject, now: Moment) -> Moment:
    expires_at = _moment(claims, "exp")
    if expires_at is None or expires_at <= now - LEEWAY:
        raise SsoMistrusted("EVE's access token has expired")
    if expires_at > now + LIFETIME_MAX + LEEWAY:
        raise SsoMistrusted("EVE's access token lives longer than EVE's do")
    for name in ("iat", "nbf"):
        moment = _moment(claims, name)
        if moment is not None and moment > now + LEEWAY:
            raise SsoMistrusted("EVE's access token is from the future: look at this machine's clock")
    return expires_at


def _check_origin(claims: JsonObject, rules: Rules) -> None:
    issuer = claims.get("iss")
    if not isinstance(issuer, str) or issuer not in rules.issuers:
        raise SsoMistrusted("EVE's access token is issued by somebody else")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if AUDIENCE not in audiences or rules.client_id not in audiences:
        raise SsoMistrusted("EVE's access token is made for another program")


def _character(claims: JsonObject, expires_at: Moment) -> SsoCharacter:
    match = _SUBJECT.fullmatch(str(claims.get("sub")))
    if match is None:
        raise SsoMistrusted("EVE's access token speaks for no character")
    name, owner = claims.get("name"), claims.get("owner")
    if not isinstance(name, str) or not name or not isinstance(owner, str) or not 0 < len(owner) <= 200:
        raise SsoMistrusted("EVE's access token does not say whose character it is")
    return SsoCharacter(int(match[1]), clean(name, most=100), owner, _scopes(claims.get("scp")), expires_at)


def _scopes(value: JsonValue) -> tuple[str, ...]:
    """The scopes: none, one bare word, several words, or a list."""
    words: Sequence[JsonValue] = value.split() if isinstance(value, str) else value if isinstance(value, list) else ()
    named = [word for word in words if isinstance(word, str)]
    if (value is not None and not isinstance(value, str | list)) or len(named) != len(words) or len(words) > SCOPES_MAX:
        raise SsoMistrusted("the scopes of EVE's access token can't be read")
    return tuple(dict.fromkeys(named))


def _moment(claims: JsonObject, name: str) -> Moment | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SsoMistrusted(f"{name} in EVE's access token is no number")
    return int(value * SECOND)


def _object(part: str) -> JsonObject:
    try:
        value = read_json(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (Invalid, ValueError, binascii.Error):
        value = None
    if not isinstance(value, dict):
        raise SsoMistrusted("EVE's access token can't be read")
    return value
