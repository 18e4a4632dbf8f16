"""A bar chart as SVG, on a scale of powers of ten: what is ten times as much is always as much longer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final

WIDTH: Final = 720
NAMES: Final = 210
ROW: Final = 26
TOP: Final = 44


def bars(title: str, rows: Sequence[tuple[str, float]]) -> str:
    """The chart; the first row is ours and stands out."""
    low = 10 ** math.floor(math.log10(min(value for _, value in rows)))
    high = 10 ** math.ceil(math.log10(max(value for _, value in rows) * 1.001))
    room = WIDTH - NAMES - 80
    height = TOP + ROW * len(rows) + 24

    def x(value: float) -> float:
        return NAMES + room * math.log10(value / low) / max(1, math.log10(high / low))

    canvas = f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13"'
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {canvas}>',
        f"<title>{escape(title)}</title>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="12" y="24" font-size="15" font-weight="bold">{escape(title)}</text>',
    ]
    mark = low
    while mark <= high:
        at = f"{x(mark):.0f}"
        drawn += [
            f'<line x1="{at}" x2="{at}" y1="{TOP - 6}" y2="{height - 20}" stroke="#ddd"/>',
            f'<text x="{at}" y="{height - 6}" text-anchor="middle" fill="#666" font-size="11">{mark:,.0f}</text>',
        ]
        mark *= 10
    for place, (name, value) in enumerate(rows):
        y, fill = TOP + ROW * place, 'fill="#8a97a6"' if place else 'fill="#b5482a"'
        drawn += [
            f'<text x="{NAMES - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{NAMES}" y="{y + 2}" width="{max(1.0, x(value) - NAMES):.0f}" height="{ROW - 8}" {fill}/>',
            f'<text x="{x(value) + 6:.0f}" y="{y + 15}">{value:,.0f}</text>',
        ]
    return "\n".join([*drawn, "</svg>"]) + "\n"
