"""A zoo of tokens: one good kind is let in, everything else looks the same from outside."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import Any

import pytest
from joserfc import jwk, jws

from peregrine.auth.jwt import OPERATOR_KID, TOKEN_MAX, JwtProof, JwtRules, mint_operator_token, sign
from peregrine.domain.errors import BadConfiguration, Unauthenticated, Unavailable
from peregrine.domain.moment import DAY, HOUR, SECOND
from peregrine.testing.clock import START

pytestmark = pytest.mark.anyio

SECRET = b"0123456789abcdef0123456789abcdef"
NOW = START // SECOND
GOOD: dict[str, Any] = {"user_id": "42", "groups": ["monitoring"], "exp": NOW + 3600}
RSA = jwk.RSAKey.generate_key(2048, {"kid": "r1", "use": "sig", "alg": "RS256"})
PLAIN_RSA = jwk.RSAKey.import_key(RSA.as_pem(private=True))
EC = jwk.ECKey.generate_key("P-256", {"kid": "e1"})


class StillClock:
    def __init__(self) -> None:
        self.wall = START

    def now(self) -> int:
        return self.wall

    def monotonic(self) -> int:
        return self.wall


def proof(clock: StillClock | None = None, **rules: Any) -> JwtProof:
    return JwtProof(JwtRules(**({"secret": SECRET} | rules)), clock or StillClock())


def raw(header: dict[str, Any], claims: Any, signature: str = "c2ln") -> str:
    parts = (json.dumps(part).encode() if not isinstance(part, bytes) else part for part in (header, claims))
    return ".".join([*(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts), signature])


def signed(header: dict[str, Any], claims: Any, key: Any = None) -> str:
    """A token with any header and claims and a true signature, whatever they say."""
    key = jwk.OctKey.import_key(SECRET) if key is None else key
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    registry = jws.JWSRegistry(algorithms=["HS256", "HS512", "RS256", "PS256", "ES256"], strict_check_header=False)
    return jws.serialize_compact(header, payload, key, registry=registry)


async def test_a_good_token_names_its_subjects() -> None:
    claims = GOOD | {
        "character_id": 7, "character_name": "Zoe", "corporation_id": 8, "alliance_id": "9", "roles": "admin,ops",
        "scopes": "a b",
    }  # fmt: skip

    principal = await proof().principal_of(sign(claims, SECRET))

    assert (principal.id, principal.name, principal.scopes) == ("42", "Zoe", ("a", "b"))
    assert principal.subjects == (
        "user:42", "character:7", "corporation:8", "alliance:9", "group:monitoring", "role:admin", "role:ops",
        "group:authenticated", "group:public",
    )  # fmt: skip


async def test_sub_stands_in_for_user_id() -> None:
    principal = await proof().principal_of(sign({"sub": "9", "exp": NOW + 60}, SECRET))

    assert principal.id == "9"


REFUSED_CLAIMS: dict[str, Any] = {
    "no exp": {"user_id": "1"},
    "expired": GOOD | {"exp": NOW - 31},
    "exp is a text": GOOD | {"exp": "abc"},
    "exp is a flag": GOOD | {"exp": True},
    "exp is null": GOOD | {"exp": None},
    "exp is a list": GOOD | {"exp": [NOW + 60]},
    "exp is far away": GOOD | {"exp": NOW + 400 * 86400},
    "exp is huge": GOOD | {"exp": 10**30},
    "nbf lies ahead": GOOD | {"nbf": NOW + 60},
    "nbf is a text": GOOD | {"nbf": "x"},
    "iat lies ahead": GOOD | {"iat": NOW + 60},
    "nobody": {"exp": NOW + 60},
    "an empty user": {"user_id": "", "exp": NOW + 60},
    "user is a flag": {"user_id": True, "exp": NOW + 60},
    "user is an object": {"user_id": {"$gt": ""}, "exp": NOW + 60},
    "user has a line break": {"user_id": "a\nb", "exp": NOW + 60},
    "user is too long": {"user_id": "x" * 200, "exp": NOW + 60},
    "groups are no names": GOOD | {"groups": [1]},
    "groups are an object": GOOD | {"groups": {"a": 1}},
    "too many groups": GOOD | {"groups": ["g"] * 300},
    "claims are a list": [],
    "claims twice": b'{"user_id":"1","user_id":"2","exp":%d}' % (NOW + 60),
    "claims are no JSON": b"{",
    "claims hold NaN": b'{"user_id":"1","exp":NaN}',
}


@pytest.mark.parametrize("claims", REFUSED_CLAIMS.values(), ids=REFUSED_CLAIMS.keys())
async def test_claims_that_are_refused(claims: Any) -> None:
    with pytest.raises(Unauthenticated):
        await proof().principal_of(signed({"alg": "HS256"}, claims))


REFUSED_HEADERS: dict[str, dict[str, Any]] = {
    "crit": {"alg": "HS256", "crit": ["exp"], "exp": 1},
    "jku": {"alg": "HS256", "jku": "https://evil.example/jwks"},
    "x5u": {"alg": "HS256", "x5u": "https://evil.example/cert"},
    "jwk": {"alg": "HS256", "jwk": {"kty": "oct", "k": "AAAA"}},
    "other typ": {"alg": "HS256", "typ": "JWE"},
    "HS512": {"alg": "HS512"},
}


@pytest.mark.parametrize("header", REFUSED_HEADERS.values(), ids=REFUSED_HEADERS.keys())
async def test_headers_that_are_refused(header: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated):
        await proof().principal_of(by_hand(header, SECRET))


def by_hand(header: dict[str, Any], key: bytes) -> str:
    """A token signed with any bytes as HS256 secret, which the library would not do."""
    text = raw(header, GOOD, "").rstrip(".")
    signature = hmac.digest(key, text.encode(), "sha256")
    return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def forged() -> dict[str, str]:
    good = sign(GOOD, SECRET)
    head, body, signature = good.split(".")
    other = base64.urlsafe_b64encode(json.dumps(GOOD | {"groups": ["super_admin"]}).encode()).rstrip(b"=").decode()
    public = RSA.as_pem(private=False)
    return {
        "empty": "",
        "no token": "Bearer",
        "two parts": f"{head}.{body}",
        "four parts": f"{good}.{signature}",
        "no signature": f"{head}.{body}.",
        "a changed body": f"{head}.{other}.{signature}",
        "another key": sign(GOOD, b"x" * 32),
        "alg none": raw({"alg": "none"}, GOOD),
        "alg none without signature": raw({"alg": "none"}, GOOD, ""),
        "alg None": raw({"alg": "None"}, GOOD),
        "alg nONE": raw({"alg": "nONE"}, GOOD),
        "no alg": raw({"typ": "JWT"}, GOOD),
        "alg is a list": raw({"alg": ["HS256"]}, GOOD),
        "header is a list": ".".join(["W10", body, signature]),
        "alg twice": ".".join(
            [base64.urlsafe_b64encode(b'{"alg":"none","alg":"HS256"}').rstrip(b"=").decode(), body, signature]
        ),
        "the public key as secret": by_hand({"alg": "HS256"}, public),
        "foreign characters": good + "\u00e9",
        "padding": good + "=",
        "a blank": good + " ",
        "too long": good + "A" * TOKEN_MAX,
        "a kid that is a path": sign(GOOD, b"y" * 32, kid="../../dev/null"),
        "a kid that is a query": sign(GOOD, b"y" * 32, kid="' or 1=1--"),
        "the operator's kid, another key": sign(GOOD, b"z" * 32, kid=OPERATOR_KID),
        "deep": raw({"alg": "HS256"}, b"[" * 5000),
    }


@pytest.mark.parametrize("token", forged().values(), ids=forged().keys())
async def test_forgeries_are_refused(token: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        await proof().principal_of(token)

    assert str(caught.value) == "the token was refused"


async def test_a_kid_does_not_hurt_where_there_is_one_key() -> None:
    assert (await proof().principal_of(sign(GOOD, SECRET, kid="anything"))).id == "42"


async def test_leeway_is_small_and_capped() -> None:
    assert (await proof(leeway=30 * SECOND).principal_of(sign(GOOD | {"exp": NOW - 29}, SECRET))).id == "42"
    with pytest.raises(BadConfiguration):
        JwtRules(secret=SECRET, leeway=31 * SECOND)


@pytest.mark.parametrize(
    "claims",
    [{}, {"iss": "https://sso.example.evil"}, {"iss": "https://sso.example/"}, {"iss": ["https://sso.example"]}],
)
async def test_another_issuer_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated):
        await proof(issuer="https://sso.example").principal_of(sign(GOOD | claims, SECRET))


async def test_issuer_and_audience_are_compared_when_configured() -> None:
    judge = proof(issuer="https://sso.example", audience="peregrine")
    good = GOOD | {"iss": "https://sso.example"}

    assert (await judge.principal_of(sign(good | {"aud": ["x", "peregrine"]}, SECRET))).id == "42"
    assert (await judge.principal_of(sign(good | {"aud": "peregrine"}, SECRET))).id == "42"
    for audience in ("peregrin", "peregrine2", ["x"], None, {"peregrine": 1}):
        with pytest.raises(Unauthenticated):
            await judge.principal_of(sign(good | {"aud": audience}, SECRET))


async def test_a_proven_token_expires_all_the_same() -> None:
    clock = StillClock()
    judge, token = proof(clock), sign(GOOD, SECRET)
    assert (await judge.principal_of(token)).id == "42"

    clock.wall += 2 * HOUR

    with pytest.raises(Unauthenticated):
        await judge.principal_of(token)


@pytest.mark.parametrize("secret", [b"", b"short", b"x" * 31])
def test_a_short_secret_stops_the_start(secret: bytes) -> None:
    with pytest.raises(BadConfiguration):
        JwtRules(secret=secret)


@pytest.mark.parametrize("algorithm", ["none", "HS512", "PS256", "RS256"])
def test_other_algorithms_or_no_keys_stop_the_start(algorithm: str) -> None:
    with pytest.raises(BadConfiguration):
        JwtRules(algorithm=algorithm, secret=SECRET)


async def test_the_operators_token_has_all_rights() -> None:
    token = mint_operator_token(SECRET, START)

    principal = await proof().principal_of(token)

    assert "group:super_admin" in principal.subjects
    assert principal.expires_at is not None
    assert START + 300 * DAY < principal.expires_at < START + 366 * DAY


# ── public keys ──────────────────────────────────────────────────────────────────────────────────


def key_set(*keys: Any) -> dict[str, Any]:
    return {"keys": [key.as_dict(private=False) if hasattr(key, "as_dict") else key for key in keys]}


def having(*keys: Any) -> Any:
    """A source of keys that always gives these."""
    document = key_set(*keys)
    return lambda: document


async def test_a_key_set_proves_tokens_of_its_algorithm_alone() -> None:
    judge = proof(algorithm="RS256", key_set=having(RSA, EC))

    assert (await judge.principal_of(signed({"alg": "RS256", "kid": "r1"}, GOOD, RSA))).id == "42"
    assert (await judge.principal_of(signed({"alg": "RS256"}, GOOD, RSA))).id == "42"
    for token in (
        signed({"alg": "PS256", "kid": "r1"}, GOOD, PLAIN_RSA),
        signed({"alg": "ES256", "kid": "e1"}, GOOD, EC),
        signed({"alg": "RS256", "kid": "r2"}, GOOD, RSA),
        by_hand({"alg": "HS256", "kid": "r1"}, RSA.as_pem(private=False)),
        sign(GOOD, SECRET),
        signed({"alg": "RS256", "kid": "r1"}, GOOD, jwk.RSAKey.generate_key(2048)),
    ):
        with pytest.raises(Unauthenticated):
            await judge.principal_of(token)


async def test_elliptic_keys_serve_too() -> None:
    judge = proof(algorithm="ES256", key_set=having(EC))

    assert (await judge.principal_of(signed({"alg": "ES256", "kid": "e1"}, GOOD, EC))).id == "42"


async def test_the_operators_own_key_serves_beside_a_key_set() -> None:
    judge = proof(algorithm="RS256", key_set=having(RSA))

    assert (await judge.principal_of(mint_operator_token(SECRET, START))).id == "operator"


async def test_a_key_that_is_gone_proves_nothing_any_more() -> None:
    documents = [key_set(RSA)]
    judge = proof(algorithm="RS256", key_set=lambda: documents[0])
    token = signed({"alg": "RS256", "kid": "r1"}, GOOD, RSA)
    assert (await judge.principal_of(token)).id == "42"

    documents[0] = key_set(EC)

    with pytest.raises(Unauthenticated):
        await judge.principal_of(token)


async def test_keys_that_can_not_be_had_let_nobody_in() -> None:
    def away() -> dict[str, Any]:
        raise Unavailable("keys")

    with pytest.raises(Unavailable):
        await proof(algorithm="RS256", key_set=away).principal_of(signed({"alg": "RS256"}, GOOD, RSA))


async def test_unusable_keys_are_passed_over() -> None:
    strange = [{"kty": "RSA", "kid": "bad", "n": "!", "e": "AQAB"}, "text", {"kty": "RSA", "use": "enc", "kid": "enc"}]
    judge = proof(algorithm="RS256", key_set=having(*strange, RSA))

    assert (await judge.principal_of(signed({"alg": "RS256", "kid": "r1"}, GOOD, RSA))).id == "42"


async def test_a_refusal_is_quick_whatever_the_token() -> None:
    started = time.perf_counter()
    for token in ("." * TOKEN_MAX, "A" * TOKEN_MAX + ".A.A", "A." * 4000):
        with pytest.raises(Unauthenticated):
            await proof().principal_of(token)

    assert time.perf_counter() - started < 1
