"""Owns wakes between processes by Redis pub/sub; must not know who listens, or whether a wake is worth it.

A wake is a hint. Here it is delivered at once; to others it is sent beside, several of a topic as one, and what can't
be sent is dropped: they look by themselves every second. Who was not listening for a while is woken for everything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from redis.exceptions import RedisError

from peregrine.coordination.memory import MemoryBus
from peregrine.coordination.redis.link import Link
from peregrine.domain.errors import Unavailable
from peregrine.domain.ids import WorkerId
from peregrine.ports.bus import Topic
from peregrine.ports.entropy import Entropy

_log = logging.getLogger(__name__)

CHANNEL: Final = "scheduler:wakes"
LINGER_SECONDS: Final = 0.02
"""Between two sendings: what comes meanwhile goes together."""
SILENCE_SECONDS: Final = 5.0
"""After so long without a word the server is asked for one; after twice as long the way to it counts as cut."""
RETRY_SECONDS: Final = (0.25, 2.0)
"""First and longest pause before listening again."""

_TOPICS: Final = {topic.value: topic for topic in Topic}


class RedisBus:
    """``ports.bus.Bus`` over one server."""

    def __init__(self, link: Link, *, me: WorkerId, entropy: Entropy) -> None:
        self._link, self._me, self._entropy = link, me, entropy
        # Databases share their channels, so the number is part of the name.
        self._channel = f"{CHANNEL}:{link.place.db}"
        self._here = MemoryBus()
        self._outbox: dict[Topic, None] = {}
        self._filled = asyncio.Event()
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self.is_listening = False
        """Whether wakes of others arrive now."""

    async def open(self) -> None:
        """Begin to send and to listen."""
        self._tasks = (
            asyncio.create_task(self._send_on(), name="redis-wakes-out"),
            asyncio.create_task(self._listen_on(), name="redis-wakes-in"),
        )

    async def close(self) -> None:
        """Send and hear nothing more; safe twice."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = ()

    def publish(self, topic: Topic) -> None:
        """Wake who listens here at once, and soon the others, if *topic* concerns them."""
        self._here.publish(topic)
        if topic.travels and not self._link.is_away:
            self._outbox[topic] = None
            self._filled.set()

    def subscribe(self, topic: Topic, wake: Callable[[], None]) -> Callable[[], None]:
        """Call *wake* after each publish of *topic*, here or elsewhere; returns the way to stop that."""
        return self._here.subscribe(topic, wake)

    async def _send_on(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            topics, self._outbox = tuple(self._outbox), {}
            with suppress(Unavailable):
                await self._link.ask([("PUBLISH", self._channel, f"{self._me} {topic}") for topic in topics])
            await asyncio.sleep(LINGER_SECONDS)

    async def _listen_on(self) -> None:
        first, longest = RETRY_SECONDS
        pause = first
        while True:
            try:
                await self._listen()
            except (RedisError, OSError):
                pass  # the link says what is wrong
            except Exception:  # nobody else listens: one odd message must not be the last that is heard
                _log.exception("wakes_not_heard")
            pause = first if self.is_listening else min(pause * 2, longest)
            self.is_listening = False
            await asyncio.sleep(pause * (0.5 + 0.5 * self._entropy.chance()))

    async def _listen(self) -> None:
        """Hear wakes until the way to the server is cut. Raises what cut it."""
        async with self._link.client.pubsub() as ear:
            async with asyncio.timeout(SILENCE_SECONDS):
                await ear.subscribe(self._channel)
            is_asked = False
            while True:
                message = await ear.get_message(timeout=SILENCE_SECONDS)
                if message is not None:
                    is_asked = False
                    self._hear(message)
                elif is_asked:
                    raise TimeoutError
                else:
                    is_asked = True
                    async with asyncio.timeout(SILENCE_SECONDS):
                        await ear.ping()

    def _hear(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":
            self.is_listening = True
            for topic in Topic:
                self._here.publish(topic)
        elif message["type"] == "message":
            # A topic that we do not know is of a newer version, and so is what it says behind one that we know.
            sender, _, said = message["data"].decode(errors="replace").partition(" ")
            known = _TOPICS.get(said.partition(" ")[0])
            if sender != self._me and known is not None:
                self._here.publish(known)
