"""The HTTP executor keeps every executor's promises, on both event loops, wherever a target may hang."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from peregrine.domain.payload import HttpPayload, Payload
from peregrine.executors.egress import AddressInfo, Egress
from peregrine.executors.http import HttpExecutor
from peregrine.testing.executor_contract import GREETING, PROMISES, Behaviour, Factory, HostClock, Promise, Subject
from peregrine.testing.http_target import HttpTarget

SECRET = "s3cr3t/with+signs&more"
LEAKS = (("Authorization", "Bearer {{ secret.TOKEN }}"), ("Content-Type", "application/json"))


class Narrow(Egress):
    """Gives the system little room for what is to be sent, as a real network does: the rest waits in the client."""

    def open_socket(self, info: AddressInfo, host: str) -> socket.socket:
        made = super().open_socket(info, host)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return made


class HttpSubject:
    def __init__(self, target: HttpTarget, hang: Callable[[HttpTarget], HttpPayload]) -> None:
        self.clock = HostClock()
        self.output_max = 10_000
        self.secret = SECRET
        self._target = target
        self._hang = hang(target)
        self.executor = HttpExecutor(
            Narrow(["127.0.0.1/32"]),
            self.clock,
            version="test",
            secrets={"TOKEN": SECRET},
            output_bytes=self.output_max,
        )

    def payload(self, behaviour: Behaviour) -> Payload | None:
        url, leak = self._target.url, "token={{secret.TOKEN}}"
        match behaviour:
            case Behaviour.SUCCEED:
                return HttpPayload(url=url(f"/ok?say={GREETING.replace(' ', '+')}"))
            case Behaviour.FAIL:
                return HttpPayload(url=url("/status?code=500"))
            case Behaviour.HANG:
                return self._hang
            case Behaviour.CRASH:
                return HttpPayload(url=url(f"/reset?when=body&{leak}"))
            case Behaviour.FLOOD:
                return HttpPayload(url=url("/flood?bytes=1048576"))
            case Behaviour.LEAK | Behaviour.LEAK_AND_FAIL:
                code = 200 if behaviour is Behaviour.LEAK else 500
                body = '{"note": "{{ secret.TOKEN }}"}'
                return HttpPayload(url=url(f"/echo?code={code}&{leak}"), method="POST", headers=LEAKS, body=body)
            case Behaviour.OVERSTAY:
                return replace(self._hang, timeout=150)
            case Behaviour.REFUSED:
                return HttpPayload(url=f"http://169.254.169.254/?{leak}", headers=LEAKS)

    async def has_started(self) -> None:
        await self._target.hanging()

    async def leftovers(self) -> Sequence[str]:
        try:
            async with asyncio.timeout(1):
                await self._target.quiet()
        except TimeoutError:
            return [f"{self._target.open} open connections"]
        return []


HANGS: dict[str, Callable[[HttpTarget], HttpPayload]] = {
    "before the head": lambda target: HttpPayload(url=target.url("/hang")),
    "in the body": lambda target: HttpPayload(url=target.url("/hang-body")),
    "while sending": lambda target: HttpPayload(url=target.url("/unread"), method="POST", body="x" * 1_000_000),
    "after a redirect": lambda target: HttpPayload(url=target.url("/redirect?to=/hang"), follow_redirect=True),
}


@pytest.fixture(scope="module", params=[("asyncio", {}), ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture(params=list(HANGS.values()), ids=list(HANGS))
def factory(request: pytest.FixtureRequest) -> Factory:
    @asynccontextmanager
    async def subject() -> AsyncIterator[Subject]:
        async with HttpTarget() as target:
            subject = HttpSubject(target, request.param)
            try:
                yield subject
            finally:
                await subject.executor.close()
            await target.deserted()

    return subject


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
async def test_the_promise_is_kept(promise: Promise, factory: Factory) -> None:
    await promise(factory)
