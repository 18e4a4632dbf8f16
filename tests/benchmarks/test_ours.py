"""What we measure of ourselves is counted truly."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from benchmarks.scenes import late
from benchmarks.subjects.ours import Peregrine
from peregrine.domain.moment import DAY


async def test_a_backlog_that_passes_midnight_is_recorded(tmp_path: Path) -> None:
    one = Peregrine()
    await one.open(tmp_path)
    await one.add_due(3)
    await one.go()
    await one.until_recorded(3)
    clock = one.clock
    one.clock = SimpleNamespace(now=lambda: clock.now() + DAY)

    assert await one.recorded() == 3
    one.clock = clock
    await one.close()


def test_what_begins_in_another_order_is_not_late_for_it() -> None:
    """Two on each second: the k-th to begin is the k-th that was due."""
    seen = late([11.3, 10.1, 11.5, 10.2], lambda k: 10 + k // 2)

    assert round(seen["p50_ms"]) == 300
    assert round(seen["p99_ms"]) == 500
    assert seen["early"] == 0
