"""Owns how EVE Online is wired in: the one file that knows ``modules.esi``, and that one line of ``build`` names. With
``nothing`` of ``app.extension`` in that line both can be deleted, and the service is the same without EVE. Must not
know what the modules do.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Final
from urllib.parse import urlsplit

from peregrine.app.extension import Extension, ExtensionNeeds
from peregrine.modules.builtin.health import Probe
from peregrine.modules.esi.alliances import Alliances
from peregrine.modules.esi.characters import Characters
from peregrine.modules.esi.client import HttpClient, Visitor
from peregrine.modules.esi.corporations import Corporations
from peregrine.modules.esi.login import EveLogin, LoginNeeds, LoginSettings
from peregrine.modules.esi.shelf import ShelfCache
from peregrine.modules.esi.sso import SsoClient, SsoSettings
from peregrine.modules.esi.tasks import eve_tasks
from peregrine.modules.esi.throttle import Limits
from peregrine.modules.esi.tokens import Refresher
from peregrine.modules.esi.turnstile import Turnstile
from peregrine.modules.esi.universe import EsiClient, EsiSettings
from peregrine.modules.provided import PROVIDED
from peregrine.ports.eve_modules import EveModules

MISSING: Final = "set ESI_CONTACT"
MISSING_AUTH: Final = "set EVE_CLIENT_ID, EVE_REDIRECT_URI and ESI_CONTACT"
SSO_FLIGHTS: Final = 5
"""At once at the sign-in, which nobody publishes limits of: a refresh takes a moment, and a run has ten minutes."""
LOCAL: Final = ("127.0.0.1", "::1", "localhost")


def extension(needs: ExtensionNeeds, stack: AsyncExitStack) -> Extension:
    """EVE as the settings want it; what it holds open is closed with *stack*. Nothing is asked of EVE yet.

    Raises:  BadConfiguration.
    """
    settings, own, probes, login = needs.settings, EveModules(), dict[str, Probe](), None
    if settings.esi_contact:
        http = HttpClient(Visitor(version=needs.version, contact=settings.esi_contact))
        stack.push_async_callback(http.close)
        esi = _esi(needs, http)

        async def probe() -> None:
            await esi.status()

        probes["esi"] = probe
        auth = None
        if settings.eve_client_id:
            sso = _sso(needs, http)
            auth = Refresher(sso, needs.store, needs.vault, needs.clock, needs.entropy)
            # Flights land before the store is closed, and before the connections they fly on.
            stack.push_async_callback(auth.close)
            login = _login(needs, sso)
        own = EveModules(
            auth=auth,
            character=Characters(esi, needs.store, needs.records, needs.clock),
            alliance=Alliances(esi, needs.store, needs.clock),
            corporation=Corporations(esi, needs.store, needs.clock),
        )
    tasks = eve_tasks(PROVIDED.over(own), missing=MISSING, missing_auth=MISSING_AUTH)
    return Extension(tasks=tasks, probes=probes, login=login)


def _esi(needs: ExtensionNeeds, http: HttpClient) -> EsiClient:
    address = needs.settings.esi_base_url
    # A fake on this very machine goes down when it says so.
    limits = Limits(downtime=urlsplit(address).hostname not in LOCAL)
    turnstile = Turnstile("esi", limits, needs.clock, needs.entropy, shared=needs.shared)
    cache = ShelfCache(needs.records, needs.clock)
    return EsiClient(http, turnstile, cache, needs.clock, EsiSettings(address=address))


def _sso(needs: ExtensionNeeds, http: HttpClient) -> SsoClient:
    settings = needs.settings
    secret = settings.eve_client_secret
    limits = Limits(downtime=False, flights=SSO_FLIGHTS)
    turnstile = Turnstile("sso", limits, needs.clock, needs.entropy, shared=needs.shared)
    application = SsoSettings(
        client_id=settings.eve_client_id,
        client_secret="" if secret is None else secret.get_secret_value(),
        callback=settings.eve_redirect_uri,
        address=settings.eve_sso_url,
    )
    return SsoClient(http, turnstile, needs.clock, application)


def _login(needs: ExtensionNeeds, sso: SsoClient) -> EveLogin:
    settings = needs.settings
    stands_on = LoginNeeds(
        sso=sso,
        store=needs.store,
        records=needs.records,
        vault=needs.vault,
        clock=needs.clock,
        entropy=needs.entropy,
        sign=needs.sign,
    )
    wanted = LoginSettings(
        scopes=settings.eve_scopes,
        is_secure=settings.eve_redirect_uri.startswith("https:"),
        first_is_admin=settings.eve_first_user_is_admin,
    )
    return EveLogin(stands_on, wanted)
