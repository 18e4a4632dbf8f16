"""What is measured. Each measurement is a process of its own: ``python -m benchmarks.scenes SCENE SUBJECT SIZE
SECONDS``.

It prints a line of JSON, ends, and leaves nothing behind. What did not happen in time is told as missing, not guessed.
"""

from __future__ import annotations

import asyncio
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from benchmarks import doors, marks
from benchmarks.history import compared
from benchmarks.parts import BARE, BY_KEY
from benchmarks.subjects.fleet import Fleet
from benchmarks.subjects.ours import Peregrine
from benchmarks.subjects.service import Service
from benchmarks.subjects.subject import Entry, Subject

Seen: TypeAlias = dict[str, float]
PATIENCE: Final = 120.0
FEW: Final = 200
FAR_SECONDS: Final = 1_200
TAIL: Final = 15
"""Seconds that late runs of a scene with a clock are waited for after its end."""
FORGETFUL: Final = ("aps-memory", "node-cron", "croner")
LEAD: Final = 2
"""Seconds between the end of the preparations and the first moment that counts."""
IDLE_SECONDS: Final = 5.0
PAGES: Final = 50
ADDED: Final = 200


@dataclass(frozen=True, slots=True)
class Place:
    """A subject that is not open yet, its folder, and how many seconds a scene with a clock lasts."""

    entry: Entry
    subject: Subject
    folder: Path
    seconds: int


async def backlog(at: Place, size: int) -> Seen:
    """So many runs that wait already, until the last has begun, with us: until its end stands in the store."""
    one = at.subject
    await one.open(at.folder)
    await one.add_due(size)
    spent, began = one.spent(), time.perf_counter()
    await one.go()
    await marks.reached(size, PATIENCE)
    if isinstance(one, Peregrine):
        await one.until_recorded(size)
    took, cpu = time.perf_counter() - began, one.spent() - spent
    await one.close()
    done = len(marks.STARTS)
    return {"rate": done / took, "cpu_ms": cpu / done * 1_000 * 1_000, "done": done / size}


async def burst(at: Place, size: int) -> Seen:
    """So many runs on each whole second: how many began before the next second, how late those that began were."""
    return await _ticking(at, size, spread=False)


async def spread(at: Place, size: int) -> Seen:
    """So many runs a second, each at a moment of its own."""
    return await _ticking(at, size, spread=True)


