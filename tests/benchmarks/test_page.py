"""The page of the benchmarks: each word on it follows from what was seen, and no peer can spoil it for the others."""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import chart, goals
from benchmarks.__main__ import _agenda, _forget, _lacks, _measure_all
from benchmarks.page import page
from benchmarks.parts import BACKLOG, BY_KEY, HISTORIES, IDLES, INSTANCES, NOW, PARTS
from benchmarks.scenes import _ahead_of_wall
from benchmarks.sitting import Sitting


def a_sitting(**rates: float) -> Sitting:
    """A backlog was measured of these (``_`` for ``-`` in their keys)."""
    sitting = Sitting(when="2026-01-02", machine="a machine", sums=[1.0, 1.0])
    for key, rate in rates.items():
        sitting.note(BACKLOG, key.replace("_", "-"), {"rate": rate, "cpu_ms": 100.0})
    return sitting


def judged(name: str, sitting: Sitting) -> tuple[str, str]:
    return next(goal for goal in goals.GOALS if goal.name == name).judged(sitting)


def test_a_goal_is_met_when_every_ratio_is() -> None:
    words, verdict = judged("G1", a_sitting(peregrine=8_000, aps_sqlite=400, huey=1_000, bullmq=2_000))

    assert verdict == "met"
    assert words == "8,000 a second; 20 × APScheduler 3, SQLite; 8 × huey, SQLite; 4 × BullMQ, Redis"


def test_a_goal_is_missed_when_one_ratio_is_and_says_which() -> None:
    words, verdict = judged("G1", a_sitting(peregrine=8_000, aps_sqlite=400, huey=2_000, bullmq=2_000))

    assert verdict == "**missed**"
    assert "4 × huey, SQLite (**missed**)" in words
    assert words.count("**missed**") == 1


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    assert judged("G1", Sitting()) == ("–", "not measured in this run")
    assert judged("G1", a_sitting(peregrine=8_000, aps_sqlite=400))[1] == (
        "met as far as measured: huey, SQLite not measured; BullMQ, Redis not measured"
    )


def test_what_was_measured_anew_takes_the_place_of_the_old_and_the_page_says_so() -> None:
    """A ratio is of two that were measured together."""
    sitting = a_sitting(peregrine=8_000, huey=1_000)
    sitting.note(NOW, "peregrine", {"p50_ms": 1.0, "p99_ms": 2.0})

    _forget(sitting, {BACKLOG.title})

    assert sitting.median(BACKLOG, "peregrine", "rate") is None
    assert sitting.median(NOW, "peregrine", "p50_ms") == 1.0
    assert f"): {BACKLOG.title}." in page(sitting)


@pytest.mark.anyio
async def test_the_clock_of_the_loop_is_told_to_less_than_its_own_millisecond() -> None:
    loop = asyncio.get_running_loop()

    ahead = await _ahead_of_wall(loop)

    assert abs(loop.time() - time.time() - ahead) < 0.01


def test_a_smaller_history_does_not_meet_the_goal_of_a_large_one() -> None:
    sitting = Sitting()
    small, large = (HISTORIES[size] for size in sorted(HISTORIES))
    seen = {"runs_ratio": 1.0, "list_ratio": 1.0, "page_ratio": 1.1, "stats_ratio": 1.2, "task_ratio": 9.0}
    sitting.note(small, "peregrine", seen)
    assert judged("G8", sitting)[1] == "met as far as measured: 10,000,000 not measured"

    sitting.note(large, "peregrine", seen)
    assert judged("G8", sitting)[1] == "met"


def test_two_instances_are_judged_by_what_they_carry_together() -> None:
    assert judged("G11", Sitting()) == ("–", "not measured in this run")
    for times, verdict in ((1.7, "met"), (1.69, "**missed**")):
        sitting = Sitting()
        sitting.note(INSTANCES, "fleet", {"times": times, "alone_rate": 6.0, "both_rate": 6.0 * times})
        assert judged("G11", sitting)[1] == verdict


