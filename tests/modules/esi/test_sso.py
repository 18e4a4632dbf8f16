"""Signing in and refreshing: what each answer of the sign-in means for a token, and what a token must prove."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from joserfc import jwk, jws

from peregrine.domain.errors import BadConfiguration
from peregrine.domain.moment import DAY, HOUR, MINUTE, SECOND
from peregrine.modules.esi.client import HttpClient
from peregrine.modules.esi.sso import SsoClient, SsoSettings, challenge_of
from peregrine.modules.esi.throttle import Limits
from peregrine.modules.esi.turnstile import Turnstile
from peregrine.ports.esi import (
    SsoMisconfigured,
    SsoMistrusted,
    SsoRefused,
    SsoUnavailable,
    TokenPair,
)
from peregrine.testing.clock import SeededEntropy
from peregrine.testing.fake_esi import REVOKED, Application, Asked, FakeEsi, FaultKind, Rotation, serve
from peregrine.testing.fake_esi.message import told
from tests.modules.esi.sky import (
    CALLBACK,
    NOON,
    SETTINGS,
    VISITOR,
    Gate,
    StepClock,
    gate,
    in_virtual_time,
    made_world,
)

PILOT = 90_000_042
VERIFIER = "v" * 64
SCOPES = ("publicData", "esi-mail.read_mail.v1")


async def signed_in(made: Gate, verifier: str = VERIFIER) -> TokenPair:
    """Through the sign-in page and back."""
    url = await made.sso.authorize_url(state="s1", challenge=challenge_of(verifier), scopes=SCOPES)
    page = urlsplit(url)
    answer = await made.fake.exchange(Asked("GET", page.path, dict(parse_qsl(page.query))))
    back = urlsplit(answer.headers["Location"])
    assert f"{back.scheme}://{back.netloc}{back.path}" == CALLBACK
    said = parse_qs(back.query)
    assert said["state"] == ["s1"]
    return await made.sso.exchange(said["code"][0], verifier=VERIFIER)


# ── the code flow ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
@pytest.mark.parametrize("secret", ["fake-secret", ""], ids=["secret", "pkce"])
def test_a_code_becomes_tokens_that_prove_a_character(algorithm: str, secret: str) -> None:
    async def main() -> None:
        settings = SsoSettings(
            client_id="fake-client", client_secret=secret, callback=CALLBACK, address="http://127.0.0.1"
        )
        made = gate(settings=settings, application=Application(secret=secret))
        made.fake.sso.algorithm = algorithm
        made.fake.sso.signs_in = PILOT

        pair = await signed_in(made)
        character = await made.sso.verify(pair.access_token)

        assert (character.character_id, character.name) == (PILOT, made.fake.world.name_of(PILOT))
        assert character.owner_hash == made.fake.sso.owner_hash(PILOT)
        assert character.scopes == SCOPES
        assert character.expires_at // SECOND == pair.expires_at // SECOND
        assert pair.refresh_token == made.fake.sso.refresh_token(PILOT)
        assert made.fake.journal.violations() == []

    in_virtual_time(main())


def test_the_wrong_verifier_gets_nothing() -> None:
    async def main() -> None:
        with pytest.raises(SsoRefused) as refused:
            await signed_in(gate(), verifier="w" * 64)
        assert refused.value.reason == "invalid_grant"

    in_virtual_time(main())


def test_a_code_is_good_once() -> None:
    async def main() -> None:
        made = gate()
        await signed_in(made)
        code = parse_qs(made.http.sent[-1].body or b"")[b"code"][0].decode()
        with pytest.raises(SsoRefused):
            await made.sso.exchange(code, verifier=VERIFIER)

    in_virtual_time(main())


def test_no_scopes_means_no_refresh_token() -> None:
    async def main() -> None:
        made = gate()
        url = await made.sso.authorize_url(state="s", challenge=challenge_of(VERIFIER))
        back = await made.fake.exchange(Asked("GET", urlsplit(url).path, dict(parse_qsl(urlsplit(url).query))))
        code = parse_qs(urlsplit(back.headers["Location"]).query)["code"][0]
        pair = await made.sso.exchange(code, verifier=VERIFIER)

        assert pair.refresh_token == ""
        assert (await made.sso.verify(pair.access_token)).scopes == ()

    in_virtual_time(main())


def test_the_challenge_is_the_one_of_the_standard() -> None:
    """Source: RFC 7636, appendix B."""
    challenge = challenge_of("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")

    assert challenge == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_without_a_callback_nobody_can_sign_in() -> None:
    async def main() -> None:
        made = gate(settings=SsoSettings(client_id="fake-client", address="http://127.0.0.1"))
        with pytest.raises(SsoMisconfigured, match="callback"):
            await made.sso.authorize_url(state="s", challenge="c")

    in_virtual_time(main())


@pytest.mark.parametrize(
    "wrong",
    [
        {"client_id": ""},
        {"client_id": "a:b"},
        {"client_id": "x", "address": "http://login.eveonline.com"},
        {"client_id": "x", "callback": "http://peregrine.example/back"},
    ],
)
def test_settings_that_could_not_work_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(BadConfiguration):
        SsoSettings(**wrong)


# ── refresh ──────────────────────────────────────────────────────────────────────────────────────


def test_a_refresh_turns_one_token_into_the_next() -> None:
    async def main() -> None:
        made = gate()
        first = made.fake.sso.refresh_token(PILOT)
        pair = await made.sso.refresh(first)
        again = await made.sso.refresh(pair.refresh_token)
        with pytest.raises(SsoRefused):
            await made.sso.refresh(pair.refresh_token)

        assert len({first, pair.refresh_token, again.refresh_token}) == 3
        assert pair.expires_at == NOON + 1199 * SECOND + LATENCY_OF_DISCOVERY
        assert made.fake.journal.kinds == {"spent_token": 1}

    in_virtual_time(main())


LATENCY_OF_DISCOVERY = 50


@pytest.mark.parametrize("rotation", [Rotation.NONE, Rotation.EMPTY])
def test_a_refresh_never_loses_the_token_it_had(rotation: Rotation) -> None:
    async def main() -> None:
        made = gate()
        made.fake.sso.rotation = rotation
        first = made.fake.sso.refresh_token(PILOT)
        assert (await made.sso.refresh(first)).refresh_token == first

    in_virtual_time(main())


@pytest.mark.parametrize("why", REVOKED)
def test_each_word_that_ends_a_grant_is_known(why: str) -> None:
    async def main() -> None:
        made = gate()
        made.fake.sso.revoke(PILOT, why)
        with pytest.raises(SsoRefused) as refused:
            await made.sso.refresh(made.fake.sso.refresh_token(PILOT))
        assert (refused.value.reason, refused.value.text) == REVOKED[why]

    in_virtual_time(main())


def test_wrong_credentials_are_no_fault_of_a_token() -> None:
    async def main() -> None:
        made = gate(settings=SsoSettings(client_id="fake-client", client_secret="wrong", address="http://127.0.0.1"))
        with pytest.raises(SsoMisconfigured, match="invalid_client") as refused:
            await made.sso.refresh(made.fake.sso.refresh_token(PILOT))
        assert "wrong" not in str(refused.value)

    in_virtual_time(main())


MAY_HAVE_BEEN_DONE = {
    FaultKind.BAD_GATEWAY, FaultKind.SERVER_ERROR, FaultKind.UNAVAILABLE, FaultKind.GATEWAY_TIMEOUT, FaultKind.RESET,
    FaultKind.LOST, FaultKind.MALFORMED, FaultKind.WRONG_SHAPE, FaultKind.TRUNCATED, FaultKind.BOMB, FaultKind.SLOW,
}  # fmt: skip


@pytest.mark.parametrize("kind", list(FaultKind))
def test_whatever_else_goes_wrong_leaves_the_token_alone_and_is_sent_once(kind: FaultKind) -> None:
    async def main() -> tuple[bool, int]:
        made = gate()
        made.fake.faults.plan(kind, route="sso token", seconds=60)
        with pytest.raises(SsoUnavailable) as away:
            await made.sso.refresh(made.fake.sso.refresh_token(PILOT))
        return away.value.in_doubt, made.fake.journal.routes["sso token"]

    in_doubt, sent = in_virtual_time(main())
    assert sent == 1
    assert in_doubt is (kind in MAY_HAVE_BEEN_DONE)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, {"error": "temporarily_unavailable"}),
        (400, {"error": "invalid_scope"}),
        (400, {"error": 5}),
        (400, ["invalid_grant"]),
        (400, {"message": "invalid_grant"}),
        (403, {"error": "invalid_grant"}),
        (500, {"error": "invalid_grant"}),
        (200, {"error": "invalid_grant"}),
    ],
)
def test_only_the_known_words_with_400_end_a_grant(status: int, said: object, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        made = gate()
        await made.sso.refresh(made.fake.sso.refresh_token(PILOT))

        async def exchange(asked: Asked) -> object:
            return told(said, status)

        monkeypatch.setattr(made.fake, "exchange", exchange)
        with pytest.raises(SsoUnavailable):
            await made.sso.refresh("whatever")

    in_virtual_time(main())


def test_a_refresh_that_was_done_and_lost_is_in_doubt_and_the_old_token_may_live() -> None:
    async def main() -> None:
        made = gate()
        made.fake.sso.rotation = Rotation.GRACE
        token = made.fake.sso.refresh_token(PILOT)
        made.fake.faults.plan(FaultKind.LOST, route="sso token", count=1)
        with pytest.raises(SsoUnavailable) as away:
            await made.sso.refresh(token)
        pair = await made.sso.refresh(token)

        assert away.value.in_doubt
        assert pair.refresh_token == made.fake.sso.refresh_token(PILOT)

    in_virtual_time(main())


def test_a_sign_in_that_is_down_is_asked_less_and_less() -> None:
    async def main() -> int:
        made = gate()
        made.fake.faults.plan(FaultKind.BAD_GATEWAY, route="sso token")
        until = made.clock.now() + 10 * MINUTE
        tokens = iter(range(PILOT, PILOT + 1000))
        while made.clock.now() < until:
            with pytest.raises(SsoUnavailable):
                await made.sso.refresh(made.fake.sso.refresh_token(next(tokens)))
        return made.fake.journal.routes["sso token"]

    assert in_virtual_time(main()) <= 20


# ── documents ────────────────────────────────────────────────────────────────────────────────────


def test_documents_are_read_once_a_day() -> None:
    async def main() -> None:
        made = gate()
        for _ in range(5):
            await made.sso.verify(made.fake.sso.access_token(PILOT, made.clock.now()))
        await made.clock.advance(DAY + SECOND)
        await made.sso.verify(made.fake.sso.access_token(PILOT, made.clock.now()))

        assert (made.fake.journal.routes["sso discovery"], made.fake.journal.routes["sso keys"]) == (2, 2)

    in_virtual_time(main())


def test_old_documents_serve_while_new_ones_are_away() -> None:
    async def main() -> None:
        made = gate()
        await made.sso.verify(made.fake.sso.access_token(PILOT, made.clock.now()))
        made.fake.faults.plan(FaultKind.BAD_GATEWAY)
        await made.clock.advance(3 * DAY)
        for _ in range(10):
            await made.sso.verify(made.fake.sso.access_token(PILOT, made.clock.now()))

        assert made.fake.journal.routes["sso keys"] == 2

    in_virtual_time(main())


@pytest.mark.parametrize("document", [{"issuer": "https://evil.example"}, {"token_endpoint": "https://evil.example/t"}])
def test_an_impostors_document_is_not_followed(document: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        made = gate()
        good = made.fake.sso.discovery()
        monkeypatch.setattr(made.fake.sso, "discovery", lambda: good | document)
        with pytest.raises(SsoMisconfigured, match="discovery document"):
            await made.sso.refresh(made.fake.sso.refresh_token(PILOT))
        assert made.fake.journal.routes["sso token"] == 0

    in_virtual_time(main())


def test_new_keys_are_fetched_when_a_token_needs_them_but_once_a_minute() -> None:
    async def main() -> None:
        made = gate()
        await made.sso.verify(made.fake.sso.access_token(PILOT, made.clock.now()))
        unknown = made.fake.sso.signed(claims_of(made), kid="made-up")
        for _ in range(20):
            with pytest.raises(SsoMistrusted):
                await made.sso.verify(unknown)
        assert made.fake.journal.routes["sso keys"] == 1
        await made.clock.advance(MINUTE)
        for _ in range(20):
            with pytest.raises(SsoMistrusted):
                await made.sso.verify(unknown)
        assert made.fake.journal.routes["sso keys"] == 2

    in_virtual_time(main())


def test_a_key_that_was_changed_under_its_old_name_is_found_after_a_minute() -> None:
    async def main() -> None:
        made = gate()
        await made.sso.verify(made.fake.sso.access_token(PILOT, made.clock.now()))
        made.fake.sso.change_keys()
        with pytest.raises(SsoMistrusted, match="signature"):
            await made.sso.verify(made.fake.sso.access_token(PILOT, made.clock.now()))
        await made.clock.advance(MINUTE)
        for _ in range(5):
            await made.sso.verify(made.fake.sso.access_token(PILOT, made.clock.now()))
        assert made.fake.journal.routes["sso keys"] == 2

    in_virtual_time(main())


# ── what a token must prove ──────────────────────────────────────────────────────────────────────


def claims_of(made: Gate, **changed: Any) -> dict[str, Any]:
    """A good token's claims, with changes; None takes one away."""
    now = made.clock.now() // SECOND
    claims = {
        "aud": ["fake-client", "EVE Online"], "exp": now + 1199, "iat": now, "iss": made.fake.sso.issuer,
        "name": "Ana", "owner": "0wn3r=", "sub": f"CHARACTER:EVE:{PILOT}", "scp": ["a", "b"],
    }  # fmt: skip
    return {name: value for name, value in (claims | changed).items() if value is not None}


