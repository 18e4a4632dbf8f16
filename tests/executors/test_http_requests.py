"""One request, faithfully: what the task wrote is what arrives, and what a receiver needs to recognise it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from peregrine.domain.execution import AttemptOutcome
from peregrine.domain.ids import ExecutionId, TaskId
from peregrine.domain.moment import Moment, parse_moment
from peregrine.domain.payload import METHODS, HttpPayload, JsonObject
from peregrine.executors.egress import Egress
from peregrine.executors.http import HttpExecutor
from peregrine.testing.http_target import HttpTarget
from tests.executors.http_world import CLOCK, ask, context, echoed, executor, run


@pytest.fixture
async def target() -> AsyncIterator[HttpTarget]:
    async with HttpTarget() as target:
        yield target


# ── what is sent ─────────────────────────────────────────────────────────────────────────────────


async def test_a_receiver_can_recognise_and_fence(target: HttpTarget) -> None:
    await ask(target, "/ok")

    headers = dict(target.seen[0].headers)
    assert headers["idempotency-key"] == "execution-1"
    assert headers["x-scheduler-task-id"] == "task-1"
    assert headers["x-scheduler-execution-id"] == "execution-1"
    assert headers["x-scheduler-attempt"] == "1"
    assert headers["x-scheduler-epoch"] == "1"
    assert headers["x-scheduler-scheduled-for"] == "2026-03-01T06:30:00Z"
    assert headers["user-agent"] == "Peregrine/1.2.3"
    assert headers["host"] == target.place


async def test_the_key_stays_while_attempt_and_epoch_grow(target: HttpTarget) -> None:
    payload = HttpPayload(url=target.url())
    first = context(payload)
    third = replace(first, claim=replace(first.claim, attempt=3, epoch=7, scheduled_for=None))

    async with executor() as made:
        await made.run(payload, first)
        await made.run(payload, third)

    before, after = target.seen
    assert after.header("idempotency-key") == before.header("idempotency-key")
    assert (after.header("x-scheduler-attempt"), after.header("x-scheduler-epoch")) == ("3", "7")
    assert after.header("x-scheduler-scheduled-for") is None


async def test_a_task_may_name_its_own_key_and_agent(target: HttpTarget) -> None:
    own = (("idempotency-key", "order-{{ execution.id }}"), ("USER-AGENT", "mine/1"), ("Accept-Encoding", "identity"))

    await ask(target, "/ok", headers=own)

    names = [name for name, _ in target.seen[0].headers]
    assert target.seen[0].header("idempotency-key") == "order-execution-1"
    assert target.seen[0].header("user-agent") == "mine/1"
    assert target.seen[0].header("accept-encoding") == "identity"
    assert len(names) == len(set(names))


@pytest.mark.parametrize("method", METHODS)
async def test_each_method_arrives_with_its_body(target: HttpTarget, method: str) -> None:
    for body in (None, "", "some=body"):
        outcome = await ask(target, "/ok", method=method, body=body)
        assert outcome.verdict is AttemptOutcome.SUCCEEDED

    assert [(seen.method, seen.body) for seen in target.seen] == [(method, b""), (method, b""), (method, b"some=body")]


@pytest.mark.parametrize(
    ("body", "headers", "arrives"),
    [
        (None, (), None),
        ('{"a": 1}', (), "application/json"),
        (" [1]", (), "application/json"),
        ("hello", (), "text/plain; charset=utf-8"),
        ("<a/>", (("content-type", "application/xml"),), "application/xml"),
    ],
)
async def test_a_body_says_what_it_is(
    target: HttpTarget, body: str | None, headers: tuple[tuple[str, str], ...], arrives: str | None
) -> None:
    await ask(target, "/ok", method="POST", body=body, headers=headers)

    assert target.seen[0].header("content-type") == arrives
    assert target.seen[0].body.decode() == (body or "")


async def test_the_url_arrives_as_it_was_written(target: HttpTarget) -> None:
    told = echoed(await ask(target, "/echo?a=%2F%7e+b&a=2&ä=ü#part"))

    assert told["query"]["ä"] == "ü"
    assert target.seen[0].path == "/echo"


async def test_headers_in_any_script_arrive_as_utf8(target: HttpTarget) -> None:
    await ask(target, "/ok", headers=(("X-Name", "Grüße ☃"),))

    assert target.seen[0].header("x-name") == "Grüße ☃"


async def test_values_are_filled_in_where_they_belong(target: HttpTarget) -> None:
    async with executor(secrets={"TOKEN": "hush-hush"}) as made:
        outcome = await run(
            made,
            target.url("/echo?id={{execution.id}}&x={{parameters.x}}"),
            method="POST",
            headers=(("X-Attempt", "{{ execution.attempt }}"), ("Authorization", "Bearer {{ secret.TOKEN }}")),
            body='{"task": "{{ task.name }}", "x": {{ parameters.x }}, "y": "{{ parameters.y }}"}',
            parameters={"x": 'a"&b', "y": 'c"d\n'},
        )

    seen = target.seen[0]
    assert seen.query == {"id": "execution-1", "x": 'a"&b'}
    assert (seen.header("x-attempt"), seen.header("authorization")) == ("1", "Bearer hush-hush")
    assert json.loads(seen.body) == {"task": "Nightly report", "x": 'a"&b', "y": 'c"d\n'}
    assert "hush-hush" not in outcome.output
    assert echoed(outcome)["headers"]["authorization"] == "***"


@pytest.mark.parametrize(
    ("headers", "body", "arrives"),
    [
        ((("Content-Type", "application/vnd.api+json; charset=utf-8"),), '["{{parameters.x}}"]', '["a\\"&b"]'),
        ((("Content-Type", "application/x-www-form-urlencoded"),), "v={{parameters.x}}&w=1", "v=a%22%26b&w=1"),
        ((("Content-Type", "text/plain"),), "<{{parameters.x}}>", '<a"&b>'),
    ],
)
async def test_a_value_is_written_as_its_body_needs(
    target: HttpTarget, headers: tuple[tuple[str, str], ...], body: str, arrives: str
) -> None:
    await ask(target, "/ok", method="POST", headers=headers, body=body, parameters={"x": 'a"&b'})

    assert target.seen[0].body.decode() == arrives


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"x": "a\r\nX-Other: b"}, "parameters.x }}: the value holds control characters"),
        ({}, "parameters.x }}: this execution was given no such value"),
        ({"x": "\ud800"}, "no valid text"),
        ({"x": "a" * 9000}, "longer than 8192"),
    ],
)
async def test_a_value_that_cannot_be_sent_is_not(target: HttpTarget, parameters: JsonObject, error: str) -> None:
    outcome = await ask(target, "/ok", headers=(("X-Value", "{{ parameters.x }}"),), parameters=parameters)

    assert outcome.verdict is AttemptOutcome.FAILED
    assert not outcome.retryable
    assert error in (outcome.error or "")
    assert target.accepted == 0


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "HOST", "Connection"])
async def test_a_header_that_frames_the_message_is_not_sent(target: HttpTarget, name: str) -> None:
    """The doors refuse them; should one pass, a second request could hide behind the first."""
    outcome = await ask(target, "/ok", method="POST", headers=((name, "0"),), body="GET /hidden HTTP/1.1")

    assert outcome.error == f"the header {name} frames the message, which is the scheduler's to do"
    assert target.accepted == 0


@pytest.mark.parametrize("id", ["a\r\nX-Other: b", "a\x00b", "a\ud800b"])
async def test_an_id_that_would_break_a_line_is_not_sent(target: HttpTarget, id: str) -> None:
    """Only a database that others wrote can hold such."""
    payload = HttpPayload(url=target.url("/ok"))
    good = context(payload)
    async with executor() as made:
        for claim in (
            replace(good.claim, task=replace(good.claim.task, id=TaskId(id))),
            replace(good.claim, execution_id=ExecutionId(id)),
        ):
            outcome = await made.run(payload, replace(good, claim=claim))
            assert "holds what no header can" in (outcome.error or "")

    assert target.accepted == 0


@pytest.mark.parametrize("payload", [{"headers": (("X-A", "\ud800"),)}, {"method": "POST", "body": "\ud800"}])
async def test_what_is_no_text_is_not_sent(target: HttpTarget, payload: dict[str, Any]) -> None:
    outcome = await ask(target, "/ok", **payload)

    assert "holds what is no valid text" in (outcome.error or "")
    assert not outcome.retryable
    assert target.accepted == 0


@pytest.mark.parametrize("method", METHODS)
async def test_a_length_is_said_where_it_is_expected(target: HttpTarget, method: str) -> None:
    for body in (None, "", "some"):
        await ask(target, "/ok", method=method, body=body)

    unsaid = None if method in ("GET", "HEAD", "OPTIONS") else "0"
    assert [seen.header("content-length") for seen in target.seen] == [unsaid, "0", "4"]


async def test_a_body_that_grew_too_large_is_not_sent(target: HttpTarget) -> None:
    outcome = await ask(target, "/ok", method="POST", body="{{parameters.x}}" * 2, parameters={"x": "y" * 600_000})

    assert "larger than 1 MiB" in (outcome.error or "")
    assert target.accepted == 0


# ── what is not sent ─────────────────────────────────────────────────────────────────────────────


async def test_cookies_are_not_kept(target: HttpTarget) -> None:
    async def look_up(host: str) -> Sequence[str]:
        return ["127.0.0.1"]

    async with executor(look_up=look_up) as made:
        for host in ("intranet.example", "intranet.example", ""):
            outcome = await run(made, target.url("/cookie", host=host))
            assert outcome.output == "no cookie"


async def test_the_environment_of_the_service_changes_nothing(
    target: HttpTarget, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A proxy would hide the true target from the guard, and a .netrc would send a password nobody wrote."""
    netrc = tmp_path_factory.mktemp("home") / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hunter22\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with HttpTarget() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url(""))
        await ask(target, "/ok")

        assert proxy.accepted == 0
    assert target.seen[0].header("authorization") is None


