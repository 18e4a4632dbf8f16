"""Owns what the tests of task words share; must not know any test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from peregrine.domain.draft import Limits, Making
from peregrine.domain.errors import Fault, Invalid
from peregrine.domain.ids import TaskId
from peregrine.domain.payload import FunctionPayload, JsonObject, Payload
from peregrine.domain.task import Task
from peregrine.testing.clock import START
from peregrine.wire.task_input import read_new_task, read_task_change

SEEDS = Path(__file__).parents[1] / "golden" / "seeds"


def sample(name: str) -> Any:
    """A body as the older documents show it, to the letter."""
    return json.loads((SEEDS / f"{name}.json").read_text(encoding="utf-8"))


def check(payload: Payload, parameters: JsonObject | None) -> Sequence[Fault]:
    if isinstance(payload, FunctionPayload) and payload.function_name != "processData":
        return [Fault("/config/function_name", "is not a registered function")]
    return ()


MAKING = Making(id=TaskId("t"), at=START, by="alice", check=check)


def made(document: Any, making: Making = MAKING) -> Task:
    return read_new_task(document, making)


def changed(document: Any, stored: Task, making: Making | None = None) -> Task:
    return read_task_change(document, stored, making or replace(MAKING, at=START + 60_000))


def pointers(document: Any, stored: Task | None = None, limits: Limits | None = None) -> list[str]:
    """Where the faults of *document* lie."""
    making = MAKING if limits is None else replace(MAKING, limits=limits)
    try:
        made(document, making) if stored is None else changed(document, stored, making)
    except Invalid as refused:
        return sorted(fault.pointer for fault in refused.faults)
    return []
