"""Redirects, followed by hand: each hop is judged anew, and credentials stay where they belong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest

from peregrine.domain.execution import AttemptOutcome
from peregrine.executors.egress import Egress, read_target
from peregrine.executors.http import REDIRECTS_MAX
from peregrine.executors.request import BadRedirect, Request
from peregrine.testing.http_target import HttpTarget
from tests.executors.http_world import ask, executor, run


@pytest.fixture
async def target() -> AsyncIterator[HttpTarget]:
    async with HttpTarget() as target:
        yield target


@pytest.fixture
async def other() -> AsyncIterator[HttpTarget]:
    async with HttpTarget() as other:
        yield other


def leading_to(*urls: str, code: int = 302) -> str:
    """A path that redirects along *urls*; the last one is the end."""
    to = urls[-1]
    for url in reversed(urls[:-1]):
        to = f"{url}?code={code}&to={quote(to, safe='')}"
    return f"/redirect?code={code}&to={quote(to, safe='')}"


async def test_a_redirect_is_followed_only_if_the_task_wants_it(target: HttpTarget) -> None:
    left = await ask(target, leading_to("/ok"))
    followed = await ask(target, leading_to("/ok"), follow_redirect=True)
    expected = await ask(target, leading_to("/ok"), follow_redirect=True, expected_codes=(302,))

    assert left.error == "expected a 2xx status, got 302"
    assert followed.output == "all is well"
    assert (expected.verdict, expected.output) == (AttemptOutcome.SUCCEEDED, "moved")


@pytest.mark.parametrize(
    ("code", "method", "becomes"),
    [
        (301, "POST", "GET"), (302, "POST", "GET"), (303, "POST", "GET"), (307, "POST", "POST"), (308, "POST", "POST"),
        (301, "PUT", "PUT"), (302, "DELETE", "DELETE"), (303, "PUT", "GET"), (303, "DELETE", "GET"),
        (303, "HEAD", "HEAD"), (302, "HEAD", "HEAD"), (307, "GET", "GET"), (308, "PATCH", "PATCH"),
    ],
)  # fmt: skip
async def test_method_and_body_follow_the_rules(target: HttpTarget, code: int, method: str, becomes: str) -> None:
    body = None if method in ("GET", "HEAD") else '{"a": 1}'

    await ask(target, leading_to("/ok", code=code), method=method, body=body, follow_redirect=True)

    first, last = target.seen
    assert (first.method, last.method) == (method, becomes)
    assert last.body == (first.body if becomes == method else b"")
    assert (last.header("content-type") is None) is (becomes != method or body is None)
    assert last.header("idempotency-key") == first.header("idempotency-key")


@pytest.mark.parametrize("code", [300, 304, 305, 306])
async def test_other_codes_lead_nowhere(target: HttpTarget, code: int) -> None:
    await ask(target, leading_to("/ok", code=code), follow_redirect=True)

    assert len(target.seen) == 1


async def test_a_chain_has_an_end(target: HttpTarget) -> None:
    within = await ask(target, leading_to(*["/redirect"] * (REDIRECTS_MAX - 1), "/ok"), follow_redirect=True)
    assert within.output == "all is well"
    assert within.detail["redirects"] == REDIRECTS_MAX
    target.seen.clear()

    endless = await ask(target, "/redirect", follow_redirect=True)

    assert endless.error == "more than 5 redirects"
    assert len(target.seen) == REDIRECTS_MAX + 1


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/", "//169.254.169.254/", "http://127.0.0.2:{}/",
        "http://localhost:{}/",
        "http://2130706433:{}/", "http://0x7f.1:{}/", "http://[::1]:{}/", "http://[::ffff:127.0.0.2]:{}/",
        "http://0:{}/",
        "http://１２７.0.0.2:{}/", "file:///etc/passwd", "gopher://127.0.0.1:{}/", "javascript:alert(1)",
        "ftp://127.0.0.1/",
        "http://me:hunter22@127.0.0.1:{}/", "http://127.0.0.1:{}\\@x/", "http://127.0.0.1:{}/a b", "http://[::1",
        "http://",
        "http:ok", "http:/ok", "http://127.0.0.1:99999/", "http://127.0.0.1:{}/\x01",
    ],
)  # fmt: skip
async def test_each_hop_is_judged_anew(target: HttpTarget, other: HttpTarget, location: str) -> None:
    egress = Egress([f"127.0.0.1:{target.port}"], ports={80, other.port})
    async with executor(egress=egress) as made:
        path = leading_to(location.format(other.port))
        outcome = await run(made, target.url(path), follow_redirect=True, timeout=2000)

    assert outcome.verdict is AttemptOutcome.FAILED
    assert outcome.detail["code"] == "blocked_target"
    assert not outcome.retryable
    assert "hunter22" not in (outcome.error or "")
    assert other.accepted == 0
    assert len(target.seen) == 1


# ── credentials ──────────────────────────────────────────────────────────────────────────────────

CREDENTIALS = (
    ("Authorization", "Bearer abcdefgh"),
    ("Cookie", "sid=abcdefgh"),
    ("X-Api-Key", "abcdefgh"),
    ("X-Custom", "{{ secret.TOKEN }}"),
    ("X-Plain", "stays"),
)


async def test_credentials_stay_with_their_origin(target: HttpTarget, other: HttpTarget) -> None:
    away_and_back = leading_to("/redirect", other.url("/redirect"), target.url("/ok"))
    async with executor(secrets={"TOKEN": "hush-hush"}) as made:
        outcome = await run(made, target.url(away_and_back), headers=CREDENTIALS, follow_redirect=True)

    assert outcome.output == "all is well"
    first, same_origin, back = target.seen
    elsewhere = other.seen[0]
    for name in ("authorization", "cookie", "x-api-key", "x-custom"):
        assert first.header(name) == same_origin.header(name) is not None
        assert elsewhere.header(name) is None
        assert back.header(name) is None, "once dropped, they do not come back"
    assert elsewhere.header("x-plain") == back.header("x-plain") == "stays"


async def test_a_secret_in_the_body_does_not_travel(target: HttpTarget, other: HttpTarget) -> None:
    async with executor(secrets={"TOKEN": "hush-hush"}) as made:
        refused = await run(
            made, target.url(leading_to(other.url("/ok"), code=307)),
            method="POST", body='{"t": "{{ secret.TOKEN }}"}', follow_redirect=True,
        )  # fmt: skip
        dropped = await run(
            made, target.url(leading_to(other.url("/ok"), code=303)),
            method="POST", body='{"t": "{{ secret.TOKEN }}"}', follow_redirect=True,
        )  # fmt: skip

    assert "the body holds a secret" in (refused.error or "")
    assert dropped.verdict is AttemptOutcome.SUCCEEDED
    assert [(seen.method, seen.body) for seen in other.seen] == [("GET", b"")]


async def test_a_redirect_cannot_bring_a_secret_into_view(target: HttpTarget) -> None:
    """A target that knows the secret may write it into Location; the details show where the walk ended."""
    async with executor(secrets={"TOKEN": "hush-hush"}) as made:
        headers = (("X-Token", "{{ secret.TOKEN }}"),)
        for end in ("/status?code=500&x=hush-hush&token=other", "http://hush-hush.example:1/", "http://hush-hush@x/"):
            outcome = await run(made, target.url(leading_to(end)), headers=headers, follow_redirect=True)
            assert outcome.verdict is AttemptOutcome.FAILED
            assert "hush-hush" not in repr(outcome)


@pytest.mark.parametrize(
    ("start", "location", "follows"),
    [
        ("https://a.example/", "http://a.example/", False),
        ("https://a.example/", "http://b.example/", False),
        ("http://a.example/", "https://a.example/", True),
        ("https://a.example/", "//b.example/", True),
    ],
)
def test_https_is_never_left(start: str, location: str, follows: bool) -> None:  # noqa: FBT001
    request = Request(
        method="GET",
        target=read_target(start),
        headers=[("Authorization", "x"), ("A", "b")],
        body=None,
        secret_headers=frozenset({"authorization"}),
        secret_body=False,
    )

    if follows:
        assert request.redirected(302, location).headers == [("A", "b")]
    else:
        with pytest.raises(BadRedirect, match="from https to http"):
            request.redirected(302, location)


# ── what is left behind ──────────────────────────────────────────────────────────────────────────


async def test_hops_leave_nothing_open(target: HttpTarget) -> None:
    async with executor() as made:
        small = await run(made, target.url(leading_to("/ok")), follow_redirect=True)
        assert (small.output, target.accepted) == ("all is well", 1)
        large = await run(made, target.url(leading_to("/ok") + "&body=large"), follow_redirect=True)
        await target.quiet()

        assert (large.output, large.detail["redirects"]) == ("all is well", 1)
        assert target.open == 1
    await target.deserted()
