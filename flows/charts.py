"""Line charts as inline SVG: no script, no picture files, colours from the page's own style."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 320.0, 150.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 8.0, 8.0, 22.0
MOST_POINTS = 240


@dataclass(frozen=True)
class Curve:
    """One measured quantity over steps, equally long."""

    steps: Sequence[float]
    values: Sequence[float]


def line_chart(curve: Curve, *, label: str) -> Markup:
    """An SVG of the curve: the raw values faint, their running mean strong; logarithmic when they span 30-fold."""
    steps, values = _finite(curve)
    if len(values) < 2:
        return Markup("")
    log_scale = min(values) > 0 and max(values) / min(values) > 30
    heights = [math.log10(value) for value in values] if log_scale else list(values)
    low, high = _bounds(heights)
    first, last = min(steps), max(steps)

    def points(numbers: Sequence[float]) -> str:
        across = (_along(step, first, last, LEFT, WIDTH - RIGHT) for step in steps)
        up = (_along(number, low, high, HEIGHT - BOTTOM, TOP) for number in numbers)
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, up, strict=True))

    parts = [f'<svg viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" aria-label="{Markup.escape(label)}">']
    for share in (0.0, 0.5, 1.0):
        height = low + share * (high - low)
        y = _along(height, low, high, HEIGHT - BOTTOM, TOP)
        text = _short(10**height if log_scale else height)
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{text}</text>')
    for step, anchor, x in ((first, "start", LEFT), (last, "end", WIDTH - RIGHT)):
        parts.append(f'<text class="tick" x="{x}" y="{HEIGHT - 6}" text-anchor="{anchor}">{step:,.0f}</text>')
    parts.append(f'<polyline class="raw" points="{points(heights)}"/>')
    parts.append(f'<polyline class="mean" points="{points(_smooth(heights))}"/></svg>')
    return Markup("".join(parts))


def _finite(curve: Curve) -> tuple[list[float], list[float]]:
    """The points that can be drawn, at most MOST_POINTS of them: each stands for the mean of its neighbours."""
    pairs = [
        (float(step), float(value))
        for step, value in zip(curve.steps, curve.values, strict=True)
        if math.isfinite(step) and math.isfinite(value)
    ]
    size = max(1, math.ceil(len(pairs) / MOST_POINTS))
    groups = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    return (
        [group[-1][0] for group in groups],
        [sum(value for _, value in group) / len(group) for group in groups],
    )


def _bounds(heights: Sequence[float]) -> tuple[float, float]:
    low, high = min(heights), max(heights)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _smooth(heights: Sequence[float]) -> list[float]:
    """The mean over a window around each point, shorter at both ends, so that it does not lag behind."""
    reach = max(1, len(heights) // 40)
    windows = (heights[max(0, at - reach) : at + reach + 1] for at in range(len(heights)))
    return [sum(window) / len(window) for window in windows]


def _along(value: float, low: float, high: float, start: float, end: float) -> float:
    return start + (value - low) / (high - low or 1.0) * (end - start)


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 10_000 else f"{value:.1e}"