async def test_one_attempt_is_one_request(target: HttpTarget) -> None:
    """Also when a kept connection closes under it: a receiver must not see attempts that nobody counted."""
    async with executor() as made:
        await run(made, target.url("/ok"))
        outcome = await run(made, target.url("/drop"))

    assert outcome.error == f"{target.place} closed the connection without an answer"
    assert [seen.path for seen in target.seen] == ["/ok", "/drop"]
    assert target.accepted == 1


@pytest.mark.parametrize("body", [None, "small", "x" * 1_000_000])
async def test_a_connection_serves_many_attempts(target: HttpTarget, body: str | None) -> None:
    async with executor() as made:
        for _ in range(5):
            await run(made, target.url("/ok"), method="POST", body=body)

        assert (target.accepted, target.open) == (1, 1)
    await target.deserted()


async def test_an_executor_may_be_closed_and_used_again(target: HttpTarget) -> None:
    async with executor() as made:
        await made.close()
        await made.open()
        await run(made, target.url("/ok"))
        await made.close()
        await made.close()
        outcome = await run(made, target.url("/ok"))

    assert outcome.verdict is AttemptOutcome.SUCCEEDED


# ── what the answer means ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("expected", "code", "error"),
    [
        ((), 200, None),
        ((), 204, None),
        ((), 299, None),
        ((), 302, "expected a 2xx status, got 302"),
        ((), 404, "expected a 2xx status, got 404"),
        ((), 500, "expected a 2xx status, got 500"),
        ((200,), 200, None),
        ((200,), 201, "expected status 200, got 201"),
        ((200,), 503, "expected status 200, got 503"),
        ((404,), 404, None),
        ((200, 204), 204, None),
        ((200, 204), 404, "expected status 200 or 204, got 404"),
        ((304,), 304, None),
    ],
)
async def test_the_status_decides(target: HttpTarget, expected: tuple[int, ...], code: int, error: str | None) -> None:
    outcome = await ask(target, f"/status?code={code}", expected_codes=expected)

    assert outcome.error == error
    assert outcome.verdict is (AttemptOutcome.FAILED if error else AttemptOutcome.SUCCEEDED)
    assert outcome.detail["status_code"] == code
    assert outcome.output == ("" if code in (204, 304) else "as asked")
    assert outcome.retryable


