"""Pilots sign in with EVE Online: state and proof bound to their browser, a session that ends when they say so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from peregrine.api.app import create_app
from peregrine.api.routes.login import STATE_COOKIE, Signing
from peregrine.auth.jwt import sign
from peregrine.domain.moment import HOUR, MINUTE
from peregrine.modules.esi.login import SESSION_LASTS, EveLogin, LoginNeeds, LoginSettings
from peregrine.modules.esi.sso import challenge_of
from peregrine.ports.esi import SsoCharacter, SsoMisconfigured, SsoMistrusted, SsoUnavailable, TokenPair
from peregrine.ports.eve import Profile, token_place
from peregrine.ports.vault import is_sealed
from peregrine.stores.memory_eve import MemoryEve
from peregrine.testing.eve_contract import a_profile
from peregrine.vault.aes import AesVault
from peregrine.vault.keys import new_key_text, read_key
from tests.api.world import SECRET, World

pytestmark = pytest.mark.anyio

COOKIE = "falcon_auth_token"
PILOT = 90_000_001
HERE = {"Origin": "http://peregrine.test"}


class Sso:
    """An SSO that knows codes ``code-<character>`` and remembers the challenge that a code was asked with."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.owner = "hash="
        self.refresh_token = "refresh"
        self.trouble: Exception | None = None
        self.challenge = ""
        self.spent: set[str] = set()

    async def authorize_url(self, *, state: str, challenge: str, scopes: Any = ()) -> str:
        if self.trouble is not None:
            raise self.trouble
        self.challenge = challenge
        return f"https://login.example/authorize?state={state}&scope={'+'.join(scopes)}"

    async def exchange(self, code: str, *, verifier: str) -> TokenPair:
        if self.trouble is not None:
            raise self.trouble
        assert challenge_of(verifier) == self.challenge
        return TokenPair(f"access-{code.partition('-')[2]}", self.refresh_token, self.world.clock.now() + 20 * MINUTE)

    async def verify(self, access_token: str) -> SsoCharacter:
        id = int(access_token.removeprefix("access-"))
        return SsoCharacter(id, f"Pilot {id}", self.owner, ("publicData",), self.world.clock.now() + 20 * MINUTE)


