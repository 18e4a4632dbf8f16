"""The four EVE tasks are declared as the table says, say what they did in the known words, and are off without EVE."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from peregrine.domain.errors import BadConfiguration, PeregrineError
from peregrine.domain.execution import AttemptOutcome, Outcome
from peregrine.domain.moment import MINUTE, SECOND
from peregrine.domain.payload import JsonObject, SystemPayload
from peregrine.domain.task import Pause
from peregrine.executors.context import PermanentError, RetryLater
from peregrine.executors.system import SystemExecutor
from peregrine.modules.esi.tasks import eve_tasks
from peregrine.modules.provided import Provided
from peregrine.ports.esi import EsiMisconfigured, EsiUnavailable, SsoMisconfigured
from peregrine.ports.eve_modules import AffiliationsUpdated, AlliancesImported, CorporationsUpdated, EveModules
from peregrine.ports.module import SystemTask
from peregrine.stores.memory import MemoryStore
from peregrine.testing.clock import ManualClock, run_virtual
from peregrine.usecases.system_tasks import synchronise
from tests.modules.eve_world import Run


class Everything:
    """All four modules in one; remembers what it was asked, and may raise."""

    def __init__(self, trouble: Exception | None = None, *, seconds: float = 0) -> None:
        self.trouble = trouble
        self.seconds = seconds
        self.asked: list[Any] = []

    async def _work(self, *asked: Any) -> None:
        self.asked.append(asked)
        await asyncio.sleep(self.seconds)  # not a wait: the work itself, in virtual time
        if self.trouble is not None:
            raise self.trouble

    async def refresh_expiring_tokens(self, context: Any, batch_size: int) -> tuple[int, int]:
        await self._work("tokens", batch_size)
        return 7, 2

    async def update_all_affiliations(self, context: Any) -> AffiliationsUpdated:
        await self._work("affiliations")
        return AffiliationsUpdated(updated_characters=5, failed_characters=1, skipped_characters=9, duration=3)

    async def bulk_import_alliances(self, context: Any) -> AlliancesImported:
        await self._work("alliances")
        return AlliancesImported(total=9, processed=9, created=4, updated=3, failed=2, skipped=0)

    async def update_all_corporations(self, context: Any, concurrent_workers: int) -> CorporationsUpdated | None:
        await self._work("corporations", concurrent_workers)
        return CorporationsUpdated(total=9, updated=4, unchanged=3, failed=1, vanished=1)


def modules(one: Everything) -> EveModules:
    return EveModules(auth=one, character=one, alliance=one, corporation=one)


def by_name(declared: tuple[SystemTask, ...]) -> dict[str, SystemTask]:
    return {task.task_name: task for task in declared}


def run(task: SystemTask, parameters: JsonObject | None = None) -> Outcome:
    async def attempt() -> Outcome:
        given = task.parameters if parameters is None else task.parameters | parameters
        return await task.handler(given, Run(ManualClock()))

    return run_virtual(attempt())


def test_they_are_declared_as_the_table_says() -> None:
    table = {
        task.id: (
            task.schedule, task.priority.name.lower(), task.policy.max_retries, task.policy.retry_interval // MINUTE,
            task.policy.timeout // MINUTE,
        )
        for task in eve_tasks(modules(Everything()))
    }  # fmt: skip

    assert table == {
        "system-token-refresh": ("0 */15 * * * *", "high", 3, 2, 10),
        "system-character-affiliation-update": ("0 */30 * * * *", "normal", 3, 5, 30),
        "system-alliance-bulk-import": ("0 0 3 * * 0", "normal", 2, 15, 45),
        "system-corporation-update": ("0 0 4 * * *", "normal", 2, 15, 60),
    }
    assert all(task.enabled and task.purpose for task in eve_tasks(modules(Everything())))


def test_they_say_what_they_did_in_the_known_words() -> None:
    everything = Everything()
    tasks = by_name(eve_tasks(modules(everything)))

    outputs = {name: run(task).output for name, task in tasks.items()}

    assert outputs == {
        "token_refresh": "Refreshed 7 tokens (2 failed)",
        "character_affiliation_update": "Updated 5 characters (1 failed, 9 skipped) in 3 seconds",
        "alliance_bulk_import": "Processed 9 of 9 alliances (4 created, 3 updated, 2 failed, 0 skipped)",
        "corporation_update": "Successfully updated all corporations with 10 concurrent workers"
        " (9: 4 updated, 3 unchanged, 1 failed, 1 vanished)",
    }
    assert everything.asked == [("tokens", 100), ("affiliations",), ("alliances",), ("corporations", 10)]


def test_parameters_reach_the_module() -> None:
    everything = Everything()
    tasks = by_name(eve_tasks(modules(everything)))

    run(tasks["token_refresh"], {"batch_size": 7})
    run(tasks["corporation_update"], {"concurrent_workers": 3})

    assert everything.asked == [("tokens", 7), ("corporations", 3)]


def test_the_timeout_parameter_holds() -> None:
    tasks = by_name(eve_tasks(modules(Everything(seconds=120))))

    outcome = run(tasks["corporation_update"], {"timeout": "1m"})

    assert (outcome.verdict, outcome.error) == (
        AttemptOutcome.FAILED, "Corporation update failed: it took longer than 1m"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("trouble", "retryable", "retry_after"),
    [
        (EsiUnavailable("ESI is away", retry_after=90), True, 90 * SECOND),
        (EsiMisconfigured("ESI_BASE_URL is wrong"), False, None),
        (SsoMisconfigured("EVE_CLIENT_SECRET is wrong"), False, None),
        (PeregrineError("something else"), True, None),
    ],
)
def test_trouble_is_told_with_when_to_come_again(
    trouble: Exception, retryable: bool, retry_after: int | None  # noqa: FBT001
) -> None:  # fmt: skip
    for task in eve_tasks(modules(Everything(trouble))):
        outcome = run(task)

        assert outcome.verdict is AttemptOutcome.FAILED
        assert (outcome.error or "").endswith(f": {trouble}")
        assert (outcome.retryable, outcome.retry_after) == (retryable, retry_after)


@pytest.mark.parametrize(
    ("trouble", "error", "retryable", "retry_after"),
    [
        (ValueError("no such pilot"), "ValueError: no such pilot", True, None),
        (TimeoutError("the database is slow"), "TimeoutError: the database is slow", True, None),
        (RetryLater(90, "the database is being moved"), "RetryLater: the database is being moved", True, 90 * SECOND),
        (PermanentError("the licence has ended"), "PermanentError: the licence has ended", False, None),
    ],
)
def test_what_a_hosts_module_raises_is_told_as_a_functions_error_is(
    trouble: Exception, error: str, retryable: bool, retry_after: int | None  # noqa: FBT001
) -> None:  # fmt: skip
    declared = eve_tasks(modules(Everything(trouble)))
    executor = SystemExecutor(declared)

    for task in declared:
        payload = SystemPayload(task_name=task.task_name, parameters=task.parameters)

        async def attempt(payload: SystemPayload = payload) -> Outcome:
            return await executor.run(payload, Run(ManualClock()))

        outcome = run_virtual(attempt())

        assert (outcome.verdict, outcome.error) == (AttemptOutcome.FAILED, error)
        assert (outcome.retryable, outcome.retry_after) == (retryable, retry_after)
        assert "test_eve_tasks.py" in str(outcome.detail["traceback"])


def test_affiliations_may_be_told_as_three_numbers() -> None:
    class Plain:
        async def update_all_affiliations(self, context: Any) -> tuple[int, int, int]:
            return 5, 1, 9

    (_, task, _, _) = eve_tasks(EveModules(character=Plain()))

    outcome = run(task)

    assert outcome == Outcome.succeeded("Updated 5 characters (1 failed, 9 skipped)", updated=5, failed=1, skipped=9)


def test_without_modules_they_are_off_and_say_what_to_configure() -> None:
    tasks = by_name(eve_tasks(EveModules(), missing="set THIS", missing_auth="set THAT"))

    assert len(tasks) == 4
    for name, task in tasks.items():
        wanted = "set THAT" if name == "token_refresh" else "set THIS"
        outcome = run(task)
        assert not task.enabled
        assert task.description.endswith(f"Disabled: {wanted}")
        assert outcome.output.endswith("module not available")
        assert (outcome.error or "").endswith(f"module not initialized: {wanted}")
        assert (outcome.verdict, outcome.retryable) == (AttemptOutcome.FAILED, False)


def test_once_configured_they_are_on_and_a_pause_is_kept() -> None:
    async def story() -> None:
        clock, store = ManualClock(), MemoryStore()
        await synchronise(store, clock, eve_tasks(EveModules(), missing="set THIS"))
        declared = eve_tasks(modules(Everything()))
        view = await store.get_task(declared[0].id)
        assert view is not None
        assert not view.task.enabled
        pause = Pause(since=clock.now(), by="somebody")
        paused = replace(view.task, pause=pause).changed(view.task, at=clock.now(), by="somebody")
        await store.put_task(paused, expected_revision=view.task.revision)

        await synchronise(store, clock, declared)

        after = [await store.get_task(task.id) for task in declared]
        assert all(one is not None and one.task.enabled for one in after)
        assert [one is not None and one.task.pause is not None for one in after] == [True, False, False, False]
        assert "Disabled" not in after[0].task.description  # type: ignore[union-attr]

    run_virtual(story())


# ── what a host brings ───────────────────────────────────────────────────────────────────────────


def test_a_host_may_bring_its_own() -> None:
    provided, theirs, ours = Provided(), Everything(), Everything()
    provided.provide(character=theirs)

    found = provided.over(modules(ours))

    assert (found.character, found.auth) == (theirs, ours)
    assert provided.over(EveModules()).character is theirs


def test_a_host_is_told_what_is_wrong() -> None:
    provided = Provided()
    with pytest.raises(BadConfiguration, match="provide\\(auth=…\\): it has no method refresh_expiring_tokens"):
        provided.provide(auth=object())  # type: ignore[arg-type]
    provided.provide(auth=Everything())
    with pytest.raises(BadConfiguration, match="another one was provided before"):
        provided.provide(auth=Everything())
