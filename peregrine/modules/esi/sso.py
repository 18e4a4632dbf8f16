"""Owns talking with EVE's sign-in: where it is, its keys, codes and refreshes, and what each refusal means. Must not
know tokens at rest, users or sessions.

A refresh is sent exactly once for each call: the token in it may be dead as soon as it has arrived. Everything else is
a read and kept for a day.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlencode, urlsplit

from peregrine.domain.errors import BadConfiguration
from peregrine.domain.moment import DAY, MINUTE, SECOND, Duration, Moment
from peregrine.modules.esi.exchange import (
    Answer,
    Corrupt,
    Http,
    NoAnswer,
    Question,
    clean,
    json_of,
    object_of,
    seconds_to_wait,
)
from peregrine.modules.esi.proof import Key, OldKeys, Rules, character_of, keys_in
from peregrine.modules.esi.turnstile import TooLong, Turnstile
from peregrine.modules.esi.universe import checked_address
from peregrine.ports.clock import Clock
from peregrine.ports.esi import SsoCharacter, SsoMisconfigured, SsoMistrusted, SsoRefused, SsoUnavailable, TokenPair

Value = TypeVar("Value")

ADDRESS: Final = "https://login.eveonline.com"
DISCOVERY: Final = "/.well-known/oauth-authorization-server"
KEPT_FOR: Final[Duration] = DAY
LOOK_AGAIN: Final[Duration] = MINUTE
"""How soon after a look at the keys the next one may follow, whatever kid somebody shows us."""
AWAY_FOR: Final = 60
LIFETIME: Final = 1199
LIFETIME_MAX: Final = 86_400
TOKEN_MAX: Final = 16 * 1024
DEAD: Final = frozenset({"invalid_grant", "invalid_token"})
"""The words that end a grant for good. Source: CCP's texts as collected by eveseat/eveapi."""
OURS: Final = frozenset({"invalid_client", "unauthorized_client", "invalid_request", "unsupported_grant_type"})
"""The words that say that this program is set up wrongly; no token is to blame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SsoSettings:
    """The application as it was registered with CCP; ``client_secret`` empty: one that uses PKCE alone."""

    client_id: str
    client_secret: str = field(default="", repr=False)
    callback: str = ""
    address: str = ADDRESS

    def __post_init__(self) -> None:
        """Raises BadConfiguration."""
        checked_address(self.address, of="EVE's sign-in")
        if not self.client_id or not self.client_id.isprintable() or ":" in self.client_id:
            raise BadConfiguration("the client id of EVE's sign-in is missing: register an application with CCP")
        if self.callback:
            checked_address(self.callback, of="the callback of EVE's sign-in")

    @property
    def issuers(self) -> frozenset[str]:
        """How tokens may name their issuer: with and without the scheme, with and without a slash."""
        address = self.address.rstrip("/")
        host = address.partition("://")[2]
        return frozenset({address, f"{address}/", host, f"{host}/"})


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are, as the discovery document says."""

    authorize: str
    token: str
    keys: str


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a PKCE *verifier* (43 to 128 unreserved characters). Source: RFC 7636, 4.2."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).decode().rstrip("=")


