"""Peregrine several times over: services that share a MongoDB and a Redis, each in a process of its own."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from benchmarks import marks
from benchmarks.subjects.on_redis import redis_server
from benchmarks.subjects.processes import ROOT, Helpers
from benchmarks.subjects.service import Service

MONGODB: Final = "TEST_MONGODB_URI"
"""The variable that names a MongoDB to use; without it the tests' server is started."""
SERVER: Final = "tests.services.mongo_server"
FEW_SLOTS: Final = 6
MEET_WITHIN: Final = 30.0
END_WITHIN: Final = 10.0


def no_mongodb() -> str:
    """Why there is no MongoDB here; nothing if there is one. The tests' server is installed if that can be."""
    if MONGODB in os.environ:
        return ""
    words = [sys.executable, "-m", SERVER, "install"]
    done = subprocess.run(words, cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it can't be installed"])[-1]


class Fleet(Service):
    """The first service is asked; others ``join`` it. All have the same few slots."""

    async def open(self, folder: Path) -> None:
        self.helpers = Helpers(folder)
        self._listened = marks.listen(folder)
        self._mongo: subprocess.Popen[bytes] | None = None
        self._store = Helpers(folder / "mongodb")
        self._shared = {
            "MONGODB_URI": os.environ.get(MONGODB) or await self._mongodb(),
            "MONGODB_DATABASE": f"peregrine_bench_{os.getpid()}",
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(await redis_server(self.helpers)),
            "JWT_SECRET": "a secret that all of them share, long enough",
            "SCHEDULER_ENCRYPTION_KEY": base64.b64encode(bytes(range(32))).decode(),
            "SCHEDULER_WORKER_COUNT": str(FEW_SLOTS),
        }
        await self._begin(self._shared)

    async def _mongodb(self) -> str:
        await asyncio.to_thread(self._store.folder.mkdir)
        self._mongo = self._store.start(["python", "-m", SERVER], talks=True)
        assert self._mongo.stdout is not None
        uri = (await asyncio.to_thread(self._mongo.stdout.readline)).decode().strip()
        if not uri:
            raise SystemExit(f"MongoDB did not begin: {self._store.said(self._mongo)}")
        return uri

    async def join(self) -> None:
        """One more service; it is back when both know of each other."""
        await self._started(self.helpers.folder / "more", self._shared)
        async with asyncio.timeout(MEET_WITHIN):
            while len((await self._told("status"))["instances"]) < 2:  # noqa: ASYNC110 - nothing rings for it
                await asyncio.sleep(0.1)

    async def _told(self, path: str) -> Any:
        """What the first says there."""
        return json.loads(await self.ask(self.request("GET", f"{self.tasks.removesuffix('tasks')}{path}")))

    async def queue(self, task: str, count: int) -> None:
        """Ask for so many runs."""
        request = self.request("POST", f"{self.tasks}/{task}/execute", {})
        for _ in range(count):
            await self.ask(request)

    async def waiting(self) -> int:
        """How many runs wait for a slot."""
        return int((await self._told("executions?status=pending"))["total"])

    async def close(self) -> None:
        self._writer.close()
        self.helpers.stop()
        if self._mongo is not None:
            # It ends with its standard input, and takes its database along.
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._mongo.communicate, timeout=END_WITHIN)
            self._store.stop()
