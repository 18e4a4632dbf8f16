"""What was seen in one sitting, and what can be said of it."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeAlias

from benchmarks.parts import Part

Seen: TypeAlias = dict[str, float]


@dataclass(slots=True)
class Sitting:
    """For each part's title and subject's key what was measured, one a round; and what stands around it."""

    when: str = ""
    machine: str = ""
    seen: dict[str, dict[str, list[Seen]]] = field(default_factory=dict)
    sums: list[float] = field(default_factory=list)
    """How long a fixed sum took before and after each measurement, in seconds."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Names of subjects that could not take part, and why."""
    failed: dict[str, str] = field(default_factory=dict)
    """Measurements that came to nothing, and why."""
    minutes: float = 0.0
    later: dict[str, str] = field(default_factory=dict)
    """Titles of parts that were measured anew after the rest, and when."""

    @property
    def noise(self) -> float:
        """How much the fixed sum varied, as a part of itself."""
        return statistics.pstdev(self.sums) / statistics.mean(self.sums) if self.sums else 0.0

    def note(self, part: Part, key: str, told: Seen) -> None:
        """One measurement more."""
        self.seen.setdefault(part.title, {}).setdefault(key, []).append(told)

    def rounds(self, part: Part, key: str) -> Sequence[Seen]:
        """What was measured of a subject, round by round."""
        return self.seen.get(part.title, {}).get(key, [])

    def values(self, part: Part, key: str, column: str) -> list[float]:
        """The figures of one column, those that there are."""
        told = [one[column] for one in self.rounds(part, key) if column in one]
        return [value for value in told if not math.isnan(value)]

    def median(self, part: Part, key: str, column: str) -> float | None:
        """The figure of one column; None if it was not measured."""
        values = self.values(part, key, column)
        return statistics.median(values) if values else None

    def save(self, path: Path) -> None:
        """Every single figure, so that the page can be made again."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @staticmethod
    def of(path: Path) -> Sitting:
        """What ``save`` wrote."""
        return Sitting(**json.loads(path.read_text()))