class SsoClient:
    """A ``ports.esi.Sso``. Its requests pass a *turnstile* of their own."""

    def __init__(self, http: Http, turnstile: Turnstile, clock: Clock, settings: SsoSettings) -> None:
        self._http = http
        self._turnstile = turnstile
        self._clock = clock
        self._settings = settings
        self._rules = Rules(settings.client_id, settings.issuers)
        self._places = _Kept[Places]()
        self._keys = _Kept[Mapping[str, Key]]()

    # ── the port ─────────────────────────────────────────────────────────────────────────────────

    async def authorize_url(self, *, state: str, challenge: str, scopes: Sequence[str] = ()) -> str:
        """Where to send the browser. Raises SsoMisconfigured without a callback."""
        if not self._settings.callback:
            raise SsoMisconfigured("EVE's sign-in has no callback: set the URL that was registered with CCP")
        asked = {
            "response_type": "code",
            "redirect_uri": self._settings.callback,
            "client_id": self._settings.client_id,
            "scope": " ".join(scopes),
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        places = await self._found()
        return f"{places.authorize}?{urlencode({name: value for name, value in asked.items() if value})}"

    async def exchange(self, code: str, *, verifier: str) -> TokenPair:
        """The tokens for a code."""
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier}
        return await self._pair(form, secrets=(code, verifier))

    async def refresh(self, refresh_token: str) -> TokenPair:
        """A new pair; the old refresh token where the answer has none."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        pair = await self._pair(form, secrets=(refresh_token,))
        return pair if pair.refresh_token else replace(pair, refresh_token=refresh_token)

    async def verify(self, access_token: str) -> SsoCharacter:
        """Who it speaks for."""
        now = self._clock.now()
        try:
            return character_of(access_token, await self._known_keys(), self._rules, now)
        except OldKeys:
            if not await self._looked_again():
                raise
        return character_of(access_token, await self._known_keys(), self._rules, now)

    # ── tokens ───────────────────────────────────────────────────────────────────────────────────

    async def _pair(self, form: Mapping[str, str], *, secrets: Iterable[str]) -> TokenPair:
        places = await self._found()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if self._settings.client_secret:
            proof = f"{self._settings.client_id}:{self._settings.client_secret}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(proof).decode()}"
        else:
            form = {**form, "client_id": self._settings.client_id}
        question = Question("POST", places.token, headers, urlencode(form).encode())
        started = self._clock.now()
        answer = await self._sent("sso token", question)
        if answer.status == 200:
            return _pair_in(answer.body, started)
        raise _refusal(answer, (*secrets, self._settings.client_secret), self._clock.now())

    # ── where things are ─────────────────────────────────────────────────────────────────────────

    async def _found(self) -> Places:
        """Where things are; what was found stays good while a newer look fails."""
        async with self._places.lock:
            if self._places.is_due(self._clock.now()):
                url = self._settings.address.rstrip("/") + DISCOVERY
                try:
                    document = await self._document("sso discovery", url)
                    self._places.keep(_places_in(document, self._settings), self._clock.now())
                except (SsoUnavailable, SsoMisconfigured):
                    if not self._places.failed(self._clock.now()):
                        raise
            return self._places.there()

    async def _known_keys(self) -> Mapping[str, Key]:
        url = (await self._found()).keys
        async with self._keys.lock:
            if self._keys.is_due(self._clock.now()):
                await self._look_at_keys(url)
            return self._keys.there()

    async def _looked_again(self) -> bool:
        """Whether the keys were looked at now; not more than once a minute."""
        url = (await self._found()).keys
        async with self._keys.lock:
            if self._clock.now() - self._keys.looked_at < LOOK_AGAIN:
                return False
            await self._look_at_keys(url)
            return True

    async def _look_at_keys(self, url: str) -> None:
        try:
            keys = keys_in(await self._document("sso keys", url))
            if not keys:
                raise SsoMistrusted("EVE's sign-in publishes no key that can be used")
            self._keys.keep(keys, self._clock.now())
        except (SsoUnavailable, SsoMistrusted):
            if not self._keys.failed(self._clock.now()):
                raise

    async def _document(self, route: str, url: str) -> Mapping[str, Any]:
        answer = await self._sent(route, Question("GET", url))
        if answer.status != 200:
            raise SsoUnavailable(f"EVE's sign-in answers {answer.status} for its documents", retry_after=AWAY_FOR)
        try:
            return object_of(json_of(answer.body))
        except Corrupt:
            raise SsoUnavailable("a document of EVE's sign-in can't be read", retry_after=AWAY_FOR) from None

    # ── sending ──────────────────────────────────────────────────────────────────────────────────

    async def _sent(self, route: str, question: Question) -> Answer:
        """The answer to a question that was sent once. Raises SsoUnavailable."""
        try:
            async with self._turnstile.through(route) as given:
                try:
                    answer = await self._http.send(question)
                except NoAnswer as error:
                    given.ended(None, failed=True)
                    text = f"EVE's sign-in does not answer: {error}"
                    raise SsoUnavailable(text, retry_after=AWAY_FOR, in_doubt=error.sent) from None
                given.ended(answer, failed=answer.status >= 500)
                return answer
        except TooLong as error:
            seconds = max(1, -(-error.wait // SECOND))
            raise SsoUnavailable(f"EVE's sign-in has to wait: {error.reason}", retry_after=seconds) from None


# ── documents ────────────────────────────────────────────────────────────────────────────────────


class _Kept(Generic[Value]):
    """A document, good for a day; an older one serves while a newer can't be had."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.looked_at: Moment = -DAY
        self._due_at: Moment = 0
        self._value: Value | None = None

    def is_due(self, now: Moment) -> bool:
        """Whether to look for a newer one; a clock that was set back does not put that off for ever."""
        return self._value is None or not self._due_at - KEPT_FOR <= now < self._due_at

    def keep(self, value: Value, now: Moment) -> None:
        """Use *value* from now on."""
        self._value, self.looked_at, self._due_at = value, now, now + KEPT_FOR

    def failed(self, now: Moment) -> bool:
        """Note that there is no newer one now; whether an older one is there instead."""
        self.looked_at, self._due_at = now, now + LOOK_AGAIN
        return self._value is not None

    def there(self) -> Value:
        """The document; to be asked for after it was kept."""
        assert self._value is not None
        return self._value


