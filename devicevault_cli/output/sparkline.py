"""The course of a number as one line of bars."""

from __future__ import annotations

from collections.abc import Sequence

BARS = "▁▂▃▄▅▆▇█"
ASCII_BARS = "_.-=+*%#"


def sparkline(values: Sequence[float | None], width: int, *, ascii_only: bool = False) -> str:
    """The last `width` values, from 0 to the largest of them; what is unknown is a space."""
    shown = values[-width:] if width > 0 else []
    bars = ASCII_BARS if ascii_only else BARS
    most = max((value for value in shown if value is not None), default=0)
    return "".join(" " if value is None else bars[_level(value, most, len(bars))] for value in shown)


def _level(value: float, most: float, levels: int) -> int:
    """0 has the lowest bar alone, so that little can be told from nothing."""
    if value <= 0 or most <= 0:
        return 0
    return max(1, round(value / most * (levels - 1)))
