"""Owns the inside of a child process: it takes one call after another and answers each; must not know who waits.

What makes it stoppable and harmless, in the order it is set up:

1. *It can't outlive the service.* Three ropes, because each alone has a hole. The kernel kills it when the thread that
   started it dies (parent-death signal), but not what it started. The kernel kills its whole process group when the
   write end of the lifeline closes (signal-driven I/O, ``F_SETSIG`` with SIGKILL): no thread has to run for that, so
   code that holds the interpreter's lock can't prevent it. And a thread waits for the end of the lifeline and does the
   same by hand, for systems without the second.
2. *It gives way*: lower priority than the service (for schedulers that group by session too), first to go when memory
   runs out, no core dump.
3. *SIGTERM unwinds*: ``Cancelled`` is raised in the function, so its ``finally`` blocks run. Who ignores that is killed
   by the service, with the whole group.

Light on purpose: every import here is paid at each start of a child.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import FrameType
from typing import Final, TextIO, cast

from peregrine.domain.payload import JsonObject
from peregrine.executors.answer import Answer, Veil, answer_of, answer_of_error
from peregrine.executors.callables import FUNCTIONS, Function, visit
from peregrine.executors.context import Cancelled, Context, Facts, LineFormatter, frames, summary
from peregrine.executors.frames import Unpacker, pack
from peregrine.executors.hearing import Gate

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_OOM_SCORE: Final = "500"


def main() -> None:
    """The life of a child. Arguments: control socket, lifeline, the service's pid, niceness."""
    control_fd, lifeline_fd, parent, nice = (int(each) for each in sys.argv[1:5])
    _tie_to_parent(parent, lifeline_fd)
    _give_way(nice)
    stop = _Stop()
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGTERM, stop)
    said = _open_output()
    channel = _Channel(socket.socket(fileno=control_fd))
    if _is_ready(channel):
        while (request := channel.receive()) is not None:
            with stop.while_calling():
                answer = _answer(request, channel, said, stop)
            _flush(said)
            channel.send({"answer": answer.encode(), "is_spent": answer.crashed or _has_children()})


class _Stop:
    """What SIGTERM does: unwind the call that runs, or end the child that waits for one."""

    def __init__(self) -> None:
        self.is_told = False
        self._is_calling = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self.is_told = True
        raise Cancelled if self._is_calling else SystemExit(0)

    @contextmanager
    def while_calling(self) -> Iterator[None]:
        # An earlier call may have set another handler.
        signal.signal(signal.SIGTERM, self)
        self._is_calling = True
        try:
            yield
        finally:
            self._is_calling = False
            if self.is_told:
                _die_of(signal.SIGTERM)