GOOD: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "list": ({}, ("a", "b")),
    "word": ({"scp": "a"}, ("a",)),
    "words": ({"scp": "a b"}, ("a", "b")),
    "none": ({"scp": None}, ()),
    "twice": ({"scp": ["a", "a"]}, ("a",)),
    "slash": ({"iss": "http://127.0.0.1/"}, ("a", "b")),
    "bare": ({"iss": "127.0.0.1"}, ("a", "b")),
    "just expired": ({"exp": NOON // SECOND - 20}, ("a", "b")),
    "more claims": ({"tier": "live", "azp": "fake-client", "new": {"deep": [1]}}, ("a", "b")),
    "float exp": ({"exp": NOON / SECOND + 600.5}, ("a", "b")),
}


@pytest.mark.parametrize(("changed", "scopes"), GOOD.values(), ids=GOOD)
def test_every_form_of_a_good_token_is_taken(changed: dict[str, Any], scopes: tuple[str, ...]) -> None:
    async def main() -> tuple[str, ...]:
        made = gate()
        return (await made.sso.verify(made.fake.sso.signed(claims_of(made, **changed)))).scopes

    assert in_virtual_time(main()) == scopes


BAD: dict[str, dict[str, Any]] = {
    "expired": {"exp": NOON // SECOND - 31},
    "no exp": {"exp": None},
    "exp a text": {"exp": "tomorrow"},
    "exp true": {"exp": True},
    "exp huge": {"exp": 10**15},
    "lives long": {"exp": NOON // SECOND + 2 * HOUR // SECOND},
    "from the future": {"iat": NOON // SECOND + 3600},
    "not yet": {"nbf": NOON // SECOND + 3600},
    "other issuer": {"iss": "https://login.eveonline.com.evil.example"},
    "issuer prefix": {"iss": "http://127.0.0.1.evil.example"},
    "no issuer": {"iss": None},
    "issuer list": {"iss": ["http://127.0.0.1"]},
    "only us": {"aud": ["fake-client"]},
    "only EVE": {"aud": "EVE Online"},
    "other program": {"aud": ["other", "EVE Online"]},
    "audience substring": {"aud": "fake-client EVE Online"},
    "no audience": {"aud": None},
    "no subject": {"sub": None},
    "a user": {"sub": f"USER:EVE:{PILOT}"},
    "subject with more": {"sub": f"CHARACTER:EVE:{PILOT}\n"},
    "subject zero": {"sub": "CHARACTER:EVE:0"},
    "subject signed": {"sub": "CHARACTER:EVE:-5"},
    "subject other digits": {"sub": "CHARACTER:EVE:٤٢"},
    "no name": {"name": None},
    "no owner": {"owner": None},
    "owner a list": {"owner": ["x"]},
    "scopes a number": {"scp": 7},
    "scopes mixed": {"scp": ["a", 1]},
    "many scopes": {"scp": [f"s{n}" for n in range(301)]},
}


@pytest.mark.parametrize("changed", BAD.values(), ids=BAD)
def test_no_claim_may_be_wrong(changed: dict[str, Any]) -> None:
    async def main() -> None:
        made = gate()
        with pytest.raises(SsoMistrusted):
            await made.sso.verify(made.fake.sso.signed(claims_of(made, **changed)))

    in_virtual_time(main())


def test_what_is_signed_by_hand_is_signed_well() -> None:
    async def main() -> int:
        made = gate()
        return (await made.sso.verify(by_hand(made, padding.PKCS1v15()))).character_id

    assert in_virtual_time(main()) == PILOT


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def hmac_with_public_key(made: Gate) -> str:
    """The old trick: the public key, which everybody has, taken for a shared secret."""
    text = f"{part({'alg': 'HS256', 'kid': 'JWT-Signature-Key'})}.{part(claims_of(made))}"
    proof = hmac.new(made.fake.sso.rsa.as_pem(private=False), text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64.urlsafe_b64encode(proof).decode().rstrip('=')}"


def by_hand(made: Gate, scheme: padding.AsymmetricPadding, **header: Any) -> str:
    """Signed by the right key, with a header that a library would not write."""
    text = f"{part({'alg': 'RS256', 'kid': 'JWT-Signature-Key'} | header)}.{part(claims_of(made))}"
    key = made.fake.sso.rsa.private_key
    assert key is not None
    proof = key.sign(text.encode(), scheme, hashes.SHA256())
    return f"{text}.{base64.urlsafe_b64encode(proof).decode().rstrip('=')}"


def signed_by(key: jwk.Key, **header: Any) -> Callable[[Gate], str]:
    def sign(made: Gate) -> str:
        return jws.serialize_compact(
            {"alg": "RS256", "kid": "JWT-Signature-Key"} | header,
            json.dumps(claims_of(made)),
            key,
            algorithms=["RS256", "PS256", "ES256"],
        )

    return sign


def with_claims(text: str) -> Callable[[Gate], str]:
    """Claims exactly as written, rightly signed."""
    return lambda made: jws.serialize_compact(
        {"alg": "RS256", "kid": "JWT-Signature-Key"}, text, made.fake.sso.rsa, algorithms=["RS256"]
    )


STRANGER = jwk.RSAKey.generate_key(2048, private=True)
ZOO: dict[str, Callable[[Gate], str]] = {
    "empty": lambda made: "",
    "no dots": lambda made: "abc",
    "four parts": lambda made: made.fake.sso.signed(claims_of(made)) + ".x",
    "spaces": lambda made: " " + made.fake.sso.signed(claims_of(made)),
    "huge": lambda made: "a" * 20_000 + ".b.c",
    "none": lambda made: f"{part({'alg': 'none', 'kid': 'JWT-Signature-Key'})}.{part(claims_of(made))}.",
    "nOnE": lambda made: f"{part({'alg': 'nOnE', 'kid': 'JWT-Signature-Key'})}.{part(claims_of(made))}.x",
    "hmac": hmac_with_public_key,
    "stranger": signed_by(STRANGER),
    "stranger brings his key": signed_by(STRANGER, jwk=STRANGER.as_dict(private=False)),
    "stranger brings his address": signed_by(STRANGER, jku="https://evil.example/jwks"),
    "path for a kid": signed_by(STRANGER, kid="../../dev/null"),
    "number for a kid": lambda made: f"{part({'alg': 'RS256', 'kid': 1})}.{part(claims_of(made))}.xx",
    "no kid": lambda made: f"{part({'alg': 'RS256'})}.{part(claims_of(made))}.xx",
    "PS256": lambda made: by_hand(made, padding.PSS(padding.MGF1(hashes.SHA256()), 32), alg="PS256"),
    "key of the other kind": lambda made: made.fake.sso.signed(claims_of(made), kid="JWT-Signature-Key-EC"),
    "critical header": lambda made: by_hand(made, padding.PKCS1v15(), crit=["exp"], exp=1),
    "an address of keys": lambda made: by_hand(made, padding.PKCS1v15(), jku="https://evil.example/jwks"),
    "an address of a chain": lambda made: by_hand(made, padding.PKCS1v15(), x5u="https://evil.example/x5u"),
    "its own key": lambda made: by_hand(made, padding.PKCS1v15(), jwk=made.fake.sso.rsa.as_dict(private=False)),
    "other claims": lambda made: ".".join(
        [(p := made.fake.sso.signed(claims_of(made)).split("."))[0], part(claims_of(made, sub="CHARACTER:EVE:1")), p[2]]
    ),
    "stripped": lambda made: made.fake.sso.signed(claims_of(made)).rpartition(".")[0] + ".",
    "claims twice": with_claims('{"sub":"CHARACTER:EVE:1","sub":"CHARACTER:EVE:2"}'),
    "claims a list": with_claims("[]"),
    "claims not JSON": with_claims("hello"),
    "claims NaN": with_claims('{"exp": NaN}'),
    "claims deep": with_claims("[" * 5000 + "]" * 5000),
}


@pytest.mark.parametrize("make", ZOO.values(), ids=ZOO)
def test_no_token_of_the_zoo_passes(make: Callable[[Gate], str]) -> None:
    async def main() -> None:
        made = gate()
        token = make(made)
        with pytest.raises(SsoMistrusted) as mistrusted:
            await made.sso.verify(token)
        assert not token or token[-20:] not in str(mistrusted.value)

    in_virtual_time(main())


@pytest.mark.parametrize(
    "keys",
    [
        None,
        [],
        "keys",
        [None, 7, {}],
        [{"kty": "oct", "kid": "JWT-Signature-Key", "k": "c2VjcmV0"}],
        [{"kty": "RSA", "kid": "JWT-Signature-Key", "n": "AQ", "e": "AQAB"}],
        [{"kty": "RSA", "kid": "JWT-Signature-Key", "n": "w" * 171, "e": "AQAB"}],
        [{"kty": "EC", "kid": "JWT-Signature-Key", "crv": "secp256k1", "x": "A" * 43, "y": "A" * 43}],
        [STRANGER.as_dict(private=False) | {"kid": "JWT-Signature-Key", "use": "enc"}],
        [STRANGER.as_dict(private=True) | {"kid": "JWT-Signature-Key"}],
    ],
)
def test_keys_that_prove_nothing_are_no_keys(keys: object, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        made = gate()
        token = made.fake.sso.signed(claims_of(made))
        answered = made.fake.sso.answer

        def answer(asked: Asked, now: int) -> object:
            return ("sso keys", told({"keys": keys})) if asked.path == "/oauth/jwks" else answered(asked, now)

        monkeypatch.setattr(made.fake.sso, "answer", answer)
        with pytest.raises(SsoMistrusted):
            await made.sso.verify(token)

    in_virtual_time(main())


def test_a_private_key_that_was_published_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        made = gate()
        token = made.fake.sso.signed(claims_of(made))
        leaked = {"keys": [made.fake.sso.rsa.as_dict(private=True)]}
        answered = made.fake.sso.answer

        def answer(asked: Asked, now: int) -> object:
            return ("sso keys", told(leaked)) if asked.path == "/oauth/jwks" else answered(asked, now)

        monkeypatch.setattr(made.fake.sso, "answer", answer)
        with pytest.raises(SsoMistrusted, match="no key"):
            await made.sso.verify(token)

    in_virtual_time(main())


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────


def test_nothing_secret_is_shown(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> list[str]:
        made = gate()
        token = made.fake.sso.refresh_token(PILOT)
        shown = [repr(SETTINGS), repr(await made.sso.refresh(token)), repr(made.http.sent)]
        echo = {"error": "invalid_grant", "error_description": f"no {token} of fake-secret\r\nX: y"}

        async def exchange(asked: Asked) -> object:
            return told(echo, 400)

        monkeypatch.setattr(made.fake, "exchange", exchange)
        with pytest.raises(SsoRefused) as refused:
            await made.sso.refresh(token)
        return [*shown, str(refused.value), repr(refused.value), token, made.fake.sso.refresh_token(PILOT)]

    *shown, first, second = in_virtual_time(main())
    everything = "\n".join([*shown, caplog.text])
    assert first not in everything
    assert second not in everything
    assert "fake-secret" not in everything
    assert "no *** of ***  X: y" in everything


# ── sockets ──────────────────────────────────────────────────────────────────────────────────────


async def test_it_works_on_real_sockets() -> None:
    clock = StepClock()
    fake = FakeEsi(clock, made_world())
    http = HttpClient(VISITOR)
    async with serve(fake) as served:
        settings = SsoSettings(client_id="fake-client", client_secret="fake-secret", address=served.address)
        sso = SsoClient(http, Turnstile("sso", Limits(downtime=False), clock, SeededEntropy(1)), clock, settings)
        pair = await sso.refresh(fake.sso.refresh_token(PILOT))
        character = await sso.verify(pair.access_token)
        fake.faults.plan(FaultKind.LOST, route="sso token", count=1)
        with pytest.raises(SsoUnavailable) as away:
            await sso.refresh(pair.refresh_token)
        await http.close()

    assert character.character_id == PILOT
    assert away.value.in_doubt
    assert fake.journal.violations() == []
