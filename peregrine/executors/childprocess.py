"""Owns the service's side of one child process: start, call, stop, and nothing left afterwards; must not know the pool.

The child leads its own session and group, so a signal to the group reaches all it started. Its number stays ours until
it is waited for, so the group is always killed *before* that: a number reused by a stranger can't be hit.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Final, cast

from peregrine.domain.moment import SECOND, Duration
from peregrine.domain.payload import JsonObject
from peregrine.executors.answer import Answer
from peregrine.executors.frames import BrokenFrame, Unpacker, pack
from peregrine.executors.hearing import Hearing

_BOOT: Final = (
    "import sys; sys.argv, sys.path[:] = sys.argv[:5], sys.argv[5:]; from peregrine.executors.child import main; main()"
)
_PIPE_BYTES: Final = 65536
_RECESS: Final = 0.005
"""Seconds between looks at a child that prints more than is kept; it waits meanwhile, and the loop is free."""
_READS_AT_ONCE: Final = 16
_HANG_UP_WITHIN: Final = 1.0


class StartFailed(Exception):
    """A child process could not be started, or could not import the functions; the message says why."""


class ChildProcess:
    """One child process. Made on the running loop; ``stop`` must be awaited, whatever happened."""

    def __init__(self, *, nice: int, env: Mapping[str, str] | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._exited = asyncio.Event()
        self._talk = asyncio.Lock()
        self._unpacker = Unpacker()
        self._hearing: Hearing | None = None
        self._is_reading = False
        self._is_spent = False
        self.calls = 0
        try:
            self._popen, self._control, self._lifeline, self._output = _spawned(nice, env)
        except OSError as error:
            raise StartFailed(f"no function process could be started: {error.strerror}") from error
        self.pid = self._popen.pid
        self._control.setblocking(False)
        os.set_blocking(self._output, False)
        self._listen()
        self._watch_exit()

    @property
    def is_alive(self) -> bool:
        return not self._exited.is_set()

    @property
    def is_reusable(self) -> bool:
        """Whether another call may come: it lives, answers, and the last call left no process behind."""
        return self.is_alive and not self._is_spent

    async def ready(self, modules: tuple[str, ...]) -> None:
        """Return when the child has imported *modules* and waits for calls.

        Raises:  StartFailed.
        """
        try:
            async with self._talk:
                await self._send({"modules": list(modules)})
                message = await self._receive()
        except (OSError, BrokenFrame) as error:
            raise StartFailed(f"a function process did not start: {error}") from error
        if message is None:
            await self._exit_within(_HANG_UP_WITHIN)
            raise StartFailed(f"a function process died at its start: {self._cause()}")
        if "failed" in message:
            raise StartFailed(f"a function process could not import the functions: {message['failed']}")

    async def call(self, request: JsonObject, hearing: Hearing) -> Answer:
        """What the call came to; a child that died of it is an answer too. Only ``stop`` may follow a cancel."""
        self.calls += 1
        self._hearing = hearing
        try:
            async with self._talk:
                answer = await self._ask(request, hearing)
        except (OSError, BrokenFrame, KeyError, TypeError, ValueError):
            answer = None
        if answer is None:
            self._is_spent = True
            hung_up = not await self._exit_within(_HANG_UP_WITHIN)
            cause = "it closed its channel to the service" if hung_up else self._cause()
            answer = Answer(error=f"function process died: {cause}", crashed=True)
        self._end_hearing()
        return answer

    async def stop(self, grace: Duration) -> None:
        """Tell the whole group to end, wait *grace* milliseconds, kill what is left; then hold nothing any more."""
        strays = await self._strays()
        self._signal_group(signal.SIGTERM)
        if not await self._exit_within(grace / SECOND):
            strays += await self._strays()
            self.kill()
            await self._exited.wait()
        _kill_strays(strays)
        # Its death has ended every wait for a message; a socket must not be closed under one.
        async with self._talk:
            self._end_hearing()
            self._close()

    def kill(self) -> None:
        """Kill the whole group now; what it still says is not heard."""
        self._signal_group(signal.SIGKILL)

    def deafen(self) -> None:
        """Tell nobody what the child still says."""
        self._hearing = None

    async def _strays(self) -> list[int]:
        """Nothing for an idle child: a call that left a process behind spends it."""
        if not self.is_alive or (self._hearing is None and not self._is_spent):
            return []
        # Reading the process table takes 20 microseconds a process: too long for the loop where there are thousands.
        return await asyncio.to_thread(_strays_of, self.pid)

    # ── messages ─────────────────────────────────────────────────────────────────────────────────

    async def _ask(self, request: JsonObject, hearing: Hearing) -> Answer | None:
        await self._send(request)
        while (message := await self._receive()) is not None:
            if "answer" in message:
                self._is_spent = bool(message["is_spent"])
                return Answer.decode(cast("JsonObject", message["answer"]))
            fraction, text = cast("tuple[float, str]", message["progress"])
            hearing.progress(float(fraction), str(text))
        return None

    async def _send(self, message: JsonObject) -> None:
        await self._loop.sock_sendall(self._control, pack(message))

    async def _receive(self) -> JsonObject | None:
        while (message := self._unpacker.take()) is None:
            piece = await self._loop.sock_recv(self._control, _PIPE_BYTES)
            if not piece:
                return None
            self._unpacker.feed(piece)
        return message

    # ── what it prints ───────────────────────────────────────────────────────────────────────────

    def _listen(self) -> None:
        if not self._is_reading and self._output >= 0:
            self._loop.add_reader(self._output, self._hear)
            self._is_reading = True

    def _rest(self) -> None:
        if self._is_reading:
            self._loop.remove_reader(self._output)
            self._is_reading = False

    def _hear(self, reads: int = 1) -> bool:
        """Read what was printed, at most *reads* pieces of it; False when there was nothing more."""
        for _ in range(reads):
            try:
                piece = os.read(self._output, _PIPE_BYTES)
            except BlockingIOError:
                return False
            except OSError:
                piece = b""
            if not piece:
                self._rest()
                return False
            if self._hearing is not None:
                self._hearing.output(piece)
                if self._hearing.is_full and self._is_reading:
                    self._rest()
                    self._loop.call_later(_RECESS, self._resume)
        return True

    def _resume(self) -> None:
        if self._output >= 0 and not self._is_reading and self._hear(_READS_AT_ONCE):
            self._loop.call_later(_RECESS, self._resume)
        elif self._output >= 0:
            self._listen()

    def _end_hearing(self) -> None:
        # The child flushed before it answered, so all it said is in the pipe by now.
        if self._hearing is not None:
            self._hear(_READS_AT_ONCE)
            self._hearing.finish()
            self._hearing = None

    # ── its end ──────────────────────────────────────────────────────────────────────────────────

    def _watch_exit(self) -> None:
        try:
            watch = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            self._poll_exit()
        else:
            self._loop.add_reader(watch, self._on_exit, watch)

    def _poll_exit(self) -> None:
        """For systems without pidfd."""
        if self._popen.poll() is None:
            self._loop.call_later(0.02, self._poll_exit)
        else:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            self._on_exit(None)

    def _on_exit(self, watch: int | None) -> None:
        if watch is not None:
            self._loop.remove_reader(watch)
            os.close(watch)
            self.kill()
        self._popen.wait()
        # Something it forked may hold the other end open; whoever waits for a message must learn of its death anyway.
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        self._exited.set()

    async def _exit_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._exited.wait()
        return self._exited.is_set()

    def _signal_group(self, signum: signal.Signals) -> None:
        if self._popen.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signum)

    def _cause(self) -> str:
        code = self._popen.returncode
        if code is None or code >= 0:
            return f"exit code {code}"
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"

    def _close(self) -> None:
        self._rest()
        self._control.close()
        for fd in (self._lifeline, self._output):
            if fd >= 0:
                os.close(fd)
        self._lifeline = self._output = -1


def _spawned(nice: int, env: Mapping[str, str] | None) -> tuple[subprocess.Popen[bytes], socket.socket, int, int]:
    """A child, and our ends: the control socket, what to write to the lifeline, what to read its output from.

    A fresh interpreter, not a fork: a copy of a process with threads and a loop may hold locks nobody will release.
    """
    with ExitStack() as ours, ExitStack() as theirs:
        control, control_end = socket.socketpair()
        ours.callback(control.close)
        theirs.callback(control_end.close)
        lifeline_end, lifeline = os.pipe()
        ours.callback(os.close, lifeline)
        theirs.callback(os.close, lifeline_end)
        output, output_end = os.pipe()
        ours.callback(os.close, output)
        theirs.callback(os.close, output_end)
        arguments = [str(each) for each in (control_end.fileno(), lifeline_end, os.getpid(), nice)]
        popen = subprocess.Popen(
            [sys.executable, "-c", _BOOT, *arguments, *sys.path],
            stdin=subprocess.DEVNULL,
            stdout=output_end,
            stderr=output_end,
            pass_fds=(control_end.fileno(), lifeline_end),
            start_new_session=True,
            env=env,
        )
        ours.pop_all()
    return popen, control, lifeline, output


# ── descendants that left the group ──────────────────────────────────────────────────────────────


def _strays_of(pid: int) -> list[int]:
    """A pidfd for each descendant of *pid* outside its group: a signal to the group would miss them."""
    children: dict[int, list[tuple[int, int]]] = {}
    try:
        numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
    for number in numbers:
        with suppress(OSError, ValueError, IndexError):
            with open(f"/proc/{number}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            children.setdefault(int(fields[1]), []).append((number, int(fields[2])))
    found: list[int] = []
    queue = [pid]
    while queue:
        for number, group in children.pop(queue.pop(), []):
            queue.append(number)
            if group != pid:
                with suppress(OSError):
                    found.append(os.pidfd_open(number))
    return found


def _kill_strays(strays: list[int]) -> None:
    for stray in strays:
        with suppress(OSError):
            signal.pidfd_send_signal(stray, signal.SIGKILL)
        os.close(stray)
