"""Peers that run on Node: BullMQ on Redis, node-cron and croner in memory. ``benchmarks/node/peer.mjs`` drives them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from subprocess import Popen
from typing import Any

from benchmarks import marks
from benchmarks.subjects.on_redis import OnRedis
from benchmarks.subjects.processes import Helpers


class _Driven:
    """A process of Node that takes the verbs."""

    peer: str
    helpers: Helpers

    async def _drive(self, folder: Path, **environment: str) -> None:
        words = ["node", "benchmarks/node/peer.mjs", self.peer]
        self._node: Popen[bytes] = self.helpers.start(words, marks.listen(folder) | environment, talks=True)
        await asyncio.to_thread(self._answer)

    async def _do(self, verb: str, **given: Any) -> Any:
        assert self._node.stdin is not None
        self._node.stdin.write(json.dumps([verb, given]).encode() + b"\n")
        self._node.stdin.flush()
        return await asyncio.to_thread(self._answer)

    def _answer(self) -> Any:
        assert self._node.stdout is not None
        line = self._node.stdout.readline()
        if not line:
            raise SystemExit(f"{self.peer} ended: {self.helpers.said(self._node)}")
        return json.loads(line)

    async def add_due(self, count: int) -> None:
        await self._do("add_due", count=count)

    async def add_later(self, start: int, count: int) -> None:
        await self._do("add_later", count=count)

    async def add_ticks(self, count: int, first: int, seconds: int, *, spread: bool) -> None:
        await self._do("add_ticks", count=count, first=first, seconds=seconds, spread=spread)

    async def run_now(self) -> float:
        return float(await self._do("run_now"))

    async def go(self) -> None:
        await self._do("go")


class BullMq(_Driven, OnRedis):
    """A hundred jobs at once; done jobs stay in the queue's history."""

    peer = "bullmq"
    works_here = False

    async def _begin(self, folder: Path) -> None:
        await self._drive(folder, BENCH_PORT=str(self.port))


class _InNode(_Driven):
    """It forgets everything when it ends."""

    async def open(self, folder: Path) -> None:
        self.helpers = Helpers(folder)
        await self._drive(folder)

    async def close(self) -> None:
        self.helpers.stop()

    def spent(self) -> float:
        return self.helpers.spent()

    def memory(self) -> float:
        return self.helpers.memory()


class NodeCron(_InNode):
    """A pattern of every second for each task."""

    peer = "node-cron"


class Croner(_InNode):
    """The same."""

    peer = "croner"
