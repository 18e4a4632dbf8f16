"""Owns what the HTTP executor's tests share: an executor that may reach loopback, and one line to run a payload."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from peregrine.domain.execution import Outcome
from peregrine.domain.payload import HttpPayload, JsonObject
from peregrine.executors.client import LookUp
from peregrine.executors.egress import Egress
from peregrine.executors.http import HttpExecutor
from peregrine.testing.executor_contract import ExampleContext, HostClock, example_context
from peregrine.testing.http_target import HttpTarget

LOOPBACK = ("127.0.0.0/8", "::1")
CLOCK = HostClock()


@asynccontextmanager
async def executor(
    *allow: str, egress: Egress | None = None, look_up: LookUp | None = None, **settings: Any
) -> AsyncIterator[HttpExecutor]:
    """An executor that may reach loopback (or only *allow*), closed at the end."""
    made = HttpExecutor(
        egress or Egress(allow or LOOPBACK), settings.pop("clock", CLOCK), version="1.2.3", look_up=look_up, **settings
    )
    try:
        yield made
    finally:
        await made.close()


def context(payload: HttpPayload, *, parameters: JsonObject | None = None, within: int = 20_000) -> ExampleContext:
    return example_context(payload, CLOCK, within=within, parameters=parameters)


async def run(made: HttpExecutor, url: str, *, parameters: JsonObject | None = None, **payload: Any) -> Outcome:
    """One attempt of ``HttpPayload(url=url, **payload)``."""
    whole = HttpPayload(url=url, **payload)
    return await made.run(whole, context(whole, parameters=parameters))


async def ask(target: HttpTarget, path: str, **payload: Any) -> Outcome:
    """One attempt against *target*, by an executor of its own."""
    async with executor() as made:
        return await run(made, target.url(path), **payload)


def echoed(outcome: Outcome) -> dict[str, Any]:
    """What ``/echo`` saw."""
    told: dict[str, Any] = json.loads(outcome.output)
    return told
