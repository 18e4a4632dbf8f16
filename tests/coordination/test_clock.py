"""The real clocks tell milliseconds; ids sort by their making."""

from __future__ import annotations

import re
import time

from peregrine.coordination.clock import SystemClock, SystemEntropy

UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def test_wall_time_is_milliseconds_of_the_epoch() -> None:
    assert abs(SystemClock().now() - time.time() * 1000) < 5_000


def test_the_steady_clock_never_goes_back() -> None:
    clock = SystemClock()
    looks = [clock.monotonic() for _ in range(1_000)]

    assert looks == sorted(looks)


def test_ids_are_of_version_7_and_sort_by_their_making() -> None:
    entropy = SystemEntropy()
    ids = [entropy.new_id() for _ in range(20_000)]

    assert all(UUID7.fullmatch(id) for id in ids[:100])
    assert ids == sorted(set(ids))
    assert abs(int(ids[-1].replace("-", "")[:12], 16) - time.time() * 1000) < 5_000


def test_chance_lies_in_the_unit_interval() -> None:
    entropy = SystemEntropy()

    assert all(0 <= entropy.chance() < 1 for _ in range(1_000))
