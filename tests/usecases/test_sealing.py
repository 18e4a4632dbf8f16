"""No secret reaches a store in plain words; an open one reaches only the run it is meant for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrine.domain.draft import Making
from peregrine.domain.errors import BadConfiguration, Stale
from peregrine.domain.ids import TaskId, WorkerId
from peregrine.domain.payload import (
    CustomPayload,
    FunctionPayload,
    HttpPayload,
    JsonObject,
    JsonValue,
    Kind,
    SystemPayload,
    payload_config,
)
from peregrine.domain.planning import Plan
from peregrine.domain.redaction import HIDDEN, payload_with_secrets
from peregrine.domain.task import Task
from peregrine.ports.identity import Asker, Principal
from peregrine.ports.module import SystemTask
from peregrine.ports.records import Record
from peregrine.ports.shelves import VAULT
from peregrine.ports.store import ClaimRequest
from peregrine.ports.vault import (
    CannotOpen,
    is_sealed,
    key_of,
    opened_parameters,
    opened_payload,
    opened_task,
    sealed_task,
)
from peregrine.stores.memory import MemoryStore
from peregrine.testing.builders import a_task
from peregrine.usecases import bundles, executions, sealing, tasks
from peregrine.usecases.executions import Order
from peregrine.usecases.sealing import Ground
from peregrine.usecases.system_tasks import synchronise
from peregrine.vault.aes import AesVault
from peregrine.vault.keys import KEY_BYTES, Key
from peregrine.wire.bundle import read_bundle
from peregrine.wire.task_input import read_new_task, read_task_change
from tests.api.world import HTTP_TASK, World

pytestmark = pytest.mark.anyio

BOSS = Asker(principal=Principal(id="boss", subjects=("user:boss", "group:super_admin")))
FIRST, SECOND = Key(b"1" * KEY_BYTES), Key(b"2" * KEY_BYTES)
CANARY = "c4n4ry"
HTTP_CONFIG: dict[str, Any] = {
    "url": f"https://example.org/p?token={CANARY}-1&page=2&api_key={CANARY}-2#top",
    "headers": {"Authorization": f"Bearer {CANARY}-3", "X-Auth-Token": f"{CANARY}-4", "Cookie": f"a={CANARY}-5",
                "Accept": "text/plain"},
    "method": "POST",
}  # fmt: skip
PARAMETERS: dict[str, Any] = {
    "password": f"{CANARY}-6",
    "pin_code": 7,
    "client_secret": {"inner": [f"{CANARY}-7", 8]},
    "deep": {"list": [{"accessToken": f"{CANARY}-8"}, {"private_key": f"{CANARY}-9"}], "passwd": f"{CANARY}-10"},
    "url": f"https://example.org/?signature={CANARY}-11",
    "hooks": [{"url": f"http://a/?x=1&secret={CANARY}-12"}],
    "token": 1234567,
    "credentials": [f"{CANARY}-13", None],
    "jwt": None,
    "bearer": "",
}


def a_vault(*keys: Key) -> AesVault:
    return AesVault(lambda: keys or (FIRST,))


def a_world(**changes: Any) -> World:
    return World(means={"vault": a_vault()}, **changes)


def ground_of(world: World, *keys: Key) -> Ground:
    return Ground(store=world.store, records=world.records, vault=a_vault(*keys), clock=world.clock)


async def made(world: World, **changes: Any) -> Task:
    body = HTTP_TASK | {"config": HTTP_CONFIG} | changes
    return (await tasks.create_task(world.means, BOSS, lambda making: read_new_task(body, making))).task


async def edited(world: World, task: Task, **body: Any) -> Task:
    def edit(stored: Task, making: Making) -> Task:
        return read_task_change(body, stored, making)

    return (await tasks.update_task(world.means, BOSS, task.id, edit)).task


def secrets_in(task: Task) -> dict[str, JsonValue]:
    found: dict[str, JsonValue] = {}

    def note(value: JsonValue, place: str) -> JsonValue:
        found[place] = value
        return value

    payload_with_secrets(task.payload, note)
    return found


JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["token", "url", "a", "api_key", "x/~y", "list"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["token", "url", "a", "clientSecret", "x~/y"]), JSON_VALUES, max_size=5))
def test_sealing_and_opening_give_back_what_was(parameters: JsonObject) -> None:
    vault, task = a_vault(), a_task(payload=FunctionPayload(function_name="f", parameters=parameters))
    sealed = sealed_task(vault, task)

    assert opened_task(vault, sealed) == task
    assert opened_payload(vault, task.id, sealed.payload) == task.payload
    assert sealed_task(vault, task, over=sealed) == sealed
    assert all(is_sealed(value) for value in secrets_in(sealed).values())


@pytest.mark.parametrize(
    "payload",
    [
        HttpPayload(url=HTTP_CONFIG["url"], headers=tuple(HTTP_CONFIG["headers"].items())),
        FunctionPayload(function_name="f", parameters=PARAMETERS),
        CustomPayload(executor="e", parameters=PARAMETERS),
        SystemPayload(task_name="s", parameters=PARAMETERS),
    ],
)
def test_each_kind_is_sealed_at_any_depth(payload: Any) -> None:
    vault, task = a_vault(), a_task(payload=payload)
    sealed = sealed_task(vault, task)

    text = json.dumps(payload_config(sealed.payload))
    assert CANARY not in text
    assert "1234567" not in text
    assert opened_task(vault, sealed) == task


async def test_a_task_is_sealed_when_it_is_made_and_shown_hidden() -> None:
    world = a_world()
    task = await made(world)
    shown = await world.ask("GET", f"/scheduler/tasks/{task.id}")

    assert CANARY not in repr(task)
    assert len(secrets_in(task)) == 5
    assert CANARY not in shown.text
    assert "sealed:" not in shown.text
    assert shown.json()["config"]["headers"]["Authorization"] == HIDDEN
    assert secrets_in(opened_task(world.means.vault, task))["/headers/Cookie"] == f"a={CANARY}-5"


async def test_stars_keep_the_very_text_and_a_change_seals_anew() -> None:
    world = a_world()
    task = await made(world)
    config = HTTP_CONFIG | {"headers": HTTP_CONFIG["headers"] | {"Authorization": HIDDEN, "X-Auth-Token": "other"}}
    after = await edited(world, task, config=config, description="changed")
    before, now = secrets_in(task), secrets_in(after)

    assert now["/headers/Authorization"] == before["/headers/Authorization"]
    assert now["/url?token"] == before["/url?token"]
    assert now["/headers/X-Auth-Token"] != before["/headers/X-Auth-Token"]
    assert secrets_in(opened_task(world.means.vault, after))["/headers/X-Auth-Token"] == "other"


async def test_the_same_secrets_sent_again_change_nothing() -> None:
    world = a_world()
    task = await made(world)

    assert (await edited(world, task, config=HTTP_CONFIG)).revision == task.revision


async def test_a_long_secret_is_judged_by_its_own_length() -> None:
    world = a_world()
    task = await made(world, config=HTTP_CONFIG | {"headers": {"Authorization": "x" * 8192}})
    url = "https://example.org/?token=" + "y" * 2000
    after = await edited(world, task, config={"headers": {"Authorization": HIDDEN}, "url": url})

    assert opened_task(world.means.vault, after).payload == HttpPayload(
        url=url, headers=(("Authorization", "x" * 8192),)
    )


async def test_a_text_that_only_looks_sealed_is_a_secret_like_others() -> None:
    world = a_world()
    stolen = str(secrets_in(await made(world))["/headers/Authorization"])
    task = await made(world, name="other", config={"url": "http://a/", "headers": {"Authorization": stolen}})

    assert secrets_in(task)["/headers/Authorization"] != stolen
    assert secrets_in(opened_task(world.means.vault, task))["/headers/Authorization"] == stolen


async def test_texts_that_were_swapped_between_tasks_or_places_open_nowhere() -> None:
    world = a_world()
    one, other = await made(world), await made(world, name="other")
    assert isinstance(one.payload, HttpPayload)
    first, second = one.payload.headers[:2]
    crossed = replace(one.payload, headers=((first[0], second[1]), (second[0], first[1])))

    for task_id, payload in ((other.id, one.payload), (one.id, crossed)):
        with pytest.raises(CannotOpen, match=r"^/\S+ can't be opened: it was sealed for another place") as caught:
            opened_payload(world.means.vault, task_id, payload)
        assert CANARY not in str(caught.value)


async def test_a_lost_secret_does_not_keep_the_task_from_being_changed() -> None:
    world = a_world()
    task = await made(world)
    world.means = replace(world.means, vault=a_vault(SECOND))
    paused = (await tasks.pause_task(world.means, BOSS, task.id)).task
    mended = await edited(world, paused, config=HTTP_CONFIG)

    assert secrets_in(paused) == secrets_in(task)
    assert {key_of(value) for value in secrets_in(mended).values()} == {SECOND.id}


async def test_what_a_run_is_given_is_sealed_in_the_queue() -> None:
    world = a_world()
    task = await made(world, type="function", config={"function_name": "processData", "parameters": {"token": "old"}})
    await executions.execute_task(world.means, BOSS, task.id, Order(parameters={"token": CANARY, "size": 3}))
    asked = ClaimRequest(claim_id="c", worker_id=WorkerId("w"), now=world.clock.now(), limit=1)
    got = await world.store.claim(asked)
    given = got.claims[0].parameters

    assert given is not None
    assert CANARY not in repr(got)
    assert given["size"] == 3
    assert opened_parameters(world.means.vault, task.id, given) == {"token": CANARY, "size": 3}


async def test_an_import_is_sealed_too() -> None:
    world = a_world()
    old = await made(world)
    bundle = read_bundle([HTTP_TASK | {"name": name, "config": HTTP_CONFIG} for name in (old.name, "new")])
    await bundles.import_tasks(world.means, BOSS, bundle.tasks, overwrite=True, dry_run=False)
    found = await world.store.get_named([old.name, "new"])

    assert len(found) == 2
    assert all(len(secrets_in(view.task)) == 5 for view in found)
    assert CANARY not in repr(found)


async def test_a_system_task_is_sealed_and_stays_as_it_is() -> None:
    world = a_world()
    declared = SystemTask(
        id=TaskId("system-a"), task_name="a", name="A", description="", purpose="", schedule="@daily",
        handler=None, parameters={"token": CANARY},  # type: ignore[arg-type]
    )  # fmt: skip
    first = await synchronise(world.store, world.clock, [declared], world.means.vault)
    again = await synchronise(world.store, world.clock, [declared], world.means.vault)
    changed = replace(declared, parameters={"token": CANARY + "2"})
    later = await synchronise(world.store, world.clock, [changed], world.means.vault)

    assert (first.created, again.updated, later.updated) == (["system-a"], [], ["system-a"])
    assert CANARY not in repr(await world.store.get_task(TaskId("system-a")))


# ── keys and their turns ─────────────────────────────────────────────────────────────────────────


async def plain(world: World, number: int = 3) -> None:
    """Tasks from before there were keys."""
    every = [
        a_task(f"t{index}", kind=Kind.FUNCTION, payload=FunctionPayload(function_name="f", parameters=PARAMETERS))
        for index in range(number)
    ]
    await world.store.create_tasks(every)


async def forget() -> None:
    """A memory has nothing left of what was overwritten."""


async def all_of(world: World) -> Sequence[Task]:
    return [view.task for view in await world.store.get_tasks([TaskId(f"t{index}") for index in range(250)])]


def keys_in(every: Sequence[Task]) -> set[str]:
    return {key_of(value) for task in every for value in secrets_in(task).values()}


async def test_what_was_stored_in_plain_words_is_sealed_once() -> None:
    world = World()
    await plain(world, 250)
    first = await sealing.seal_old(ground_of(world), forget)
    every = await all_of(world)
    again = await sealing.seal_old(ground_of(world), forget)

    assert (first.tasks, first.lost, again.tasks) == (250, 0, 0)
    assert CANARY not in repr(every)
    assert keys_in(every) == {FIRST.id}
    assert {(task.revision, task.generation, task.updated_by) for task in every} == {(2, 1, "system")}


async def test_another_key_at_the_start_is_told_in_one_line() -> None:
    world = World()
    assert await sealing.admit(ground_of(world)) == {FIRST.id}
    assert await sealing.admit(ground_of(world)) == {FIRST.id}

    with pytest.raises(BadConfiguration) as caught:
        await sealing.admit(ground_of(world, SECOND))
    assert str(caught.value).startswith(
        f"SCHEDULER_ENCRYPTION_KEY: secrets in this store are sealed with the key {FIRST.id}"
    )
    assert "\n" not in str(caught.value)
    assert await sealing.admit(ground_of(world, SECOND, FIRST)) == {FIRST.id, SECOND.id}


class Killed(Exception):
    """The process is gone."""


class Mortal(MemoryStore):
    """Dies after so many writes."""

    left = 10_000

    async def put_task(self, task: Task, *, expected_revision: int, plan: Plan | None = None) -> None:
        if self.left == 0:
            raise Killed
        self.left -= 1
        await super().put_task(task, expected_revision=expected_revision, plan=plan)


@pytest.mark.parametrize("writes", [0, 1, 120, 249])
async def test_a_rotation_that_was_killed_is_finished_by_the_next(writes: int) -> None:
    store = Mortal()
    world = World(store=store)
    await plain(world, 250)
    await sealing.admit(ground_of(world))
    await sealing.seal_old(ground_of(world), forget)
    store.left = writes
    with pytest.raises(Killed):
        await sealing.rotate(ground_of(world, SECOND, FIRST))
    with pytest.raises(BadConfiguration):
        await sealing.admit(ground_of(world, SECOND))
    store.left = 10_000
    seen: list[tuple[int, int]] = []
    done = await sealing.rotate(ground_of(world, SECOND, FIRST), lambda done, of: seen.append((done, of)))
    every = await all_of(world)

    assert done.tasks == 250 - writes
    assert seen[-1] == (250, 250)
    assert keys_in(every) == {SECOND.id}
    assert await sealing.admit(ground_of(world, SECOND)) == {SECOND.id}
    plain_words = FunctionPayload(function_name="f", parameters=PARAMETERS)
    assert all(opened_task(a_vault(SECOND), task).payload == plain_words for task in every)


class Beaten(MemoryStore):
    """Somebody else is quicker, once."""

    was_beaten = False

    async def put_task(self, task: Task, *, expected_revision: int, plan: Plan | None = None) -> None:
        if not self.was_beaten:
            self.was_beaten = True
            raise Stale("quicker")
        await super().put_task(task, expected_revision=expected_revision, plan=plan)


async def test_a_task_that_changes_meanwhile_is_looked_at_again() -> None:
    world = World(store=Beaten())
    await plain(world)
    await sealing.seal_old(ground_of(world), forget)

    assert keys_in(await all_of(world)) == {FIRST.id}


async def test_a_key_that_a_waiting_run_needs_is_not_forgotten() -> None:
    world = a_world()
    await sealing.admit(ground_of(world))
    await sealing.seal_old(ground_of(world), forget)
    task = await made(world, type="function", config={"function_name": "processData"})
    run = await executions.execute_task(world.means, BOSS, task.id, Order(parameters={"token": CANARY}))
    turned = ground_of(world, SECOND, FIRST)
    assert not await sealing.is_whole(turned)
    first = await sealing.rotate(turned)
    still = await sealing.is_whole(turned)
    await executions.cancel_execution(world.means, BOSS, run.id)
    later = await sealing.rotate(turned)

    assert first.needed == {FIRST.id}
    assert not still
    assert not later.needed
    assert await sealing.is_whole(turned)


async def test_a_lost_key_keeps_the_older_ones() -> None:
    world = World()
    await plain(world)
    await sealing.admit(ground_of(world))
    third = Key(b"3" * KEY_BYTES)
    await world.store.create_tasks([sealed_task(a_vault(third), a_task("t9", payload=FunctionPayload(
        function_name="f", parameters={"token": "x"})))])  # fmt: skip
    done = await sealing.rotate(ground_of(world, SECOND, FIRST))

    assert done.lost == 1
    assert await sealing.admit(ground_of(world, SECOND, FIRST)) == {FIRST.id, SECOND.id}


async def test_two_starts_at_once_agree_on_the_keys() -> None:
    world = World()
    records, ground = world.records, ground_of(world, SECOND)
    put, calls = records.put_record, [0]

    async def slow(record: Record, **words: Any) -> Record:
        calls[0] += 1
        if calls[0] == 1:
            await sealing.admit(replace(ground, vault=a_vault(FIRST)))
        return await put(record, **words)

    records.put_record = slow  # type: ignore[method-assign]
    with pytest.raises(BadConfiguration, match=FIRST.id):
        await sealing.admit(ground)


async def test_what_a_newer_version_notes_beside_the_keys_stays() -> None:
    world = World()
    await sealing.admit(ground_of(world, FIRST))
    (record,) = await world.records.list_records(VAULT, limit=1, now=world.clock.now())
    newer = replace(record, document=dict(record.document) | {"escrow": "theirs"})
    await world.records.put_record(newer, expected_revision=None, now=world.clock.now())

    await sealing.admit(ground_of(world, SECOND, FIRST))

    (after,) = await world.records.list_records(VAULT, limit=1, now=world.clock.now())
    assert after.document["escrow"] == "theirs"
    assert after.document["words"] != record.document["words"]
