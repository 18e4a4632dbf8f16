"""Owns functions in threads: told to stop, then abandoned; must not know what they do.

Python can't stop a thread. So one that does not heed ``context.cancelled`` within the grace is left to itself: its
slot is free, whatever it says or returns later is dropped, and a line in the execution says so. Each abandoned thread
still costs memory and perhaps a core, so there is a bound on them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from peregrine.domain.moment import SECOND, Duration
from peregrine.executors.answer import Answer
from peregrine.executors.voices import ThreadVoice

ABANDONED_MAX: Final = 32
THREAD_GRACE: Final[Duration] = 2 * SECOND
"""More than the engine's own patience with a run that was told to stop (1.5 s): so the engine frees the slot and
records the attempt as abandoned, and this coroutine lets go soon after."""


class Threads:
    """Runs each call in a daemon thread of its own. Not a pool: an abandoned thread would hold its place for ever."""

    def __init__(self, *, grace: Duration) -> None:
        self._grace = grace
        self._abandoned: set[threading.Thread] = set()

    @property
    def abandoned(self) -> int:
        """Threads that were told to stop and still run."""
        self._abandoned = {thread for thread in self._abandoned if thread.is_alive()}
        return len(self._abandoned)

    async def call(self, label: str, work: Callable[[], Answer], voice: ThreadVoice) -> Answer:
        """What *work* came to. Cancelled, it waits for the grace, twice cancelled no longer."""
        if self.abandoned >= ABANDONED_MAX:
            return Answer(error=f"{ABANDONED_MAX} abandoned threads still run; no other is started beside them")
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Answer] = loop.create_future()

        def settle(answer: Answer) -> None:
            if not ended.done():
                ended.set_result(answer)

        def body() -> None:
            answer = work()
            voice.close()
            with suppress(RuntimeError):  # The loop is closed: nobody waits.
                loop.call_soon_threadsafe(settle, answer)

        thread = threading.Thread(target=body, name=f"function {label}", daemon=True)
        thread.start()
        try:
            return await asyncio.shield(ended)
        except asyncio.CancelledError:
            voice.tell_to_stop()
            with suppress(TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(self._grace / SECOND):
                    await asyncio.shield(ended)
            if not ended.done():
                self._abandoned.add(thread)
                voice.abandon()
            voice.deafen()
            raise
