"""Line charts as SVG that takes its colours from the page, so it is legible in light and dark."""

import html
import math
from collections.abc import Mapping, Sequence

WIDTH, HEIGHT = 720, 240
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 28
COLOURS = ('var(--one)', 'var(--two)', 'var(--three)')
DASHES = ('', '6 4', '2 3')


def line_chart(
    title: str,
    series: Mapping[str, Sequence[float]],
    names: Sequence[str] = (),
    log: bool = False,
    axis: str = '',
) -> str:
    """Return a chart of several series over a common index.

    Args:
        title: Shown above, and read to those who can't see the chart.
        series: Name -> values; in a logarithmic chart 0 is drawn at the bottom.
        names: Name of each index, shown when the pointer is on it.
        log: Whether the vertical axis is logarithmic.
        axis: Name of the horizontal axis.
    """
    finite = [v for values in series.values() for v in values if math.isfinite(v)]
    positive = [value for value in finite if value > 0]
    if not finite or (log and not positive):
        return f'<p>{html.escape(title)}: nothing differs.</p>' if finite else ''
    low, high = bounds(positive if log else finite, log)
    count = max(len(values) for values in series.values())

    def place(index: int, value: float) -> tuple[float, float]:
        height = math.log10(max(value, 10**low)) if log else value
        x = LEFT + (WIDTH - LEFT - RIGHT) * index / max(1, count - 1)
        y = TOP + (HEIGHT - TOP - BOTTOM) * (1 - (height - low) / (high - low))
        return round(x, 1), round(y, 1)

    # a line and a legend entry for each series; each point has its value as a tooltip
    parts = [grid(low, high, log)]
    legend = ''
    for number, (name, values) in enumerate(series.items()):
        points = [place(i, v) for i, v in enumerate(values) if math.isfinite(v)]
        colour, dash = COLOURS[number % 3], DASHES[number % 3]
        path = ' '.join(f'{x},{y}' for x, y in points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" '
            f'stroke-dasharray="{dash}"/>'
        )
        for (x, y), value, label in zip(points, values, names or [''] * len(points), strict=False):
            text = html.escape(f'{name}, {label}: {value:.3g}')
            parts.append(
                f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"><title>{text}</title></circle>'
            )
        legend += f'<span style="color:{colour}">&#9632;</span> {html.escape(name)} &nbsp; '
    label = (
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{html.escape(axis)}</text>'
    )
    return (
        f'<figure><figcaption>{html.escape(title)}</figcaption><div class="wide">'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)}">'
        f'{"".join(parts)}{label}</svg></div><p class="legend">{legend}</p></figure>'
    )


def bounds(values: Sequence[float], log: bool) -> tuple[float, float]:
    """Return the ends of the vertical axis: powers of ten as exponents, or the values' own."""
    low, high = min(values), max(values)
    if log:
        return math.floor(math.log10(low)), max(
            math.ceil(math.log10(high)), math.floor(math.log10(low)) + 1
        )
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def grid(low: float, high: float, log: bool) -> str:
    """Return horizontal lines with their numbers."""
    if log:
        step = max(1, math.ceil((high - low) / 5))
        ticks = [float(tick) for tick in range(int(low), int(high) + 1, step)]
    else:
        ticks = [low + (high - low) * part / 4 for part in range(5)]
    lines = ''
    for tick in ticks:
        y = round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - (tick - low) / (high - low)), 1)
        text = f'1e{tick:.0f}' if log else f'{tick:.3g}'
        lines += (
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" stroke="var(--line)"/>'
            f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{text}</text>'
        )
    return lines