async def _ticking(at: Place, size: int, *, spread: bool) -> Seen:
    one, total = at.subject, size * at.seconds
    await one.open(at.folder)
    # Registering takes a while itself, and nothing may fall due meanwhile.
    is_each = spread or not at.entry.recurs
    each = await _each_takes(one, spread=spread) if is_each else 1 / at.entry.pace
    first = math.ceil(time.time() + LEAD + 3 + 2 * (total if is_each else size) * each)
    await one.add_ticks(size, first, at.seconds, spread=spread)
    if time.time() > first - LEAD:
        raise SystemExit("registering took too long; the measurement would be wrong")
    await asyncio.sleep(first - LEAD - time.time())
    await one.go()
    await marks.reached(total, LEAD + at.seconds + TAIL)
    starts = marks.STARTS[:total]
    await one.close()
    if not starts:
        raise SystemExit("nothing began")
    in_time = sum(start < first + at.seconds for start in starts)
    return {"done": in_time / total, **late(starts, lambda k: first + (k / size if spread else k // size))}


async def _each_takes(one: Subject, *, spread: bool) -> float:
    """Seconds for registering one run, seen by registering some that are never due here."""
    began = time.perf_counter()
    await one.add_ticks(FEW, math.ceil(time.time() + FAR_SECONDS), 1, spread=spread)
    return (time.perf_counter() - began) / FEW


def late(starts: Sequence[float], due: Callable[[int], float]) -> Seen:
    """How late they began, in milliseconds, if the k-th to begin is the k-th that was due."""
    by = sorted((start - due(k)) * 1_000 for k, start in enumerate(sorted(starts)))
    return {"p50_ms": _at(by, 0.5), "p99_ms": _at(by, 0.99), "early": float(bool(by) and by[0] < -1)}


def _at(ordered: Sequence[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else math.nan


async def bare_loop(at: Place, size: int) -> Seen:
    """What the event loop itself makes of moments spread over each second, with nothing stored.

    It counts whole milliseconds, and nobody here may begin early: each moment is the first of them that is not before.
    """
    loop, total, first = asyncio.get_running_loop(), size * at.seconds, math.ceil(time.time() + 1)
    ahead = await _ahead_of_wall(loop)
    for number in range(total):
        loop.call_at(math.ceil((first + number / size + ahead) * 1_000) / 1_000, marks.nothing)
    await marks.reached(total, at.seconds + 5)
    return {"done": 1.0, **late(marks.STARTS, lambda k: first + k / size)}


async def _ahead_of_wall(loop: asyncio.AbstractEventLoop) -> float:
    """By how many seconds its clock is ahead of the wall clock.

    Within a millisecond of its own it stands still, so it tells the truth only when one begins.
    """
    until, seen = time.time() + 0.05, [loop.time() - time.time()]
    while time.time() < until:
        await asyncio.sleep(0)
        seen.append(loop.time() - time.time())
    return max(seen)


async def now(at: Place, size: int) -> Seen:
    """One run asked for after the other: from the asking to its start."""
    one, waits = at.subject, []
    await one.open(at.folder)
    await one.go()
    await asyncio.sleep(1)
    for number in range(size):
        asked = await one.run_now()
        await marks.reached(number + 1, PATIENCE)
        waits.append((marks.STARTS[number] - asked) * 1_000)
    await one.close()
    waits.sort()
    return {"p50_ms": _at(waits, 0.5), "p99_ms": _at(waits, 0.99)}


async def register(at: Place, size: int) -> Seen:
    """Tasks registered one by one, and, where there is a way, many at a time."""
    one = at.subject
    await one.open(at.folder)
    began = time.perf_counter()
    await one.add_later(0, size)
    seen = {"rate": size / (time.perf_counter() - began)}
    if isinstance(one, Peregrine):
        began = time.perf_counter()
        await one.add_bulk(size, 10 * size)
        seen["bulk_rate"] = 10 * size / (time.perf_counter() - began)
    await one.close()
    return seen


async def idle(at: Place, size: int) -> Seen:
    """What so many registered tasks cost while none is due, in a process that found them in the store.

    With us one falls due while nobody is there: when it runs the start is over.
    """
    one, is_kept, seen = at.subject, at.entry.key not in FORGETFUL, {}
    if is_kept:
        seen = await asyncio.to_thread(_fill, at, size)
        await asyncio.sleep(LEAD)
    began, wall = time.perf_counter(), time.time()
    await one.open(at.folder)
    if not is_kept:
        await one.add_later(0, size)
    await one.go()
    seen["start_ms"] = (time.perf_counter() - began) * 1_000
    if isinstance(one, Peregrine) and await marks.reached(1, PATIENCE):
        seen["first_ms"] = (marks.STARTS[0] - wall) * 1_000
    await asyncio.sleep(2)
    spent = one.spent()
    await asyncio.sleep(IDLE_SECONDS)
    seen |= {"cpu_percent": (one.spent() - spent) / IDLE_SECONDS * 100, "memory_mib": one.memory()}
    if isinstance(one, Peregrine):
        seen["page_ms"] = await _page_of_tasks(one)
        seen["add_ms"] = await _adding_one(one, size)
    await one.close()
    return seen


def _fill(at: Place, size: int) -> Seen:
    words = [sys.executable, "-m", "benchmarks.scenes", "fill", at.entry.key, str(size), "0", str(at.folder)]
    seen: Seen = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])
    return seen


async def fill(at: Place, size: int) -> Seen:
    """Register so many tasks and end."""
    one, seen = at.subject, {}
    await one.open(at.folder)
    if isinstance(one, Peregrine):
        began = time.perf_counter()
        await one.add_bulk(0, size)
        seen["bulk_rate"] = size / (time.perf_counter() - began)
        await one.add_soon()
    else:
        await one.add_later(0, size)
    await one.close()
    return seen


async def _page_of_tasks(one: Peregrine) -> float:
    from peregrine.domain.query import PageRequest, TaskFilter, TaskSort

    began = time.perf_counter()
    for _ in range(PAGES):
        await one.store.list_tasks(
            TaskFilter(), PageRequest(size=50), sort=TaskSort.UPDATED_AT, descending=True, now=one.clock.now()
        )
    return (time.perf_counter() - began) / PAGES * 1_000


async def _adding_one(one: Peregrine, start: int) -> float:
    """What it takes to register one more, the middle of some."""
    took = []
    for number in range(start, start + ADDED):
        began = time.perf_counter()
        await one.add_later(number, 1)
        took.append((time.perf_counter() - began) * 1_000)
    return statistics.median(took)


async def history(at: Place, size: int) -> Seen:
    """See ``history``."""
    return await compared(at.folder, size)


async def pages(at: Place, size: int) -> Seen:
    """See ``doors.pages``."""
    assert isinstance(at.subject, Service)
    return await doors.pages(at.subject, at.folder, size)


async def calls(at: Place, size: int) -> Seen:
    """See ``doors.calls``."""
    return await doors.calls(at.folder, size)


async def instances(at: Place, size: int) -> Seen:
    """See ``doors.instances``."""
    assert isinstance(at.subject, Fleet)
    return await doors.instances(at.subject, at.folder, size)


Scene: TypeAlias = Callable[[Place, int], Awaitable[Seen]]
SCENES: Final[dict[str, Scene]] = {
    one.__name__: one for one in (backlog, burst, spread, now, register, idle, history, pages, calls, instances, fill)
}


def main() -> None:
    """Measure one thing and say what came of it: SCENE SUBJECT SIZE SECONDS, and the folder if it is there already."""
    import uvloop

    scene, key, size, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    measure = bare_loop if key == BARE.key else SCENES[scene]
    entry = BY_KEY[key]
    with tempfile.TemporaryDirectory(prefix="bench-") as own:
        folder = Path(sys.argv[5] if len(sys.argv) > 5 else own)
        told = uvloop.run(_measured(measure, Place(entry, entry.make(), folder, seconds), size))
    print(json.dumps(told))


async def _measured(measure: Scene, at: Place, size: int) -> Seen:
    return await measure(at, size)


if __name__ == "__main__":
    main()