class House(World):
    """A house where EVE is configured."""

    def __init__(self, *, first_is_admin: bool = False, is_secure: bool = False, prefix: str = "") -> None:
        super().__init__(prefix=prefix)
        self.prefix = prefix
        self.sso, self.eve = Sso(self), MemoryEve()
        keys = [read_key(new_key_text())]
        self.vault = AesVault(lambda: keys)
        needs = LoginNeeds(
            sso=self.sso,  # type: ignore[arg-type]
            store=self.eve, records=self.records, vault=self.vault, clock=self.clock, entropy=self.means.entropy,
            sign=lambda claims: sign(claims, SECRET),
        )  # fmt: skip
        settings = LoginSettings(scopes=("publicData",), is_secure=is_secure, first_is_admin=first_is_admin)
        signing = Signing(login=EveLogin(needs, settings), sessions=self.sessions)
        self.deps = replace(self.deps, signing=signing)

    def browser(self) -> httpx.AsyncClient:
        """A browser with cookies of its own."""
        transport = httpx.ASGITransport(create_app(self.deps), raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://peregrine.test")

    async def profile(self, id: int = PILOT) -> Profile:
        found = await self.eve.profile_of(id)
        assert found is not None
        return found


async def begun(browser: httpx.AsyncClient, prefix: str = "") -> str:
    """The state of a login that *browser* began."""
    answer = await browser.get(f"{prefix}/auth/eve/login")
    assert answer.status_code == 303, answer.text
    return parse_qs(urlsplit(answer.headers["location"]).query)["state"][0]


async def signed_in(browser: httpx.AsyncClient, id: int = PILOT) -> dict[str, Any]:
    """Sign *browser* in as a pilot; what ``/auth/me`` says."""
    state = await begun(browser)
    answer = await browser.get("/auth/eve/callback", params={"code": f"code-{id}", "state": state})
    assert answer.status_code == 303, answer.text
    return dict((await browser.get(answer.headers["location"])).json())


@pytest.fixture
def house() -> House:
    return House()


async def test_a_pilot_signs_in_and_is_known(house: House) -> None:
    browser = house.browser()

    me = await signed_in(browser)

    assert (me["character_id"], me["name"], me["scopes"]) == (PILOT, f"Pilot {PILOT}", ["publicData"])
    assert "authenticated" in me["groups"]
    profile = await house.profile()
    assert profile.user_id == me["user_id"]
    assert is_sealed(profile.access_token)
    opened = house.vault.open(profile.refresh_token, place=token_place(PILOT, "refresh_token"))
    assert (opened, profile.character_owner_hash, profile.valid) == ("refresh", "hash=", True)
    assert list(await house.eve.character_ids(after=0, limit=9)) == [PILOT]
    assert (await browser.get("/scheduler/tasks")).status_code == 403


@pytest.mark.parametrize("is_secure", [True, False])
async def test_the_cookies_are_the_browsers_alone(is_secure: bool) -> None:  # noqa: FBT001
    house = House(is_secure=is_secure, prefix="/api")

    (kept,) = (await house.browser().get("/api/auth/eve/login")).headers.get_list("set-cookie")

    assert "Path=/api/auth/eve;" in kept
    assert "Max-Age=900" in kept

    assert "HttpOnly" in kept
    assert "SameSite=lax" in kept
    assert ("Secure" in kept) is is_secure


async def test_the_session_cookie_says_what_it_must(house: House) -> None:
    browser = house.browser()
    state = await begun(browser)

    answer = await browser.get("/auth/eve/callback", params={"code": f"code-{PILOT}", "state": state})

    session, forgotten = answer.headers.get_list("set-cookie")
    assert session.startswith(f"{COOKIE}=")
    assert f"Max-Age={SESSION_LASTS // 1000}" in session
    assert "HttpOnly" in session
    assert "SameSite=lax" in session
    assert forgotten.startswith(f'{STATE_COOKIE}=""')


async def test_a_state_is_good_once_and_in_its_own_browser(house: House) -> None:
    mine, other = house.browser(), house.browser()
    state = await begun(mine)
    await begun(other)
    query = {"code": f"code-{PILOT}", "state": state}

    stolen = await other.get("/auth/eve/callback", params=query)
    bare = await house.browser().get("/auth/eve/callback", params=query)
    wrong = await mine.get("/auth/eve/callback", params=query | {"state": "x"})
    assert [one.status_code for one in (stolen, bare, wrong)] == [400, 400, 400]
    assert COOKIE not in other.cookies

    house.sso.challenge = challenge_of(house.eve._states[state].code_verifier)
    cookies = dict(mine.cookies)
    assert (await mine.get("/auth/eve/callback", params=query)).status_code == 303
    again = await mine.get("/auth/eve/callback", params=query, headers={"Cookie": f"{STATE_COOKIE}={state}"})
    assert cookies[STATE_COOKIE] == state
    assert again.status_code == 400
    assert again.json()["errors"][0]["pointer"] == "/state"


async def test_a_state_lasts_a_quarter_of_an_hour(house: House) -> None:
    browser = house.browser()
    state = await begun(browser)
    house.clock.pass_time(15 * MINUTE)

    answer = await browser.get("/auth/eve/callback", params={"code": f"code-{PILOT}", "state": state})

    assert answer.status_code == 400


@pytest.mark.parametrize("query", [{}, {"error": "access_denied"}, {"state": "s"}])
async def test_who_comes_back_without_a_code_is_told(house: House, query: dict[str, str]) -> None:
    browser = house.browser()
    await begun(browser)

    answer = await browser.get("/auth/eve/callback", params=query)

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "/error"


@pytest.mark.parametrize(
    ("trouble", "status"),
    [
        (SsoUnavailable("502"), 503),
        (SsoMistrusted("another issuer"), 400),
        (SsoMisconfigured("EVE_CLIENT_SECRET is wrong"), 503),
    ],
)
async def test_trouble_at_eves_is_told_and_shows_nothing(house: House, trouble: Exception, status: int) -> None:
    browser = house.browser()
    state = await begun(browser)
    house.sso.trouble = trouble

    answer = await browser.get("/auth/eve/callback", params={"code": f"code-{PILOT}", "state": state})

    assert answer.status_code == status
    assert str(trouble) not in answer.text
    assert COOKIE not in browser.cookies


async def test_signing_out_ends_the_session_at_once(house: House) -> None:
    browser = house.browser()
    await signed_in(browser)
    kept = {"Cookie": f"{COOKIE}={browser.cookies[COOKIE]}"}
    assert (await browser.post("/auth/logout")).status_code == 403
    assert (await browser.post("/auth/logout", headers=HERE | {"Origin": "https://evil.example"})).status_code == 403

    answer = await browser.post("/auth/logout", headers=HERE)

    assert answer.json() == {"message": "Signed out"}
    assert COOKIE not in browser.cookies
    assert (await house.browser().get("/auth/me", headers=kept)).status_code == 401


async def test_a_session_is_over_after_a_day(house: House) -> None:
    browser = house.browser()
    await signed_in(browser)
    kept = {"Cookie": f"{COOKIE}={browser.cookies[COOKIE]}"}

    house.clock.pass_time(SESSION_LASTS + MINUTE)

    assert (await house.browser().get("/auth/me", headers=kept)).status_code == 401


async def test_an_expired_session_does_not_keep_anybody_from_a_new_one(house: House) -> None:
    browser = house.browser()
    first = await signed_in(browser)
    house.clock.pass_time(SESSION_LASTS + HOUR)

    assert (await signed_in(browser))["user_id"] == first["user_id"]


async def test_another_character_joins_whoever_is_signed_in(house: House) -> None:
    browser = house.browser()
    first = await signed_in(browser)

    second = await signed_in(browser, PILOT + 1)

    assert second["user_id"] == first["user_id"]
    stranger = await signed_in(house.browser(), PILOT + 2)
    assert stranger["user_id"] != first["user_id"]


async def test_a_character_that_changed_hands_is_a_new_user(house: House) -> None:
    first = await signed_in(house.browser())
    house.sso.owner = "other="

    second = await signed_in(house.browser())

    assert second["user_id"] != first["user_id"]
    assert (await house.profile()).user_id == second["user_id"]


@pytest.mark.parametrize(("owner", "known"), [("hash=", "Old Corporation"), ("other=", "")])
async def test_what_an_older_database_knows_of_a_pilot_outlives_a_login(house: House, owner: str, known: str) -> None:
    """Nobody here fills these fields, so nobody here may empty them; a new owner begins anew."""
    await house.eve.put_profile(
        a_profile(PILOT, character_owner_hash="hash=", corporation_name="Old Corporation", scopes=("old",)), now=1
    )
    house.sso.owner = owner

    await signed_in(house.browser())

    profile = await house.profile()
    assert (profile.corporation_name, profile.scopes) == (known, ("publicData",))
    assert profile.last_login == house.clock.now()


async def test_a_login_without_scopes_keeps_the_refresh_token(house: House) -> None:
    await signed_in(house.browser())
    before = await house.profile()
    house.sso.refresh_token = ""

    await signed_in(house.browser())

    assert (await house.profile()).refresh_token == before.refresh_token


async def test_the_first_user_becomes_admin_only_where_a_setting_says_so() -> None:
    plain, house = House(), House(first_is_admin=True)

    answers = {}
    for name, where, pilot in (("plain", plain, 1), ("first", house, 1), ("second", house, 2)):
        browser = where.browser()
        await signed_in(browser, PILOT + pilot)
        answers[name] = (await browser.get("/scheduler/policies")).status_code

    assert answers == {"plain": 403, "first": 200, "second": 403}


async def test_signing_in_and_out_stands_on_the_trail() -> None:
    """And so does what made the first user an admin."""
    house = House(first_is_admin=True)
    browser = house.browser()
    me = await signed_in(browser)
    await browser.post("/auth/logout", headers=HERE)

    entries = (await house.ask("GET", "/scheduler/audit")).json()["entries"]

    pilot = f"character:{PILOT}"
    assert {(one["action"], one["who"], one["verdict"]) for one in entries} == {
        ("sign_in", pilot, "done"), ("add_membership", pilot, "done"), ("sign_out", me["user_id"], "done")
    }  # fmt: skip


async def test_the_first_admin_is_made_once() -> None:
    """Whose rights were taken away again does not get them back by signing in."""
    house = House(first_is_admin=True)
    browser = house.browser()
    await signed_in(browser)
    (membership,) = (await house.ask("GET", "/scheduler/memberships")).json()["memberships"]

    await house.ask("DELETE", f"/scheduler/memberships/{membership['id']}")
    again = await signed_in(browser)

    assert membership["member_of"] == "group:super_admin"
    assert membership["subject"] == f"user:{again['user_id']}"
    assert (await house.ask("GET", "/scheduler/memberships")).json()["memberships"] == []
    assert (await browser.get("/scheduler/policies")).status_code == 403


async def test_whoever_finds_users_there_is_not_the_first() -> None:
    house = House(first_is_admin=True)
    await house.eve.put_profile(a_profile(1, user_id="old"), now=1)
    browser = house.browser()

    await signed_in(browser)

    assert (await browser.get("/scheduler/policies")).status_code == 403


async def test_logins_are_begun_by_the_hand(house: House) -> None:
    """Each takes a row, so one address can't begin them without end."""
    browser = house.browser()
    codes = [(await browser.get("/auth/eve/login")).status_code for _ in range(25)]

    assert codes == [303] * 20 + [429] * 5


async def test_without_eve_the_routes_say_what_to_set() -> None:
    world = World()

    for path in ("/auth/eve/login", "/auth/eve/callback?code=c&state=s"):
        answer = await world.ask("GET", path, groups=())
        assert answer.status_code == 404
        assert answer.json()["code"] == "eve_not_configured"
        assert "EVE_CLIENT_ID" in answer.json()["detail"]
