"""What is measured with HTTP in between: pages of tasks that are asked for, tasks that are requests themselves, and how
much more two services carry than one.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import statistics
import time
from pathlib import Path
from typing import Any, Final

from benchmarks import marks
from benchmarks.subjects.fleet import FEW_SLOTS, Fleet
from benchmarks.subjects.ours import CALLS_AT_ONCE, PeregrineCalls
from benchmarks.subjects.processes import Helpers
from benchmarks.subjects.service import Service
from benchmarks.workers.our_functions import WAIT_SECONDS

TURNS: Final = 5
TURN_SECONDS: Final = 1.5
SETTLE_WAITS: Final = 2
"""So many waits pass before runs are counted: then all slots are taken."""
CONNECTIONS: Final = 16
_LENGTH: Final = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


async def instances(fleet: Fleet, folder: Path, waits: int) -> dict[str, float]:
    """Runs a second of one service on a MongoDB, and of two, while each run only waits: for so many waits."""
    await fleet.open(folder)
    task = await fleet.add("waits", "@manual", function="wait", overlap="allow")
    alone = await _carried(fleet, task, waits, services=1)
    await fleet.join()
    together = await _carried(fleet, task, waits, services=2)
    await fleet.close()
    return {"alone_rate": alone, "both_rate": together, "times": together / alone}


async def _carried(fleet: Fleet, task: str, waits: int, *, services: int) -> float:
    """Runs that end in a second, once all slots are taken, with more of them waiting all the time."""
    # As many as can end while they are asked for and counted, and as many again: no slot may wait for work.
    await fleet.queue(task, 2 * (waits + SETTLE_WAITS) * FEW_SLOTS * services)
    await asyncio.sleep(SETTLE_WAITS * WAIT_SECONDS)
    before, began = marks.look(), time.monotonic()
    await asyncio.sleep(waits * WAIT_SECONDS)
    rate = (marks.look() - before) / (time.monotonic() - began)
    if not await fleet.waiting():
        raise SystemExit("there was too little to do; the measurement would be wrong")
    return rate


class _Asker(asyncio.Protocol):
    """Asks the same again as soon as the answer is there."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._heard = b""
        self.answers = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._heard += data
        head, end, body = self._heard.partition(b"\r\n\r\n")
        length = _LENGTH.search(head) if end else None
        if length is not None and len(body) >= int(length[1]):
            if not head.startswith(b"HTTP/1.1 2"):
                raise SystemExit(f"refused: {head[:100]!r}")
            self._heard = b""
            self.answers += 1
            self.transport.write(self._request)


async def _answers_a_second(port: int, request: bytes) -> float:
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: _Asker(request), "127.0.0.1", port) for _ in range(CONNECTIONS)]
    askers, began = [asker for _, asker in made], time.perf_counter()
    before = sum(asker.answers for asker in askers)
    await asyncio.sleep(TURN_SECONDS)
    rate = (sum(asker.answers for asker in askers) - before) / (time.perf_counter() - began)
    for asker in askers:
        asker.transport.abort()
    return rate


async def _ready_made(helpers: Helpers, how: str, body: bytes) -> int:
    """The port of a server that has only this to say."""
    file = helpers.folder / f"{how}.body"
    file.write_bytes(body)
    process = helpers.start(["python", "-m", "benchmarks.workers.ready_made", how, str(file)], talks=True)
    assert process.stdout is not None
    return int(await asyncio.to_thread(process.stdout.readline))


async def pages(service: Service, folder: Path, size: int) -> dict[str, float]:
    """Pages of so many tasks over HTTP, turn by turn with the same bytes from a server with nothing behind it.

    Nothing is written meanwhile, but in a third turn: then one client changes a task as soon as it can.
    """
    await service.open(folder)
    await service.add_later(0, size - 1)
    task = await service.add("often changed", "@manual")
    request = service.request("GET", f"{service.tasks}?page_size={size}")
    port = await _ready_made(service.helpers, "as-we-do", await service.ask(request))
    rates, ready, changing = [], [], []
    for _ in range(TURNS):
        rates.append(await _answers_a_second(service.port, request))
        ready.append(await _answers_a_second(port, request))
        changes = asyncio.create_task(_change(service, task))
        changing.append(await _answers_a_second(service.port, request))
        changes.cancel()
        await asyncio.wait({changes})
        await service.connect_anew()
    await service.close()
    rate, ready_rate, changing_rate = map(statistics.median, (rates, ready, changing))
    return {"rate": rate, "changing_rate": changing_rate, "ready_rate": ready_rate, "share": rate / ready_rate}


async def _change(service: Service, task: str) -> None:
    """Change a task again and again."""
    for number in itertools.count():
        await service.ask(service.request("PUT", f"{service.tasks}/{task}", {"description": f"change {number}"}))


async def calls(folder: Path, size: int) -> dict[str, float]:
    """Tasks of type ``http`` until their ends are stored, and as many requests by the bare client in the same loop."""
    helpers = Helpers(folder)
    url = f"http://127.0.0.1:{await _ready_made(helpers, 'barely', b'ok')}/"
    bare = await _bare(url, size)
    one = PeregrineCalls(url)
    await one.open(folder)
    await one.add_due(size)
    began = time.perf_counter()
    await one.go()
    await one.until_recorded(size)
    rate = size / (time.perf_counter() - began)
    await one.close()
    helpers.stop()
    return {"rate": rate, "bare_rate": bare, "share": rate / bare}


async def _bare(url: str, size: int) -> float:
    """Requests a second of the client that the tasks are sent with, used as its documentation says."""
    import aiohttp

    left = iter(range(size))

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask() -> None:
            for _ in left:
                async with session.get(url) as answer:
                    await answer.read()

        began = time.perf_counter()
        await asyncio.gather(*(ask() for _ in range(CALLS_AT_ONCE)))
        return size / (time.perf_counter() - began)
