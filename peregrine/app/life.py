"""Owns one life of the service, from its socket to its exit code; must not know what the parts do.

Up: store, engine, HTTP. Down: HTTP says "not ready" while the engine drains, then closes; the store goes last. A second
signal skips every wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Final

import uvicorn

from peregrine.app import interpreter
from peregrine.app.build import Parts, built
from peregrine.app.datadir import DataDir
from peregrine.app.greeting import greet
from peregrine.app.listen import connections_within, is_loopback, url_of
from peregrine.app.patience import IDLE_SECONDS, patient
from peregrine.app.settings import Loaded, LogFormat, Settings
from peregrine.coordination.clock import ServerClock
from peregrine.domain.errors import PeregrineError
from peregrine.observers.log import start_log

CLOSE_SECONDS: Final = 5
"""How long open requests may take once the engine has stopped."""
LOOK_SECONDS: Final = 5.0
"""How often the whole store's counts are taken for the metrics page."""
LOG_BYTES_MAX: Final = 64 * 2**20
"""From this size on the store's write-ahead log is worth a warning (guarantees, SQLite settings)."""
CRASHED: Final = 1


@dataclass(frozen=True, slots=True)
class Started:
    """What is up, for whoever works beside the service (the demonstration)."""

    url: str
    data_dir: DataDir


Beside = Callable[[Started], Coroutine[Any, Any, None]]


class _Stop:
    """Signals: the first asks to stop, the second to hurry."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurry = asyncio.Event()

    def signal(self) -> None:
        """What a signal does."""
        (self.hurry if self.asked.is_set() else self.asked).set()


class _Server(uvicorn.Server):
    """The HTTP server without its own signals: ours decide."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


class Life:
    """One run of the service from its socket to its exit code."""

    def __init__(self, loaded: Loaded, data_dir: DataDir, listener: socket.socket) -> None:
        self._loaded = loaded
        self._settings: Settings = loaded.settings
        self._data_dir = data_dir
        self._listener = listener
        as_json = self._settings.log_format is LogFormat.JSON or (
            self._settings.log_format is LogFormat.AUTO and not os.isatty(2)
        )
        self._log = start_log(level=self._settings.log_level, as_json=as_json)

    async def live(self, beside: Beside | None) -> int:
        """Start, wait for the end, stop; the exit code."""
        stop = _Stop()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.signal)
        self._hint([*self._loaded.warnings, *self._data_dir.warnings()])
        port = self._listener.getsockname()[1]
        async with contextlib.AsyncExitStack() as stack:
            parts = await self._built(stack, port, stop)
            if parts is None:
                return 0
            interpreter.tune()
            return await self._run(parts, stop, beside)

    async def _built(self, stack: contextlib.AsyncExitStack, port: int, stop: _Stop) -> Parts | None:
        """Every part; None if it was told to stop before they were there, for a store may keep it waiting."""
        parts = built(self._loaded, self._data_dir, port=port, log=self._log)
        building = asyncio.create_task(stack.enter_async_context(parts))
        asked = asyncio.create_task(stop.asked.wait())
        await asyncio.wait({building, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if not building.done():
            building.cancel()
            await asyncio.gather(building, return_exceptions=True)
            return None
        return building.result()

    async def _run(self, parts: Parts, stop: _Stop, beside: Beside | None) -> int:
        server = _Server(self._http(parts))
        await parts.engine.start()
        serving = asyncio.create_task(server.serve(sockets=[self._listener]), name="http")
        url = url_of(self._listener) + self._settings.api_prefix
        self._tell_start(url)
        greet(url, self._data_dir, parts.credentials, first_steps=beside is None)
        helpers = [self._beside(self._look(parts)), self._beside(self._maintain(parts))]
        if isinstance(parts.clock, ServerClock):
            helpers.append(self._beside(parts.clock.keep()))
        if parts.keys is not None:
            helpers.append(self._beside(parts.keys.keep()))
        if beside is not None:
            helpers.append(self._beside(beside(Started(url, self._data_dir))))
        asked = asyncio.create_task(stop.asked.wait())
        await asyncio.wait({serving, asked}, return_when=asyncio.FIRST_COMPLETED)
        crashed = serving.done()
        await self._end(parts, server, serving, stop)
        for one in (*helpers, asked):
            one.cancel()
        await asyncio.gather(*helpers, asked, return_exceptions=True)
        return CRASHED if crashed else 0

    async def _end(self, parts: Parts, server: _Server, serving: asyncio.Task[None], stop: _Stop) -> None:
        self._log.info("stopping", running=parts.engine.active)
        hurry = asyncio.create_task(self._hurry(parts, server, stop))
        await parts.engine.stop()
        server.should_exit = True
        results = await asyncio.gather(serving, return_exceptions=True)
        for error in results:
            if isinstance(error, BaseException):
                self._log.error("http_failed", error=f"{type(error).__name__}: {error}")
        hurry.cancel()
        await asyncio.gather(hurry, return_exceptions=True)
        self._log.info("stopped")

    async def _hurry(self, parts: Parts, server: _Server, stop: _Stop) -> None:
        await stop.hurry.wait()
        self._log.warning("hurrying", running=parts.engine.active)
        server.force_exit = True
        parts.engine.interrupt()

    def _beside(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Work beside the service, which goes on if it fails; that is said, never hidden."""

        def look(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                self._log.error("helper_failed", error=f"{type(error).__name__}: {error}")

        task = asyncio.create_task(work)
        task.add_done_callback(look)
        return task

    async def _look(self, parts: Parts) -> None:
        """Take the numbers of the whole store now and then, and say when its log grows beyond reason."""
        is_large = False
        while True:
            with contextlib.suppress(PeregrineError):
                parts.metrics.note(await parts.store.statistics(parts.clock.now()))
                facts = await parts.store.facts()
                log_bytes = int(facts.get("wal_bytes", 0))
                parts.metrics.note_store(file_bytes=int(facts.get("file_bytes", 0)), log_bytes=log_bytes)
                if log_bytes > LOG_BYTES_MAX and not is_large:
                    self._log.warning("store_log_large", bytes=log_bytes, hint="somebody reads without end")
                is_large = log_bytes > LOG_BYTES_MAX
            await asyncio.sleep(LOOK_SECONDS)

    async def _maintain(self, parts: Parts) -> None:
        """Let the store tidy itself up, as often as retention runs."""
        while True:
            await asyncio.sleep(self._settings.cleanup_interval / 1000)
            try:
                await parts.store.maintain()
            except PeregrineError as error:
                self._log.warning("store_not_maintained", error=str(error))

    def _http(self, parts: Parts) -> uvicorn.Config:
        return uvicorn.Config(
            parts.app,
            http=patient(connections_within(self._settings.connections_max)),
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=CLOSE_SECONDS,
        )

    def _tell_start(self, url: str) -> None:
        self._log.info("started", url=url, data_dir=str(self._data_dir.path), workers=self._settings.worker_count)
        if not is_loopback(self._listener):
            self._hint([f"HOST={self._settings.host}: other machines can reach the service, in plain HTTP"])
        wanted = self._settings.connections_max
        if (most := connections_within(wanted)) < wanted:
            half = "half of the files that may be open (ulimit -n)"
            self._hint([f"HTTP_CONNECTIONS_MAX={wanted}: {most} at most, {half}"])

    def _hint(self, found: list[str]) -> None:
        for text in found:
            self._log.warning("settings", hint=text)
