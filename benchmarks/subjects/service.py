"""Peregrine as a whole: the service in a process of its own, asked over HTTP."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks import marks
from benchmarks.subjects.processes import Helpers

READY_WITHIN: Final = 30.0
LISTENS: Final = re.compile(r"listens on http://[^:]+:(\d+)(\S*)")


class Service:
    """It works as soon as it is there, so nothing can wait for it; ``HTTP_RATE`` is off, for one caller asks it all."""

    async def open(self, folder: Path) -> None:
        self.helpers = Helpers(folder)
        self._listened = marks.listen(folder)
        await self._begin({})

    async def _begin(self, settings: Mapping[str, str]) -> None:
        """Start the process that is asked."""
        data = self.helpers.folder / "data"
        self.port, prefix = await self._started(data, settings)
        self.tasks = f"{prefix}/scheduler/tasks"
        self._token = (data / "operator-token").read_text().strip()
        await self._connect()
        self._asked = b""

    async def _connect(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)

    async def connect_anew(self) -> None:
        """Leave what was asked last unanswered."""
        self._writer.close()
        await self._connect()

    async def _started(self, data: Path, settings: Mapping[str, str]) -> tuple[int, str]:
        """Start a process over a folder: where it listens, and below which path."""
        usual = {
            "PORT": "0",
            "HTTP_RATE": "0",
            "SCHEDULER_DATA_DIR": str(data),
            "SCHEDULER_FUNCTIONS": "benchmarks.workers.our_functions",
        }
        process = self.helpers.start(["python", "-m", "peregrine", "serve"], {**usual, **settings, **self._listened})
        return await self._until_it_listens(process)

    async def _until_it_listens(self, process: Any) -> tuple[int, str]:
        until = time.monotonic() + READY_WITHIN
        while (found := LISTENS.search(self.helpers.all_said(process))) is None:
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"the service did not begin: {self.helpers.said(process)}")
            await asyncio.sleep(0.02)
        return int(found[1]), found[2]

    def request(self, method: str, path: str, document: Any = None) -> bytes:
        """The bytes of a request by the operator."""
        body = b"" if document is None else json.dumps(document).encode()
        head = [
            f"{method} {path} HTTP/1.1",
            "Host: localhost",
            f"Authorization: Bearer {self._token}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        ]
        return "\r\n".join([*head, "", ""]).encode() + body

    async def ask(self, request: bytes) -> bytes:
        """The body of the answer."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        body = await self._reader.readexactly(int(length[1]) if length else 0)
        if not head.startswith(b"HTTP/1.1 2"):
            raise SystemExit(f"the service refused: {body[:300]!r}")
        return body

    async def add(self, name: str, schedule: str, *, function: str = "nothing", **more: str) -> str:
        """Register a task that runs one of ``workers/our_functions.py``; its id."""
        config = {"module": "bench", "function_name": function}
        task = {"name": name, "type": "function", "config": config, "schedule": schedule, **more}
        return str(json.loads(await self.ask(self.request("POST", self.tasks, task)))["id"])

    async def add_later(self, start: int, count: int) -> None:
        at = f"@at {datetime.now(UTC).year + 1}-06-01T03:00:00Z"
        for number in range(start, start + count):
            await self.add(f"later {number}", at)

    async def add_due(self, count: int) -> None:
        raise SystemExit("nothing waits for the service")

    async def add_ticks(self, count: int, first: int, seconds: int, *, spread: bool) -> None:
        raise SystemExit("ticks are measured without HTTP")

    async def run_now(self) -> float:
        asked = time.time()
        await self.ask(self._asked)
        return asked

    async def go(self) -> None:
        task = await self.add("now", "@manual")
        self._asked = self.request("POST", f"{self.tasks}/{task}/execute", {})

    async def close(self) -> None:
        self._writer.close()
        self.helpers.stop()

    def spent(self) -> float:
        return self.helpers.spent()

    def memory(self) -> float:
        return self.helpers.memory()
