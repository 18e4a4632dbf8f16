"""A virtual loop that can freeze and kill one node: everything that a node does runs in a context that names it.

A frozen node's callbacks and timers are put aside, in order, and run when it thaws, unless they are cancelled by then:
that is SIGSTOP. A dead node's are dropped, ``finally`` blocks included: that is kill -9.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from peregrine.testing.clock import VirtualLoop


class Place(Protocol):
    """Where code runs: a node that may be frozen or dead."""

    alive: bool
    frozen: bool
    deferred: list[Deferred]


@dataclass
class Deferred:
    """A callback that waits for its node to thaw, and the handle by which it may be cancelled."""

    callback: Callable[..., object]
    args: tuple[Any, ...]
    context: contextvars.Context
    handle: asyncio.Handle | None = None

    def run(self) -> None:
        """What came up in the freeze, unless it is not wanted any more."""
        if self.handle is None or not self.handle.cancelled():
            self.callback(*self.args)


here: contextvars.ContextVar[Place | None] = contextvars.ContextVar("here", default=None)


class WorldLoop(VirtualLoop):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self._begun: list[Coroutine[Any, Any, Any]] = []
        self.set_task_factory(self._task)  # type: ignore[arg-type]

    def close(self) -> None:
        """End the world. What a killed node never came to begin is closed, or Python would warn of it, at any time."""
        super().close()
        for coro in self._begun:
            if inspect.getcoroutinestate(coro) == inspect.CORO_CREATED:
                coro.close()
        self._begun.clear()

    def _task(self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any) -> Any:
        self._begun.append(coro)
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **options)
        # A killed node leaves its tasks behind on purpose.
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        return task

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.Handle:
        context = context if context is not None else contextvars.copy_context()
        if self.is_closed():
            # What dead nodes left behind is finalized after the end; what it still wants goes nowhere.
            return asyncio.Handle(callback, args, self, context)
        place = context.get(here)
        if place is None:
            return super().call_soon(callback, *args, context=context)
        what = Deferred(callback, args, context)
        what.handle = super().call_soon(_guarded, place, what, context=context)
        return what.handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        context = context if context is not None else contextvars.copy_context()
        place = context.get(here)
        if place is None:
            return super().call_at(when, callback, *args, context=context)
        what = Deferred(callback, args, context)
        handle = super().call_at(when, _guarded, place, what, context=context)
        what.handle = handle
        return handle


def _guarded(place: Place, what: Deferred) -> None:
    if not place.alive:
        return
    if place.frozen:
        place.deferred.append(what)
    else:
        what.run()


def thaw(place: Place) -> None:
    """Let a frozen node go on with everything that came up meanwhile."""
    place.frozen = False
    deferred, place.deferred = place.deferred, []
    loop = asyncio.get_running_loop()
    for what in deferred:
        loop.call_soon(what.run, context=what.context)