class _Channel:
    """The child's end of the control socket."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._unpacker = Unpacker()
        self._lock = threading.Lock()

    def receive(self) -> JsonObject | None:
        """The next message; None when the service hung up."""
        while (message := self._unpacker.take()) is None:
            piece = self._control.recv(65536)
            if not piece:
                return None
            self._unpacker.feed(piece)
        return message

    def send(self, message: JsonObject) -> None:
        # A function's own threads may report progress too.
        with self._lock:
            self._control.sendall(pack(message))


class _ChildVoice:
    """How a function in this process is heard: log lines go the way of its prints, so their order is kept."""

    def __init__(self, channel: _Channel, said: TextIO, stop: _Stop, seconds: float) -> None:
        self._channel = channel
        self._said = said
        self._stop = stop
        self._ends_at = time.monotonic() + seconds
        self._gate = Gate()
        self._held: tuple[float, str] | None = None
        self._is_over = False

    def log(self, line: str) -> None:
        if not self._is_over:
            self._said.write(f"{line}\n")

    def progress(self, fraction: float, text: str) -> None:
        self._held = (fraction, text)
        if self._gate.opens():
            self._flush()

    def close(self) -> None:
        """Send the newest progress, if it was held back; a thread that goes on has nothing more to say."""
        self._flush()
        self._is_over = True

    def _flush(self) -> None:
        if self._held is not None and not self._is_over:
            self._channel.send({"progress": [self._held[0], self._held[1]]})
            self._held = None

    def remaining(self) -> float:
        return self._ends_at - time.monotonic()

    def is_cancelled(self) -> bool:
        return self._stop.is_told


def _is_ready(channel: _Channel) -> bool:
    modules = (channel.receive() or {}).get("modules", [])
    try:
        for module in cast("list[str]", modules):
            visit(module)
    except Exception as error:
        channel.send({"failed": "; ".join([summary(error), *frames(error)[-3:]])})
        return False
    channel.send({"ready": True})
    return True


def _answer(request: JsonObject, channel: _Channel, said: TextIO, stop: _Stop) -> Answer:
    """What the call that *request* describes came to, whatever it raised."""
    parameters = cast("JsonObject", request["parameters"])
    veil = Veil(parameters)
    voice = _ChildVoice(channel, said, stop, cast("float", request["remaining"]))
    memory = cast("int | None", request["memory_max_bytes"])
    try:
        with _bounded(memory):
            if request["target"] == "command":
                from peregrine.executors.command import run_command

                answer = run_command(parameters, veil)
            else:
                value = _call(request, parameters, Context(Facts(**request["facts"]), voice))  # type: ignore[arg-type]
                answer = answer_of(value, veil)
    except MemoryError as error:
        # To the house this is a crash: the next attempt will want as much, and others may suffer.
        limit = f": more than {memory >> 20} MiB on top of the idle process" if memory else ""
        answer = replace(answer_of_error(error, veil), error=f"out of memory{limit}", crashed=True)
    except BaseException as error:
        answer = answer_of_error(error, veil)
    voice.close()
    return answer


def _call(request: JsonObject, parameters: JsonObject, context: Context) -> object:
    function = _found(cast("str", request["module"]), cast("str", request["name"]), cast("str", request["home"]))
    arguments, faults = function.signature.read(parameters)
    assert not faults, faults  # The service has checked them by the same signature.
    given = [context] if function.signature.takes_context else []
    if function.is_async:
        import asyncio

        return asyncio.run(function.call(*given, **arguments))
    return function.call(*given, **arguments)


def _found(module: str, name: str, home: str) -> Function:
    found = FUNCTIONS.get(module, name)
    if found is None:
        visit(home)
        found = FUNCTIONS.get(module, name)
    if found is None:
        raise LookupError(f"importing {home} registers no function {name!r} in a child process")
    return found


# ── ropes and limits ─────────────────────────────────────────────────────────────────────────────


def _tie_to_parent(parent: int, lifeline_fd: int) -> None:
    import ctypes

    with suppress(OSError, AttributeError):
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        # What a function started and forgot becomes ours, so it can be noticed at the end of the call.
        prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    with suppress(OSError, AttributeError, ImportError):
        import fcntl

        fcntl.fcntl(lifeline_fd, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline_fd, fcntl.F_SETSIG, signal.SIGKILL)  # type: ignore[attr-defined, unused-ignore]
        fcntl.fcntl(lifeline_fd, fcntl.F_SETFL, fcntl.fcntl(lifeline_fd, fcntl.F_GETFL) | os.O_ASYNC)
    threading.Thread(target=_die_with_parent, args=(lifeline_fd,), name="lifeline", daemon=True).start()


def _die_with_parent(lifeline_fd: int) -> None:
    with suppress(OSError):
        os.read(lifeline_fd, 1)
    os.killpg(0, signal.SIGKILL)


def _give_way(nice: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):
        os.nice(nice)
    # Where the scheduler groups by session, niceness only counts inside a group; this is the group's own.
    for path, value in (("/proc/self/autogroup", str(nice)), ("/proc/self/oom_score_adj", _OOM_SCORE)):
        with suppress(OSError), open(path, "w", encoding="ascii") as file:
            file.write(value)


@contextmanager
def _bounded(memory_max_bytes: int | None) -> Iterator[None]:
    """Bound the address space to what it is now plus *memory_max_bytes*, until the block ends.

    An absolute bound would say little: an idle interpreter with a few libraries maps hundreds of MiB it never touches.
    """
    used = _address_space() if memory_max_bytes else None
    if memory_max_bytes is None or used is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = used + memory_max_bytes
    bounds = [each for each in (wanted, soft, hard) if each != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(bounds), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _address_space() -> int | None:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return None


def _has_children() -> bool:
    """Whether the call left processes behind, running or ended."""
    if not hasattr(os, "waitid"):
        return False
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _die_of(signum: signal.Signals) -> None:
    """End as if *signum* had never been caught, so that whoever waits reads the true cause."""
    with suppress(Exception):
        sys.stdout.flush()
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)


# ── what is printed ──────────────────────────────────────────────────────────────────────────────


def _open_output() -> TextIO:
    """One stream for prints, errors and log lines, so that they come in the order they were said."""
    said = open(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stdout = sys.stderr = said
    outlet = logging.StreamHandler(said)
    outlet.setFormatter(LineFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[outlet])
    threading.excepthook = _report_thread(said)
    return said


def _report_thread(said: TextIO) -> Callable[[threading.ExceptHookArgs], None]:
    def report(failed: threading.ExceptHookArgs) -> None:
        error = failed.exc_value
        if error is not None:
            said.write(f"a thread ended with {summary(error)} ({'; '.join(frames(error))})\n")

    return report


def _flush(said: TextIO) -> None:
    for stream in {sys.stdout, sys.stderr, said}:
        with suppress(Exception):
            stream.flush()
