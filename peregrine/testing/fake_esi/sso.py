"""Owns EVE's sign-in as a server: discovery, keys, the code flow, refresh with rotation. Must not know ESI or sockets.

Refresh tokens are computed, not stored: ``World`` may have a million characters. Only who has refreshed is remembered.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Final
from urllib.parse import parse_qs, urlencode

from joserfc import jwk, jwt

from peregrine.domain.moment import MINUTE, SECOND, Duration, Moment
from peregrine.testing.fake_esi.journal import Journal
from peregrine.testing.fake_esi.message import Asked, Told, told
from peregrine.testing.fake_esi.world import World

ACCESS_LIFETIME: Final = 1199
"""Seconds."""
CODE_LIFETIME: Final[Duration] = 5 * MINUTE
RS256_KID: Final = "JWT-Signature-Key"
ES256_KID: Final = "JWT-Signature-Key-EC"
REVOKED: Final[Mapping[str, tuple[str, str]]] = {
    "token": ("invalid_grant", "Invalid refresh token. Token missing/expired."),
    "grant": ("invalid_grant", "Invalid refresh token. Character grant missing/expired."),
    "migrate": ("invalid_grant", "Invalid refresh token. Unable to migrate grant."),
    "expired": ("invalid_token", "The refresh token is expired."),
    "client": ("invalid_token", "The refresh token does not match the client specified."),
}
"""Every permanent refusal that is known, by a name for tests."""


class Rotation(StrEnum):
    """What becomes of the old refresh token."""

    STRICT = "strict"
    """It is dead once it was used: a second use is refused and noted."""
    GRACE = "grace"
    """It lives until the new one is used."""
    NONE = "none"
    """The same one comes back."""
    EMPTY = "empty"
    """The answer has none; the old one stays good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """A client as CCP knows it; ``secret`` empty: one with PKCE only."""

    id: str = "fake-client"
    secret: str = "fake-secret"
    scopes: tuple[str, ...] = ("publicData", "esi-characters.read_corporation_roles.v1")


@dataclass(frozen=True, slots=True)
class _Code:
    character_id: int
    challenge: str
    redirect: str
    scopes: tuple[str, ...]
    until: Moment


