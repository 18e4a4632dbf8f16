"""Owns where credentials stand in a request, and the rule for cookies; must not know how a token is proven."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request

from peregrine.domain.errors import Unauthenticated
from peregrine.ports.identity import NOBODY, Identity, Principal
from peregrine.wire.problem import Refusal

COOKIE: Final = "falcon_auth_token"
SAFE: Final = ("GET", "HEAD")
_OWN_SITE: Final = ("same-origin",)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


async def principal_of(request: Request, identity: Identity, origins: Collection[str]) -> Principal:
    """Who sends *request*: by its Authorization header, else by the cookie, else nobody.

    Raises:  Unauthenticated for credentials that prove nothing; Refusal ``csrf`` for a cookie sent by another site.
    """
    headers = request.headers.getlist("authorization")
    if headers:
        return await identity.principal_of(_bearer(headers))
    token = _cookie(request)
    if token is None:
        return NOBODY
    principal = await identity.principal_of(token)
    if request.method not in SAFE:
        refuse_other_sites(request, origins)
    return principal


def refuse_other_sites(request: Request, origins: Collection[str]) -> None:
    """Raises Refusal unless the browser says that a page of ours, or of an allowed origin, sends *request*.

    A browser attaches the cookie whoever made the page; only ``Origin`` and ``Sec-Fetch-Site`` say who did, and no
    page can forge them. What is given must be right, and one of the two must be given.
    """
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    is_allowed = origin is not None and (origin in origins or _is_own(origin, request))
    if origin is not None and not is_allowed:
        raise _csrf()
    if site is not None and site not in _OWN_SITE and origin not in origins:
        raise _csrf()
    if origin is None and site is None:
        raise _csrf()


def _csrf() -> Refusal:
    return Refusal("csrf", "A request with the cookie must come from a page of this origin; or send a bearer token.")


def _is_own(origin: str, request: Request) -> bool:
    """Whether *origin* names the host that was asked; the scheme may be hidden by a proxy, the host is not."""
    try:
        sent, own = urlsplit(origin), urlsplit(f"//{request.headers.get('host', '')}")
        port = sent.port or _DEFAULT_PORTS.get(sent.scheme)
        own_port = own.port or _DEFAULT_PORTS.get(sent.scheme)
    except ValueError:
        return False
    return sent.scheme in _DEFAULT_PORTS and bool(sent.hostname) and (sent.hostname, port) == (own.hostname, own_port)


def _bearer(headers: list[str]) -> str:
    if len(headers) > 1:
        raise Unauthenticated("two Authorization headers")
    scheme, _, token = headers[0].partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("not a bearer token")
    return token.strip()


def _cookie(request: Request) -> str | None:
    found = []
    for header in request.headers.getlist("cookie"):
        for part in header.split(";"):
            name, equals, value = part.strip().partition("=")
            if equals and name == COOKIE:
                found.append(value.strip().strip('"'))
    if len(set(found)) > 1:
        raise Unauthenticated("two different cookies")
    return found[0] if found and found[0] else None