def test_a_million_tasks_are_judged_whenever_they_are_measured() -> None:
    sitting = Sitting()
    seen = {"memory_mib": 50, "first_ms": 900, "cpu_percent": 0.5, "page_ms": 1, "add_ms": 1, "bulk_rate": 10_000}
    sitting.note(IDLES[100_000], "peregrine", seen)
    assert judged("G7", sitting)[1] == "met as far as measured: 1,000,000 tasks not measured"

    sitting.note(IDLES[1_000_000], "peregrine", seen)
    assert judged("G7", sitting)[1] == "met"

    for column, value in {"first_ms": 2_001, "add_ms": 2.1, "bulk_rate": 9_999}.items():
        slow = Sitting()
        slow.note(IDLES[100_000], "peregrine", seen)
        slow.note(IDLES[1_000_000], "peregrine", seen | {column: value})
        words, verdict = judged("G7", slow)
        assert verdict == "**missed**"
        assert words.count("**missed**") == 1


def test_who_lacks_something_is_left_out_with_the_reason() -> None:
    one = replace(BY_KEY["fleet"], needs=(), lacks=lambda: "there is no MongoDB here")

    assert _lacks(one) == "there is no MongoDB here"
    assert _lacks(replace(one, needs=("no such program",))) == "there is no no such program here"
    assert _lacks(replace(one, lacks=BY_KEY["peregrine"].lacks)) == ""


def test_every_goal_stands_on_the_page_with_a_verdict() -> None:
    text = page(a_sitting(peregrine=8_000))

    for goal in goals.GOALS:
        assert f"| {goal.name} | {goal.wanted} |" in text


def test_what_came_to_nothing_is_told_and_the_rest_still_stands() -> None:
    sitting = a_sitting(peregrine=8_000, huey=2_000)
    sitting.failed["Run now: huey"] = "it broke"
    sitting.left_out["BullMQ"] = "there is no node here"
    sitting.note(NOW, "peregrine", {"p50_ms": float("nan")})
    text = page(sitting)

    assert "Came to nothing: Run now: huey: it broke." in text
    assert "Left out: BullMQ: there is no node here." in text
    assert "| huey, SQLite | 2,000 | 100.0 ms | 4.0 × |" in text


def test_figures_survive_the_file(tmp_path: Path) -> None:
    sitting = a_sitting(peregrine=8_000, huey=2_000)
    sitting.save(tmp_path / "results.json")

    assert Sitting.of(tmp_path / "results.json") == sitting


def test_a_measurement_that_breaks_is_noted_and_the_next_is_made() -> None:
    options = argparse.Namespace(quick=True, scale=1.0)
    broken = replace(PARTS[0], scene="nowhere", title="A scene")
    sitting = Sitting()
    _measure_all([(broken, BY_KEY["huey"]), (broken, BY_KEY["saq"])], options, sitting)

    assert sitting.failed == dict.fromkeys(["A scene: huey, SQLite", "A scene: SAQ, Redis"], "KeyError: 'nowhere'")
    assert len(sitting.sums) == 4


def test_rounds_are_interleaved() -> None:
    options = argparse.Namespace(quick=False, full=False, only="backlog", peers="peregrine,huey", rounds=2)
    keys = [entry.key for _, entry in _agenda(options, Sitting())]

    assert keys == ["peregrine", "huey", "peregrine", "huey"]


def test_every_subject_of_a_part_exists() -> None:
    for part in PARTS:
        assert set(part.who) <= set(BY_KEY)


def test_the_chart_holds_every_bar_and_can_be_read_in_the_dark() -> None:
    drawn = chart.bars("A & B", "runs a second", [("ours", 20_000.0), ("<theirs>", 12.0)])
    picture = ET.fromstring(drawn)
    width = float(picture.attrib["viewBox"].split()[2])
    boxes = [one for one in picture if one.tag.endswith("rect")]

    assert "prefers-color-scheme: dark" in drawn
    assert [one.attrib["class"] for one in boxes] == ["ours", "bar"]
    for one in boxes:
        assert float(one.attrib["x"]) + float(one.attrib["width"]) <= width - 60  # the figure has room beside it
