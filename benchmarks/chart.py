"""A bar chart as SVG, on a scale of powers of ten: what is ten times as much is always as much longer.

It has no ground of its own and two sets of colours, so that it can be read on a light page and on a dark one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final

WIDTH: Final = 720
NAMES: Final = 220
VALUES: Final = 70
ROW: Final = 26
TOP: Final = 58
FOOT: Final = 26
STYLE: Final = """<style>
text { fill: #24292f } .quiet { fill: #57606a } .line { stroke: #d0d7de } .bar { fill: #8c96a3 } .ours { fill: #c2502e }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .quiet { fill: #9da7b3 } .line { stroke: #3d444d } .bar { fill: #6e7a88 } .ours { fill: #e8734d }
}
</style>"""


def bars(title: str, unit: str, rows: Sequence[tuple[str, float]]) -> str:
    """The chart; the first row is ours and stands out. *unit*: what the figures are, a line below the title."""
    low = 10 ** math.floor(math.log10(min(value for _, value in rows)))
    high = max(value for _, value in rows)
    room = WIDTH - NAMES - VALUES
    foot = TOP + ROW * len(rows)

    def x(value: float) -> float:
        return NAMES + room * math.log10(value / low) / max(1, math.log10(high / low))

    canvas = f'viewBox="0 0 {WIDTH} {foot + FOOT}" font-family="sans-serif" font-size="13" role="img"'
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {canvas}>',
        f"<title>{escape(title)}: {escape(unit)}</title>",
        STYLE,
        f'<text x="12" y="22" font-size="15" font-weight="bold">{escape(title)}</text>',
        f'<text x="12" y="41" class="quiet" font-size="12">{escape(unit)}</text>',
    ]
    mark = low
    while mark <= high:
        at = f"{x(mark):.0f}"
        drawn += [
            f'<line x1="{at}" x2="{at}" y1="{TOP - 4}" y2="{foot + 4}" class="line"/>',
            f'<text x="{at}" y="{foot + 20}" text-anchor="middle" class="quiet" font-size="11">{mark:,.0f}</text>',
        ]
        mark *= 10
    for place, (name, value) in enumerate(rows):
        y, kind, weight = TOP + ROW * place, *(("bar", "") if place else ("ours", ' font-weight="bold"'))
        long = max(1.0, x(value) - NAMES)
        drawn += [
            f'<text x="{NAMES - 8}" y="{y + 15}" text-anchor="end"{weight}>{escape(name)}</text>',
            f'<rect x="{NAMES}" y="{y + 2}" width="{long:.0f}" height="{ROW - 8}" class="{kind}"/>',
            f'<text x="{x(value) + 6:.0f}" y="{y + 15}"{weight}>{value:,.0f}</text>',
        ]
    return "\n".join([*drawn, "</svg>"]) + "\n"
