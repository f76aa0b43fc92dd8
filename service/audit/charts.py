"""Charts as inline SVG: nothing is loaded, nothing is run, and colours come from the page's own style.

Lengths are for the eye and computed in floats; every figure that is told as text is exact.
"""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import NamedTuple

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 720, 74, 10, 24, 26
HEIGHT = 240
SERIES = 6  # colours; what is beyond is added up as one more
_ROW = 26
_LABEL = 250
_END = 120
_MOST_COLUMNS = 36
_WIDEST = 72.0
_STEPS = (1, 2, 5, 10)


class Series(NamedTuple):
    """One colour of a chart: a number from 0, SERIES for all others; a value for each place on the axis."""

    colour: int
    name: str
    values: Sequence[int]


class Bar(NamedTuple):
    """One row: its label, its parts by colour number with what is told of each, and what stands at its end."""

    label: str
    parts: Sequence[tuple[int, int, str]]
    end: str


def largest(sums: Mapping[str, int]) -> list[str]:
    """The names that get a colour of their own, by their sums."""
    return sorted(sums, key=lambda name: (-sums[name], name))[:SERIES]


def columns(places: Sequence[str], series: Sequence[Series], unit: str) -> str:
    """Stacked columns, one for each place on the axis."""
    heights = [sum(one.values[place] for one in series) for place in range(len(places))]
    top = _round_up(max(heights, default=0))
    inner_w, inner_h = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    step = inner_w / max(1, len(places))
    return _svg(HEIGHT, [*_scale(top, unit, inner_h), *_stacks(places, series, top, step, inner_h)])


def _stacks(places: Sequence[str], series: Sequence[Series], top: int, step: float, inner_h: int) -> Iterator[str]:
    each = max(1, -(-len(places) // 12))  # every so many places are named
    for place, name in enumerate(places):
        width = min(step * 0.76, _WIDEST)
        x, y = LEFT + (place + 0.5) * step - width / 2, float(TOP + inner_h)
        for one in series:
            height = inner_h * one.values[place] / top if top else 0
            if one.values[place]:
                y -= height
                title = escape(f"{name} {one.name}: {one.values[place]:,}")
                yield (
                    f'<rect class="c{one.colour}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
                    f'height="{max(height, 0.5):.1f}"><title>{title}</title></rect>'
                )
        if place % each == 0:
            middle = LEFT + (place + 0.5) * step
            yield f'<text x="{middle:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(name)}</text>'


def _scale(top: int, unit: str, inner_h: int) -> Iterator[str]:
    for part in range(5):
        y, value = TOP + inner_h * (1 - part / 4), top * part / 4
        yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>'
        label = f"{value:,.10g}" if value < 10 else f"{value:,.0f}"
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
    yield f'<text x="{LEFT - 6}" y="{TOP - 12}" text-anchor="end">{escape(unit)}</text>'


def bars(rows: Sequence[Bar]) -> str:
    """Horizontal bars of stacked parts, the longest as wide as there is room."""
    most = max((sum(length for _, length, _ in row.parts) for row in rows), default=0)
    room = WIDTH - _LABEL - RIGHT - _END
    drawn = []
    for number, row in enumerate(rows):
        y = 4 + number * _ROW
        label = row.label if len(row.label) <= 38 else f"{row.label[:18]}…{row.label[-19:]}"
        drawn.append(
            f'<text x="{_LABEL - 8}" y="{y + 15}" text-anchor="end">{escape(label)}'
            f"<title>{escape(row.label)}</title></text>"
        )
        x = float(_LABEL)
        for colour, length, told in row.parts:
            width = room * length / most if most else 0
            if length:
                drawn.append(
                    f'<rect class="c{colour}" x="{x:.1f}" y="{y}" width="{max(width, 0.5):.1f}" height="{_ROW - 8}">'
                    f"<title>{escape(told)}</title></rect>"
                )
            x += width
        drawn.append(f'<text x="{x + 8:.1f}" y="{y + 15}">{escape(row.end)}</text>')
    return _svg(8 + len(rows) * _ROW, drawn)


def grouped(months: Sequence[str]) -> dict[str, str]:
    """Where each month between the first and the last is drawn: as itself, or with its year where there are too many
    columns."""
    if not months:
        return {}
    first, last = (int(month[:4]) * 12 + int(month[5:7]) - 1 for month in (min(months), max(months)))
    every = [f"{number // 12:04}-{number % 12 + 1:02}" for number in range(first, last + 1)]
    return {month: month if len(every) <= _MOST_COLUMNS else month[:4] for month in every}


def _round_up(value: int) -> int:
    """The next number of a kind that divides well."""
    if value <= 0:
        return 1
    power = int("1" + "0" * (len(str(value)) - 1))
    return min(step * power for step in _STEPS if step * power >= value)


def _svg(height: int, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img">{"".join(parts)}</svg>'