def _places_in(document: Mapping[str, Any], settings: SsoSettings) -> Places:
    """Where things are. Raises SsoMisconfigured when the document is somebody else's or sends us to somebody else."""
    if document.get("issuer") not in settings.issuers:
        raise SsoMisconfigured("the discovery document of EVE's sign-in names another issuer: look at its address")
    home = urlsplit(settings.address)
    found = [document.get(name) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")]
    for place in found:
        if not isinstance(place, str) or urlsplit(place)[:2] != home[:2] or not place.isprintable():
            raise SsoMisconfigured("the discovery document of EVE's sign-in names a place that is not its own")
    authorize, token, keys = map(str, found)
    return Places(authorize, token, keys)


def _pair_in(body: bytes, started: Moment) -> TokenPair:
    """The tokens in an answer of 200. Raises SsoUnavailable, in doubt, when there are none."""
    try:
        said = object_of(json_of(body))
    except Corrupt:
        said = {}
    access, refresh = said.get("access_token"), said.get("refresh_token") or ""
    lifetime = said.get("expires_in", LIFETIME)
    is_token = all(isinstance(one, str) and len(one) <= TOKEN_MAX and one.isascii() for one in (access, refresh))
    if not is_token or not access or str(said.get("token_type", "Bearer")).lower() != "bearer":
        raise SsoUnavailable("EVE's sign-in answers without a token", retry_after=AWAY_FOR, in_doubt=True)
    if type(lifetime) is not int or lifetime < 1:
        lifetime = LIFETIME
    return TokenPair(access, refresh, started + min(lifetime, LIFETIME_MAX) * SECOND)


def _refusal(answer: Answer, secrets: Iterable[str], now: Moment) -> Exception:
    """What an answer other than 200 means. Only what EVE says in so many words ends a grant."""
    try:
        said = object_of(json_of(answer.body))
    except Corrupt:
        said = {}
    word = said.get("error")
    text = _shown(said.get("error_description"), secrets)
    if isinstance(word, str) and 400 <= answer.status < 500:
        if word in OURS:
            more = f" ({text})" if text else ""
            return SsoMisconfigured(f"EVE's sign-in refuses this program: {word}{more}. Look at client id and secret")
        if word in DEAD and answer.status == 400:
            return SsoRefused(word, text)
    wait = seconds_to_wait(answer.headers.get("retry-after"), now)
    return SsoUnavailable(
        f"EVE's sign-in answers {answer.status}",
        retry_after=AWAY_FOR if wait is None else max(1, wait // SECOND),
        in_doubt=answer.status >= 500,
    )


def _shown(text: Any, secrets: Iterable[str]) -> str:
    """*text*, fit to be shown: without what we sent, on one line, and short."""
    if not isinstance(text, str):
        return ""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return "".join(letter if letter.isprintable() else " " for letter in clean(text, most=200))