class Sso:
    """The sign-in server. *issuer* is set by whoever serves it: its own address."""

    def __init__(self, world: World, journal: Journal, application: Application | None = None) -> None:
        self.application = application or Application()
        self.issuer = "http://127.0.0.1"
        self.rotation = Rotation.STRICT
        self.algorithm = "RS256"
        self.signs_in: int | None = None
        """Who is signed in by the next visit of the sign-in page; None: the first character."""
        self.denies = False
        """Whether the person on the sign-in page says no."""
        self.claims: dict[str, Any] = {}
        """Written over the claims of every access token."""
        self._world = world
        self._journal = journal
        self._generations: dict[int, int] = {}
        self._refused: dict[int, str] = {}
        self._owners: dict[int, int] = {}
        self._codes: dict[str, _Code] = {}
        self._made = 0
        self._keys = 0

    # ── what a test or an operator changes ───────────────────────────────────────────────────────

    def refresh_token(self, character_id: int) -> str:
        """The refresh token that is good now."""
        return self._token(character_id, self._generations.get(character_id, 0))

    def revoke(self, character_id: int, why: str = "token") -> None:
        """Refuse this character's tokens from now on, in one of the words of ``REVOKED``."""
        assert why in REVOKED, why
        self._refused[character_id] = why

    def hand_over(self, character_id: int) -> None:
        """The character goes to another player: another owner hash."""
        self._owners[character_id] = self._owners.get(character_id, 0) + 1

    def owner_hash(self, character_id: int) -> str:
        """The owner, as the access token says it."""
        text = f"{self._world.seed} owner {character_id} {self._owners.get(character_id, 0)}"
        return base64.b64encode(hashlib.sha256(text.encode()).digest()[:20]).decode()

    def access_token(self, character_id: int, now: Moment, *, scopes: Sequence[str] | None = None) -> str:
        """A signed access token."""
        granted = self.application.scopes if scopes is None else scopes
        claims: dict[str, Any] = {
            "aud": [self.application.id, "EVE Online"],
            "azp": self.application.id,
            "exp": now // SECOND + ACCESS_LIFETIME,
            "iat": now // SECOND,
            "iss": self.issuer,
            "jti": hashlib.sha256(f"{character_id} {now} {self._made}".encode()).hexdigest()[:32],
            "kid": RS256_KID if self.algorithm == "RS256" else ES256_KID,
            "name": self._world.name_of(character_id),
            "owner": self.owner_hash(character_id),
            "region": "world",
            "sub": f"CHARACTER:EVE:{character_id}",
            "tenant": "tranquility",
            "tier": "live",
        }
        if granted:
            claims["scp"] = list(granted) if len(granted) > 1 else granted[0]
        return self.signed(claims | self.claims)

    def signed(self, claims: Mapping[str, Any], **header: Any) -> str:
        """*claims*, signed by the key of ``algorithm``; *header* is written over its header."""
        kid, key = (RS256_KID, self.rsa) if self.algorithm == "RS256" else (ES256_KID, self.ec)
        return jwt.encode({"alg": self.algorithm, "kid": kid, "typ": "JWT"} | header, dict(claims), key)

    @property
    def rsa(self) -> jwk.RSAKey:
        """The key of RS256."""
        return _rsa_key(self._keys)

    @property
    def ec(self) -> jwk.ECKey:
        """The key of ES256."""
        return _ec_key(self._keys)

    def change_keys(self) -> None:
        """New keys under the same names; what was signed before is good no more."""
        self._keys += 1

    # ── routes ───────────────────────────────────────────────────────────────────────────────────

    def answer(self, asked: Asked, now: Moment) -> tuple[str, Told] | None:
        """The route's name and its answer, if it is one of ours."""
        match (asked.method, asked.path):
            case ("GET", "/.well-known/oauth-authorization-server"):
                return "sso discovery", told(self.discovery())
            case ("GET", "/oauth/jwks"):
                keys = [self.rsa.as_dict(private=False), self.ec.as_dict(private=False)]
                return "sso keys", told({"keys": keys, "SkipUnresolvedJsonWebKeys": True})
            case ("GET", "/v2/oauth/authorize"):
                return "sso authorize", self._authorize(asked.query, now)
            case ("POST", "/v2/oauth/token"):
                return "sso token", self._tokens(asked, now)
            case ("POST", "/v2/oauth/revoke"):
                return "sso revoke", self._revoke(asked)
        return None

    def discovery(self) -> dict[str, Any]:
        """The document that says where everything is."""
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/v2/oauth/authorize",
            "token_endpoint": f"{self.issuer}/v2/oauth/token",
            "revocation_endpoint": f"{self.issuer}/v2/oauth/revoke",
            "jwks_uri": f"{self.issuer}/oauth/jwks",
            "response_types_supported": ["code", "token"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "code_challenge_methods_supported": ["S256"],
        }

    def _authorize(self, query: Mapping[str, str], now: Moment) -> Told:
        redirect = query.get("redirect_uri", "")
        if query.get("response_type") != "code" or query.get("client_id") != self.application.id or not redirect:
            return told({"error": "invalid_request", "error_description": "client, type or redirect is wrong"}, 400)
        if query.get("code_challenge") and query.get("code_challenge_method") != "S256":
            return told({"error": "invalid_request", "error_description": "only S256 is supported"}, 400)
        if self.denies:
            said = {"error": "access_denied", "state": query.get("state", "")}
        else:
            character_id = self._world.character_ids[0] if self.signs_in is None else self.signs_in
            scopes = tuple(query.get("scope", "").split())
            self._made += 1
            code = hashlib.sha256(f"{self._world.seed} code {self._made} {now}".encode()).hexdigest()[:40]
            challenge = query.get("code_challenge", "")
            self._codes[code] = _Code(character_id, challenge, redirect, scopes, now + CODE_LIFETIME)
            said = {"code": code, "state": query.get("state", "")}
        return Told(302, {"Location": f"{redirect}{'&' if '?' in redirect else '?'}{urlencode(said)}"})

    def _tokens(self, asked: Asked, now: Moment) -> Told:
        form = _form(asked)
        if form is None:
            return _refusal("invalid_request", "the body is no form")
        if not self._knows(asked, form):
            return _refusal("invalid_client", "Client authentication failed.", 401)
        match form.get("grant_type"):
            case "authorization_code":
                return self._exchange(form, now)
            case "refresh_token":
                return self._refresh(form, now)
        return _refusal("unsupported_grant_type", "Unsupported grant type.")

    def _exchange(self, form: Mapping[str, str], now: Moment) -> Told:
        code = self._codes.pop(form.get("code", ""), None)
        if code is None or code.until <= now:
            return _refusal("invalid_grant", "Authorization code is invalid.")
        if code.challenge and not hmac.compare_digest(code.challenge, _challenge(form.get("code_verifier", ""))):
            return _refusal("invalid_grant", "Code verifier is wrong.")
        self._refused.pop(code.character_id, None)
        generation = self._generations[code.character_id] = self._generations.get(code.character_id, 0) + 1
        token = self._token(code.character_id, generation) if code.scopes else ""
        return self._pair(code.character_id, token, now, code.scopes)

    def _refresh(self, form: Mapping[str, str], now: Moment) -> Told:
        character_id, generation = self._read(form.get("refresh_token", ""))
        if character_id is None:
            return _refusal(*REVOKED["token"])
        if why := self._refused.get(character_id):
            return _refusal(*REVOKED[why])
        current = self._generations.get(character_id, 0)
        oldest = current - (1 if self.rotation is Rotation.GRACE else 0)
        if not oldest <= generation <= current:
            self._journal.note("spent_token", f"an older refresh token of {character_id} was used again")
            return _refusal(*REVOKED["token"])
        self._journal.refreshes[character_id] += 1
        if self.rotation in (Rotation.STRICT, Rotation.GRACE):
            current = self._generations[character_id] = generation + 1
        token = "" if self.rotation is Rotation.EMPTY else self._token(character_id, current)
        return self._pair(character_id, token, now, self.application.scopes)

    def _revoke(self, asked: Asked) -> Told:
        form = _form(asked) or {}
        character_id, _ = self._read(form.get("token", ""))
        if not self._knows(asked, form):
            return _refusal("invalid_client", "Client authentication failed.", 401)
        if character_id is not None:
            self._refused[character_id] = "token"
        return told({})

    def character_in(self, asked: Asked) -> int | None:
        """Whose refresh token a request holds."""
        form = _form(asked) or {}
        return self._read(form.get("refresh_token", ""))[0] if form.get("grant_type") == "refresh_token" else None

    # ── pieces ───────────────────────────────────────────────────────────────────────────────────

    def _pair(self, character_id: int, refresh_token: str, now: Moment, scopes: Sequence[str]) -> Told:
        self._made += 1
        pair: dict[str, Any] = {
            "access_token": self.access_token(character_id, now, scopes=scopes),
            "expires_in": ACCESS_LIFETIME,
            "token_type": "Bearer",
        }
        return told(pair | ({"refresh_token": refresh_token} if refresh_token else {}), Cache_Control="no-store")

    def _knows(self, asked: Asked, form: Mapping[str, str]) -> bool:
        """Whether the client has proved who it is: by Basic, or by its id alone if it has no secret."""
        scheme, _, proof = asked.header("authorization").partition(" ")
        if not scheme:
            said = (form.get("client_id", ""), form.get("client_secret", ""))
        else:
            try:
                id, _, secret = base64.b64decode(proof, validate=True).decode().partition(":")
            except (binascii.Error, ValueError):
                return False
            said = (id, secret)
        return said == (self.application.id, self.application.secret)

    def _token(self, character_id: int, generation: int) -> str:
        text = f"{character_id}.{generation}"
        proof = hmac.new(f"{self._world.seed} refresh".encode(), text.encode(), hashlib.sha256).digest()[:12]
        return f"{base64.urlsafe_b64encode(proof).decode()}.{text}"

    def _read(self, token: str) -> tuple[int | None, int]:
        _, _, rest = token.partition(".")
        character, _, generation = rest.partition(".")
        if not (character.isdecimal() and generation.isdecimal() and len(rest) < 40):
            return None, 0
        good = hmac.compare_digest(self._token(int(character), int(generation)).encode(), token.encode())
        return (int(character), int(generation)) if good else (None, 0)


@cache
def _rsa_key(number: int) -> jwk.RSAKey:
    """Made once in a process, since it takes a while."""
    return jwk.RSAKey.generate_key(2048, {"kid": RS256_KID, "alg": "RS256", "use": "sig"}, private=True)


@cache
def _ec_key(number: int) -> jwk.ECKey:
    return jwk.ECKey.generate_key("P-256", {"kid": ES256_KID, "alg": "ES256", "use": "sig"}, private=True)


def _refusal(code: str, text: str, status: int = 400) -> Told:
    return told({"error": code, "error_description": text}, status)


def _form(asked: Asked) -> dict[str, str] | None:
    if asked.header("content-type").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        return None
    try:
        pairs = parse_qs(asked.body.decode(), keep_blank_values=True, strict_parsing=bool(asked.body))
    except ValueError:
        return None
    return {name: values[0] for name, values in pairs.items()}


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