class StoppedClock:
    def now(self) -> Moment:
        return parse_moment("2026-03-01T06:30:00Z")

    def monotonic(self) -> int:
        return CLOCK.monotonic()


@pytest.mark.parametrize(
    ("code", "value", "wait"),
    [
        (503, "7", 7_000),
        (429, "Sun,+01+Mar+2026+06:32:00+GMT", 120_000),
        (500, "3", 3_000),
        (503, "soon", None),
        (200, "7", None),
    ],
)
async def test_a_target_may_ask_to_wait(target: HttpTarget, code: int, value: str, wait: int | None) -> None:
    async with executor(clock=StoppedClock()) as made:
        outcome = await run(made, target.url(f"/status?code={code}&retry_after={value}"))

    assert outcome.retry_after == wait


async def test_the_details_say_what_happened(target: HttpTarget) -> None:
    outcome = await ask(target, "/redirect?to=/ok%3Ftoken%3Dabcdefgh%26page%3D1", follow_redirect=True)

    timings = outcome.detail.pop("timings_ms")
    assert outcome.detail == {
        "url": target.url("/ok?token=***&page=1"),
        "redirects": 1,
        "bytes": len("all is well"),
        "status_code": 200,
    }
    assert isinstance(timings, dict)
    assert set(timings) == {"connect", "first_byte", "total"}
    assert all(isinstance(ms, int) and ms >= 0 for ms in timings.values())


# ── time ─────────────────────────────────────────────────────────────────────────────────────────


async def test_its_own_timeout_lies_inside_the_tasks(target: HttpTarget) -> None:
    payload = HttpPayload(url=target.url("/hang-body"), timeout=100)
    async with executor() as made:
        own = await made.run(payload, context(payload))
        of_task = await made.run(replace(payload, timeout=60_000), context(payload, within=100))

    assert own.verdict is of_task.verdict is AttemptOutcome.TIMED_OUT
    assert own.error == "no complete answer within 0.1s"
    assert of_task.error == "no complete answer before the task's timeout"
    assert (own.output, own.truncated) == ("half of it", True)
    assert own.detail["code"] == "timeout"
    assert own.retryable
    await target.deserted()


