"""Owns the routes of the login with EVE Online, and the cookie that it gives; must not know how a pilot is proven.

They are there whether EVE is configured or not, so that the API is the same everywhere; unconfigured, the two of EVE
say what to set (decision 0107).
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final

from msgspec import UNSET
from starlette.responses import Response

from peregrine.api.call import Call, answer
from peregrine.api.identity import COOKIE, principal_of
from peregrine.api.operation import Demand, Routes
from peregrine.api.patience import Buckets, Rate
from peregrine.api.proxies import household
from peregrine.domain.errors import Invalid, Unauthenticated, Unavailable
from peregrine.domain.moment import SECOND, format_moment
from peregrine.ports.identity import Principal
from peregrine.ports.login import Login, Sessions
from peregrine.usecases.login import sign_in, sign_out
from peregrine.wire.login import CallbackQuery, Me, SignedOut
from peregrine.wire.orders import NoOrder, read_body
from peregrine.wire.problem import Refusal

STATE_COOKIE: Final = "falcon_auth_state"
"""Binds a login to the browser that began it: nobody can be signed in as somebody else by a link."""
BEGUN: Final = Rate(burst=20, per_second=0.2)
"""Logins that one address may begin: each takes a row for a quarter of an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """What these routes sign in and out with. None: not configured."""

    login: Login | None = None
    sessions: Sessions | None = None


def login_routes(signing: Signing, buckets: Buckets) -> Routes:
    """The routes of this file."""
    routes = Routes("login")

    @routes.add(
        "GET", "/auth/eve/login", needs=Demand.NOTHING, answers="text/plain", status=303, refuses=[404, 429, 503]
    )
    async def begin_eve_login(call: Call) -> Response:
        """Go to EVE Online to sign in"""
        login = _configured(signing)
        if seconds := buckets.take(household(call.stranger.request.address)):
            raise Refusal("too_many_requests", "Wait a little.", headers={"Retry-After": str(seconds)})
        begun = await login.begin(await _user_of(call))
        response = _redirect(begun.url)
        response.set_cookie(
            STATE_COOKIE, begun.state, max_age=begun.lasts // SECOND, path=_path(call), secure=login.is_secure,
            httponly=True, samesite="lax",
        )  # fmt: skip
        return response

    @routes.add("GET", "/auth/eve/callback", query=CallbackQuery, needs=Demand.NOTHING, answers="text/plain",
                status=303, refuses=[404, 503])  # fmt: skip
    async def end_eve_login(call: Call) -> Response:
        """Come back from EVE Online, signed in"""
        login, query = _configured(signing), call.query(CallbackQuery)
        if query.error is not None or query.code is None:
            raise Invalid.at("/error", "EVE Online gave no code: the login was not allowed, or broken off; begin again")
        state = call.request.cookies.get(STATE_COOKIE, "")
        if not state or not hmac.compare_digest(state.encode(), (query.state or "").encode()):
            raise Invalid.at("/state", "belongs to another browser, or is older than 15 minutes: begin again")
        signed = await sign_in(call.means, call.stranger, login, code=query.code, state=state)
        response = _redirect(f"{call.desk.prefix}/auth/me")
        lasts = max(0, (signed.expires_at - call.means.clock.now()) // SECOND)
        response.set_cookie(
            COOKIE, signed.token, max_age=lasts, path="/", secure=login.is_secure, httponly=True, samesite="lax"
        )
        response.delete_cookie(STATE_COOKIE, path=_path(call), secure=login.is_secure, httponly=True, samesite="lax")
        return response

    @routes.add("GET", "/auth/me", needs=Demand.CREDENTIALS, answers=Me)
    async def get_me(call: Call) -> Response:
        """Who the credentials of this request speak for"""
        return answer(_me(call.asker.principal))

    @routes.add("POST", "/auth/logout", body=NoOrder, body_required=False, needs=Demand.CREDENTIALS, answers=SignedOut,
                remembered=False)  # fmt: skip
    async def log_out(call: Call) -> Response:
        """End the session and forget the cookie"""
        read_body(NoOrder, await call.json())
        if signing.sessions is not None:
            await sign_out(call.means, call.asker, signing.sessions)
        response = answer(SignedOut(message="Signed out"))
        is_secure = signing.login is not None and signing.login.is_secure
        response.delete_cookie(COOKIE, path="/", secure=is_secure, httponly=True, samesite="lax")
        return response

    return routes


def _configured(signing: Signing) -> Login:
    if signing.login is None:
        detail = "EVE Online's login is not configured here: set EVE_CLIENT_ID, EVE_REDIRECT_URI and ESI_CONTACT."
        raise Refusal("eve_not_configured", detail)
    return signing.login


async def _user_of(call: Call) -> str | None:
    """Whose session the browser holds: the new character is added to theirs. Bad credentials are no reason to stay."""
    try:
        principal = await principal_of(call.request, call.desk.identity, call.desk.origins)
    except (Unauthenticated, Unavailable):
        return None
    return principal.id if principal.session else None


def _path(call: Call) -> str:
    return f"{call.desk.prefix}/auth/eve"


def _redirect(url: str) -> Response:
    return Response(status_code=303, headers={"Location": url}, media_type="text/plain")


def _me(principal: Principal) -> Me:
    """*principal* as it is told."""
    kinds = [subject.partition(":") for subject in principal.subjects]
    characters = [int(id) for kind, _, id in kinds if kind == "character" and id.isdecimal()]
    return Me(
        user_id=principal.id,
        name=principal.name,
        character_id=characters[0] if characters else UNSET,
        scopes=list(principal.scopes),
        groups=[name for kind, _, name in kinds if kind == "group"],
        expires_at=UNSET if principal.expires_at is None else format_moment(principal.expires_at),
    )
