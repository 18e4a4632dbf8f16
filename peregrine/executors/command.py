"""Owns the one custom executor that comes with the house: a program with arguments; must not know a shell.

Off unless an operator lists the programs, by absolute path. It runs inside a child process of the pool, so all that
stops a function stops a command: its group is told, then killed; it can't outlive the service; it gives way.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, cast

from peregrine.domain.errors import BadConfiguration, Fault
from peregrine.domain.payload import JsonObject
from peregrine.executors.answer import OUTPUT_BYTES_MAX, Answer, cut
from peregrine.executors.context import Cancelled

ARGUMENTS_MAX: Final = 256
ARGUMENT_CHARS_MAX: Final = 32 * 1024
VARIABLES_MAX: Final = 64
OFF: Final = "commands are switched off: an operator has to list the programs that tasks may run"
SCHEMA: Final[JsonObject] = {
    "type": "object",
    "properties": {
        "argv": {
            "description": "the program by its absolute path, then its arguments; no shell reads them",
            "type": "array",
            "items": {"type": "string", "maxLength": ARGUMENT_CHARS_MAX},
            "minItems": 1,
            "maxItems": ARGUMENTS_MAX,
        },
        "env": {
            "description": "variables on top of PATH, HOME and LANG; the operator lists the names allowed",
            "type": "object",
            "additionalProperties": {"type": "string", "maxLength": ARGUMENT_CHARS_MAX},
            "maxProperties": VARIABLES_MAX,
        },
        "expected_exit": {
            "description": "exit codes that mean success",
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": 255},
            "minItems": 1,
            "maxItems": 256,
        },
    },
    "required": ["argv"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSettings:
    """What commands may do. ``allow`` empty: nothing. Whoever allows a shell or an interpreter allows everything."""

    allow: tuple[str, ...] = ()
    env_allow: tuple[str, ...] = ("LC_ALL", "TZ")
    search_path: str = "/usr/local/bin:/usr/bin:/bin"
    memory_max_bytes: int | None = None

    def __post_init__(self) -> None:
        for program in self.allow:
            if not PurePosixPath(program).is_absolute() or ".." in PurePosixPath(program).parts:
                raise BadConfiguration(f"command allow-list: {program!r} is not an absolute path")
        if self.memory_max_bytes is not None and not hasattr(resource, "prlimit"):
            raise BadConfiguration("the memory of commands can't be bounded on this system")


def faults_of(parameters: JsonObject, settings: CommandSettings) -> Iterator[Fault]:
    """What is wrong with *parameters* that fit the schema."""
    argv, env = _argv(parameters), _env(parameters)
    if not settings.allow:
        yield Fault("", OFF)
    elif argv[0] not in settings.allow:
        yield Fault("/argv/0", "is not on the allow-list of programs")
    for place, argument in enumerate(argv):
        if "\0" in argument:
            yield Fault(f"/argv/{place}", "must not hold a NUL character")
    for name, value in env.items():
        if name not in settings.env_allow:
            yield Fault(f"/env/{name.replace('~', '~0').replace('/', '~1')}", "is not a variable that tasks may set")
        elif "\0" in value:
            yield Fault(f"/env/{name}", "must not hold a NUL character")


def request_of(parameters: JsonObject, settings: CommandSettings) -> JsonObject:
    """What a child process is asked to run."""
    env: JsonObject = {"PATH": settings.search_path, "HOME": "/", "LANG": "C.UTF-8"}
    return {
        "argv": [*_argv(parameters)],
        "env": {**env, **_env(parameters)},
        "expected_exit": parameters.get("expected_exit", [0]),
        "memory_max_bytes": settings.memory_max_bytes,
    }


def _argv(parameters: JsonObject) -> list[str]:
    return cast("list[str]", parameters["argv"])


def _env(parameters: JsonObject) -> dict[str, str]:
    return cast("dict[str, str]", parameters.get("env", {}))


# ── inside the child process ─────────────────────────────────────────────────────────────────────


def run_command(request: JsonObject, veil: Callable[[str], str]) -> Answer:
    """What the program came to; its output and errors as one text."""
    argv = _argv(request)
    try:
        program = subprocess.Popen(
            argv, env=_env(request), cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except OSError as error:
        return Answer(error=f"the program can't be started: {error.strerror}", retryable=False)
    try:
        _bound(program.pid, cast("int | None", request["memory_max_bytes"]))
        said, is_whole = _drained(program)
        code = program.wait()
    except Cancelled:
        # It was told as well: the whole group was. What does not listen is killed by the service.
        program.wait()
        raise
    output, truncated = cut(veil(said.decode("utf-8", "replace")))
    return Answer(
        output=output,
        truncated=truncated or not is_whole,
        error=_error_of(code, request),
        exit_code=code if code >= 0 else None,
    )


def _error_of(code: int, request: JsonObject) -> str | None:
    if code < 0:
        with suppress(ValueError):
            return f"the program died: {signal.Signals(-code).name}"
        return f"the program died: signal {-code}"
    return None if code in cast("list[int]", request["expected_exit"]) else f"the program ended with exit code {code}"


def _bound(pid: int, memory_max_bytes: int | None) -> None:
    if memory_max_bytes is not None:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_AS, (memory_max_bytes, memory_max_bytes))


def _drained(program: subprocess.Popen[bytes]) -> tuple[bytes, bool]:
    """The first of what it printed, and whether that is all; the rest is read and dropped, so that it never waits.

    Ends with the program, even if something that it started holds its output open.
    """
    # Twice what is kept: hiding a secret may make the text shorter.
    room, is_whole, kept = 2 * OUTPUT_BYTES_MAX, True, bytearray()
    assert program.stdout is not None
    with program.stdout as output:
        poller = select.poll()
        poller.register(output, select.POLLIN)
        while poller.poll(50) or program.poll() is None:
            if not poller.poll(0):
                continue
            piece = os.read(output.fileno(), 65536)
            if not piece:
                break
            kept += piece[: room - len(kept)]
            is_whole = is_whole and len(kept) < room
    return bytes(kept), is_whole
