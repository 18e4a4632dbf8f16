"""Executors of the host's: registered by name, held to their schema; and the one that ships, `command`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from peregrine import Context, PermanentError, executor
from peregrine.domain.errors import BadConfiguration
from peregrine.domain.execution import AttemptOutcome, Outcome
from peregrine.domain.payload import CustomPayload, JsonObject
from peregrine.executors.command import CommandSettings
from peregrine.executors.custom import Custom, CustomExecutor, CustomRegistry, command
from peregrine.executors.isolation import ChildProcesses, IsolationSettings
from peregrine.testing.executor_contract import ExampleContext, HostClock, example_context
from tests.executors.processes import descendants, doorbell, is_running, until

SCHEMA: JsonObject = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "pattern": "^[a-z]+$"},
        "limits": {"type": "array", "items": {"type": "integer", "minimum": 1}},
        "token": {"type": "string"},
    },
    "required": ["query"],
    "additionalProperties": False,
}


def asked(name: str, **parameters: Any) -> tuple[CustomPayload, ExampleContext]:
    payload = CustomPayload(executor=name, parameters=parameters)
    return payload, example_context(payload, HostClock())


@pytest.fixture
def registry() -> CustomRegistry:
    return CustomRegistry()


@pytest.fixture
def customs(registry: CustomRegistry) -> CustomExecutor:
    return CustomExecutor(registry, clock=HostClock())


# ── registering ──────────────────────────────────────────────────────────────────────────────────


def test_a_coroutine_is_registered_and_described(registry: CustomRegistry) -> None:
    @executor("sql", schema=SCHEMA, registry=registry)
    async def run_sql(parameters: JsonObject, context: Context) -> str:
        """Asks a database."""
        return ""

    assert [custom.described() for custom in registry] == [
        {"executor": "sql", "description": "Asks a database.", "parameters": SCHEMA}
    ]


async def nothing(parameters: JsonObject, context: Context) -> None: ...
async def nothing_else(parameters: JsonObject, context: Context) -> None: ...


def register_anything(name: Any, work: Any, registry: CustomRegistry) -> object:
    return executor(name, registry=registry)(work)


@pytest.mark.parametrize(
    ("register", "said"),
    [
        (lambda registry: register_anything("x", print, registry), "must be an `async def`"),
        (lambda registry: register_anything(nothing, nothing, registry), "name in brackets"),
        (lambda registry: executor("no/slash", registry=registry)(nothing), "must be letters"),
        (lambda registry: executor("x", schema={"type": "objekt"}, registry=registry)(nothing), "JSON Schema is wrong"),
        (lambda registry: executor("x", schema={"pattern": "("}, registry=registry)(nothing), "JSON Schema is wrong"),
        (
            lambda registry: executor("x", schema={"$ref": "http://127.0.0.1:1/s"}, registry=registry)(nothing),
            "nothing is fetched",
        ),
    ],
)
def test_a_wrong_registration_says_what_to_change(
    registry: CustomRegistry, register: Callable[[CustomRegistry], object], said: str
) -> None:
    with pytest.raises(BadConfiguration, match=said):
        register(registry)


def test_a_name_is_taken_once(registry: CustomRegistry) -> None:
    registry.add(Custom(name="x", work=nothing))
    registry.add(Custom(name="x", work=nothing))

    with pytest.raises(BadConfiguration, match="registered twice"):
        registry.add(Custom(name="x", work=nothing_else))


def test_packages_bring_executors_and_a_broken_one_harms_nobody(registry: CustomRegistry, tmp_path: Path) -> None:
    (tmp_path / "brought.py").write_text(
        "from peregrine.executors.custom import Custom\n"
        "async def work(parameters, context): return 'hi'\n"
        "good = Custom(name='brought', work=work)\n"
        "nothing = 5\n",
        encoding="utf-8",
    )
    sys.path.insert(0, str(tmp_path))
    points = [
        EntryPoint(name, value, "peregrine.executors")
        for name, value in [("a", "brought:good"), ("b", "brought:nothing"), ("c", "no_such_package:x")]
    ]
    try:
        failed = registry.load_entry_points(points)
    finally:
        sys.path.remove(str(tmp_path))
        del sys.modules["brought"]

    assert registry.get("brought") is not None
    assert len(failed) == 2
    assert "names neither" in failed[0]
    assert "No module named 'no_such_package'" in failed[1]
    assert CustomRegistry().load_entry_points() == []


# ── checking and running ─────────────────────────────────────────────────────────────────────────


def test_every_fault_has_its_place_and_repeats_no_value(registry: CustomRegistry, customs: CustomExecutor) -> None:
    registry.add(Custom(name="sql", work=nothing, schema=SCHEMA))
    payload, _ = asked("sql", **{"limits": [1, 0, "x"], "token": 5, "a/b": 1})

    faults = {fault.pointer: fault.message for fault in customs.check(payload)}

    assert faults == {
        "/config/parameters/limits/1": "the value is less than the minimum of 1",
        "/config/parameters/limits/2": 'the value is not of type "integer"',
        "/config/parameters/token": 'the value is not of type "string"',
        "/config/parameters/a~1b": "is not a known parameter",
        "/config/parameters/query": "is required",
    }


def test_parameters_of_one_run_are_checked_together_with_the_stored(
    registry: CustomRegistry, customs: CustomExecutor
) -> None:
    registry.add(Custom(name="sql", work=nothing, schema=SCHEMA))
    payload, _ = asked("sql", query="abc")

    assert not customs.check(payload, {"limits": [5]})
    assert [fault.pointer for fault in customs.check(payload, {"query": "A"})] == ["/config/parameters/query"]


async def test_an_unknown_executor_is_refused_twice(registry: CustomRegistry, customs: CustomExecutor) -> None:
    registry.add(Custom(name="sql", work=nothing))
    payload, context = asked("sqll")

    assert [(fault.pointer, "did you mean 'sql'?" in fault.message) for fault in customs.check(payload)] == [
        ("/config/executor", True)
    ]
    outcome = await customs.run(payload, context)
    assert outcome.verdict is AttemptOutcome.FAILED
    assert not outcome.retryable


async def test_what_the_work_returns_or_raises_is_the_outcome(
    registry: CustomRegistry, customs: CustomExecutor
) -> None:
    @executor("echo", registry=registry)
    async def echo(parameters: JsonObject, context: Context) -> object:
        context.log(f"token {parameters.get('token')} in {context.execution_id}")
        context.progress(0.5, "half")
        match parameters["how"]:
            case "outcome":
                return Outcome(verdict=AttemptOutcome.FAILED, error=f"bad {parameters['token']}", retryable=False)
            case "raise":
                raise PermanentError("never")
            case _:
                return {"how": parameters["how"]}

    payload, context = asked("echo", how="plain", token="a-secret-value")
    plain = await customs.run(payload, context)
    raised = await customs.run(*asked("echo", how="raise"))
    own = await customs.run(*asked("echo", how="outcome", token="a-secret-value"))

    assert json.loads(plain.output) == {"how": "plain"}
    assert context.lines == ["token *** in execution-1"]
    assert context.steps == [(0.5, "half")]
    assert (raised.error, raised.retryable) == ("PermanentError: never", False)
    assert (own.error, own.retryable) == ("bad ***", False)


# ── command ──────────────────────────────────────────────────────────────────────────────────────

SETTINGS = CommandSettings(allow=(sys.executable, "/bin/sh", "/no/such/program"))


@pytest.fixture(scope="module")
async def commands() -> AsyncIterator[CustomExecutor]:
    children = ChildProcesses(IsolationSettings(idle_min=0, grace=300))
    registry = CustomRegistry()
    registry.add(command(children, SETTINGS))
    registry.add(replace(command(children, replace(SETTINGS, memory_max_bytes=256 << 20)), name="bounded"))
    try:
        yield CustomExecutor(registry, clock=HostClock())
    finally:
        await children.close()


async def run_python(commands: CustomExecutor, program: str, *arguments: str, **more: Any) -> Outcome:
    return await commands.run(*asked("command", argv=[sys.executable, "-c", program, *arguments], **more))


def found(settings: CommandSettings, **parameters: Any) -> dict[str, str]:
    registry = CustomRegistry()
    registry.add(command(ChildProcesses(), settings))
    faults = CustomExecutor(registry, clock=HostClock()).check(asked("command", **parameters)[0])
    return {fault.pointer.removeprefix("/config"): fault.message for fault in faults}


def test_it_is_off_unless_programs_are_listed() -> None:
    assert found(CommandSettings(), argv=["/bin/ls"]) == {
        "/parameters": "commands are switched off: an operator has to list the programs that tasks may run"
    }
    with pytest.raises(BadConfiguration, match="not an absolute path"):
        CommandSettings(allow=("ls",))
    with pytest.raises(BadConfiguration, match="not an absolute path"):
        CommandSettings(allow=("/bin/../bin/ls",))


@pytest.mark.parametrize(
    ("parameters", "pointer"),
    [
        ({}, "/parameters/argv"),
        ({"argv": []}, "/parameters/argv"),
        ({"argv": "/bin/sh -c id"}, "/parameters/argv"),
        ({"argv": ["/bin/sh", 5]}, "/parameters/argv/1"),
        ({"argv": ["sh"]}, "/parameters/argv/0"),
        ({"argv": ["/bin/../bin/sh"]}, "/parameters/argv/0"),
        ({"argv": ["/bin/sh", "a\0b"]}, "/parameters/argv/1"),
        ({"argv": ["/bin/sh"], "env": {"LD_PRELOAD": "/tmp/x.so"}}, "/parameters/env/LD_PRELOAD"),
        ({"argv": ["/bin/sh"], "env": {"TZ": 5}}, "/parameters/env/TZ"),
        ({"argv": ["/bin/sh"], "expected_exit": [256]}, "/parameters/expected_exit/0"),
        ({"argv": ["/bin/sh"], "shell": True}, "/parameters/shell"),
    ],
)
def test_what_is_not_allowed_is_refused(parameters: dict[str, Any], pointer: str) -> None:
    assert set(found(SETTINGS, **parameters)) == {pointer}


async def test_arguments_arrive_as_they_are(commands: CustomExecutor) -> None:
    arguments = ["$HOME", "; id", "a b", "", "*", "ü"]

    outcome = await run_python(commands, "import sys, json; print(json.dumps(sys.argv[1:]))", *arguments)

    assert json.loads(outcome.output) == arguments
    assert outcome.detail == {"exit_code": 0}


async def test_it_sees_nothing_of_the_service(commands: CustomExecutor) -> None:
    os.environ["SCHEDULER_PROOF_SECRET"] = "x"
    try:
        program = (
            "import os, sys; print(sorted(os.environ), os.getcwd(), os.listdir('/proc/self/fd'), sys.stdin.read())"
        )
        outcome = await run_python(commands, program, env={"TZ": "UTC"})
    finally:
        del os.environ["SCHEDULER_PROOF_SECRET"]

    # The fourth descriptor is the listing itself.
    names, rest = outcome.output.split("] ", 1)
    assert set(names.strip("[").replace("'", "").split(", ")) <= {"HOME", "LANG", "LC_CTYPE", "PATH", "TZ"}
    assert rest == "/ ['0', '1', '2', '3'] \n"


async def test_an_exit_code_is_judged(commands: CustomExecutor) -> None:
    bad = await run_python(commands, "import sys; print('why'); sys.exit(3)")
    good = await run_python(commands, "import sys; sys.exit(3)", expected_exit=[0, 3])
    killed = await run_python(commands, "import os; os.kill(os.getpid(), 11)")

    assert (bad.error, bad.output, bad.detail) == ("the program ended with exit code 3", "why\n", {"exit_code": 3})
    assert (good.error, good.detail) == (None, {"exit_code": 3})
    assert killed.error == "the program died: SIGSEGV"


async def test_a_program_that_is_not_there_is_no_reason_to_retry(commands: CustomExecutor) -> None:
    outcome = await commands.run(*asked("command", argv=["/no/such/program"]))

    assert outcome.error == "the program can't be started: No such file or directory"
    assert not outcome.retryable


async def test_output_is_cut_and_the_rest_drained(commands: CustomExecutor) -> None:
    outcome = await run_python(
        commands, "import sys\nfor _ in range(2000): print('x' * 1000)\nprint('e', file=sys.stderr)"
    )

    assert outcome.error is None
    assert outcome.truncated
    assert len(outcome.output) == 65_536


async def test_a_secret_argument_is_hidden(commands: CustomExecutor) -> None:
    settings = replace(SETTINGS, env_allow=("API_TOKEN",))
    children = ChildProcesses(IsolationSettings(idle_min=0))
    registry = CustomRegistry()
    registry.add(command(children, settings))
    payload, context = asked("command", argv=["/bin/sh", "-c", "echo $API_TOKEN"], env={"API_TOKEN": "s3cr3t-s3cr3t"})

    outcome = await CustomExecutor(registry, clock=HostClock()).run(payload, context)
    await children.close()

    assert outcome.output == "***\n"


async def test_memory_is_bounded(commands: CustomExecutor) -> None:
    program = "x = bytearray(512 << 20)"
    outcome = await commands.run(*asked("bounded", argv=[sys.executable, "-c", program]))

    assert "MemoryError" in outcome.output
    assert outcome.error == "the program ended with exit code 1"


RING = (
    "import os, socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
    "s.sendall(b'%d\\n' % os.getpid())"
)


@pytest.mark.parametrize("deaf", [False, True])
async def test_a_cancel_ends_the_program_and_all_it_started(commands: CustomExecutor, *, deaf: bool) -> None:
    program = (
        "import signal, subprocess, time\n"
        + ("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if deaf else "")
        + "subprocess.Popen(['/bin/sh', '-c', 'sleep 604; true'])\n"
        + f"{RING}\n"
        + "time.sleep(600)"
    )
    async with doorbell() as bell:
        before = descendants()
        payload, context = asked("command", argv=[sys.executable, "-c", program, bell.path])
        run = asyncio.create_task(commands.run(payload, context))
        pid = await bell.rung()
        assert await until(lambda: any(line.startswith("sleep 604") for line in descendants().values()))
        family = descendants().keys() - before.keys()

        run.cancel()
        await asyncio.wait({run}, timeout=5)

        assert run.cancelled()
        assert await until(lambda: not any(map(is_running, family)))
        assert not is_running(pid)


async def test_a_daemon_does_not_hold_the_attempt(commands: CustomExecutor) -> None:
    """What the program leaves behind holds its output open; the attempt ends with the program all the same."""
    outcome = await commands.run(*asked("command", argv=["/bin/sh", "-c", "sleep 605 & echo started"]))

    assert outcome.output == "started\n"
    assert await until(lambda: not any(line.startswith("sleep 605") for line in descendants().values()))
