"""Where secrets are sealed and opened, and how a task's are: one place for who writes definitions and who runs them.

A definition holds sealed texts in place of its secrets wherever it goes: through use cases, stores, backups. Whatever
their type was, they are sealed as JSON, so a sealed secret is a text. A text belongs to one task and one place in it;
moved elsewhere it can't be opened.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from peregrine.domain.ids import TaskId
from peregrine.domain.payload import HttpPayload, JsonObject, JsonValue, Payload
from peregrine.domain.redaction import Change, payload_with_secrets, with_secrets
from peregrine.domain.task import Task

SEAL: Final = "sealed:v1:"
"""How a sealed text begins; the id of its key and a colon follow. No character of it needs escaping in an address."""
RUN: Final = "/parameters"
"""The parameters of one run stand over the stored ones, so their places are the same."""


class CannotOpen(Exception):
    """A sealed text can't be opened; the words say why and hold nothing of it."""


class Vault(Protocol):
    """Seals texts with its newest key, and opens what one of its keys has sealed."""

    @property
    def key_id(self) -> str:
        """The newest key's; what it seals says so."""
        ...

    def knows(self, key_id: str) -> bool:
        """Whether it can open what that key has sealed."""
        ...

    def seal(self, text: str, *, place: str) -> str:
        """*text*, sealed for *place*; each time another one."""
        ...

    def open(self, sealed: str, *, place: str) -> str:
        """What was sealed. Raises CannotOpen: an unknown key, another place, or not a letter as it was."""
        ...


def is_sealed(value: JsonValue) -> bool:
    """Whether *value* looks like a sealed text."""
    return isinstance(value, str) and value.startswith(SEAL)


def key_of(value: JsonValue) -> str:
    """The id of the key that sealed *value*; empty if it is not sealed."""
    return str(value).removeprefix(SEAL).partition(":")[0] if is_sealed(value) else ""


# ── tasks ────────────────────────────────────────────────────────────────────────────────────────


def sealed_task(vault: Vault | None, task: Task, *, over: Task | None = None) -> Task:
    """*task* with its secrets sealed. What is in the same place of *over*, sealed, and has not changed, stays so."""
    if vault is None:
        return task
    kept: dict[str, JsonValue] = {}
    if over is not None:
        payload_with_secrets(over.payload, _noting(kept))
    return replace(task, payload=payload_with_secrets(task.payload, _sealing(vault, task.id, kept)))


def opened_task(vault: Vault | None, task: Task) -> Task:
    """*task* in plain words, for whoever changes it; what can't be opened stays sealed."""
    if vault is None:
        return task
    opening = _opening(vault, task.id)

    def change(value: JsonValue, place: str) -> JsonValue:
        try:
            return opening(value, place)
        except CannotOpen:
            return value

    return replace(task, payload=payload_with_secrets(task.payload, change))


def sealed_parameters(vault: Vault | None, task_id: TaskId, parameters: JsonObject | None) -> JsonObject | None:
    """What a run of *task_id* is given, its secrets sealed."""
    if vault is None or parameters is None:
        return parameters
    return with_secrets(parameters, _sealing(vault, task_id, {}), at=RUN)


def opened_parameters(vault: Vault | None, task_id: TaskId, parameters: JsonObject | None) -> JsonObject | None:
    """What a run is given, in plain words. Raises CannotOpen."""
    return None if parameters is None else with_secrets(parameters, _opening(vault, task_id), at=RUN)


def opened_payload(vault: Vault | None, task_id: TaskId, payload: Payload) -> Payload:
    """*payload* as it is run; itself if nothing in it is sealed. Raises CannotOpen."""
    if isinstance(payload, HttpPayload) and SEAL not in payload.url and not any(SEAL in v for _, v in payload.headers):
        return payload
    return payload_with_secrets(payload, _opening(vault, task_id))


def resealed_task(vault: Vault, task: Task) -> tuple[Task, int]:
    """*task* with each secret sealed by the newest key, and how many can't be opened: those stay as they are."""
    opening, lost = _opening(vault, task.id), []

    def change(value: JsonValue, place: str) -> JsonValue:
        if key_of(value) == vault.key_id:
            return value
        try:
            return _sealed(vault, task.id, opening(value, place), place)
        except CannotOpen:
            lost.append(place)
            return value

    return replace(task, payload=payload_with_secrets(task.payload, change)), len(lost)


def keys_of(parameters: JsonObject | None) -> frozenset[str]:
    """The ids of the keys that sealed the secrets of a run."""
    found: dict[str, JsonValue] = {}
    with_secrets(parameters or {}, _noting(found))
    return frozenset(key for value in found.values() if (key := key_of(value)))


def _sealing(vault: Vault, task_id: TaskId, kept: dict[str, JsonValue]) -> Change:
    opening = _opening(vault, task_id)

    def change(value: JsonValue, place: str) -> JsonValue:
        before = kept.get(place)
        if is_sealed(before) and (value == before or _is(value, lambda: opening(before, place))):
            return before
        return _sealed(vault, task_id, value, place)

    return change


def _is(value: JsonValue, read: Callable[[], JsonValue]) -> bool:
    try:
        return _text(read()) == _text(value)
    except CannotOpen:
        return False


def _sealed(vault: Vault, task_id: TaskId, value: JsonValue, place: str) -> str:
    return vault.seal(_text(value), place=f"{task_id}{place}")


def _text(value: JsonValue) -> str:
    return json.dumps(value, separators=(",", ":"))


def _opening(vault: Vault | None, task_id: TaskId) -> Change:
    def change(value: JsonValue, place: str) -> JsonValue:
        if not is_sealed(value):
            return value
        if vault is None:
            raise CannotOpen(f"{place} is sealed, and there is no key here")
        try:
            opened: JsonValue = json.loads(vault.open(str(value), place=f"{task_id}{place}"))
        except CannotOpen as reason:
            raise CannotOpen(f"{place} can't be opened: {reason}") from None
        return opened

    return change


def _noting(found: dict[str, JsonValue]) -> Change:
    def change(value: JsonValue, place: str) -> JsonValue:
        found[place] = value
        return value

    return change
