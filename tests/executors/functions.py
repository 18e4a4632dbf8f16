# ruff: noqa: T201 - what a function prints is heard by the service
"""Owns the functions that tests call, by a name that child processes can import too; must not know what is proven.

Every child imports this file: what only one function needs is imported inside it.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from enum import Enum
from typing import Any, Literal

from peregrine import Context, PermanentError, RetryLater, function

MODULE = "proof"


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


def say_hello_at(path: str) -> None:
    """Tell the test, over its socket, that the function is at work, and as which process."""
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(path)
        caller.sendall(f"{os.getpid()}\n".encode())


def hang() -> None:
    while True:
        time.sleep(60)  # not a wait: this is what must be stopped


# ── the behaviours of the conformance suite, once for each place ─────────────────────────────────


def _succeed() -> str:
    return "all is well"


def _fail() -> None:
    raise RuntimeError("the other side is unwell")


def _flood() -> str:
    return "flood " * 60_000


def _leak(context: Context, token: str) -> str:
    print(f"the token is {token}")
    context.log(f"logging {token}")
    context.logger.warning("warning of %s", token)
    context.progress(0.5, f"half of {token}")
    return f"it was {token}, or {{'token': '{token}'}}"


def _leak_and_fail(context: Context, token: str) -> None:
    _leak(context, token)
    raise RuntimeError(f"no access with {token}")


@function("succeed", module="proof")
def succeed() -> str:
    return _succeed()


@function("fail", module="proof")
def fail() -> None:
    _fail()


@function("flood", module="proof")
def flood() -> str:
    return _flood()


@function("leak", module="proof")
def leak(context: Context, token: str) -> str:
    return _leak(context, token)


@function("leak_and_fail", module="proof")
def leak_and_fail(context: Context, token: str) -> None:
    _leak_and_fail(context, token)


@function("hang", module="proof")
def hang_in_process(path: str) -> None:
    say_hello_at(path)
    hang()


@function("crash", module="proof")
def crash() -> None:
    os._exit(7)


@function("succeed", module="proof.thread", isolation="thread")
def succeed_in_thread() -> str:
    return _succeed()


@function("fail", module="proof.thread", isolation="thread")
def fail_in_thread() -> None:
    _fail()


@function("flood", module="proof.thread", isolation="thread")
def flood_in_thread() -> str:
    return _flood()


@function("leak", module="proof.thread", isolation="thread")
def leak_in_thread(context: Context, token: str) -> str:
    return _leak(context, token)


@function("leak_and_fail", module="proof.thread", isolation="thread")
def leak_and_fail_in_thread(context: Context, token: str) -> None:
    _leak_and_fail(context, token)


@function("hang", module="proof.thread", isolation="thread")
def hang_in_thread(context: Context, path: str) -> None:
    say_hello_at(path)
    while True:
        context.raise_if_cancelled()
        threading.Event().wait(0.005)


@function("succeed", module="proof.async")
async def succeed_on_loop() -> str:
    import asyncio

    await asyncio.sleep(0)
    return _succeed()


@function("fail", module="proof.async")
async def fail_on_loop() -> None:
    _fail()


@function("flood", module="proof.async")
async def flood_on_loop() -> str:
    return _flood()


@function("leak", module="proof.async")
async def leak_on_loop(context: Context, token: str) -> str:
    return _leak(context, token)


@function("leak_and_fail", module="proof.async")
async def leak_and_fail_on_loop(context: Context, token: str) -> None:
    _leak_and_fail(context, token)


@function("hang", module="proof.async")
async def hang_on_loop(path: str) -> None:
    import asyncio

    say_hello_at(path)
    await asyncio.Event().wait()


# ── parameters and results ───────────────────────────────────────────────────────────────────────


@function()
def take_all(
    limit: int,
    name: str,
    ratio: float = 0.5,
    flag: bool = False,  # noqa: FBT001 - a task's parameter, always passed by name
    numbers: list[int] | None = None,
    labels: dict[str, str] | None = None,
    mode: Literal["fast", "slow"] = "fast",
    colour: Colour = Colour.RED,
    free: Any = None,
) -> dict[str, Any]:
    return {
        "limit": limit,
        "name": name,
        "ratio": ratio,
        "flag": flag,
        "numbers": numbers,
        "labels": labels,
        "mode": mode,
        "colour": colour.name,
        "free": free,
    }


@function()
def tell(context: Context) -> dict[str, Any]:
    return {
        "execution_id": context.execution_id,
        "idempotency_key": context.idempotency_key,
        "task_id": context.task_id,
        "attempt": context.attempt,
        "epoch": context.epoch,
        "scheduled_for": context.scheduled_for,
        "has_time": 0 < context.deadline <= 60,
        "cancelled": context.cancelled,
    }


@function()
def speak(context: Context) -> None:
    print("printed")
    context.log("logged")
    context.logger.info("at %s", "info")
    print("to stderr", file=sys.stderr)
    logging.getLogger("some.library").warning("from a library")
    os.write(1, b"from below\n")
    try:
        raise KeyError("inner")
    except KeyError:
        context.logger.exception("caught")
    context.progress(0.25, "a quarter")
    context.progress(1, "done")
    print("no newline at the end", end="")


@function()
def return_odd_things(which: Literal["none", "bytes", "nan", "object", "surrogate", "set"]) -> object:
    return {
        "none": None,
        "bytes": b"\x00\xff",
        "nan": float("nan"),
        "object": object,
        "surrogate": "lone \ud800 half",
        "set": {1},
    }[which]


@function()
def give_up() -> None:
    raise PermanentError("no such customer")


@function()
def ask_for_time() -> None:
    raise RetryLater(after=90.5)


@function()
def fail_deep(depth: int) -> None:
    if depth:
        fail_deep(depth - 1)
    with open("/no/such/folder/at/all", encoding="utf-8"):
        pass


@function()
def leave_politely() -> None:
    sys.exit(3)


@function(isolation="process")
async def work_asynchronously(text: str) -> str:
    import asyncio

    await asyncio.sleep(0)
    return text[::-1]


# ── crashes and excesses ─────────────────────────────────────────────────────────────────────────


@function()
def segfault() -> None:
    import ctypes

    print("about to fall")
    ctypes.string_at(0)


@function(memory_max_bytes=64 << 20)
def eat_memory() -> None:
    eaten = []
    while True:
        eaten.append(bytearray(1 << 20))


@function(memory_max_bytes=64 << 20)
def eat_a_little() -> int:
    return len(bytearray(16 << 20))


@function()
def print_without_end(lines: int) -> str:
    for number in range(lines):
        print(f"line {number} ".ljust(200, "."))
    return "done"


@function()
def close_everything() -> None:
    os.closerange(3, 256)
    hang()


# ── stopping ─────────────────────────────────────────────────────────────────────────────────────


@function()
def spin(path: str) -> None:
    say_hello_at(path)
    while True:
        pass


@function()
def clean_up_when_stopped(context: Context, path: str) -> None:
    try:
        say_hello_at(path)
        hang()
    finally:
        context.log(f"cleaned up, cancelled is {context.cancelled}")


@function(isolation="process")
async def clean_up_a_coroutine_when_stopped(context: Context, path: str) -> None:
    import asyncio

    try:
        say_hello_at(path)
        await asyncio.Event().wait()
    finally:
        context.log(f"cleaned up, cancelled is {context.cancelled}")


@function()
def ignore_sigterm(path: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say_hello_at(path)
    hang()


@function()
def swallow_everything(path: str) -> None:
    is_known = False
    while True:
        try:
            if not is_known:
                is_known = True
                say_hello_at(path)
            hang()
        except BaseException:
            continue


@function()
def raise_a_family(path: str) -> None:
    """A child, a grandchild, one in a session of its own, and one forked without exec that holds every descriptor.

    Then it never lets go of the interpreter's lock, so that no other thread of this process can do anything.
    """
    import multiprocessing
    import re
    import subprocess

    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
    subprocess.Popen([sys.executable, "-c", program])
    subprocess.Popen(["sleep", "601"], start_new_session=True)
    multiprocessing.get_context("fork").Process(target=hang).start()
    say_hello_at(path)
    re.match("(a+)+$", "a" * 100 + "b")


@function()
def leave_a_process_behind() -> int:
    import subprocess

    return subprocess.Popen(["sleep", "602"]).pid


@function()
def leave_an_orphan_behind() -> int:
    import subprocess

    script = "sleep 603 > /dev/null 2>&1 & echo $!"
    ran = subprocess.run(["setsid", "sh", "-c", script], stdout=subprocess.PIPE, check=True, close_fds=True)
    return int(ran.stdout)


def not_registered() -> None: ...


@function(isolation="thread")
def sit_in_thread(path: str, release: str) -> str:
    """Heed nothing until the test calls at *release*."""
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(release)
        door.listen()
        say_hello_at(path)
        door.accept()[0].close()
    return "too late"


@function()
async def swallow_cancel(path: str) -> str:
    import asyncio

    say_hello_at(path)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return "I go on"
    return ""


@function()
async def cancel_something_else() -> None:
    import asyncio

    inner = asyncio.ensure_future(asyncio.Event().wait())
    inner.cancel()
    await inner


@function()
async def exit_on_loop() -> None:
    sys.exit(4)
