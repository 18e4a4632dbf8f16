"""Secrets are opened at the last moment; one that can't be opened ends the attempt and is never shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from peregrine.domain.execution import AttemptOutcome, Claim, Outcome
from peregrine.domain.ids import TaskId
from peregrine.domain.payload import CustomPayload, HttpPayload, JsonObject, Payload
from peregrine.executors.answer import Veil
from peregrine.executors.registry import Executors
from peregrine.ports.executor import RunContext
from peregrine.ports.vault import sealed_parameters, sealed_task
from peregrine.testing.builders import a_task
from peregrine.testing.executor_contract import HostClock, example_context
from peregrine.vault.aes import AesVault
from peregrine.vault.keys import KEY_BYTES, Key

pytestmark = pytest.mark.anyio

VAULT = AesVault(lambda: [Key(b"1" * KEY_BYTES)])
OTHER = AesVault(lambda: [Key(b"2" * KEY_BYTES)])
CANARY = "c4n4ry"
PLAIN = CustomPayload(executor="e", parameters={"token": CANARY, "size": 3})


class Listener:
    """An executor that keeps what it is given."""

    def __init__(self) -> None:
        self.given: list[tuple[Payload, JsonObject | None]] = []

    def check(self, payload: Payload, parameters: JsonObject | None = None) -> Any:
        return ()

    async def run(self, payload: Payload, context: RunContext) -> Outcome:
        self.given.append((payload, context.claim.parameters))
        context.log(f"{context.worker_id} until {context.deadline}")
        context.progress(0.5, "half")
        return Outcome.succeeded("done")


def claimed(payload: Payload, parameters: JsonObject | None = None, *, by: AesVault = VAULT) -> tuple[Any, Claim]:
    """A context of a task that was sealed by that vault, and its claim."""
    context: Any = example_context(payload, HostClock())
    task = sealed_task(by, a_task("t1", payload=payload))
    claim = replace(context.claim, task=task, parameters=sealed_parameters(by, task.id, parameters))
    context.claim = claim
    return context, claim


async def test_an_executor_gets_plain_words() -> None:
    listener = Listener()
    context, claim = claimed(PLAIN, {"password": CANARY, "url": f"http://a/?token={CANARY}"})
    outcome = await Executors(custom=listener, vault=VAULT).run(claim.task.payload, context)

    assert outcome.verdict is AttemptOutcome.SUCCEEDED
    assert listener.given == [(PLAIN, {"password": CANARY, "url": f"http://a/?token={CANARY}"})]
    assert CANARY not in repr(claim)


async def test_the_parameters_of_a_run_stand_over_sealed_ones() -> None:
    """As the engine merges them: before they are opened."""
    listener = Listener()
    context, claim = claimed(PLAIN, {"token": "newer"})
    assert isinstance(claim.task.payload, CustomPayload)
    merged = replace(claim.task.payload, parameters=claim.task.payload.parameters | (claim.parameters or {}))
    await Executors(custom=listener, vault=VAULT).run(merged, context)

    assert listener.given[0][0] == replace(PLAIN, parameters={"token": "newer", "size": 3})


@pytest.mark.parametrize("vault", [OTHER, None])
@pytest.mark.parametrize("parameters", [None, {"token": CANARY}])
async def test_what_can_t_be_opened_ends_the_attempt_for_good(
    vault: AesVault | None, parameters: JsonObject | None
) -> None:
    listener = Listener()
    context, claim = claimed(PLAIN if parameters is None else replace(PLAIN, parameters={}), parameters)
    outcome = await Executors(custom=listener, vault=vault).run(claim.task.payload, context)

    assert (outcome.verdict, outcome.retryable, listener.given) == (AttemptOutcome.FAILED, False, [])
    assert outcome.error is not None
    assert outcome.error.startswith("a secret of this task: /parameters/token ")
    assert CANARY not in repr(outcome)
    assert "sealed:" not in outcome.error


async def test_a_secret_of_another_task_is_refused() -> None:
    listener = Listener()
    payload = HttpPayload(url=f"http://a/?token={CANARY}", headers=(("Authorization", CANARY),))
    context, claim = claimed(payload)
    thief = replace(claim, task=replace(claim.task, id=TaskId("t2")))
    context.claim = thief
    outcome = await Executors(http=listener, vault=VAULT).run(thief.task.payload, context)

    assert (outcome.verdict, listener.given) == (AttemptOutcome.FAILED, [])
    why = "it was sealed for another place, or changed since"
    assert outcome.error == f"a secret of this task: /url?token can't be opened: {why}"


def test_a_function_s_words_hide_secrets_of_addresses_and_numbers() -> None:
    veil = Veil({"url": "http://e.x/?token=one%20two&page=2", "pin_secret": 123456, "rows": 777777})

    assert veil("got one%20two, one two, 123456, 777777") == "got ***, ***, ***, 777777"