async def test_after_the_deadline_nothing_is_asked(target: HttpTarget) -> None:
    """Not even by a connection that is there already."""
    payload = HttpPayload(url=target.url("/ok"))
    async with executor() as made:
        await made.run(payload, context(payload))
        late = [await made.run(payload, context(payload, within=within)) for within in (0, -1, -60_000)]

    assert {outcome.verdict for outcome in late} == {AttemptOutcome.TIMED_OUT}
    assert len(target.seen) == 1


# ── save time ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("payload", "pointer", "says"),
    [
        (
            HttpPayload(url="http://10.0.0.5/"),
            "/config/url",
            "target_not_allowed: 10.0.0.5 is private; an operator can",
        ),
        (HttpPayload(url="http://10.0.0.5/"), "/config/url", "SCHEDULER_EGRESS_ALLOW=10.0.0.5"),
        (HttpPayload(url="http://example.com:22/"), "/config/url", "SCHEDULER_EGRESS_ALLOW=example.com:22"),
        (HttpPayload(url="http://2130706433/{{task.id}}"), "/config/url", "target_not_allowed"),
        (HttpPayload(url="http://{{parameters.host}}/"), "/config/url", "must not choose scheme, host or port"),
        (
            HttpPayload(url="http://a.example{{parameters.host}}/"),
            "/config/url",
            "must not choose scheme, host or port",
        ),
        (HttpPayload(url="{{parameters.url}}"), "/config/url", "must not choose scheme, host or port"),
        (HttpPayload(url="http://a.example/{{nope}}"), "/config/url", "unknown placeholder {{nope}}"),
        (HttpPayload(url="http://a.example/", body="{{ task.x }}"), "/config/body", "unknown placeholder"),
        (HttpPayload(url="http://a.example/", body="{{ secret.OTHER }}"), "/config/body", "the secret 'OTHER'"),
        (
            HttpPayload(url="http://a.example/", headers=(("X/~y", "{{ nope }}"),)),
            "/config/headers/X~1~0y",
            "unknown placeholder",
        ),
        (
            HttpPayload(url="http://a.example/", headers=(("X-Scheduler-Epoch", "9"),)),
            "/config/headers/X-Scheduler-Epoch",
            "is set by the scheduler itself",
        ),
    ],
)
def test_what_cannot_work_is_said_at_save_time(payload: HttpPayload, pointer: str, says: str) -> None:
    faults = HttpExecutor(Egress(), CLOCK, version="1", secrets={"TOKEN": "hush-hush"}).check(payload)

    assert any(fault.pointer == pointer and says in fault.message for fault in faults), faults
    assert "hush" not in repr(faults)


async def test_the_fencing_headers_are_ours_even_in_a_task_that_was_saved_before(target: HttpTarget) -> None:
    await ask(target, "/ok", headers=(("X-Scheduler-Epoch", "99"), ("x-scheduler-other", "x")))

    assert [value for name, value in target.seen[0].headers if name == "x-scheduler-epoch"] == ["1"]
    assert target.seen[0].header("x-scheduler-other") is None


def test_faults_are_bounded() -> None:
    body = "".join(f"{{{{ secret.N{number} }}}}" for number in range(5000)) + "{{ secret.N }}" * 5000

    faults = HttpExecutor(Egress(), CLOCK, version="1").check(HttpPayload(url="http://a.example/", body=body))

    assert len(faults) == 50


def test_every_fault_is_said_at_once() -> None:
    payload = HttpPayload(
        url="http://10.0.0.5/", headers=(("A", "{{ a }}"), ("X-Scheduler-B", "")), body="{{ secret.N }}"
    )

    faults = HttpExecutor(Egress(), CLOCK, version="1").check(payload)

    assert len(faults) == 4


@pytest.mark.parametrize(
    ("parameters", "faults"), [(None, 0), ({}, 1), ({"y": 1}, 1), ({"x": None}, 0), ({"x": 1, "y": 2}, 0)]
)
def test_parameters_are_checked_once_they_are_known(parameters: JsonObject | None, faults: int) -> None:
    payload = HttpPayload(url="http://a.example/{{parameters.x}}", body="{{ parameters.x }}")

    found = HttpExecutor(Egress(), CLOCK, version="1").check(payload, parameters)

    assert len({(fault.pointer, fault.message) for fault in found}) == faults


@pytest.mark.parametrize("output_bytes", [0, 1024 * 1024 + 1])
def test_how_much_is_kept_has_bounds(output_bytes: int) -> None:
    with pytest.raises(ValueError, match="output_bytes"):
        HttpExecutor(Egress(), CLOCK, version="1", output_bytes=output_bytes)
