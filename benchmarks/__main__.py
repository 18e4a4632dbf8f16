"""``make bench``: other schedulers and ours, the same work, on this machine in one sitting.

Rounds are interleaved, so that a neighbour's work falls on all of them, and each measurement is a process of its own. A
fixed sum is timed before and after each; how much that varies is how noisy the machine was. Writes a table, a chart
and every single figure into ``docs/benchmarks``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from benchmarks import page
from benchmarks.parts import BY_KEY, ENTRIES, PARTS, SCENES, Part
from benchmarks.sitting import Seen, Sitting
from benchmarks.subjects.processes import ROOT, end_session
from benchmarks.subjects.subject import Entry

RESULTS: Final = ROOT / "docs" / "benchmarks"
FIGURES: Final = RESULTS / "results.json"
ROUNDS: Final = 3
PROGRAMS: Final = {"redis-server": r"v=(\S+)", "node": r"v(\S+)"}
NODE_PACKAGES: Final = ("bullmq", "node-cron", "croner")
SECONDS_EACH: Final = 14
"""What a measurement takes on the whole, for the first estimate."""


def main() -> int:
    """Measure, tell, write."""
    options = _options()
    if options.again:
        _write(Sitting.of(FIGURES))
        return 0
    sitting = _sitting(options)
    asked = dict.fromkeys(entry for _, entry in _agenda(options, sitting))
    sitting.left_out = {one.name: reason for one in asked if (reason := _lacks(one))}
    for name, reason in sitting.left_out.items():
        _tell(f"left out: {name}: {reason}")
    agenda = [*_agenda(options, sitting)]
    if options.keep:
        _forget(sitting, {part.title for part, _ in agenda})
    _measure_all(agenda, options, sitting)
    print(page.page(sitting))
    if not options.dry:
        _write(sitting)
    return 0


def _sitting(options: argparse.Namespace) -> Sitting:
    """A new one; with ``--keep`` the last one."""
    today, machine = f"{datetime.now(UTC):%Y-%m-%d}", page.machine([*_programs()])
    if not options.keep:
        return Sitting(when=today, machine=machine)
    sitting = Sitting.of(FIGURES)
    if (sitting.when, sitting.machine) != (today, machine):
        raise SystemExit("the last sitting was on another day or machine: measure everything")
    return sitting


def _forget(sitting: Sitting, titles: set[str]) -> None:
    """Make place for what is measured anew."""
    for title in titles:
        sitting.seen.pop(title, None)
        sitting.later[title] = f"{datetime.now(UTC):%H:%M} UTC"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="a look: few scenes, small, one round")
    add("--full", action="store_true", help="ten million ended runs too; this takes ten minutes more")
    add("--rounds", type=int, default=ROUNDS, help=f"how often most is measured; long scenes less often ({ROUNDS})")
    add("--only", default="", help=f"scenes, with commas: {','.join(SCENES)}")
    add("--peers", default="", help=f"subjects, with commas: {','.join(BY_KEY)}")
    add("--scale", type=float, default=1.0, help="so many times the usual backlog (1)")
    add("--dry", action="store_true", help="write no files")
    add("--keep", action="store_true", help="measure anew what is asked for, keep the rest of today's last sitting")
    add("--again", action="store_true", help="measure nothing; write the page anew from results.json")
    return parser.parse_args()


def _lacks(entry: Entry) -> str:
    """What is missing here for a subject; nothing if it can take part."""
    if entry.missing:
        return f"there is no {entry.missing} here"
    if "npm" in entry.needs and not (ROOT / "benchmarks" / "node" / "node_modules").is_dir():
        return "its packages could not be installed"
    return entry.lacks()


def _programs() -> Iterator[str]:
    """The versions of what is no package of Python's."""
    for program, version in PROGRAMS.items():
        if shutil.which(program):
            said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
            yield f"{program} {found[1]}" if (found := re.search(version, said)) else program
    for name in NODE_PACKAGES:
        manifest = ROOT / "benchmarks" / "node" / "node_modules" / name / "package.json"
        if manifest.exists():
            yield f"{name} {json.loads(manifest.read_text())['version']}"


def _agenda(options: argparse.Namespace, sitting: Sitting) -> Iterator[tuple[Part, Entry]]:
    """What is measured, in order: round by round, so that a neighbour's work falls on all."""
    level = 0 if options.quick else 2 if options.full else 1
    parts = [part for part in PARTS if part.level <= level and _is_wanted(part.scene, options.only)]
    for number in range(1 if options.quick else options.rounds):
        for part in parts:
            if number < max(1, round(part.rounds * options.rounds / ROUNDS)):
                for entry in ENTRIES:
                    is_here = entry.name not in sitting.left_out
                    if entry.key in part.who and is_here and _is_wanted(entry.key, options.peers):
                        yield part, entry


def _is_wanted(word: str, wanted: str) -> bool:
    return not wanted or word in wanted.split(",")


def _measure_all(agenda: Sequence[tuple[Part, Entry]], options: argparse.Namespace, sitting: Sitting) -> None:
    scale, began = options.scale * (0.3 if options.quick else 1), time.monotonic()
    for number, (part, entry) in enumerate(agenda):
        told, reason = _measured(part, entry, scale, sitting)
        if told is None:
            sitting.failed[f"{part.title}: {entry.name}"] = reason
        else:
            sitting.note(part, entry.key, told)
        took = time.monotonic() - began
        left = (len(agenda) - number - 1) * (took + SECONDS_EACH) / (number + 2) / 60
        what = f"nothing: {reason}" if told is None else page.line(part, sitting, entry.key)
        _tell(f"{number + 1} of {len(agenda)}, about {left:.0f} minutes left: {part.title}: {entry.name}: {what}")
    sitting.minutes += (time.monotonic() - began) / 60


def _measured(part: Part, entry: Entry, scale: float, sitting: Sitting) -> tuple[Seen | None, str]:
    """What a measurement told, or why it came to nothing. None of its processes is left."""
    size = part.size or max(200, int(entry.pace * 3 * scale))
    words = [sys.executable, "-m", "benchmarks.scenes", part.scene, entry.key, str(size), str(part.seconds)]
    sitting.sums.append(_fixed_sum())
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            words,
            cwd=ROOT,
            env=os.environ | {"TMPDIR": folder},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            said, complaint = process.communicate(timeout=part.within)
        except subprocess.TimeoutExpired:
            return None, f"not done within {part.within} s"
        finally:
            end_session(process.pid)
            process.wait()
            sitting.sums.append(_fixed_sum())
    try:
        return json.loads(said.splitlines()[-1]), ""
    except (IndexError, ValueError):
        return None, (complaint.strip().splitlines() or ["it ended without a word"])[-1]


def _fixed_sum() -> float:
    began = time.perf_counter()
    sum(number * number for number in range(1_000_000))
    return time.perf_counter() - began


def _tell(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _write(sitting: Sitting) -> None:
    """The figures first: should the page fail, ``--again`` makes it from them."""
    sitting.save(FIGURES)
    (RESULTS / "results.md").write_text(page.page(sitting))
    if bars := page.backlog_chart(sitting):
        (RESULTS / "backlog.svg").write_text(bars)


if __name__ == "__main__":
    sys.exit(main())
