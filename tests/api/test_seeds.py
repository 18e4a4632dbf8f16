"""Every command line of the two older documents does what it did, letter by letter."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import httpx
import pytest

from tests.api.world import World
from tests.wire.words import SEEDS

pytestmark = pytest.mark.anyio

LINES = (SEEDS / "requests.txt").read_text().splitlines()
JQ = """'.executions[] | select(.error == "Task execution was cancelled")'"""


async def typed(world: World, line: str, task_id: str) -> httpx.Response:
    """The answer to a line as curl would send it; a line that shows no credentials gets some, as its text demands."""
    words = shlex.split(re.sub(r"task-id(-123)?", task_id, line.partition(" | ")[0]))
    assert words.pop(0) == "curl"
    method, headers = "GET", {}
    while len(words) > 1:
        option, value = words.pop(0), words.pop(0)
        if option == "-X":
            method = value
        else:
            assert option == "-H"
            name, _, text = value.replace("<token>", world.token("super_admin")).partition(": ")
            headers[name] = text
    public = words[0] in ("/scheduler/status", "/scheduler/stats")
    return await world.ask(method, words[0], headers=headers, groups=() if headers or public else ("super_admin",))


@pytest.mark.parametrize("line", LINES)
async def test_each_line_is_served(world: World, line: str) -> None:
    task = await world.task()

    answer = await typed(world, line, task["id"])

    assert answer.status_code == (202 if line.rstrip('"').endswith(("/execute", "/start")) else 200), answer.text
    assert answer.headers["content-type"] == "application/json"


async def test_the_lines_about_a_cancel_tell_one_story(world: World) -> None:
    """Trigger, stop, and look for what was cancelled: three lines that stand one behind the other."""
    task = await world.task()
    trigger, stop, look = LINES[-4], LINES[-2], LINES[-1]
    assert look.endswith(f"| jq {JQ}")
    id = (await typed(world, trigger, task["id"])).json()["execution_id"]

    await typed(world, stop, task["id"])
    found: list[dict[str, Any]] = [
        execution
        for execution in (await typed(world, look, task["id"])).json()["executions"]
        if execution["error"] == "Task execution was cancelled"
    ]

    wanted = json.loads((SEEDS / "cancelled_execution.json").read_text())
    (execution,) = found
    assert execution["id"] == id
    assert {name: execution[name] for name in wanted} | {"completed_at": wanted["completed_at"]} == wanted
    assert (await typed(world, "curl /scheduler/tasks/task-id", task["id"])).json()["status"] == "paused"
